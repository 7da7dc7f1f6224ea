"""What waits at a simulated port: bounded in bytes, as SO_RCVBUF bounds it."""

from __future__ import annotations

from collections import deque

from ltunnel.testing.datagrams import Packet
from ltunnel.testing.host import Host


class Inbox:
    """The receiving half of a port: `host`, `buffer` (bytes that fit) and counters; `_take` empties it."""

    def __init__(self, host: Host, buffer: int) -> None:
        self.host = host
        self.buffer = buffer
        self.received = 0
        self.overflowed = 0
        """Packets that found the buffer full."""
        self._queue: deque[Packet] = deque()
        self._queued_bytes = 0

    def deliver(self, packet: Packet) -> bool:
        """Take a packet from the host's interfaces; False when the buffer is full."""
        if self._queued_bytes + packet.size > self.buffer:
            self.overflowed += 1
            return False
        self._queue.append(packet)
        self._queued_bytes += packet.size
        self.received += 1
        self.host.network.ready[self] = None
        return True

    def close(self) -> None:
        """Give the port back; what waits in it is lost."""
        self.host.unbind(self)
        self.host.network.ready.pop(self, None)
        self._queue.clear()

    @property
    def pending(self) -> int:
        """Packets that wait."""
        return len(self._queue)

    def _take(self) -> Packet:
        packet = self._queue.popleft()
        self._queued_bytes -= packet.size
        return packet
