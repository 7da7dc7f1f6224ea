"""A peer: who is on the other side, under which addresses, over which path, and what has passed.

Control decides, the data path reads; both see the same object. Fields are plain so that reading one costs nothing.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from ltunnel.constants import DEFAULT_MTU
from ltunnel.session.fec import FecStats
from ltunnel.session.quality import Quality

if TYPE_CHECKING:
    from ltunnel.plugin import Flow
    from ltunnel.session.epoch import Epoch

Network = IPv4Network | IPv6Network

_KNOWN_LIMIT = 4096


def contains(network: Network, address: bytes) -> bool:
    """Whether a packed address (4 or 16 bytes) lies in a network."""
    width = network.max_prefixlen
    shift = width - network.prefixlen
    return (
        8 * len(address) == width and int.from_bytes(address, "big") >> shift == int(network.network_address) >> shift
    )


class Drop(Enum):
    """Why a datagram or a packet went no further. The values are the words in status output."""

    MALFORMED = "malformed"  # not of any layout we know
    UNKNOWN_TYPE = "unknown type"
    UNKNOWN_INDEX = "unknown session"
    REPLAYED = "replayed"
    FORGED = "forged"  # the tag does not verify
    EXPIRED = "expired keys"
    MAC = "wrong key"  # MAC1 of a handshake message does not verify
    SOURCE = "inner source"  # the inner source address is not the peer's
    DESTINATION = "inner destination"  # the inner destination is neither ours nor behind us
    NO_ROUTE = "no route"  # no peer owns the inner destination
    NO_SESSION = "no session"
    TOO_BIG = "too big"
    ISOLATED = "isolated"
    LIMITED = "limited"  # a limit of ours: handshakes, half-open table, unvalidated address
    QUEUE_FULL = "queue full"  # the kernel would not take it
    TUN = "tun"  # the TUN device would not take it
    HOPS = "hop limit"  # passed on too often
    STACK = "other stack"  # the peer runs other plugins


class Path:
    """The way to a peer: a flow of one of our transports.

    `budget` is the number of bytes that may still be sent to an address that has not proved itself (three times what
    came from it, RFC 9000 section 8.1); None once a PONG has come from there.
    """

    __slots__ = ("budget", "flow", "transport")

    def __init__(self, transport: int, flow: Flow, budget: int | None = None) -> None:
        self.transport = transport
        self.flow = flow
        self.budget = budget


class Stats:
    """Counters of one peer or of the whole node. Packets are inner packets, bytes their lengths.

    What a hub has relayed for a node is counted apart: sealed datagrams, in which it sees no packets.
    """

    __slots__ = (
        "drops", "relayed_bytes", "relayed_datagrams", "rx_bytes", "rx_packets", "tx_bytes", "tx_packets",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rx_bytes = 0
        self.rx_packets = 0
        self.tx_bytes = 0
        self.tx_packets = 0
        self.relayed_bytes = 0
        self.relayed_datagrams = 0
        self.drops: dict[Drop, int] = {}

    @property
    def packets(self) -> int:
        """Packets both ways."""
        return self.rx_packets + self.tx_packets

    def drop(self, reason: Drop, count: int = 1) -> None:
        """Count something that went no further."""
        self.drops[reason] = self.drops.get(reason, 0) + count


class Peer:
    """The far end of sessions, identified by its static public key (32 bytes)."""

    __slots__ = (
        "_behind", "_known", "epoch", "fec", "hosts", "is_hub", "key", "last_handshake", "last_rx", "last_tx", "limit",
        "mtu", "name", "networks", "path", "quality", "rtt", "stats", "unanswered_since",
    )  # fmt: skip

    def __init__(self, key: bytes, name: str = "", *, is_hub: bool = False) -> None:
        self.key = key
        self.name = name
        self.is_hub = is_hub
        """Whether it is this node's hub: the one that relays, introduces and welcomes."""
        self.hosts: frozenset[bytes] = frozenset()
        """Inner addresses that are the peer's own, packed (4 or 16 bytes)."""
        self.networks: tuple[Network, ...] = ()
        """Further prefixes that are routed to the peer; replaced as a whole."""
        self._behind: tuple[Network, ...] = ()
        self._known: set[bytes] = set()  # addresses found in `_behind`, as devices send more than once
        self.epoch: Epoch | None = None
        """The epoch to seal with."""
        self.path: Path | None = None
        self.limit = DEFAULT_MTU
        """Largest inner packet that the peer takes, as it says; of another node, as the hub says."""
        self.mtu = DEFAULT_MTU
        """Largest inner packet to send to the peer: it takes that, and so does the path."""
        self.last_rx = -1.0
        """When something of this peer last authenticated (monotonic seconds)."""
        self.last_tx = -1.0
        self.unanswered_since: float | None = None
        """When data was sent for the first time since something was last received; the data path keeps it."""
        self.last_handshake: float | None = None
        self.rtt: float | None = None
        self.quality = Quality()
        self.stats = Stats()
        self.fec = FecStats()

    def owns(self, source: bytes) -> bool:
        """Whether a packed inner source address is the peer's to use (cryptokey routing)."""
        if source in self.hosts:
            return True
        known, networks = self._known, self.networks
        if self._behind is not networks:
            self._behind = networks
            known.clear()
        if source in known:
            return True
        if not any(contains(network, source) for network in networks):
            return False
        if len(known) >= _KNOWN_LIMIT:  # made-up sources must not cost memory
            known.clear()
        known.add(source)
        return True
