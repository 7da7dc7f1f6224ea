"""A TUN device in memory: the node's side is the runtime's TUN port, the other side is the machine's IP stack."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from ltunnel.plugin import Buffer
from ltunnel.testing.offload import GsoType, VirtioHeader, complete, offload, refusal
from ltunnel.testing.packets import ICMP, ICMPV6, Parsed, echo, parse


class SimTun:
    """`read` and `write` are for the node; `inject` and `packets` for the test.

    With `offload` the machine hands over super-packets and partial checksums, without it plain packets. Packets for one
    of `addresses` that ask for an echo are answered, if `answers`. What the node writes is cut and its checksums
    finished by `ltunnel.testing.offload`, in both modes.
    """

    def __init__(
        self, *, mtu: int = 1400, offload: bool = True, uso: bool = True, addresses: Sequence[str] = (),
        answers: bool = True,
    ) -> None:  # fmt: skip
        self.mtu = mtu
        self.offload = offload
        self.uso = uso
        """Whether UDP super-packets may be written; kernels before 6.2 cannot take them."""
        self.addresses = frozenset(addresses)
        self.answers = answers
        self.writes: list[tuple[VirtioHeader, bytes]] = []
        """What the node wrote, as it wrote it."""
        self.packets: list[bytes] = []
        """The same as plain packets with finished checksums."""
        self.refused: list[str] = []
        """Why writes were refused."""
        self.replies: Counter[tuple[int, int]] = Counter()
        """Echo replies that came for the machine, by identifier and sequence number."""
        self._queue: deque[bytes] = deque()

    @property
    def pending(self) -> int:
        """Packets that wait to be read."""
        return len(self._queue)

    def inject(self, packet: bytes, *, gso_size: int | None = None) -> None:
        """Let the machine send a whole packet; with `gso_size` one that is to be cut into segments of that payload.

        ValueError for a packet that a kernel would not send over this MTU.
        """
        header, out = offload(packet, gso_size)
        segments = complete(header, out)
        largest = max(map(len, segments))
        if largest > self.mtu:
            raise ValueError(f"packet of {largest} bytes on a device with MTU {self.mtu}")
        if self.offload:
            self._queue.append(header.pack() + out)
        else:
            self._queue.extend(VirtioHeader().pack() + segment for segment in segments)

    def inject_raw(self, data: bytes) -> None:
        """Let a read return exactly these bytes, virtio-net header first, whatever they are."""
        self._queue.append(data)

    def drain(self) -> None:
        """Lose what waits to be read."""
        self._queue.clear()

    def read(self, buf: Buffer, pos: int) -> int:
        """Read one packet, virtio-net header first, into ``buf[pos:]``; its length. BlockingIOError when none waits."""
        if not self._queue:
            raise BlockingIOError
        data = self._queue.popleft()
        if len(buf) - pos < len(data):
            raise ValueError(f"only {len(buf) - pos} bytes of room at {pos}")
        buf[pos : pos + len(data)] = data
        return len(data)

    def write(self, parts: Sequence[Any]) -> bool:
        """Take one packet in parts, virtio-net header first; False when a device would refuse it."""
        data = b"".join(bytes(part) for part in parts)
        if len(data) < VirtioHeader.size:
            self.refused.append(f"{len(data)} bytes")
            return False
        header, packet = VirtioHeader.unpack(data), data[VirtioHeader.size :]
        reason = refusal(header, packet)
        if header.gso_type == GsoType.UDP_L4 and not self.uso:
            reason = "UDP super-packet"
        if reason is not None:
            self.refused.append(reason)
            return False
        self.writes.append((header, packet))
        segments = complete(header, packet)
        self.packets.extend(segments)
        for segment in segments:
            if _protocol(segment) in (ICMP, ICMPV6):
                self._note_echo(segment)
        return True

    def parsed(self) -> list[Parsed]:
        """Return `packets` taken apart; ValueError when one of them has a wrong length or checksum."""
        return [parse(packet) for packet in self.packets]

    def clear(self) -> None:
        """Forget what was written."""
        self.writes.clear()
        self.packets.clear()

    def _note_echo(self, packet: bytes) -> None:
        try:
            request = parse(packet)
        except ValueError:
            return  # a kernel drops it too; `parsed` tells the test
        if request.is_echo_reply:
            self.replies[request.echo_ident, request.echo_sequence] += 1
        elif self.answers and request.is_echo_request and request.destination in self.addresses:
            reply = echo(
                request.destination, request.source, request.echo_ident, request.echo_sequence, request.payload,
                reply=True,
            )  # fmt: skip
            self.inject(reply)


def _protocol(packet: bytes) -> int:
    return packet[9] if packet[0] >> 4 == 4 else packet[6]
