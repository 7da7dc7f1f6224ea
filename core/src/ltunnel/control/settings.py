"""What the control side needs to know, as plain values; `ltunnel.config` makes it from what operators wrote."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

from ltunnel.constants import DEFAULT_MTU
from ltunnel.keys.identity import Identity
from ltunnel.keys.psk import NetworkKeys
from ltunnel.plugin import Address, Aead

Random = Callable[[int], bytes]
"""Source of n random bytes: `os.urandom` in the runtime, seeded in a simulation."""


class Role(Enum):
    """Hub (``-m server``) or node (``-m client``)."""

    HUB = "hub"
    NODE = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """Everything fixed at start. Times in seconds."""

    role: Role
    name: str
    """Of this machine, for people; at most 63 bytes of UTF-8."""
    network: str
    keys: NetworkKeys
    identity: Identity
    cipher: str
    """The cipher's wire name."""
    new_aead: Callable[[bytes], Aead]
    """Makes the cipher for a key."""
    stack: tuple[str, ...]
    """Wire names of the wire-relevant plugins, sorted, for the fingerprint: ``("cipher=AESGCM",)``."""
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    """Own tunnel addresses, with the network's prefix."""
    routes: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks behind this machine that it offers to the others; at most 24."""
    accept_routes: tuple[IPv4Network | IPv6Network, ...] = ()
    """Within which networks the offers of others are accepted; on a hub, passed on to the nodes, too."""
    mtu: int = DEFAULT_MTU
    """Largest inner packet that this node takes."""
    hub: Address | None = None
    """On a node: where the hub is (numeric). The ways there are set with `Control.set_hub_paths`."""
    hub_label: str = ""
    """The hub as the operator wrote it (``hub.example:9000``), for messages and pins."""
    keepalive: float = 10.0
    """A node sends something at least so often."""
    timeout: float = 30.0
    """A peer that was not heard for so long is gone."""
    max_clients: int = 100
    """Nodes that a hub takes at the same time."""
    multi_client: bool = True
    """False: one node at a time."""
    mesh: bool = True
    """On a node: whether to relay for other nodes, and to reach them through others."""
    max_hops: int = 3
    """Links of a path through nodes, at most; with 1 there is no mesh."""
    route_update_interval: float = 30.0
    """How often nodes tell each other whom they reach."""
    client_isolation: bool = False
    """On a hub: packets between nodes are dropped. The data path does it; nodes are told in WELCOME."""

    def hosts(self, addresses: Iterable[IPv4Interface | IPv6Interface]) -> frozenset[bytes]:
        """Return those of others' addresses, packed, that may be a peer's: they are in one of the tunnel's networks."""
        own = [interface.network for interface in self.addresses]
        return frozenset(other.ip.packed for other in addresses if any(other.ip in network for network in own))
