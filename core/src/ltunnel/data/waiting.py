"""Packets for peers that there is no session with yet: kept for as long as a handshake takes, a few of each."""

from __future__ import annotations

from collections.abc import Callable

from ltunnel.session import Drop, Peer

PACKETS = 64
"""For one peer."""
BYTES = 131_072
"""For one peer: two super-packets."""
TOTAL_BYTES = 1 << 20
PATIENCE = 3.0
"""Seconds."""


class Queue:
    """What waits for one peer: when it came and the packet, virtio-net header first."""

    __slots__ = ("packets", "size")

    def __init__(self) -> None:
        self.packets: list[tuple[float, bytes]] = []
        self.size = 0


class Waiting:
    """Queues by peer. Whatever is one too many, or has waited for too long, is counted as dropped."""

    __slots__ = ("_queues", "_total", "wanted")

    def __init__(self) -> None:
        self._queues: dict[Peer, Queue] = {}
        self._total = 0
        self.wanted: dict[Peer, None] = {}
        """Peers for which packets have come since the owner last looked, and cleared it."""

    def __bool__(self) -> bool:
        return bool(self._queues)

    def put(self, peer: Peer, packet: bytes, now: float) -> None:
        """Keep a packet, if there is room."""
        self.wanted[peer] = None
        queue = self._queues.get(peer) or Queue()
        size = len(packet)
        if len(queue.packets) >= PACKETS or queue.size + size > BYTES or self._total + size > TOTAL_BYTES:
            peer.stats.drop(Drop.NO_SESSION)
            return
        self._queues[peer] = queue
        queue.packets.append((now, packet))
        queue.size += size
        self._total += size

    def release(self, ready: Callable[[Peer], bool]) -> list[tuple[Peer, list[bytes]]]:
        """Hand over all packets of those peers that are ready, in order of arrival."""
        peers = [peer for peer in self._queues if ready(peer)]
        return [(peer, [packet for _, packet in self._take(peer).packets]) for peer in peers]

    def next_timeout(self) -> float | None:
        """Return when the oldest packet has waited for too long, or None."""
        if not self._queues:
            return None
        return min(queue.packets[0][0] for queue in self._queues.values()) + PATIENCE

    def handle_timeout(self, now: float) -> None:
        """Drop what has waited for too long."""
        for peer, queue in tuple(self._queues.items()):
            late = sum(came + PATIENCE <= now for came, _ in queue.packets)
            if late:
                peer.stats.drop(Drop.NO_SESSION, late)
                kept = self._take(peer).packets[late:]
                if kept:
                    self._keep(peer, kept)

    def _take(self, peer: Peer) -> Queue:
        queue = self._queues.pop(peer)
        self._total -= queue.size
        return queue

    def _keep(self, peer: Peer, packets: list[tuple[float, bytes]]) -> None:
        queue = self._queues[peer] = Queue()
        queue.packets = packets
        queue.size = sum(len(packet) for _, packet in packets)
        self._total += queue.size
