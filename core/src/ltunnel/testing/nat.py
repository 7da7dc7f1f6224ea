"""NATs in the words of RFC 4787, and a firewall.

NATs translate one address family and pass the other on, as home routers do; nest two for carrier-grade NAT. Mapping and
filtering are chosen separately; the old names are pairs of them:

=====================  =====================  ==========================
old name               mapping                filtering
=====================  =====================  ==========================
full cone              endpoint-independent   endpoint-independent
address-restricted     endpoint-independent   address-dependent
port-restricted        endpoint-independent   address-and-port-dependent
symmetric              address-and-port-dep.  address-and-port-dependent
=====================  =====================  ==========================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from ltunnel.testing.datagrams import UDP, Fate, Packet, SimEndpoint, canonical, version_of
from ltunnel.testing.links import Link, Quality
from ltunnel.testing.network import Device, Network, Router


class Dependence(Enum):
    """How much of the far end a mapping or a filter looks at (RFC 4787, sections 4.1 and 5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"

    def key(self, remote: SimEndpoint) -> tuple[object, ...]:
        """Return the part of a far end that counts."""
        if self is Dependence.ENDPOINT_INDEPENDENT:
            return ()
        return remote[:1] if self is Dependence.ADDRESS_DEPENDENT else remote


class PortChoice(Enum):
    """How external ports are chosen (RFC 4787, section 4.2). A port belongs to one mapping at a time."""

    PRESERVE = "preserve"  # the inside port if it is free, else the next free one above it
    SEQUENTIAL = "sequential"
    RANDOM = "random"


@dataclass(slots=True)
class Mapping:
    """An inside endpoint and the external port that stands for it."""

    inside: SimEndpoint
    port: int
    last_used: float
    permanent: bool = False
    contacts: dict[tuple[object, ...], float] = field(default_factory=dict)
    """Far ends that were sent to, as the filter looks at them, and when last."""


_UNREPLIED = 30.0


class Nat(Router):
    """A NAT router: its uplink is the outside, everything attached to it is inside.

    `external` is its outside address. A mapping ends `timeout` seconds after the last packet from inside, or in either
    direction with `inbound_refresh` (RFC 4787, section 4.3).

    With `accepts_input` it is like a Linux router whose own firewall takes packets from outside: one that belongs to no
    connection is the router's, and what is sent to that far end afterwards gets another port, since the connection
    from there to the usual one exists already.
    """

    def __init__(
        self,
        network: Network,
        name: str,
        external: str,
        *,
        mapping: Dependence = Dependence.ENDPOINT_INDEPENDENT,
        filtering: Dependence = Dependence.ADDRESS_AND_PORT_DEPENDENT,
        ports: PortChoice = PortChoice.PRESERVE,
        port_range: tuple[int, int] = (1024, 65_535),
        hairpin: bool = False,
        timeout: float = 120.0,
        inbound_refresh: bool = False,
        accepts_input: bool = False,
    ) -> None:
        super().__init__(network, name)
        self.external = canonical(external)
        self.mapping = mapping
        self.filtering = filtering
        self.ports = ports
        self.port_range = port_range
        self.hairpin = hairpin
        self.timeout = timeout
        self.inbound_refresh = inbound_refresh
        self.accepts_input = accepts_input
        self._random = network.random(name)
        self._next_port = port_range[0]
        self._by_inside: dict[tuple[object, ...], Mapping] = {}  # protocol, inside, what the mapping depends on
        self._by_port: dict[tuple[int, int], Mapping] = {}  # protocol, external port
        self._forwarded: dict[tuple[int, SimEndpoint], Mapping] = {}  # protocol, inside
        self._own: dict[tuple[int, int, SimEndpoint], float] = {}  # protocol, external port, far end: the router's

    def attach(self, parent: Device, quality: Quality | None = None, *, up: Quality | None = None) -> Link:
        """Join below `parent`, which learns the external address."""
        link = super().attach(parent, quality, up=up)
        parent.add_route(self.external, link)
        return link

    def announces(self, address: str) -> bool:
        """Hide inside addresses of the family that is translated."""
        return not self._translates(address)

    def receive(self, packet: Packet, link: Link) -> None:
        """Translate and pass on."""
        host = packet.destination[0]
        if not self._translates(host):
            self.forward(packet, link)
        elif link is self.uplink:
            if host == self.external:
                self._inward(packet, link)
            else:
                self.drop(packet, Fate.NO_ROUTE)
        elif host == self.external:
            self._hairpin(packet)
        elif host in self._below:
            self.forward(packet, link)  # between two inside hosts; the NAT is their switch
        elif packet.hops == 1:  # looked at before it is translated
            self.drop(packet, Fate.EXPIRED)
        else:
            translated = self._outward(packet)
            if translated is not None:
                self.forward(translated, link)

    def flush(self) -> None:
        """Forget all mappings but forwarded ports, as a reboot does."""
        self._by_port = {key: mapping for key, mapping in self._by_port.items() if mapping.permanent}
        self._by_inside.clear()
        self._own.clear()

    def renumber(self, external: str) -> None:
        """Get another external address, as from a provider that cuts the line every night; mappings are gone."""
        if self.uplink is not None:
            self.uplink.parent.remove_route(self.external)
        self.external = canonical(external)
        self.flush()
        if self.uplink is not None:
            self.uplink.parent.add_route(self.external, self.uplink)

    def forward_port(self, port: int, inside: SimEndpoint, protocol: int = UDP) -> None:
        """Map an external port for good and for every far end, as an operator or UPnP does."""
        if (protocol, port) in self._by_port:
            raise ValueError(f"{self.name}: port {port} is taken")
        mapping = Mapping((canonical(inside[0]), inside[1]), port, self.network.clock.now, permanent=True)
        self._by_port[protocol, port] = self._forwarded[protocol, mapping.inside] = mapping

    def mappings(self) -> Iterator[Mapping]:
        """Iterate over the mappings that are alive."""
        return (mapping for mapping in self._by_port.values() if self._is_alive(mapping))

    def _translates(self, address: str) -> bool:
        return version_of(address) == version_of(self.external)

    def _is_recent(self, last_used: float | None) -> bool:
        return last_used is not None and self.network.clock.now - last_used < self.timeout

    def _is_alive(self, mapping: Mapping) -> bool:
        return mapping.permanent or self._is_recent(mapping.last_used)

    def _outward(self, packet: Packet) -> Packet | None:
        now = self.network.clock.now
        key: tuple[object, ...] = (packet.protocol, packet.source, *self.mapping.key(packet.destination))
        usual = self._by_inside.get(key)
        if usual is not None and self._is_own(packet.protocol, usual.port, packet.destination):
            key = (packet.protocol, packet.source, "aside", packet.destination)
        mapping = self._forwarded.get((packet.protocol, packet.source)) or self._by_inside.get(key)
        if mapping is not None and not self._is_alive(mapping):
            self._forget(packet.protocol, mapping)
            mapping = None
        if mapping is None:
            port = self._choose_port(packet.protocol, packet.source[1])
            if port is None:
                self.drop(packet, Fate.NO_PORTS)
                return None
            mapping = Mapping(packet.source, port, now)
            self._by_inside[key] = self._by_port[packet.protocol, port] = mapping
        mapping.last_used = now
        mapping.contacts[self.filtering.key(packet.destination)] = now
        return replace(packet, source=(self.external, mapping.port))

    def _admit(self, packet: Packet) -> Packet | None:
        """Translate a packet for the external address, or drop it."""
        mapping = self._by_port.get((packet.protocol, packet.destination[1]))
        if mapping is None or not self._is_alive(mapping):
            self._take_as_own(packet)
            self.drop(packet, Fate.NO_MAPPING)
            return None
        contact = self.filtering.key(packet.source)
        if not mapping.permanent:
            if not self._is_recent(mapping.contacts.get(contact)):
                self._take_as_own(packet)
                self.drop(packet, Fate.FILTERED)
                return None
            if self.inbound_refresh:
                mapping.last_used = mapping.contacts[contact] = self.network.clock.now
        return replace(packet, destination=mapping.inside)

    def _take_as_own(self, packet: Packet) -> None:
        """Remember a packet from outside that the router takes itself."""
        if self.accepts_input:
            self._own[packet.protocol, packet.destination[1], packet.source] = self.network.clock.now

    def _is_own(self, protocol: int, port: int, remote: SimEndpoint) -> bool:
        """Whether the router remembers packets from a far end to a port as its own (30 s, as nf_conntrack does)."""
        return self.network.clock.now - self._own.get((protocol, port, remote), float("-inf")) < _UNREPLIED

    def _inward(self, packet: Packet, link: Link) -> None:
        admitted = self._admit(packet)
        if admitted is not None:
            self.forward(admitted, link)

    def _hairpin(self, packet: Packet) -> None:
        """Turn a packet from inside to the external address around, with external source (RFC 4787, REQ-9)."""
        if not self.hairpin:
            self.drop(packet, Fate.NO_HAIRPIN)
            return
        translated = self._outward(packet)
        admitted = self._admit(translated) if translated is not None else None
        if admitted is not None:
            self.forward(admitted, None)

    def _choose_port(self, protocol: int, wanted: int) -> int | None:
        """Return a free external port, or None."""
        low, high = self.port_range
        if self.ports is PortChoice.PRESERVE:
            start = wanted if low <= wanted <= high else low
        elif self.ports is PortChoice.SEQUENTIAL:
            start = self._next_port
        else:
            start = self._random.randint(low, high)
        size = high - low + 1
        for step in range(size):
            port = low + (start - low + step) % size
            taken = self._by_port.get((protocol, port))
            if taken is not None and not self._is_alive(taken):
                self._forget(protocol, taken)
                taken = None
            if taken is None:
                self._next_port = low + (port - low + 1) % size
                return port
        return None

    def _forget(self, protocol: int, mapping: Mapping) -> None:
        del self._by_port[protocol, mapping.port]
        self._by_inside = {key: entry for key, entry in self._by_inside.items() if entry is not mapping}


class Firewall(Router):
    """Drops protocols in both directions, and, if `stateful`, whatever nobody inside has asked for.

    Its uplink is the outside. Addresses are not translated.
    """

    def __init__(
        self,
        network: Network,
        name: str,
        *,
        blocked: frozenset[int] = frozenset(),
        stateful: bool = False,
        timeout: float = 120.0,
    ) -> None:
        super().__init__(network, name)
        self.blocked = blocked
        """IP protocol numbers; may be changed at any time."""
        self.stateful = stateful
        self.timeout = timeout
        self._asked: dict[tuple[int, SimEndpoint, SimEndpoint], float] = {}  # protocol, inside, outside -> last seen

    def receive(self, packet: Packet, link: Link) -> None:
        """Filter and pass on."""
        now = self.network.clock.now
        if packet.protocol in self.blocked:
            self.drop(packet, Fate.FILTERED)
            return
        if self.stateful:
            if link is not self.uplink:
                self._asked[packet.protocol, packet.source, packet.destination] = now
            else:
                key = (packet.protocol, packet.destination, packet.source)
                if now - self._asked.get(key, float("-inf")) >= self.timeout:
                    self.drop(packet, Fate.FILTERED)
                    return
                self._asked[key] = now
        self.forward(packet, link)

    def flush(self) -> None:
        """Forget what was asked for."""
        self._asked.clear()
