"""A network in memory: an event heap on a fake clock, and devices joined by links into a tree.

::

    network = Network(seed=1)
    internet = Router(network, "internet")
    nat = Nat(network, "home", "198.51.100.1")
    nat.attach(internet, Quality(delay=0.01))
    laptop = Host(network, "laptop")
    laptop.attach(nat, "192.168.1.10")

Every device has one uplink (a host may have more) and any number of devices below it. A packet goes down to the device
that holds its destination if there is one, else up; so routes need no set-up and loops cannot arise. Nothing uses wall
time or threads, and all randomness comes from the seed: the same seed gives the same trace.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from random import Random

from ltunnel.testing.clock import FakeClock
from ltunnel.testing.datagrams import Fate, Packet, TraceEntry
from ltunnel.testing.links import Link, Quality


class Network:
    """Clock, event heap, randomness and trace of one simulated network."""

    def __init__(self, seed: int | str = 0, *, clock: FakeClock | None = None, trace: bool = False) -> None:
        self.seed = seed
        self.clock = clock or FakeClock()
        self.trace: list[TraceEntry] | None = [] if trace else None
        """What became of every packet at every place, when asked for."""
        self.fates: Counter[Fate] = Counter()
        """Sums over all places. `DELIVERED` counts arrivals at a link's end or a port, so one packet counts often."""
        self.ready: dict[object, None] = {}
        """Ports in which something waits, in order of arrival; who reads them takes them out."""
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def random(self, name: str) -> Random:
        """Return a random source of its own for one part, so that parts do not disturb each other."""
        return Random(f"{self.seed}/{name}")

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Run `action` at a time (monotonic seconds), after what was planned earlier for the same time."""
        heapq.heappush(self._heap, (max(when, self.clock.now), next(self._order), action))

    def next_event(self) -> float | None:
        """Return when something happens next (monotonic seconds), or None."""
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> None:
        """Run everything that is due now, also what that brings about for the same moment."""
        while self._heap and self._heap[0][0] <= self.clock.now:
            heapq.heappop(self._heap)[2]()

    def run(self, seconds: float) -> None:
        """Let time pass and things happen. For networks without nodes; `World.run` runs those too."""
        end = self.clock.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.clock.advance_to(self._heap[0][0])
            self.run_due()
        self.clock.advance_to(end)

    def record(self, place: str, fate: Fate, packet: Packet) -> None:
        """Count, and trace if wanted, what became of a packet."""
        self.fates[fate] += 1
        if self.trace is not None:
            self.trace.append(TraceEntry(self.clock.now, place, fate, packet))


class Device:
    """Something with a name, an uplink, and addresses that are reached below it."""

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.name = name
        self.uplink: Link | None = None
        self.fates: Counter[Fate] = Counter()
        """What this device did to packets, besides passing them on."""
        self._below: dict[str, Link] = {}

    def receive(self, packet: Packet, link: Link) -> None:
        """Take a packet that arrived over `link`."""
        raise NotImplementedError

    def add_route(self, address: str, link: Link) -> None:
        """Learn that an address is reached over `link`, and tell those above."""
        owner = self._below.setdefault(address, link)
        if owner is not link:
            raise ValueError(f"{self.name}: {address} is already at {owner.child.name}")
        if self.uplink is not None and self.announces(address):
            self.uplink.parent.add_route(address, self.uplink)

    def remove_route(self, address: str) -> None:
        """Forget an address here and above."""
        if self._below.pop(address, None) is not None and self.uplink is not None and self.announces(address):
            self.uplink.parent.remove_route(address)

    def announces(self, address: str) -> bool:  # noqa: ARG002 (devices that hide addresses look at it)
        """Whether those above may know about an address below. A NAT says no."""
        return True

    def forward(self, packet: Packet, came_from: Link | None) -> None:
        """Pass a packet on, down if its destination is below, else up; never back where it came from."""
        link = self._below.get(packet.destination[0], self.uplink)
        if packet.hops:
            if packet.hops == 1:
                self.drop(packet, Fate.EXPIRED)
                return
            packet = replace(packet, hops=packet.hops - 1)
        if link is None or link is came_from:
            self.drop(packet, Fate.NO_ROUTE)
        else:
            link.send(self, packet)

    def drop(self, packet: Packet, fate: Fate) -> None:
        """Count a packet that ends here."""
        self.fates[fate] += 1
        self.network.record(self.name, fate, packet)

    def _join(self, parent: Device, quality: Quality, up: Quality | None) -> Link:
        return Link(self, parent, down=quality, up=quality if up is None else up)


class Router(Device):
    """Passes packets on. The root of the tree is usually one that is called internet."""

    def attach(self, parent: Device, quality: Quality | None = None, *, up: Quality | None = None) -> Link:
        """Join below `parent`; `up` is the quality towards the parent where it differs."""
        if self.uplink is not None:
            raise ValueError(f"{self.name} has an uplink")
        self.uplink = self._join(parent, quality or Quality(), up)
        for address in list(self._below):
            if self.announces(address):
                parent.add_route(address, self.uplink)
        return self.uplink

    def receive(self, packet: Packet, link: Link) -> None:
        """Forward."""
        self.forward(packet, link)


class Gate(Router):
    """A router that drops what some addresses send each other, and what is too large."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__(network, name)
        self.shut: set[tuple[str, str]] = set()
        """(from, to), addresses between which nothing passes."""
        self.largest = 65_535
        """The largest IP packet that passes, but for those from and to `spared`; larger ones are dropped silently."""
        self.spared: str | None = None

    def receive(self, packet: Packet, link: Link) -> None:
        """Forward, or drop."""
        ends = packet.source[0], packet.destination[0]
        if ends in self.shut or (packet.size > self.largest and self.spared not in ends):
            self.drop(packet, Fate.FILTERED)
        else:
            super().receive(packet, link)
