"""Networks behind machines: who offers which, which of them are accepted, and why the others are not.

::

    hub    CONFIRM of a node ────────────┐                     ┌─► Peer.networks, Fib ─► the data path
    node   PEERS, WELCOME from the hub ──┼─► offers ─► vetting ┼─► `taken` ─► the kernel's routes
           own links, outer addresses ───┘                     └─► `Follower`: tells nodes, leaves paths

Of two that overlap the one that came first is accepted, for as long as it is offered and nothing else speaks against
it; then the other takes its place. So two machines may be the way to one network, one of them standing by. Whether
somebody is reached in it is nothing that others gain by: it is refused then, and keeps its place.

The kernel sends whatever is for an accepted network into the tunnel, our own datagrams too: what carries the tunnel
must not go there, or it would go around in circles. So a node sends nothing straight to an address inside of one (it
asks `holds` and `leads_into`, and forgets the paths it had), and a network that holds the address by which the hub, or
on a hub any node, is reached is refused. Addresses that have not proved themselves do not count, since anybody can
name any. What goes there meanwhile goes in circles no longer than the path's budget lasts, which each round takes from
and only what comes from outside adds to.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import count
from typing import NamedTuple, Protocol

from ltunnel.control.context import Context
from ltunnel.control.events import Level
from ltunnel.control.flows import address_of, describe_endpoint
from ltunnel.control.limits import Buckets
from ltunnel.control.settings import Role
from ltunnel.control.timers import Timer
from ltunnel.plugin import Address, Flow
from ltunnel.session import Drop, Path, Peer
from ltunnel.session.peer import Network
from ltunnel.wire.relay import node_name

OFFER_LIMIT = 4096
"""Offers that are looked at; each costs a few microseconds whenever something changes."""
OUTSIDE_LIMIT = 1024
"""Offers that are not within `accept_routes`, kept for status; they take no room from those that are."""
CROWDED = "too many are offered"
EVENT_RATE, EVENT_BURST = 1.0, 96.0
"""Events about those of one peer in a second, and at once: it may join again and again. Status has all."""

NOBODYS = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8")
"""This host, loopback, link-local, multicast and reserved addresses: behind no machine (RFC 6890)."""


class Refused(NamedTuple):
    """An offer that is not accepted, and why, in words."""

    network: Network
    peer: Peer
    reason: str


class Follower(Protocol):
    """Who has to know at once: `HubSide` on a hub, `Ways` on a node."""

    def networks_changed(self, peers: Collection[Peer], now: float) -> None:
        """Take note that other networks than before are accepted of some peers."""


class _Span(NamedTuple):
    """The addresses of a network, as numbers."""

    version: int
    first: int
    last: int

    @classmethod
    def of(cls, network: Network) -> _Span:
        return cls(network.version, int(network.network_address), int(network.broadcast_address))

    def within(self, other: _Span) -> bool:
        return self.version == other.version and other.first <= self.first and self.last <= other.last

    def overlaps(self, other: _Span) -> bool:
        return self.version == other.version and self.first <= other.last and other.first <= self.last


def _spans(networks: Iterable[Network]) -> tuple[tuple[Network, _Span], ...]:
    return tuple((network, _Span.of(network)) for network in networks)


_RESERVED = _spans(map(ip_network, NOBODYS))


class _Offer:
    """A network that a peer offers."""

    __slots__ = ("held", "late", "network", "number", "peer", "placed", "reached", "reason", "span", "within")

    def __init__(self, peer: Peer, network: Network, number: int, accept: Iterable[_Span]) -> None:
        self.peer = peer
        self.network = network
        self.span = _Span.of(network)
        self.within = any(map(self.span.within, accept))
        """Whether it is within `accept_routes`."""
        self.number = number
        """In order of coming."""
        self.held = False
        """Whether it is accepted."""
        self.placed = False
        """Whether it is accepted, or would be if nobody were reached in it, and was before: no other may overlap it."""
        self.late = False
        """Whether all others go first."""
        self.reason = ""
        """Why it is not accepted."""
        self.reached = float("-inf"), ""
        """When somebody was last reached at an address in it, and the reason that this is."""


class Subnets:
    """Offers by peer. Whoever changes something calls `settle` (or `look`) then, once for all changes."""

    __slots__ = (
        "_accept", "_crowded", "_ctx", "_dirty", "_events", "_firsts", "_gone", "_hub_names", "_hub_paths", "_links",
        "_numbers", "_offers", "_outer", "_own", "_placed", "_tunnel", "_unsaid", "follower", "taken",
    )  # fmt: skip

    def __init__(self, ctx: Context) -> None:
        settings = ctx.settings
        self._ctx = ctx
        self._accept = tuple(map(_Span.of, settings.accept_routes))
        self._own = _spans(settings.routes)
        self._tunnel = tuple(_Span.of(own.network) for own in settings.addresses)
        self._links: tuple[tuple[Network, _Span], ...] = ()
        self._hub_paths: tuple[Address, ...] = ()
        self._hub_names: tuple[Address, ...] = ()
        self._events = Buckets(EVENT_RATE, EVENT_BURST, OFFER_LIMIT)
        self._numbers = count()
        self._offers: dict[bytes, dict[Network, _Offer]] = {}  # by the peer's key
        self._gone: list[_Offer] = []  # accepted ones that were withdrawn since the last look
        self._crowded: dict[bytes, _Offer] = {}  # by the peer's key: one for which there is no room
        self._unsaid: list[_Offer] = []  # those of them of which that was not told yet
        self._dirty = False
        self._firsts: list[tuple[int, int]] = []  # of those that have a place: version and first address, sorted
        self._placed: list[_Offer] = []  # in the same order; they do not overlap
        self._outer: list[tuple[int, int, str]] = []  # version, address, who is reached there; sorted
        self.taken: tuple[Network, ...] = ()
        """All that is accepted, sorted: what the kernel is to send into the tunnel."""
        self.follower: Follower | None = None

    @property
    def refused(self) -> list[Refused]:
        """What is not accepted, in order of coming; then one of each peer that there is no room for."""
        offers = (*self._all(), *self._crowded.values())
        return [Refused(each.network, each.peer, each.reason) for each in offers if not each.held]

    def holds(self, address: Address) -> bool:
        """Whether an address (host, port) lies in an accepted network."""
        return self._inside(address_of(describe_endpoint(0, address)))

    def leads_into(self, transport: int, flow: Flow) -> bool:
        """Whether a flow leads to an address in an accepted network."""
        return bool(self._firsts) and self._inside(address_of(self._ctx.describe(transport, flow)))

    # ---------------------------------------------------------------- what peers offer

    def offer(self, peer: Peer, networks: Iterable[Network]) -> None:
        """Take what a peer offers now, all of it; nothing if it left, or must not offer anything."""
        before = self._offers.get(peer.key, {})
        wanted = dict.fromkeys(networks)
        if not wanted:
            self._crowded.pop(peer.key, None)
        if before.keys() == wanted.keys() and not any(offer.late for offer in before.values()):
            return
        self._dirty = True
        after = {network: offer for network, offer in before.items() if network in wanted}
        self._gone += [offer for network, offer in before.items() if offer.held and network not in wanted]
        for offer in after.values():
            offer.peer, offer.late = peer, False
        self._offers[peer.key] = after
        crowded = self._add(peer, [network for network in wanted if network not in after])
        if not after:
            del self._offers[peer.key]
        known = self._crowded.pop(peer.key, None)
        if crowded is not None:
            self._crowded[peer.key] = crowded
            self._unsaid += [crowded] if known is None else []

    def _add(self, peer: Peer, networks: Iterable[Network]) -> _Offer | None:
        """Add what a peer offers, as far as there is room; return the first that there is none for."""
        offers, crowded = self._offers[peer.key], None
        used = Counter(offer.within for each in self._offers.values() for offer in each.values())
        for network in networks:
            offer = _Offer(peer, network, next(self._numbers), self._accept)
            if used[offer.within] < (OFFER_LIMIT if offer.within else OUTSIDE_LIMIT):
                used[offer.within] += 1
                offers[network] = offer
            else:
                crowded = crowded or offer
        if crowded is not None:
            crowded.reason = CROWDED
            self._ctx.stats.drop(Drop.LIMITED)
        return crowded

    def defer(self, peer: Peer) -> None:
        """Let all others go first: the hub says that a peer is gone, though a session with it lives."""
        for offer in self._offers.get(peer.key, {}).values():
            self._dirty |= not offer.late
            offer.late = True

    # ---------------------------------------------------------------- what speaks against them

    def set_links(self, networks: Sequence[Network], now: float) -> None:
        """Take the prefixes of this machine's own links, without the TUN device's."""
        links = _spans(networks)
        if links != self._links:
            self._links = links
            self.look(now)

    def set_hub_paths(self, addresses: Sequence[Address], now: float) -> None:
        """On a node: take the addresses at which the hub is looked for."""
        if tuple(addresses) != self._hub_paths:
            self._hub_paths = tuple(addresses)
            self.look(now)

    def set_hub_names(self, addresses: Sequence[Address], now: float) -> None:
        """On a node: take all addresses of the hub's name."""
        if tuple(addresses) != self._hub_names:
            self._hub_names = tuple(addresses)
            self.look(now)

    # ---------------------------------------------------------------- vetting

    def settle(self, now: float, path: Path | None = None) -> None:
        """Look again if offers have changed, or `path`, which a session took, leads into an accepted network.

        One that has not proved itself does not count yet: settle again when it has.
        """
        if self._dirty or (path is not None and path.budget is None and self.leads_into(path.transport, path.flow)):
            self.look(now)

    def look(self, now: float) -> None:
        """Vet all offers, those first that have a place, and let the outcome take effect."""
        self._dirty = False
        self._outer = self._reached()
        self._firsts, self._placed = [], []
        gone, self._gone = self._gone, []
        changed = {offer.peer.key: offer.peer for offer in gone}
        refused, self._unsaid = self._unsaid, []
        accepted: list[_Offer] = []
        for offer in sorted(self._all(), key=lambda each: (each.late, not each.placed)):
            was_held, against = offer.held, self._why(offer)
            reason = against or self._in_use(offer, now)
            offer.held = not reason
            offer.placed = not against and (offer.held or offer.placed)
            if offer.placed:
                at = bisect_left(self._firsts, offer.span[:2])
                self._firsts.insert(at, offer.span[:2])
                self._placed.insert(at, offer)
            if offer.held:
                if not was_held:
                    accepted.append(offer)
            elif was_held or reason != offer.reason:
                refused.append(offer)
            offer.reason = reason
            if offer.held is not was_held:
                changed[offer.peer.key] = offer.peer
        self.taken = tuple(offer.network for offer in self._placed if offer.held)
        self._plan(now)
        self._apply(changed.values(), now)
        self._tell(gone, refused, accepted, now)

    def _why(self, offer: _Offer) -> str:
        """Return why an offer is not accepted, whoever is reached in it; nothing if it is."""
        network, span = offer.network, offer.span
        if not offer.within:
            return "it is not within accept_routes" if self._accept else "this machine accepts none (accept_routes)"
        if not any(network.version == own.version for own in self._tunnel):
            return f"this machine has no IPv{network.version} address in the tunnel"
        if not network.prefixlen:
            return "it is every address that there is"
        for reserved, others in _RESERVED:
            if span.overlaps(others):
                return f"it overlaps {reserved}, which is behind no machine"
        if any(map(span.overlaps, self._tunnel)):
            return "it overlaps the tunnel's own network"
        for own, others in self._own:
            if span.overlaps(others):
                return f"it overlaps {own}, which this machine offers itself"
        for link, others in self._links:
            if span.overlaps(others):
                return f"this machine is in {link} itself"
        other = self._at(span)
        return "" if other is None else f"it overlaps a network of {other.peer.name}"

    def _in_use(self, offer: _Offer, now: float) -> str:
        """Return the reason that it is if somebody is reached in a network, or was not long ago; else nothing.

        It counts for a while after that, so that nobody who moves to and fro has all nodes be told each time.
        """
        version, first, last = offer.span
        at = bisect_left(self._outer, (version, first, ""))
        if at < len(self._outer) and self._outer[at][:2] <= (version, last):
            _, number, name = self._outer[at]
            address = IPv4Address(number) if version == 4 else IPv6Address(number)
            offer.reached = now, f"it holds {address}, by which {name} is reached"
        when, reason = offer.reached
        return reason if now - when < Timer.NETWORKS.schedule.first else ""

    def _reached(self) -> list[tuple[int, int, str]]:
        """Return the outer addresses that must stay outside, sorted."""
        ctx, found = self._ctx, []
        for address in (*self._hub_paths, *self._hub_names):
            found.append((address_of(describe_endpoint(0, address)), "the hub"))
        for session in ctx.sessions.values():
            peer = session.peer
            path = None if peer is None else peer.path
            if peer is None or path is None or path.budget is not None:
                continue
            if ctx.settings.role is Role.HUB or peer.is_hub:
                name = "the hub" if peer.is_hub else peer.name
                found.append((address_of(ctx.describe(path.transport, path.flow)), name))
        return sorted((ip.version, int(ip), name) for ip, name in found if ip is not None)

    def _at(self, span: _Span) -> _Offer | None:
        """Return what has a place and overlaps a span, if anything."""
        at = bisect_right(self._firsts, (span.version, span.last)) - 1
        return self._placed[at] if at >= 0 and self._placed[at].span.overlaps(span) else None

    def _inside(self, address: IPv4Address | IPv6Address | None) -> bool:
        if address is None:
            return False
        offer = self._at(_Span(address.version, int(address), int(address)))
        return offer is not None and offer.held

    def _all(self) -> list[_Offer]:
        """Return all offers in order of coming."""
        offers = (offer for each in self._offers.values() for offer in each.values())
        return sorted(offers, key=lambda offer: offer.number)

    # ---------------------------------------------------------------- what comes of it

    def _plan(self, now: float) -> None:
        """Look again when the first of those may be accepted in which somebody was reached."""
        life, timers = Timer.NETWORKS.schedule.first, self._ctx.timers
        times = [offer.reached[0] for offer in self._all() if now - offer.reached[0] < life]
        if times:
            timers.set(Timer.NETWORKS, self, min(times) + life)
        else:
            timers.cancel(Timer.NETWORKS, self)

    def _apply(self, peers: Collection[Peer], now: float) -> None:
        for peer in peers:
            offers = self._offers.get(peer.key, {})
            peer.networks = tuple(network for network, offer in offers.items() if offer.held)
            if self._ctx.fib.names.get(node_name(peer.key)) is peer:  # else nothing goes to it at all
                self._ctx.fib.set(peer)
        if peers and self.follower is not None:
            self.follower.networks_changed(peers, now)

    def _tell(
        self, gone: Iterable[_Offer], refused: Iterable[_Offer], accepted: Iterable[_Offer], now: float
    ) -> None:  # fmt: skip
        accepts = self._accept or self._ctx.settings.role is Role.HUB
        for offer in gone:
            self._emit("route-withdrawn", offer, f"{offer.network} is not behind {offer.peer.name} any more", now)
        for offer in refused:
            text = f"{offer.peer.name} offers a route to {offer.network}, which is ignored: {offer.reason}"
            level = Level.WARNING if accepts else Level.INFO
            self._emit("route-refused", offer, text, now, level, reason=offer.reason)
        for offer in accepted:
            self._emit("route-accepted", offer, f"{offer.network} is behind {offer.peer.name}", now)

    def _emit(
        self, name: str, offer: _Offer, text: str, now: float, level: Level = Level.INFO, **fields: str
    ) -> None:  # fmt: skip
        peer = offer.peer
        if self._events.take(peer.key, now):
            self._ctx.emit(
                name, text, level, name=peer.name, key=peer.key.hex(), network=str(offer.network), **fields
            )  # fmt: skip
