"""Hosts: addresses, interfaces, and the ports that are bound on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ltunnel.testing.datagrams import UDP, Fate, Packet, SimEndpoint, canonical, version_of
from ltunnel.testing.links import Link, Quality
from ltunnel.testing.network import Device, Network

EPHEMERAL = (32_768, 60_999)
"""Range of ports that a host chooses from, as Linux has it."""


_WILDCARDS = {4: "0.0.0.0", 6: "::"}  # noqa: S104 (of simulated hosts)


class Receiver(Protocol):
    """What is bound to a port of a host."""

    def deliver(self, packet: Packet) -> bool:
        """Take a packet; False when there is no room for it."""
        ...


class Host(Device):
    """A machine. With several interfaces, a packet leaves by the one that has its source address."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__(network, name)
        self._interfaces: dict[Link, tuple[str, ...]] = {}
        self._bound: dict[tuple[int, str | None, int], Receiver] = {}  # protocol, address, port
        self._random = network.random(f"{name}/ports")
        self.watchers: list[Callable[[], None]] = []
        """Called when addresses have come or gone."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses, those of the first interface first."""
        return tuple(address for owned in self._interfaces.values() for address in owned)

    @property
    def links(self) -> tuple[Link, ...]:
        """The links of all interfaces, in the order in which they were attached."""
        return tuple(self._interfaces)

    @property
    def interfaces(self) -> tuple[tuple[Link, tuple[str, ...]], ...]:
        """All interfaces: the link and its addresses."""
        return tuple(self._interfaces.items())

    def attach(
        self, parent: Device, *addresses: str, quality: Quality | None = None, up: Quality | None = None
    ) -> Link:
        """Join below `parent` with these addresses; `up` is the quality towards the parent where it differs."""
        link = self._join(parent, quality or Quality(), up)
        self._interfaces[link] = owned = tuple(canonical(address) for address in addresses)
        for address in owned:
            parent.add_route(address, link)
        self._tell()
        return link

    def detach(self, link: Link) -> None:
        """Leave a network; what is on its way to us there is lost."""
        link.take_down()
        for address in self._interfaces.pop(link):
            link.parent.remove_route(address)
        self._tell()

    def move(self, parent: Device, *addresses: str, quality: Quality | None = None) -> Link:
        """Leave all networks and join another, as a laptop that is carried away; bound ports stay open."""
        for link in self.links:
            self.detach(link)
        return self.attach(parent, *addresses, quality=quality)

    def source_for(self, destination: str) -> str | None:
        """Return the own address that packets to a destination leave with, or None."""
        version = version_of(destination)
        return next((address for address in self.addresses if version_of(address) == version), None)

    def bind(self, receiver: Receiver, address: str | None, port: int, protocol: int = UDP) -> int:
        """Give a port (0: a free one) to a receiver and return its number.

        `address` may be ``0.0.0.0`` or ``::`` for all addresses of that family, and None for all there are. OSError
        when the port is taken, or when the address is not ours.
        """
        if address is not None:
            address = canonical(address)
            if address not in (*_WILDCARDS.values(), *self.addresses):
                raise OSError(f"{self.name} has no address {address}")
        if port == 0:
            port = next(
                number
                for number in iter(lambda: self._random.randint(*EPHEMERAL), None)
                if not self._is_taken(protocol, address, number)
            )
        elif self._is_taken(protocol, address, port):
            raise OSError(f"{self.name}: port {port} is in use")
        self._bound[protocol, address, port] = receiver
        return port

    def unbind(self, receiver: Receiver) -> None:
        """Take all ports of a receiver back."""
        self._bound = {key: owner for key, owner in self._bound.items() if owner is not receiver}

    def send(self, source: tuple[str | None, int], destination: SimEndpoint, payload: bytes,
             protocol: int = UDP, *, kind: type[Packet] = Packet, hops: int = 0) -> bool:  # fmt: skip
        """Send a packet. A source address of None is chosen here. False when there is no way out.

        `kind` is the class of the packet, for those whose payload has a known layout.
        """
        target = (canonical(destination[0]), destination[1])
        own = source[0] if source[0] is not None else self.source_for(target[0])
        if own is None:
            return False
        packet = kind((own, source[1]), target, payload, protocol, hops)
        if target[0] in self.addresses:
            self.network.at(self.network.clock.now, lambda: self._deliver(packet))
            return True
        for link, owned in self._interfaces.items():
            if own in owned:
                link.send(self, packet)
                return True
        return False

    def receive(self, packet: Packet, link: Link) -> None:  # noqa: ARG002 (any interface will do)
        """Hand a packet to what is bound there."""
        if packet.destination[0] in self.addresses:
            self._deliver(packet)
        else:
            self.drop(packet, Fate.NO_ROUTE)

    def _deliver(self, packet: Packet) -> None:
        address, port = packet.destination
        names = (address, _WILDCARDS[version_of(address)], None)  # the most exact one takes it
        takers = (self._bound.get((packet.protocol, name, port)) for name in names)
        receiver = next((taker for taker in takers if taker is not None), None)
        if receiver is None:
            self.drop(packet, Fate.PORT_CLOSED)
        else:
            fate = Fate.DELIVERED if receiver.deliver(packet) else Fate.BUFFER_FULL
            self.fates[fate] += 1
            self.network.record(f"{self.name}:{port}", fate, packet)

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher()

    def _is_taken(self, protocol: int, address: str | None, port: int) -> bool:
        return any(
            (protocol, port) == (taken_protocol, taken_port) and _overlap(address, taken)
            for taken_protocol, taken, taken_port in self._bound
        )


def _overlap(one: str | None, other: str | None) -> bool:
    if one is None or other is None or one == other:
        return True
    return version_of(one) == version_of(other) and (one in _WILDCARDS.values() or other in _WILDCARDS.values())
