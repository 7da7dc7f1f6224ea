"""The nodes that the hub has introduced: their keys, names, addresses, networks, and what of that this node believes.

The hub's newest word counts: an address that it gives to another node is taken from the one that had it. But a name
whose key was pinned when a handshake had proved it stays with that key: under another one it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address

from ltunnel.control.context import Context
from ltunnel.control.events import Level
from ltunnel.control.limits import Bucket
from ltunnel.control.pins import Pins, pin_name
from ltunnel.control.session import Session
from ltunnel.control.subnets import Subnets
from ltunnel.control.timers import Timer
from ltunnel.session import Peer
from ltunnel.session.peer import Network
from ltunnel.wire.frames import PeerEntry, Peers
from ltunnel.wire.relay import node_name

ROSTER_LIMIT = 4096
"""As many as a hub has bindings."""
INIT_RATE = 2.0
INIT_BURST = 8.0
"""INITs that are answered in a second, and at once: of one node through the hub, of all that one node brings."""


class Neighbour:
    """One introduced node."""

    __slots__ = ("behind", "busy", "inits", "named", "peer", "present", "refused", "traffic", "wanted")

    def __init__(self, peer: Peer, now: float) -> None:
        self.peer = peer
        self.present = True
        """Whether the hub says that it is there."""
        self.named = True
        """Whether the hub has named it since it was met anew."""
        self.refused = False
        """Whether another key is pinned under its name."""
        self.behind: tuple[Network, ...] = ()
        """The networks that it offers, as the hub says."""
        self.wanted = float("-inf")
        """When a packet last waited for a session."""
        self.traffic = 0
        """Packets that had passed when that was last looked at."""
        self.busy = now
        """When more had passed than the time before."""
        self.inits = Bucket(INIT_RATE, INIT_BURST, now)


class Roster:
    """Introduced nodes by key. `hub` is the session with the hub."""

    __slots__ = ("_by_key", "_by_name", "_ctx", "_hub", "_pins", "_subnets", "reached")

    def __init__(self, ctx: Context, pins: Pins, hub: Session, subnets: Subnets) -> None:
        self._ctx = ctx
        self._subnets = subnets
        self._pins = pins
        self._hub = hub
        self._by_key: dict[bytes, Neighbour] = {}
        self._by_name: dict[bytes, Neighbour] = {}
        self.reached: Callable[[bytes], bool] = lambda _: False
        """Whether a node (its key) is reached through others, so that it is remembered when it is gone for the hub."""

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(tuple(self._by_key.values()))

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: bytes) -> Neighbour | None:
        """Return the node with a static key."""
        return self._by_key.get(key)

    def named(self, name: bytes) -> Neighbour | None:
        """Return the node with a name as in RELAY frames (8 bytes)."""
        return self._by_name.get(name)

    # ---------------------------------------------------------------- the hub's word

    def introduce(self, frame: Peers, now: float) -> list[Neighbour]:
        """Take PEERS from the hub; return those who have no address left, as others got them: their session is over."""
        bare: list[Neighbour] = []
        hub = self._hub.peer
        strangers = {self._ctx.settings.identity.public, None if hub is None else hub.key}
        for entry in frame.peers:
            if entry.key in strangers:
                continue
            if entry.addresses:
                bare += self._join(entry, now)
            elif (gone := self._by_key.get(entry.key)) is not None:
                self._gone(gone)
        self._subnets.settle(now)
        return bare

    def hub_met(self, now: float) -> None:
        """Take note that the hub, which may have been away, is about to name everybody."""
        for neighbour in self._by_key.values():
            neighbour.named = False
        self._ctx.timers.set(Timer.UNNAMED, self._hub, now + Timer.UNNAMED.schedule.first)

    def unnamed_due(self, now: float) -> None:
        """UNNAMED: whoever the hub has not named again is gone."""
        for neighbour in self:
            if not neighbour.named:
                self._gone(neighbour)
        self._subnets.settle(now)

    def over(self, neighbour: Neighbour, now: float) -> None:
        """Take note that the session with a neighbour has ended."""
        if not neighbour.present:
            self._gone(neighbour)
            self._subnets.settle(now)

    def prune(self, now: float) -> None:
        """Forget who is gone for the hub, has no session with this node, and is reached no more."""
        for neighbour in self:
            if not neighbour.present:
                self._gone(neighbour)
        self._subnets.settle(now)

    def forget(self, neighbour: Neighbour, now: float) -> None:
        """Take a node out; its session must be over."""
        self._remove(neighbour)
        self._subnets.settle(now)

    def _remove(self, neighbour: Neighbour) -> None:
        peer = neighbour.peer
        self._subnets.offer(peer, ())
        self._ctx.fib.remove(peer)
        self._by_key.pop(peer.key, None)
        self._by_name.pop(node_name(peer.key), None)
        self._ctx.peers.pop(peer.key, None)

    def _join(self, entry: PeerEntry, now: float) -> list[Neighbour]:
        neighbour = self._by_key.get(entry.key)
        if neighbour is None:
            if len(self._by_key) >= ROSTER_LIMIT:
                return []
            neighbour = Neighbour(Peer(entry.key), now)
            self._by_key[entry.key] = self._by_name[node_name(entry.key)] = neighbour
        neighbour.present = neighbour.named = True
        neighbour.behind = entry.behind
        peer = neighbour.peer
        peer.limit = self._ctx.settings.mtu if entry.mtu is None else min(entry.mtu, self._ctx.settings.mtu)
        hosts = self._hosts(entry)
        if self._ctx.peers.get(peer.key) is peer and (peer.name, peer.hosts) == (entry.name, hosts):
            self._offer(neighbour)
            return []
        peer.name = entry.name
        self._ctx.peers[peer.key] = peer
        neighbour.refused = self._pins.conflict(self._pin_name(peer), peer.key)
        bare = self._take_over(hosts, neighbour)
        peer.hosts = hosts
        self._route(neighbour)
        if neighbour.refused:
            self._tell_refused(peer)
        return bare

    def _route(self, neighbour: Neighbour) -> None:
        """Send a node what is for its addresses and networks, unless it is refused."""
        if neighbour.refused:
            self._ctx.fib.remove(neighbour.peer)
        else:
            self._ctx.fib.set(neighbour.peer)
        self._offer(neighbour)

    def _offer(self, neighbour: Neighbour) -> None:
        """Have the networks behind a node vetted; one that is refused, or has no address left, offers none."""
        possible = neighbour.peer.hosts and not neighbour.refused
        self._subnets.offer(neighbour.peer, neighbour.behind if possible else ())

    def _hosts(self, entry: PeerEntry) -> frozenset[bytes]:
        """Return what a node may own: in the tunnel's networks, neither this node's addresses nor the hub's.

        Others are in networks behind machines, or in the internet, and no packets of that node.
        """
        own = {interface.ip.packed for interface in self._ctx.settings.addresses}
        hub = frozenset() if self._hub.peer is None else self._hub.peer.hosts
        return self._ctx.settings.hosts(entry.addresses) - own - hub

    def _take_over(self, hosts: frozenset[bytes], owner: Neighbour) -> list[Neighbour]:
        """Take addresses from whoever had them; return those who have none left."""
        bare: list[Neighbour] = []
        for other in self:
            if other is not owner and other.peer.hosts & hosts:
                other.peer.hosts -= hosts
                self._route(other)
                if not other.peer.hosts:
                    other.present = False
                    bare.append(other)
        return bare

    def _gone(self, neighbour: Neighbour) -> None:
        """Take note that a node is gone for the hub; a session with it goes on for as long as it lives."""
        neighbour.present = False
        session = self._ctx.sessions.get(neighbour.peer.key)
        if (session is None or not session.in_use) and not self.reached(neighbour.peer.key):
            self._remove(neighbour)
        else:
            self._subnets.defer(neighbour.peer)

    # ---------------------------------------------------------------- pins

    def pin(self, peer: Peer) -> None:
        """Remember the key that a handshake has proved, as long as there are not too many of one hub's nodes."""
        place = self._pin_name(peer).removeprefix(peer.name)
        full = sum(name.endswith(place) for name in self._pins.items) >= ROSTER_LIMIT
        if not full and self._pins.add(self._pin_name(peer), peer.key):
            text = f"the key of {peer.name} is {peer.key.hex()} from now on"
            self._ctx.emit("pins", text, Level.INFO, key=peer.key.hex(), name=peer.name)

    def pin_forgotten(self, now: float) -> None:
        """Look again at whoever was refused, since a pin was forgotten."""
        for neighbour in self:
            if neighbour.refused and not self._pins.conflict(self._pin_name(neighbour.peer), neighbour.peer.key):
                neighbour.refused = False
                self._route(neighbour)
        self._subnets.settle(now)

    def _tell_refused(self, peer: Peer) -> None:
        name = self._pin_name(peer)
        self._ctx.emit(
            "neighbour-refused",
            f"the hub introduces {peer.name} ({', '.join(words(peer))}) with another key than the one this node "
            f"knows: somebody may be posing as it. If it was set up anew, run `ltunnel pins forget {name}`",
            Level.WARNING, name=peer.name, key=peer.key.hex(), known=self._pins.items[name].hex(), pin=name,
        )  # fmt: skip

    def _pin_name(self, peer: Peer) -> str:
        settings = self._ctx.settings
        return pin_name(settings.hub_label, settings.network, peer.name)


def words(peer: Peer) -> list[str]:
    """Return a peer's tunnel addresses as text."""
    return [str(ip_address(host)) for host in sorted(peer.hosts)]
