"""Direct paths between nodes behind NATs, for ltunnel: what to ask, what to tell, what to probe and when."""

from __future__ import annotations

from ltunnel.plugin import DiscoveryDescriptor, PluginInfo, PortMapper, hookimpl
from ltunnel_nat_punch.agent import Agent
from ltunnel_nat_punch.options import PunchOptions


def _mapper(options: PunchOptions) -> PortMapper | None:
    if not options.port_mapping:
        return None
    from ltunnel_nat_punch.mapper import Mapper

    return Mapper()


@hookimpl
def ltunnel_plugin_info() -> PluginInfo:
    """Say who this is."""
    return PluginInfo(name="nat_punch", summary="direct paths through NATs, with port mapping", api=(1, 0))


@hookimpl
def ltunnel_discovery() -> DiscoveryDescriptor:
    """Provide the agent."""
    return DiscoveryDescriptor(options=PunchOptions, create=Agent, mapper=_mapper)
