"""The agent keeps the rules for all agents."""

import ltunnel_nat_punch
from ltunnel.testing.conformance import DiscoveryConformance, PluginConformance


class TestAgent(DiscoveryConformance):
    descriptor = ltunnel_nat_punch.ltunnel_discovery()


class TestPlugin(PluginConformance):
    module = ltunnel_nat_punch
    name = "nat_punch"
