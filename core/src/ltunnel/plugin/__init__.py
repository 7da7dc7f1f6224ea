"""Everything a plugin author imports.

A plugin is a module, named by an entry point in the group ``ltunnel``, that implements ``ltunnel_plugin_info`` and at
least one of the hooks for a kind. Hooks run once, at start-up, and return descriptors; nothing goes through pluggy per
packet::

    from ltunnel.plugin import CipherDescriptor, PluginInfo, NoOptions, hookimpl

    @hookimpl
    def ltunnel_plugin_info() -> PluginInfo:
        return PluginInfo(name="crypto_rot13", summary="do not use", api=(1, 0))

    @hookimpl
    def ltunnel_cipher() -> CipherDescriptor:
        return CipherDescriptor(options=NoOptions, wire_name="rot13", key_size=32, create=Rot13)
"""

import pluggy

from ltunnel.plugin.addresses import is_private, read_target, write_address
from ltunnel.plugin.descriptors import (
    CipherDescriptor,
    DiscoveryDescriptor,
    FecDescriptor,
    FileName,
    NoOptions,
    Options,
    PluginInfo,
    RoutingDescriptor,
    TransportContext,
    TransportDescriptor,
)
from ltunnel.plugin.discovery import (
    Action,
    Answer,
    Behaviour,
    Candidate,
    CandidateKind,
    Carrier,
    Dependence,
    DiscoveryAgent,
    Limits,
    LocalAddress,
    PortMapper,
    Prepared,
    Probe,
    Query,
    Request,
    Signal,
    SignalKind,
)
from ltunnel.plugin.host import HostRule, HostRuleKind
from ltunnel.plugin.interfaces import (
    Aead,
    FecCode,
    MeetingTransport,
    PartingTransport,
    StreamTransport,
    TellingTransport,
    Transport,
)
from ltunnel.plugin.ports import (
    Address,
    Buffer,
    Endpoint,
    Flow,
    HopLimit,
    Port,
    PortKind,
    PortSpec,
    RawPort,
    Route,
    StreamEvent,
    StreamPort,
)
from ltunnel.plugin.routing import NextHop, PathClass, PathView, RoutingPolicy

GROUP = "ltunnel"
"""Name of the entry-point group and of the pluggy project."""

API_VERSION = (1, 0)
"""Version of this package. A plugin works when its major is equal and its minor not newer."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

__all__ = [
    "API_VERSION",
    "GROUP",
    "Action",
    "Address",
    "Aead",
    "Answer",
    "Behaviour",
    "Buffer",
    "Candidate",
    "CandidateKind",
    "Carrier",
    "CipherDescriptor",
    "Dependence",
    "DiscoveryAgent",
    "DiscoveryDescriptor",
    "Endpoint",
    "FecCode",
    "FecDescriptor",
    "FileName",
    "Flow",
    "HopLimit",
    "HostRule",
    "HostRuleKind",
    "Limits",
    "LocalAddress",
    "MeetingTransport",
    "NextHop",
    "NoOptions",
    "Options",
    "PartingTransport",
    "PathClass",
    "PathView",
    "PluginInfo",
    "Port",
    "PortKind",
    "PortMapper",
    "PortSpec",
    "Prepared",
    "Probe",
    "Query",
    "RawPort",
    "Request",
    "Route",
    "RoutingDescriptor",
    "RoutingPolicy",
    "Signal",
    "SignalKind",
    "StreamEvent",
    "StreamPort",
    "StreamTransport",
    "TellingTransport",
    "Transport",
    "TransportContext",
    "TransportDescriptor",
    "hookimpl",
    "hookspec",
    "is_private",
    "read_target",
    "write_address",
]
