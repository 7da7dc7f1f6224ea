"""A datagram in the simulated network, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

UDP = 17
"""IP protocol number of UDP."""
TCP = 6
"""IP protocol number of TCP."""

SimEndpoint = tuple[str, int]
"""Canonical address text and port number."""


@lru_cache(maxsize=4096)
def canonical(address: str) -> str:
    """Return the one way to write an IP address; ValueError when it is none."""
    return str(ip_address(address))


@lru_cache(maxsize=4096)
def version_of(address: str) -> int:
    """Return 4 or 6."""
    return ip_address(address).version


class Fate(Enum):
    """What became of a packet at one place."""

    DELIVERED = "delivered"
    LOST = "lost"  # by the link's loss model
    BLOCKED = "blocked"  # link blocked in this direction
    DOWN = "link down"
    TOO_BIG = "too big"
    QUEUE_FULL = "queue full"
    NO_ROUTE = "no route"
    FILTERED = "filtered"  # by a NAT's or firewall's filter
    NO_MAPPING = "no mapping"
    NO_HAIRPIN = "no hairpinning"
    NO_PORTS = "no free port"
    PORT_CLOSED = "port closed"
    BUFFER_FULL = "receive buffer full"
    EXPIRED = "no hops left"


@dataclass(frozen=True, slots=True)
class Packet:
    """A datagram on its way. Values: a translation makes a new one."""

    source: SimEndpoint
    destination: SimEndpoint
    payload: bytes
    protocol: int = UDP
    hops: int = 0
    """Routers that it may still pass, 0 for as many as there are."""

    @property
    def size(self) -> int:
        """Bytes on the wire above the link layer: IP and UDP headers included."""
        return len(self.payload) + (28 if version_of(self.destination[0]) == 4 else 48)


class TraceEntry(NamedTuple):
    """One line of a trace."""

    time: float
    place: str
    fate: Fate
    packet: Packet

    def __str__(self) -> str:
        source, destination = (f"{host}:{port}" for host, port in (self.packet.source, self.packet.destination))
        return f"{self.time:11.6f} {self.place}: {source} > {destination} {self.packet.size} B {self.fate.value}"
