"""The conformance suites, over simulated raw and UDP ports."""

from typing import ClassVar

import ltunnel_transport_faketcp
from ltunnel.testing.conformance import PluginConformance, TransportConformance
from ltunnel_transport_faketcp import ltunnel_transport


class TestPlugin(PluginConformance):
    module = ltunnel_transport_faketcp
    name = "transport_faketcp"


class TestTcp(TransportConformance):
    descriptor = ltunnel_transport()


class TestUdp(TransportConformance):
    descriptor = ltunnel_transport()
    options: ClassVar = {"framing": "udp"}
