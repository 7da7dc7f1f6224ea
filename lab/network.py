"""A hub and its nodes, on hosts of their own, each in another network of the lab's internet."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.host import Host
from lab.internet import Lab
from lab.tunnel import Tunnel

KEY = "ltk1_DmjeZdWaHpEEmq4TayB3IhDGsAZayvstS0Hxyj7QLJXR-qFG"
"""As `ltunnel genkey` makes them: it needs no stretching."""
HUB_OUTER = "198.51.100.2"
HUB_OUTER6 = "2001:db8:f:ff::2"


@dataclass
class Network:
    """Tunnels of one network. Node 0 has the tunnel addresses 10.0.0.2 and fd00::2, and so on."""

    lab: Lab
    hub: Tunnel
    nodes: list[Tunnel] = field(default_factory=list)

    hub_inner = "10.0.0.1"
    hub_inner6 = "fd00::1"

    @classmethod
    def build(
        cls,
        lab: Lab,
        nodes: int = 2,
        key: str | None = KEY,
        hub_args: Sequence[str] = (),
        node_args: Sequence[str] = (),
        others: Sequence[str] = (),
    ) -> "Network":
        """Start a hub, which has `others` beside its address, and nodes with the same key; wait until all are up."""
        host = lab.host("hub", ipv6=True)
        lab.attach(host, f"{HUB_OUTER}/24", *others)
        hub = Tunnel.hub(host, f"{cls.hub_inner}/24", f"{cls.hub_inner6}/64", key=key, args=hub_args)
        network = cls(lab, hub)
        hub.wait_up()
        for _ in range(nodes):
            network.add_node(key, node_args)
        for node in network.nodes:
            node.wait_up()
        return network

    @staticmethod
    def inner(number: int) -> str:
        """Return the tunnel address of a node."""
        return f"10.0.0.{number + 2}"

    @staticmethod
    def inner6(number: int) -> str:
        """Return the IPv6 tunnel address of a node."""
        return f"fd00::{number + 2}"

    def host(self, number: int) -> Host:
        """Return the host of a node."""
        return self.nodes[number].host

    def add_node(
        self,
        key: str | None = KEY,
        args: Sequence[str] = (),
        addresses: Sequence[str] = (),
        host: Host | None = None,
    ) -> Tunnel:
        """Start one more node, on `host` or one of its own; it is not waited for."""
        number = len(self.nodes)
        host = host or attach_node(self.lab, number)
        addresses = addresses or (f"{self.inner(number)}/24", f"{self.inner6(number)}/64")
        node = Tunnel.node(host, HUB_OUTER, *addresses, key=key, args=args)
        self.nodes.append(node)
        return node


def attach_node(lab: Lab, number: int, mtu: int = 1500) -> Host:
    """Add the host of a node to the internet: 198.18.NUMBER.2."""
    host = lab.host(f"node{number}", ipv6=True)
    lab.attach(host, f"198.18.{number}.2/24", mtu=mtu)
    return host
