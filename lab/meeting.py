"""Two nodes of one network, each at a site of its own, that should find a direct path to each other."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from lab import traffic
from lab.host import Host
from lab.internet import Lab
from lab.network import HUB_OUTER, HUB_OUTER6, KEY, Network
from lab.tunnel import Status, Tunnel

ONE, OTHER = "10.0.0.2", "10.0.0.3"
UDP = ("--transport", "transport_udp")


@dataclass
class Meeting:
    """A hub and two nodes: `one` is 10.0.0.2 in the tunnel, `other` 10.0.0.3."""

    hub: Tunnel
    one: Tunnel
    other: Tunnel

    @classmethod
    def build(
        cls,
        lab: Lab,
        one: Host,
        other: Host,
        args: Sequence[str] = UDP,
        *,
        ipv6: bool = False,
        listen: Sequence[str] = (),
        hub: str = HUB_OUTER,
    ) -> "Meeting":
        """Start the hub, which `lab` gets too, and the nodes on their hosts; wait until all are up.

        With `ipv6` the hub's machine has that, too. `listen` are further arguments of the hub, `hub` is where the nodes
        look for it.
        """
        network = Network.build(lab, nodes=0, hub_args=(*args, *listen), others=[f"{HUB_OUTER6}/64"] if ipv6 else ())
        nodes = [
            Tunnel.node(host, hub, f"{inner}/24", key=KEY, args=args) for host, inner in ((one, ONE), (other, OTHER))
        ]
        for node in nodes:
            node.wait_up()
        return cls(network.hub, *nodes)

    @property
    def path(self) -> tuple[str, str]:
        """The kinds of path that are in use: one to other, other to one. "" where there is none."""
        return _path(self.one.peer(OTHER)), _path(self.other.peer(ONE))

    @property
    def transports(self) -> tuple[str, str]:
        """The transports that carry the paths in use: one to other, other to one."""
        peers = self.one.peer(OTHER), self.other.peer(ONE)
        one, other = (str(peer["transport"]) if peer else "" for peer in peers)
        return one, other

    def first_ping(self) -> traffic.Ping:
        """Let `one` ping `other` for the first time: a single packet, which may take a second."""
        return traffic.ping(self.one.host, OTHER, count=1, timeout=1.0)

    def wait_path(self, kind: str, timeout: float) -> float:
        """Wait until both use a path of a kind (``public``, ``lan``, ``hub``); returns after how many seconds."""
        began = time.monotonic()
        self.one.wait_status(lambda status: _path(_peer(status, OTHER)) == kind, f"go by {kind}", timeout)
        left = max(1.0, timeout - (time.monotonic() - began))
        self.other.wait_status(lambda status: _path(_peer(status, ONE)) == kind, f"go by {kind}", left)
        return time.monotonic() - began


def _peer(status: Status, address: str) -> Status | None:
    found: Status | None = next((peer for peer in status["peers"] if address in peer["addresses"]), None)
    return found


def _path(peer: Status | None) -> str:
    return (peer["path"] or "") if peer else ""
