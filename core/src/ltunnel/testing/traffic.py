"""Traffic inside the tunnel: pings, and transfers whose every byte is checked, with and without retransmission."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING

from ltunnel.testing import packets
from ltunnel.testing.packets import ACK, FIN, PSH, TCP, UDP, Parsed, parse
from ltunnel.testing.tcp import SimTcp, State

if TYPE_CHECKING:
    from ltunnel.testing.nodes import SimNode
    from ltunnel.testing.world import World


class Pings:
    """Echo requests from one node to another, `interval` seconds apart, `count` of them, from now on.

    Answers that are not there when one asks count as lost; `World.run` for a little longer than the stream lasts.
    """

    def __init__(self, world: World, source: SimNode, destination: SimNode, *, interval: float, count: int,
                 version: int = 4, size: int = 56) -> None:  # fmt: skip
        self.count = count
        self._tun = source.tun
        self._ident = world.next_ident()
        self._ends = (source.inner(version), destination.inner(version))
        self._payload = bytes(size)
        start = world.now
        for sequence in range(count):
            world.network.at(start + sequence * interval, partial(self._send, sequence))
        self.end = start + count * interval
        """When the last has been sent (monotonic seconds)."""

    def _send(self, sequence: int) -> None:
        self._tun.inject(packets.echo(*self._ends, self._ident, sequence & 0xFFFF, self._payload))

    @property
    def answered(self) -> int:
        """How many were answered at least once."""
        return sum(ident == self._ident for ident, _ in self._tun.replies)

    @property
    def lost(self) -> int:
        """How many were not answered (yet)."""
        return self.count - self.answered

    @property
    def repeated(self) -> int:
        """How many answers too many there were."""
        return sum(times - 1 for (ident, _), times in self._tun.replies.items() if ident == self._ident)


class Transfer:
    """A stream of bytes from one node to another in TCP segments or UDP datagrams, without retransmission.

    What arrives is looked at packet by packet: it must be well-formed, and each byte must be the one that belongs at
    its place (TCP: by sequence number; UDP: by an index in front of each datagram's payload).
    """

    def __init__(self, source: SimNode, destination: SimNode, *, protocol: int = TCP, version: int = 4,
                 port: int = 5001, seed: int = 0) -> None:  # fmt: skip
        self.ends = (source.inner(version), destination.inner(version))
        self.protocol = protocol
        self.port = port
        self.sent = bytearray()
        self._pushed: dict[int, int] = {}  # TCP: where a packet ended -> the flags that only its last segment has
        self.received = bytearray()
        """TCP: 1 for each byte that has arrived, UDP: for each datagram."""
        self.repeats = 0
        """Bytes or datagrams that arrived more than once."""
        self.datagrams: dict[int, bytes] = {}
        """UDP: what was sent, by index."""
        self._source, self._destination = source.tun, destination.tun
        self._header = 40 if version == 4 else 60
        self._random = Random(f"transfer/{seed}")
        self._seq = self._random.getrandbits(32)
        self._looked = len(destination.tun.packets)

    def send(self, length: int, *, mss: int | None = None, flags: int = ACK | PSH) -> None:
        """Send `length` bytes: one packet, which the source's device cuts by `mss` (default: what its MTU allows)."""
        if self.protocol == UDP:
            self._send_datagrams(length, mss or self._source.mtu - (self._header - 12))
            return
        mss = mss or self._source.mtu - self._header
        payload = self._random.randbytes(length)
        seq = (self._seq + len(self.sent)) & 0xFFFFFFFF
        self.sent += payload
        self._pushed[len(self.sent)] = flags & (FIN | PSH)
        self.received += bytes(length)
        packet = packets.tcp(
            *self.ends, 40_000, self.port, payload, seq=seq, flags=flags, ident=len(self.sent) & 0xFFFF
        )
        self._source.inject(packet, gso_size=mss)

    def _send_datagrams(self, length: int, size: int) -> None:
        """Send equal datagrams of `size` bytes, the last may be shorter; each begins with its index."""
        payload = b""
        for start in range(0, length, size):
            index = len(self.datagrams)
            body = index.to_bytes(4, "big") + self._random.randbytes(max(0, min(size, length - start) - 4))
            self.datagrams[index] = body
            self.received.append(0)
            payload += body
        self._source.inject(packets.udp(*self.ends, 40_000, self.port, payload), gso_size=size)

    def check(self) -> float:
        """Look at what has arrived since the last time; return the share of all that was sent that is there.

        AssertionError for a packet or a byte that is not what was sent.
        """
        for packet in self._destination.packets[self._looked :]:
            parsed = parse(packet)
            if (parsed.source, parsed.destination) != self.ends or parsed.protocol != self.protocol:
                continue
            if parsed.dport != self.port:
                continue
            assert len(packet) <= self._destination.mtu, f"{len(packet)} bytes on a device of {self._destination.mtu}"
            if self.protocol == TCP:
                self._check_segment((parsed.seq - self._seq) & 0xFFFFFFFF, parsed)
            else:
                self._check_datagram(parsed.payload)
        self._looked = len(self._destination.packets)
        return sum(self.received) / max(1, len(self.received))

    def _check_segment(self, offset: int, parsed: Parsed) -> None:
        payload, end = parsed.payload, offset + len(parsed.payload)
        assert payload == self.sent[offset:end], f"wrong bytes at {offset}..{end}"
        assert parsed.flags & (FIN | PSH) == self._pushed.get(end, 0), (
            f"wrong flags {parsed.flags:#x} at {offset}..{end}"
        )
        self.repeats += sum(self.received[offset:end])
        self.received[offset:end] = b"\1" * len(payload)

    def _check_datagram(self, payload: bytes) -> None:
        index = int.from_bytes(payload[:4], "big")
        assert payload == self.datagrams.get(index), f"a datagram that was not sent: {payload[:20].hex()}"
        self.repeats += self.received[index]
        self.received[index] = 1


class Stream:
    """A TCP connection inside the tunnel, from one node to another, and the longest time that it stood still.

    `rate` (bytes per second) is sent as long as the connection takes it. Each byte is looked at when it is read.
    """

    _INTERVAL = 0.02
    _PORT = 5000

    def __init__(self, world: World, source: SimNode, destination: SimNode, *, rate: int = 60_000) -> None:
        self.read = 0
        """Bytes that have arrived."""
        self.longest = 0.0
        """Seconds."""
        self._world = world
        self._source, self._destination = source, destination
        self._ends = {source: self._end(source, destination), destination: self._end(destination, source)}
        self._seen = {source: len(source.tun.packets), destination: len(destination.tun.packets)}
        self._portion = round(rate * self._INTERVAL)
        self._sent = 0
        self._moved = world.now
        self._ends[source].connect()
        self._turn()

    def _end(self, here: SimNode, there: SimNode) -> SimTcp:
        def transmit(payload: bytes) -> bool:
            here.tun.inject(packets.tcp(here.inner(), there.inner(), self._PORT, self._PORT, payload))
            return True

        return SimTcp(self._world.network, transmit, lambda: None, mss=1200, buffer=200_000)

    def _turn(self) -> None:
        """Give each end what came for it, the source something to send, and look at what has arrived."""
        for machine, end in self._ends.items():
            fresh = machine.tun.packets[self._seen[machine] :]
            self._seen[machine] = len(machine.tun.packets)
            for parsed in map(parse, fresh):
                if parsed.protocol == TCP and parsed.dport == self._PORT:
                    if machine is self._destination and end.state is State.CONNECTING:
                        end.accept()
                    end.receive(parsed.payload)
        if self._ends[self._source].unsent < 2 * self._portion:
            self._ends[self._source].send(_pattern(self._sent, self._portion))
            self._sent += self._portion
        data = self._ends[self._destination].read(1 << 20)
        assert data == _pattern(self.read, len(data)), f"not what was sent, {self.read} bytes into the stream"
        if data:
            now = self._world.now
            self.longest, self._moved = max(self.longest, now - self._moved), now
            self.read += len(data)
        self._world.network.at(self._world.now + self._INTERVAL, self._turn)


def _pattern(start: int, length: int) -> bytes:
    return bytes(i % 251 for i in range(start, start + length))
