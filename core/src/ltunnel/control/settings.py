"""What the control side needs to know, as plain values; `ltunnel.config` makes it from what operators wrote."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Interface, IPv6Interface

from ltunnel.constants import DEFAULT_MTU
from ltunnel.keys.identity import Identity
from ltunnel.keys.psk import NetworkKeys
from ltunnel.plugin import Aead, Address

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
    mtu: int = DEFAULT_MTU
    """Largest inner packet that this node takes."""
    hub: Address | None = None
    """On a node: where the hub is (numeric). The runtime may change it with `Control.set_hub`."""
    hub_label: str = ""
    """The hub as the operator wrote it (``hub.example:9000``), for messages and pins."""
    keepalive: float = 10.0
    timeout: float = 30.0
    max_clients: int = 100
    multi_client: bool = True
    client_isolation: bool = False
