"""For tests: a fake clock, a network in memory, nodes in it, and conformance suites for plugins.

Everything is deterministic. A network of hosts, routers, NATs and firewalls lives on a fake clock and a seed
(`ltunnel.testing.network`); `World` puts hubs and nodes into it, the same code that runs outside, with simulated ports
and TUN devices in place of the runtime's. `Script` says what happens when. The suites for plugin authors are in
`ltunnel.testing.conformance`.
"""

from ltunnel.testing.clock import FakeClock
from ltunnel.testing.conntrack import StrictFirewall
from ltunnel.testing.datagrams import Fate, Packet, TraceEntry
from ltunnel.testing.host import Host
from ltunnel.testing.links import GilbertElliott, Link, Quality
from ltunnel.testing.nat import Dependence, Firewall, Nat, PortChoice
from ltunnel.testing.network import Gate, Network, Router
from ltunnel.testing.nodes import PortSettings, SimNode
from ltunnel.testing.ports import SimUdpPort
from ltunnel.testing.raw import SimRawPort
from ltunnel.testing.script import Script
from ltunnel.testing.segments import Segment
from ltunnel.testing.stream import SimStreamPort
from ltunnel.testing.traffic import Pings, Stream, Transfer
from ltunnel.testing.tun import SimTun
from ltunnel.testing.world import World

__all__ = [
    "Dependence",
    "FakeClock",
    "Fate",
    "Firewall",
    "Gate",
    "GilbertElliott",
    "Host",
    "Link",
    "Nat",
    "Network",
    "Packet",
    "Pings",
    "PortChoice",
    "PortSettings",
    "Quality",
    "Router",
    "Script",
    "Segment",
    "SimNode",
    "SimRawPort",
    "SimStreamPort",
    "SimTun",
    "SimUdpPort",
    "Stream",
    "StrictFirewall",
    "TraceEntry",
    "Transfer",
    "World",
]
