"""Routing policy: which of the measured paths carries data. Specified here; ``routing_mesh`` implements it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class PathClass(IntEnum):
    """What kind of path it is, in order of preference."""

    LAN = 0
    PUBLIC = 1
    MESH = 2
    HUB = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PathView:
    """One path to one peer, as measured."""

    peer: bytes
    """Static public key of the destination, 32 bytes."""
    number: int
    """Names the path among those to the same peer, as long as it exists."""
    via: bytes
    """Static public key of the first hop; equal to `peer` for a direct path."""
    path_class: PathClass
    rtt: float
    """Smoothed round-trip time, seconds; infinite as long as it is not known."""
    jitter: float
    """Smoothed deviation of the round-trip time, seconds."""
    loss: float
    """Share of probes lost, 0 to 1."""
    hops: int
    last_pong: float
    """When the path last proved that it works (monotonic seconds)."""
    suspect: bool = False
    """Whether the last probes over it went unanswered. A path that is held to be dead is not offered at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHop:
    """The choice for one destination, with the reason that status output shows."""

    number: int
    """Of the path that was chosen."""
    via: bytes
    path_class: PathClass
    reason: str


class RoutingPolicy(Protocol):
    """Measured paths in, next hops out."""

    def decide(self, paths: Sequence[PathView], now: float) -> Mapping[bytes, NextHop] | None:
        """Return next hops per destination key, or None when nothing changed since the last call."""
        ...
