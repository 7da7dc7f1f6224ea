"""Records: parts in any order, of many records at once, lost, forged, repeated; and what they cost in memory."""

from __future__ import annotations

import random

import pytest

from core.tests.data.pieces import arrived, peer_of, refuses, stream
from ltunnel.constants import REJECT_AFTER_PACKETS
from ltunnel.data.records import HEADER, Assembly, RecordSealer, part_size
from ltunnel.session import Drop
from ltunnel.wire.frames import Report
from ltunnel.wire.types import FrameType, MessageType


@pytest.fixture
def pair(net):
    left, right = net.pair()
    net.use_records(left)
    return left, right


def send(left, *numbers: int, size: int = 20_000) -> list[bytes]:
    for number in numbers:
        left.tun.inject(stream(number, size), gso_size=1300)
    return [datagram for _, datagram in left.pump()]


def test_a_record_is_sealed_once_and_says_so(pair):
    left, right = pair
    datagrams = send(left, 1)
    assert {datagram[0] for datagram in datagrams} == {MessageType.RECORD}
    assert len(datagrams) == 15
    assert peer_of(left).epoch.counter == 15, "as many counters as datagrams"
    assert left.port.calls == 1
    right.take(left, datagrams)
    assert len(right.tun.writes) == 1
    assert arrived(right) == {1: stream(1, 20_000)[40:]}


@pytest.mark.parametrize("gro", [True, False])
def test_parts_of_many_records_in_any_order(pair, gro):
    left, right = pair
    right.port.gro = gro
    datagrams = send(left, *range(1, 11))
    random.Random(5).shuffle(datagrams)
    right.take(left, datagrams)
    assert arrived(right) == {number: stream(number, 20_000)[40:] for number in range(1, 11)}


def test_a_record_that_lacks_a_part_is_lost_alone(pair):
    left, right = pair
    datagrams = [send(left, number) for number in range(1, 6)]
    del datagrams[2][7]
    right.take(left, [datagram for record in datagrams for datagram in record])
    assert sorted(arrived(right)) == [1, 2, 4, 5]
    assert peer_of(right).stats.drops == {}
    assert peer_of(right).epoch.window.accepted == 60


def test_a_record_arrives_once(pair):
    left, right = pair
    datagrams = send(left, 1)
    right.take(left, datagrams + datagrams)
    assert len(right.tun.writes) == 1
    assert peer_of(right).stats.drops == {Drop.REPLAYED: 15}


def test_repeated_parts_of_a_record_that_is_not_complete_do_not_count(pair):
    left, right = pair
    datagrams = send(left, 1)
    right.take(left, datagrams[:-1] + datagrams[3:9] + datagrams[3:4] + datagrams[-1:])
    assert arrived(right) == {1: stream(1, 20_000)[40:]}


def test_a_changed_part_spoils_its_record_alone(pair):
    left, right = pair
    first, second = send(left, 1), send(left, 2)
    for place in (0, 1, 4, 5, 6, 8, 12, 500):
        broken = bytearray(first[3])
        broken[place] ^= 0x01
        right.take(left, [*first[:3], bytes(broken), *first[4:]])
        assert right.tun.writes == []
    drops = peer_of(right).stats.drops
    assert drops.get(Drop.FORGED, 0) >= 15
    right.take(left, second)
    assert sorted(arrived(right)) == [2]


def test_headers_that_lie(pair):
    left, right = pair
    refuses(
        right,
        lambda header: right.take(left, [header + bytes(100)]),
        (0, 0, 100, 5, Drop.MALFORMED),
        (2, 2, 100, 5, Drop.MALFORMED),
        (65, 0, 100, 5, Drop.MALFORMED),
        (255, 254, 100, 500, Drop.MALFORMED),
        (2, 0, 0, 5, Drop.MALFORMED),
        (64, 0, 65_535, 5, Drop.MALFORMED),
        (2, 1, 100, 0, Drop.MALFORMED),
        (2, 0, 50, 5, Drop.MALFORMED),
        (2, 0, 200, 5, Drop.MALFORMED),
        (2, 0, 100, REJECT_AFTER_PACKETS - 1, Drop.EXPIRED),
        (2, 0, 100, 5, Drop.UNKNOWN_INDEX),
    )


@pytest.mark.parametrize("frame", [FrameType.ROW, FrameType.PING, FrameType.RELAY, FrameType.FEC_DATA])
def test_only_packets_come_in_records(pair, frame):
    left, right = pair
    left.tun.inject(stream(1, 20_000), gso_size=1300)

    class Changed(RecordSealer):
        def seal(self, epoch, plain, grid, size):
            plain[-1] = frame
            return super().seal(epoch, plain, grid, size)

    left.outbound._records = Changed(left.outbound._out)
    right.take(left, [datagram for _, datagram in left.pump()])
    assert right.tun.writes == []
    assert right.control.frames == []
    assert peer_of(right).stats.drops == {Drop.UNKNOWN_TYPE: 1}


def test_parts_of_strangers_take_bounded_memory(pair):
    left, right = pair
    (epoch,) = right.control.sessions.values()
    word = MessageType.RECORD << 24 | epoch.local_index
    parts = [HEADER.pack(word, 40, 3, 1400, counter) + bytes(1400) for counter in range(1000, 100_000, 100)]
    right.take(left, parts)
    assembly = right.inbound.records.assembly
    assert len(assembly._records) <= Assembly.LIMIT
    assert len(assembly._records) + len(assembly._free) <= Assembly.LIMIT + 1
    right.take(left, send(left, 7))
    assert sorted(arrived(right)) == [7]


def test_a_batch_too_long_for_one_record_goes_as_rows(net):
    left, right = net.pair(mtu=576)
    net.use_records(left)
    left.tun.inject(stream(1, 60_000), gso_size=536)
    datagrams = [datagram for _, datagram in left.pump()]
    assert {datagram[0] for datagram in datagrams} == {MessageType.DATA}
    right.take(left, datagrams)
    assert arrived(right) == {1: stream(1, 60_000)[40:]}


def test_no_record_without_a_clean_path(net):
    left, right = net.pair()
    assert {datagram[0] for datagram in send(left, 1)} == {MessageType.DATA}
    peer_of(left).quality.report(1, 1000, 999, net.NOW)
    assert {datagram[0] for datagram in send(left, 2)} == {MessageType.DATA}
    assert right.tun.writes == []


@pytest.mark.parametrize("largest", [100, 603, 1427])
def test_no_last_part_is_tiny(largest):
    for length in range(largest + 1, 20 * largest):
        size = part_size(length, largest)
        assert 0 < size <= largest
        assert not 0 < length % size < 17
        assert size > largest - 20


def test_a_report_reaches_the_quality_of_the_path(pair):
    left, right = pair
    (there,) = left.control.sessions.values()
    (back,) = right.control.sessions.values()
    left.take(right, [back.seal_frame(FrameType.REPORT, Report(2000, 1990, 4).pack())])
    assert peer_of(left).quality.loss == 0.005
    assert left.control.frames == []
    left.take(right, [back.seal_frame(FrameType.REPORT, b"short")])
    left.take(right, [back.seal_frame(FrameType.REPORT, bytes(15) + b"\x01" + bytes(8))])
    assert peer_of(left).stats.drops == {Drop.MALFORMED: 2}
    assert there.window.accepted == 3
