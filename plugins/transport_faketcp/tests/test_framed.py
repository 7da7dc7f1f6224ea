"""UDP that looks like TCP: its header, told from plain datagrams, and batches of it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.constants import HEADROOM
from ltunnel.testing.packets import checksum
from ltunnel_transport_faketcp import FramedTransport, is_framed

FAR = ("192.0.2.7", 9000)


class Wire:
    """A UDP port that keeps what is sent and gives it out again."""

    def __init__(self, number: int = 40000) -> None:
        self.local = ("0.0.0.0", number)
        self.batches: list[tuple[bytes, int]] = []

    def send(self, buf, start, end, seg, to):
        self.batches.append((bytes(buf[start:end]), seg))
        return True

    def recv(self, buf, pos):
        if not self.batches:
            raise BlockingIOError
        data, seg = self.batches.pop(0)
        buf[pos : pos + len(data)] = data
        return pos, pos + len(data), seg, FAR

    def datagrams(self) -> list[bytes]:
        return [data[at : at + seg] for data, seg in self.batches for at in range(0, len(data), seg)]


def send(transport: FramedTransport, datagrams: list[bytes]) -> None:
    slots = b"".join(bytes(20) + datagram for datagram in datagrams)
    buf = memoryview(bytearray(HEADROOM) + slots)
    assert transport.send(FAR, buf, HEADROOM, len(buf), 20 + len(datagrams[0]), 0.0)


def receive(transport: FramedTransport) -> list[bytes]:
    buf = memoryview(bytearray(140_000))
    _, start, end, seg = transport.receive(transport.ports[0], buf, 0, 0.0)
    return [bytes(buf[at + 20 : min(at + seg, end)]) for at in range(start, end, seg)] if end > start else []


def test_golden():
    wire = Wire()
    transport = FramedTransport(wire)
    transport._flows[FAR] = numbers = transport._begin(FAR, 0.0)
    numbers.seq, numbers.ack = 0x01020304, 0xA0B0C0D0
    send(transport, [b"0123", b"4567", b"89"])
    headers = ["9c402328" + seq + "a0b0c0d0" + "5018ffff" + check + "0000" for seq, check in (
        ("01020304", "8ad9"), ("01020308", "8ad5"), ("0102030c", "8ad3"))]  # fmt: skip
    assert [datagram[:20].hex() for datagram in wire.datagrams()] == headers
    pseudo = 6 + 24
    assert checksum(wire.datagrams()[0][:20], pseudo) == 0


sizes = st.tuples(st.integers(1, 1400), st.integers(1, 40), st.integers(0, 1400)).map(
    lambda s: (s[0], s[1], s[2] % s[0])
)


@given(sizes, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(1, 65_535))
def test_all_headers_are_right_however_many_are_written_at_once(plan, seq, ack, number):
    size, count, last = plan
    datagrams = [bytes([i]) * size for i in range(count)] + [b"z" * last] * (last > 0)
    wire = Wire(number)
    transport = FramedTransport(wire)
    numbers = transport._begin(FAR, 0.0)
    numbers.seq, numbers.ack = seq, ack
    send(transport, datagrams)
    at = seq
    for got, datagram in zip(wire.datagrams(), datagrams, strict=True):
        assert is_framed(got)
        assert got[:4] == number.to_bytes(2, "big") + (9000).to_bytes(2, "big")
        assert int.from_bytes(got[4:8], "big") == at
        assert int.from_bytes(got[8:12], "big") == ack
        assert got[20:] == datagram
        at = (at + len(datagram)) % 2**32
    assert numbers.seq == at
    assert receive(transport) == datagrams
    assert numbers.ack == at, "its own echo, here"


def test_plain_datagrams_are_told_apart():
    random = Random(1)
    for size in [*range(60), 144, 1400]:
        for _ in range(200):
            assert not is_framed(random.randbytes(size))
    for first in range(1, 8):  # the core's own, by type
        assert not is_framed(bytes((first, 1)) + random.randbytes(150))
    wire = Wire()
    send(FramedTransport(wire), [b"x"])
    (framed,) = wire.datagrams()
    assert is_framed(framed)
    assert is_framed(memoryview(framed))
    for i in range(20 * 8):
        damaged = bytearray(framed)
        damaged[i // 8] ^= 1 << i % 8
        assert not is_framed(damaged)
    assert not is_framed(framed + b"y")
    assert not is_framed(framed[:20])


@pytest.mark.parametrize("bad", [set(), {0}, {3}, {0, 1, 2, 3}, {1, 4}, {4}, {0, 1, 2, 3, 4}])
def test_what_has_no_header_is_sifted_out(bad):
    """GRO joins datagrams of one source whatever they are."""
    wire = Wire()
    transport = FramedTransport(wire)
    datagrams = [bytes([i]) * 100 for i in range(4)] + [b"last"]
    send(transport, datagrams)
    data, seg = wire.batches[0]
    mixed = bytearray(data)
    for i in bad:
        mixed[i * seg + 16] ^= 1
    wire.batches = [(bytes(mixed), seg)]
    assert receive(transport) == [datagram for i, datagram in enumerate(datagrams) if i not in bad]
    assert transport.drops == ({"no header": len(bad)} if bad else {})


@given(st.binary(max_size=300), st.integers(1, 100))
def test_nonsense_is_dropped(data, seg):
    wire = Wire()
    transport = FramedTransport(wire)
    wire.batches = [(data, min(seg, len(data)))]
    assert receive(transport) == []


def test_flows_are_bounded():
    transport = FramedTransport(Wire())
    for number in range(5000):
        transport._begin(("192.0.2.1", number), 0.0)
    assert len(transport._flows) <= 4096
    transport.close(("192.0.2.1", 4999), 0.0)
    transport.close(("192.0.2.1", 4999), 0.0)
