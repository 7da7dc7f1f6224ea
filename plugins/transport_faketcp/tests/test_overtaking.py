"""The last segment of a batch that arrives in front of the others."""

from __future__ import annotations

import pytest

from ltunnel.constants import HEADROOM
from ltunnel.plugin import Route
from ltunnel_transport_faketcp import FakeTcpTransport
from ltunnel_transport_faketcp.overtaking import rejoin
from ltunnel_transport_faketcp.segment import ACK, FIN, PSH, VNET_SIZE

NODE, HUB = bytes((198, 51, 100, 1)), bytes((203, 0, 113, 1))
HEADERS = 20 + 32
SLOT, COUNT = 1002, 5


class ListPort:
    """Keeps what is sent; gives out what is put into `waiting`: (packet, segment size)."""

    local = ("0.0.0.0", 9000)
    numbers = (9000,)
    secret = bytes(32)
    changes = 0

    def __init__(self, own: bytes, far: str) -> None:
        self.own, self.far = own, (far,)
        self.sent: list[bytes] = []
        self.waiting: list[tuple[bytes, int]] = []

    def send(self, buf, start, end, _seg, _to):
        self.sent.append(bytes(buf[start:end]))
        return True

    def recv(self, buf, pos):
        if not self.waiting:
            raise BlockingIOError
        packet, seg = self.waiting.pop(0)
        buf[pos : pos + len(packet)] = packet
        return pos, pos + len(packet), seg, self.far

    def route(self, _host):
        return Route(self.own, 1500, self.own)


class Pair:
    """A node with a connection to a hub, and what the hub makes of packets."""

    def __init__(self) -> None:
        self.near, self.far = ListPort(NODE, "203.0.113.1"), ListPort(HUB, "198.51.100.1")
        self.node = FakeTcpTransport(self.near, listen=False)
        self.hub = FakeTcpTransport(self.far, listen=True)
        self.flow = self.node.connect(("203.0.113.1", 9000), 1.0)
        self.pass_on(self.near, self.hub, self.far)
        self.pass_on(self.far, self.node, self.near)
        self.pass_on(self.near, self.hub, self.far)
        (self.there,) = self.hub._flows.values()

    def pass_on(self, sender: ListPort, transport: FakeTcpTransport, receiver: ListPort) -> None:
        receiver.waiting = [(packet, 0) for packet in sender.sent]
        sender.sent = []
        self.read(transport)

    def batch(self, value: int, rest: int = 0) -> list[bytes]:
        """Send a batch of slots, all filled with `value`, the last with `rest` bytes; return its segments."""
        size = SLOT * COUNT + (rest + 2 if rest else 0)
        buf = memoryview(bytearray(HEADROOM) + bytes([value]) * size)
        assert self.node.send(self.flow, buf, HEADROOM, HEADROOM + size, SLOT, 1.0)
        return cut(self.near.sent.pop())

    def hear(self, *packets: tuple[bytes, int], room: int = 140_000, pos: int = 0) -> list[bytes]:
        """Let the hub receive packets; return the datagrams."""
        self.far.waiting = list(packets)
        return self.read(self.hub, room, pos)

    def read(self, transport: FakeTcpTransport, room: int = 140_000, pos: int = 0) -> list[bytes]:
        buf, datagrams = memoryview(bytearray(room)), []
        while True:
            try:
                _, start, end, seg = transport.receive(transport.ports[0], buf, pos, 1.0)
            except BlockingIOError:
                return datagrams
            for at in range(start, end, seg or 1):
                stop = min(at + seg, end)
                assert int.from_bytes(buf[at : at + 2], "big") == stop - at - 2
                datagrams.append(bytes(buf[at + 2 : stop]))


def cut(packet: bytes) -> list[bytes]:
    """Cut a super-packet into segments, as Linux does."""
    ip = packet[VNET_SIZE:]
    head, payload = ip[:HEADERS], ip[HEADERS:]
    seq = int.from_bytes(head[24:28], "big")
    segments = []
    for at in range(0, len(payload), SLOT):
        part = payload[at : at + SLOT]
        flags = head[33] if at + SLOT >= len(payload) else head[33] & ~PSH
        fields = head[:2] + (HEADERS + len(part)).to_bytes(2, "big") + head[4:24]
        number = (seq + at & 0xFFFFFFFF).to_bytes(4, "big")
        segments.append(bytes(VNET_SIZE) + fields + number + head[28:33] + bytes([flags]) + head[34:] + part)
    return segments


def join(segments: list[bytes]) -> tuple[bytes, int]:
    """Join segments, as GRO does."""
    head = segments[0][: VNET_SIZE + HEADERS]
    payload = b"".join(segment[VNET_SIZE + HEADERS :] for segment in segments)
    at = VNET_SIZE + 2
    return head[:at] + (HEADERS + len(payload)).to_bytes(2, "big") + head[at + 2 :] + payload, SLOT


@pytest.mark.parametrize("rest", [0, 1, 700])
def test_what_follows_is_what_was_overtaken(rest):
    """It is one batch again, in order, and nothing was missing at any time."""
    pair = Pair()
    for value in (1, 2, 3):
        *others, last = pair.batch(value, rest)
        assert last[VNET_SIZE + 33] == PSH | ACK
        datagrams = pair.hear((last, 0), join(others))
        assert [len(datagram) for datagram in datagrams] == [SLOT - 2] * COUNT + [rest] * (rest > 0)
        assert {byte for datagram in datagrams for byte in datagram} == {value}
        assert pair.there.received == pair.there.ack
        assert pair.there.received & 0xFFFFFFFF == pair.flow.sent & 0xFFFFFFFF
        assert not pair.there.holes


def test_one_segment_overtakes_one():
    pair = Pair()
    segments = pair.batch(7)
    pair.hear(join(segments[:3]))
    assert len(pair.hear((segments[4], 0), (segments[3], 0))) == 2
    assert not pair.there.holes


def test_what_was_lost_does_not_follow():
    """The packet behind it is of the next batch, or another's, and is not forgotten."""
    pair = Pair()
    first, second = pair.batch(1), pair.batch(2)
    datagrams = pair.hear((first[-1], 0), join(second))
    assert [datagram[0] for datagram in datagrams] == [1] + [2] * COUNT
    assert pair.there.holes
    assert len(pair.hear((second[-1], 0), (b"no packet", 0))) == 1
    assert pair.hub.counts.malformed == 1


def test_a_part_of_what_was_overtaken_is_lost():
    pair = Pair()
    *others, last = pair.batch(1)
    assert len(pair.hear((last, 0), join(others[:2]), join(others[3:]))) == COUNT - 1
    ((low, high),) = pair.there.holes
    assert high - low == SLOT


def test_nothing_follows():
    pair = Pair()
    *others, last = pair.batch(1)
    assert len(pair.hear((last, 0))) == 1
    assert len(pair.hear(join(others))) == COUNT - 1
    assert not pair.there.holes


def test_without_room_for_another_packet():
    pair = Pair()
    *others, last = pair.batch(1)
    assert len(pair.hear((last, 0), join(others), room=66_000)) == COUNT
    assert not pair.there.holes


@pytest.mark.parametrize(("size", "fits"), [(64_535, True), (64_536, False)])
def test_together_they_are_one_packet(size, fits):
    """Larger ones cannot have been sent."""
    buf = memoryview(bytearray(70_000))
    others = b"key", 2**32 - 100, 5, ACK, 7, 2000, 2000 + size, 8, 9
    last = b"key", size - 100, 5, ACK | PSH, 7, 100, 1100, 8, 9
    whole = b"key", 2**32 - 100, 5, ACK | PSH, 7, 2000, 3000 + size, 8, 9
    assert rejoin(buf, last, others) == (whole if fits else None)


@pytest.mark.parametrize(
    "change",
    [{0: b"another"}, {1: 901}, {2: 6}, {3: ACK | PSH}, {3: ACK | FIN}, {4: 8}, {6: 2000}],
    ids=["connection", "place", "acknowledgement", "pushed", "end", "window", "empty"],
)
def test_what_does_not_belong_together(change):
    buf = memoryview(bytearray(5000))
    others = [b"key", 900, 5, ACK, 7, 2000, 2100, 8, 9]
    last = b"key", 1000, 5, ACK | PSH, 7, 100, 200, 8, 9
    assert rejoin(buf, last, tuple(others)) is not None
    for index, value in change.items():
        others[index] = value
    assert rejoin(buf, last, tuple(others)) is None
