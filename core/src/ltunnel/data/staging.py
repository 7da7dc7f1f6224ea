"""Packets on their way out, gathered until a batch is sealed.

A staging area holds packets back to back, each as ``virtio-net header 10 | packet | type 1``. The last byte is the
frame type of a bundle, so any run of neighbours with one next hop is a bundle's plaintext as it stands: nothing is
copied.
"""

from __future__ import annotations

from ltunnel.data.grid import Arena
from ltunnel.session import Peer

CAPACITY = 60_000
"""Fill level at which a staging area is sealed."""
LARGEST = 65_600
"""Room for one more packet: 65,535 bytes and its virtio-net header."""


class Staging:
    """An arena, how full it is, and what is in it: next hop -> [(start, stop)], in order of arrival."""

    __slots__ = ("_last", "_spans", "arena", "groups", "pos")

    def __init__(self) -> None:
        self.arena = Arena(CAPACITY + 2 * LARGEST)
        self.pos = 0
        self.groups: dict[Peer, list[tuple[int, int]]] = {}
        self._last: Peer | None = None
        self._spans: list[tuple[int, int]] = []

    def add(self, peer: Peer, start: int, stop: int) -> None:
        """Note a packet for `peer` at ``start:stop``, its type byte included."""
        if peer is not self._last:
            self._last = peer
            self._spans = self.groups.setdefault(peer, [])
        self._spans.append((start, stop))
        self.pos = stop

    def clear(self) -> None:
        """Forget everything."""
        self.groups = {}
        self._last = None
        self.pos = 0


def bundled(spans: list[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Join neighbours to spans of at most `limit` bytes, as far as one span is not more."""
    if len(spans) < 2:
        return spans
    bundles = []
    start, end = spans[0]
    for at, stop in spans:
        if stop - start > limit or at > end:
            bundles.append((start, end))
            start = at
        end = stop
    bundles.append((start, end))
    return bundles
