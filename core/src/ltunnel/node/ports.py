"""Ports on demand: further instances of a node's transports, each with a number of its own in the list of transports.

::

    control ─ OpenPorts ─► `take_orders` ─► the owner opens them ─► `opened` ─► Control.ports_opened
    control ─ ClosePort ─► `take_orders` ─► the owner closes its ports

Numbers of those that were closed are given out again.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from ltunnel.control.candidates import ClosePort, OpenPorts
from ltunnel.control.fresh_ports import MOST
from ltunnel.plugin import Address, Buffer, Flow, Port, Transport

LIMIT = MOST
"""Open at once."""


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """Make further instances of a transport with a port of their own each, and bring them to `Node.ports_opened`."""

    transport: int
    """Number of the one that they are to be like."""
    count: int
    owner: Hashable
    """Who in the control side has asked."""


@dataclass(frozen=True, slots=True)
class CloseOrder:
    """Close the ports of an instance."""

    transport: int


PortOrder = OpenOrder | CloseOrder


class Closed:
    """In the place of a transport that is no more: sends nothing."""

    ports: Sequence[Port] = ()
    prefix = 0

    def connect(self, remote: Address, now: float) -> Flow:  # noqa: ARG002
        """Return the address."""
        return remote

    def send(self, flow: Flow, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:  # noqa: ARG002
        """Return False: what is sent to here is lost."""
        return False

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[Flow, int, int, int]:  # noqa: ARG002
        """Raise `BlockingIOError`."""
        raise BlockingIOError

    def describe(self, flow: Flow) -> str:  # noqa: ARG002
        """Return a word for status output."""
        return "closed"

    def close(self, flow: Flow, now: float) -> None:
        """Do nothing."""

    def next_timeout(self) -> float | None:
        """Return None."""
        return None

    def handle_timeout(self, now: float) -> None:
        """Do nothing."""


_CLOSED = Closed()


class NodePorts:
    """Grows the lists of transports and of their names, which others hold, too."""

    def __init__(self, names: list[str], transports: list[Transport]) -> None:
        self._names = names
        self._transports = transports
        self._configured = len(transports)
        self._free: list[int] = []
        self._ordered = 0
        self._orders: list[PortOrder] = []

    @property
    def open(self) -> int:
        """How many instances there are beyond those of the configuration."""
        return len(self._transports) - self._configured - len(self._free)

    def order(self, call: OpenPorts) -> bool:
        """Order ports, as many as the limit still allows. False if that is none."""
        count = min(call.count, LIMIT - self.open - self._ordered)
        if count <= 0:
            return False
        self._ordered += count
        self._orders.append(OpenOrder(call.transport, count, call.owner))
        return True

    def close(self, call: ClosePort) -> None:
        """Close an instance; anything else is left alone."""
        index = call.transport
        if index >= self._configured and self._transports[index] is not _CLOSED:
            self._transports[index] = _CLOSED
            self._free.append(index)
            self._orders.append(CloseOrder(index))

    def take_orders(self) -> list[PortOrder]:
        """Hand over what is to be done, in order."""
        orders, self._orders = self._orders, []
        return orders

    def opened(self, order: OpenOrder, transports: Sequence[Transport]) -> list[int]:
        """Take what an order has led to, perhaps fewer than were ordered; return their numbers."""
        self._ordered -= order.count
        return [self.add(order.transport, transport) for transport in transports]

    def add(self, like: int, transport: Transport) -> int:
        """Take another instance of the transport with number `like`; return its number."""
        if self._free:
            index = self._free.pop(0)
        else:
            index = len(self._transports)
            self._transports.append(_CLOSED)
            self._names.append("")
        self._transports[index] = transport
        self._names[index] = self._names[like]
        return index
