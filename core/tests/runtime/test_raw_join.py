import os
import random
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltunnel.runtime.raw_join import Joiner
from ltunnel.testing import packets
from ltunnel.testing.packets import ACK, FIN, PSH

ENDS = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
TIMES = bytes((1, 1, 8, 10)) + bytes(8)
ROOM = 140_000


class Line:
    """A descriptor that brings packets as a packet socket does, behind a virtio-net header and a link header."""

    def __init__(self, link: int = 14) -> None:
        self.joiner = Joiner()
        self.link = link
        self._far, self._near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._near.setblocking(False)
        self._buf = memoryview(bytearray(ROOM))

    def close(self) -> None:
        self._far.close()
        self._near.close()
        self.joiner.close()

    def put(self, packet: bytes, gso: int = 0) -> None:
        vnet = bytes((0, 1 if gso else 0, 0, 0)) + gso.to_bytes(2, "little") + bytes(4)
        self._far.send(vnet + b"\xee" * self.link + packet)

    def take(self, pos: int = 0) -> tuple[bytes, int] | None:
        """Return (packet with what follows it, seg) as a port would, None if nothing waits."""
        buf, joiner = self._buf, self.joiner
        try:
            size = joiner.take(buf, pos) if joiner.kept else os.readv(self._near.fileno(), (buf[pos:],))
        except BlockingIOError:
            return None
        ip, end, seg = pos + 10 + self.link, pos + size, int.from_bytes(buf[pos + 4 : pos + 6], "little")
        if not seg and buf[ip + (53 if buf[ip] >> 4 == 6 else 33)] == ACK:
            end, seg = joiner.join(self._near.fileno(), buf, pos, ip, end)
        return bytes(buf[ip:end]), seg


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


@dataclass(frozen=True)
class Seen:
    """What a packet says. `payload` ends where the IP header says."""

    ports: tuple[int, int]
    seq: int
    ack: int
    flags: int
    window: int
    options: bytes
    payload: bytes


def see(packet: bytes) -> Seen:
    six = packet[0] >> 4 == 6
    end = int.from_bytes(packet[4:6] if six else packet[2:4], "big") + 40 * six
    tcp = packet[40 if six else 20 : end]
    data = (tcp[12] >> 4) * 4
    number = int.from_bytes
    return Seen(
        (number(tcp[:2], "big"), number(tcp[2:4], "big")), number(tcp[4:8], "big"), number(tcp[8:12], "big"), tcp[13],
        number(tcp[14:16], "big"), tcp[20:data], tcp[data:],
    )  # fmt: skip


def segment(seq: int, payload: bytes, version: int = 4, sport: int = 1000, **fields: object) -> bytes:
    return packets.tcp(*ENDS[version], sport, 9000, payload, seq=seq, **{"options": TIMES, "ack": 7, **fields})


def data(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", [0, 14])
@pytest.mark.parametrize("options", [b"", TIMES])
def test_segments_of_a_batch_become_one_packet(version, link, options):
    line = Line(link)
    whole = data(10_300)
    first = 0xFFFFFFFF - 5000
    for at in range(0, len(whole), 1000):
        flags = ACK | PSH if at == 10_000 else ACK
        part = segment(first + at & 0xFFFFFFFF, whole[at : at + 1000], version, flags=flags, options=options)
        line.put(part)
    packet, seg = line.take(pos=33)
    assert see(packet) == Seen((1000, 9000), first, 7, ACK | PSH, 65_535, options, whole)
    assert seg == 1000
    assert line.take() is None
    line.close()


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 2001}, {"seq": 1000}, {"ack": 8}, {"window": 5}, {"options": TIMES[:-1] + b"!"}, {"options": b""},
        {"sport": 1001}, {"flags": ACK | FIN}, {"flags": ACK | packets.CWR}, {"flags": packets.RST | ACK},
        {"payload": bytes(1001)}, {"payload": b""}, {"payload": bytes(40_000)}, {"payload": bytes(60_000)},
    ],
)  # fmt: skip
def test_a_packet_of_another_kind_stays_itself(line, change):
    payload = change.get("payload", bytes(1000))
    fields = {key: value for key, value in change.items() if key != "payload"}
    other = segment(fields.pop("seq", 2000), payload, **fields)
    line.put(segment(1000, b"a" * 1000))
    line.put(other)
    packet, seg = line.take()
    assert (see(packet).payload, seg) == (b"a" * 1000, 0)
    assert select.select([line.joiner.flag], [], [], 0)[0]
    packet, seg = line.take()
    assert (see(packet), seg) == (see(other), 0)
    assert not select.select([line.joiner.flag], [], [], 0)[0]
    assert line.take() is None


def test_a_kept_packet_is_joined_with_what_follows(line):
    line.put(segment(1000, b"a" * 500))
    for seq in (5000, 5500, 6000):
        line.put(segment(seq, b"b" * 500))
    assert [(see(packet).payload, seg) for packet, seg in (line.take(), line.take())] == [
        (b"a" * 500, 0),
        (b"b" * 1500, 500),
    ]


def test_what_gro_has_joined_is_left_alone(line):
    line.put(segment(1000, b"a" * 500))
    line.put(segment(1500, b"b" * 1000), gso=500)
    line.put(segment(2500, b"c" * 500))
    assert [line.take()[1] for _ in range(3)] == [0, 500, 0]


def test_a_shorter_one_is_the_last(line):
    for seq, size in ((0, 500), (500, 300), (800, 300)):
        line.put(segment(seq, bytes(size)))
    assert [(len(see(packet).payload), seg) for packet, seg in (line.take(), line.take())] == [(800, 500), (300, 0)]


@pytest.mark.parametrize("version", [4, 6])
def test_it_does_not_grow_beyond_an_ip_packet_or_64_segments(line, version):
    for at in range(0, 60 * 1400, 1400):
        line.put(segment(at, bytes(1400), version))
    packet, seg = line.take()
    assert len(see(packet).payload) == 46 * 1400
    assert len(see(line.take()[0]).payload) == 14 * 1400
    for at in range(0, 70 * 100, 100):
        line.put(segment(at, bytes(100), version))
    packet, seg = line.take()
    assert (len(see(packet).payload), seg) == (6400, 100)


def test_it_stays_within_the_buffer(line):
    pos = ROOM - 65_536
    for at in range(0, 48 * 1400, 1400):
        line.put(segment(at, bytes([at // 1400]) * 1400))
    packet, seg = line.take(pos)
    assert (len(see(packet).payload), seg) == (46 * 1400, 1400)


def test_padding_is_not_payload(line):
    line.put(segment(0, b"abc", options=b"") + bytes(3))
    line.put(segment(3, b"def", options=b"") + bytes(3))
    packet, seg = line.take()
    assert (see(packet).payload, seg) == (b"abc", 0)
    packet, seg = line.take()
    assert (see(packet).payload, seg) == (b"def", 0)


@pytest.mark.parametrize("cut", [24, 30, 39, 45, 60])
@pytest.mark.parametrize("behind", [True, False])
def test_malformed_packets_are_passed_on_as_they_are(line, cut, behind):
    whole = segment(1000, b"x" * 500)
    if behind:
        line.put(segment(500, b"a" * 500))
    line.put(whole[:cut])
    if behind:
        assert line.take()[1] == 0
    assert line.take() == (whole[:cut], 0)


short = st.sampled_from((1, 100, 500, 1000))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from((0, 1, 2)), short, st.booleans(), st.booleans()), max_size=60), st.booleans())
def test_whatever_comes_leaves_complete_and_in_order(parts, six):
    """Cut again, joined packets are what came: of each flow every segment once, in order, with its numbers."""
    line = Line()
    seqs, sent = [0, 1 << 31, 0xFFFFFF00], []
    for number, (flow, size, pushed, gap) in enumerate(parts):
        seqs[flow] += 77 if gap else 0
        flags = ACK | PSH if pushed else ACK
        packet = segment(seqs[flow] & 0xFFFFFFFF, data(size, number), 6 if six else 4, sport=flow, flags=flags)
        seqs[flow] += size
        sent.append(see(packet))
        line.put(packet)
    found = []
    while (taken := line.take()) is not None:
        packet, seg = see(taken[0]), taken[1]
        pieces = (
            [packet.payload[at : at + seg] for at in range(0, len(packet.payload), seg)] if seg else [packet.payload]
        )
        seq = packet.seq
        for number, piece in enumerate(pieces, 1):
            flags = packet.flags if number == len(pieces) else ACK
            found.append(Seen(packet.ports, seq, packet.ack, flags, packet.window, packet.options, piece))
            seq = seq + len(piece) & 0xFFFFFFFF
    line.close()
    assert found == sent
