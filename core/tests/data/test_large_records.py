"""Records in one part, where the transport takes large datagrams whole."""

from __future__ import annotations

import pytest

from core.tests.data.pieces import arrived, peer_of, refuses, stream, to_peer
from ltunnel.constants import DATA_HEADER, HEADROOM, REJECT_AFTER_PACKETS, TAG
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.data.grid import Arena
from ltunnel.data.records import COUNTED, HEADER, RecordSealer, counters
from ltunnel.session import Drop
from ltunnel.testing import packets
from ltunnel.wire.relay import node_name
from ltunnel.wire.types import MessageType
from ltunnel_fec_xor import XorParity

SIZE = 55_000
SEALED = 10 + 40 + SIZE + 1 + TAG  # virtio-net header, packet, frame type, tag
TAKEN = SEALED // COUNTED


@pytest.fixture
def pair(net):
    left, right = net.pair(whole=True)
    net.use_records(left)
    return left, right


def send(left, *numbers: int, size: int = SIZE) -> list[bytes]:
    for number in numbers:
        left.tun.inject(stream(number, size), gso_size=1300)
    return [datagram for _, datagram in left.pump()]


def small(number: int) -> bytes:
    return packets.udp("10.0.0.1", "10.0.0.2", 1, number, b"small")


@pytest.mark.parametrize("gro", [True, False])
def test_one_datagram_each(pair, gro):
    left, right = pair
    right.port.gro = gro
    datagrams = send(left, 1, 2, 3)
    assert [len(datagram) for datagram in datagrams] == [2 + DATA_HEADER + SEALED] * 3
    for number, datagram in enumerate(datagrams):
        word, parts, part, size, counter = HEADER.unpack_from(datagram, 2)
        assert (word >> 24, parts, part, size, counter) == (MessageType.RECORD, 1, 0, SEALED, number * TAKEN)
    assert left.transport.pieces == [2 + 1400 + 39] * 3, "what the path carries in one packet"
    right.take(left, datagrams)
    assert arrived(right) == {number: stream(number, SIZE)[40:] for number in (1, 2, 3)}
    assert len(right.tun.writes) == 3
    assert peer_of(right).stats.drops == {}
    assert right.inbound.records.assembly._records == {}


def test_it_counts_as_what_it_replaces(pair):
    left, right = pair
    assert TAKEN == 39
    datagrams = send(left, 1, 2, 3)
    assert peer_of(left).epoch.counter == 3 * TAKEN
    right.take(left, [datagrams[0], datagrams[2]])
    window = peer_of(right).epoch.window
    assert (window.top + 1, window.accepted) == (3 * TAKEN, 2 * TAKEN)


def test_small_packets_between(pair):
    left, right = pair
    for number in (1, 2):
        left.tun.inject(small(number))
        left.tun.inject(stream(number, SIZE), gso_size=1300)
    datagrams = [datagram for _, datagram in left.pump()]
    assert [datagram[2] for datagram in datagrams] == [6, 7, 6, 7]
    right.take(left, datagrams)
    assert arrived(right) == {number: b"small" + stream(number, SIZE)[40:] for number in (1, 2)}


def test_a_changed_one_is_dropped_and_spoils_nothing(pair):
    left, right = pair
    (datagram,) = send(left, 1)
    reasons = set()
    for place in (0, 1, 3, 4, 5, 6, 7, 8, 11, 12, 500, len(datagram) - 3):
        broken = bytearray(datagram)
        broken[2 + place] ^= 0x01
        right.take(left, [bytes(broken)])
        reasons |= peer_of(right).stats.drops.keys()
    assert right.tun.writes == []
    assert reasons == {Drop.FORGED, Drop.MALFORMED, Drop.EXPIRED}
    right.take(left, [datagram])
    assert arrived(right) == {1: stream(1, SIZE)[40:]}


def test_repeated(pair):
    left, right = pair
    datagrams = send(left, 1)
    right.take(left, datagrams * 3)
    assert len(right.tun.writes) == 1
    assert peer_of(right).stats.drops == {Drop.REPLAYED: 2}


def test_one_that_overlaps_what_was_accepted_is_refused(pair):
    left, right = pair
    first, second = send(left, 1, 2)
    right.take(left, [first])
    word, _, _, size, _ = HEADER.unpack_from(second, 2)
    moved = second[:2] + HEADER.pack(word, 1, 0, size, TAKEN - 1) + second[2 + DATA_HEADER :]
    right.take(left, [moved])
    assert peer_of(right).stats.drops == {Drop.REPLAYED: 1}


def test_headers_that_lie(pair):
    left, right = pair

    def take(header: bytes) -> None:
        datagram = header + bytes(30_000)
        right.take(left, [len(datagram).to_bytes(2, "big") + datagram])

    refuses(
        right,
        take,
        (0, 0, 30_000, 500, Drop.MALFORMED),
        (1, 1, 30_000, 500, Drop.MALFORMED),
        (1, 0, 29_999, 500, Drop.MALFORMED),
        (1, 0, 0, 500, Drop.MALFORMED),
        (1, 0, 65_508, 500, Drop.MALFORMED),
        (1, 0, 30_000, 500, Drop.FORGED),
        (1, 0, 30_001, 500, Drop.FORGED),
        (1, 0, 30_000, REJECT_AFTER_PACKETS - 20, Drop.EXPIRED),
        (1, 0, 30_000, 5, Drop.UNKNOWN_INDEX),
    )


def test_too_large_goes_in_parts(pair):
    left, right = pair
    left.transport.largest_slot = 2 + DATA_HEADER + SEALED - 1
    datagrams = send(left, 1)
    assert len(datagrams) == 39
    assert left.transport.pieces == []
    right.take(left, datagrams)
    left.transport.largest_slot += 1
    datagrams = send(left, 2)
    assert len(datagrams) == 1
    right.take(left, datagrams)
    assert arrived(right) == {number: stream(number, SIZE)[40:] for number in (1, 2)}


def test_rows_while_the_path_is_not_clean(net):
    left, right = net.pair(whole=True)
    datagrams = send(left, 1)
    assert {datagram[2] for datagram in datagrams} == {MessageType.DATA}
    right.take(left, datagrams)
    assert arrived(right) == {1: stream(1, SIZE)[40:]}


def test_parity_needs_parts(net):
    settings = FecSettings(mode=FecMode.FIXED, data=10, parity=1)
    left, right = net.pair(whole=True, fec=(Codes("xor", XorParity), settings))
    net.use_records(left)
    datagrams = send(left, 1)
    assert left.transport.pieces == []
    assert sum(datagram[2] == MessageType.RECORD for datagram in datagrams) == 40, "a little smaller"
    right.take(left, datagrams)
    assert arrived(right) == {1: stream(1, SIZE)[40:]}


def test_a_worn_out_key_seals_none(pair):
    left, _ = pair
    peer = peer_of(left)
    sealer = RecordSealer(Arena(HEADROOM + 70_000))
    peer.epoch.counter = REJECT_AFTER_PACKETS - counters(1, 30_000 + TAG)
    assert sealer.seal_for(peer, peer.epoch, memoryview(bytes(30_000 + 2 * COUNTED)), left.transport) is None
    assert sealer.seal_for(peer, peer.epoch, memoryview(bytes(30_000)), left.transport) is not None
    assert peer.epoch.counter == REJECT_AFTER_PACKETS


def test_what_does_not_leave_is_counted_once(pair):
    left, _ = pair
    left.port.full = True
    assert send(left, 1) == []
    assert peer_of(left).stats.drops == {Drop.QUEUE_FULL: 1}


@pytest.mark.parametrize(("parts", "size", "taken"), [(44, 1427, 44), (2, 9000, 2), (1, 17, 1), (1, 1427, 1),
                                                      (1, 2799, 1), (1, 2800, 2), (1, 65_507, 46)])  # fmt: skip
def test_counters(parts, size, taken):
    assert counters(parts, size) == taken


def test_through_a_hub(net):
    hub, one, other = net.relayed(whole=True)
    net.use_records(one)
    net.use_records(hub)
    one.tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(55_000)), gso_size=1300)
    (sent,) = [datagram for _, datagram in one.pump()]
    ((_, passed),) = hub.take(one, [sent])
    for datagram in (sent, passed):
        word, parts, _, _, _ = HEADER.unpack_from(datagram, 2)
        assert (word >> 24, parts) == (MessageType.RECORD, 1)
    other.take(hub, [passed])
    assert sum(len(packet) - 40 for packet in other.tun.packets) == 55_000
    assert hub.fib.names[node_name(one.key)].stats.relayed_datagrams == 40
    assert to_peer(other, one).stats.drops == {}


def test_through_a_hub_to_a_transport_that_needs_parts(net):
    hub, one, other = net.relayed(whole=True)
    net.use_records(one)
    net.use_records(hub)
    hub.transport.largest_slot = 0
    one.tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(55_000)), gso_size=1300)
    (sent,) = [datagram for _, datagram in one.pump()]
    passed = [datagram for _, datagram in hub.take(one, [sent])]
    assert len(passed) == 39
    other.take(hub, passed)
    assert sum(len(packet) - 40 for packet in other.tun.packets) == 55_000


def test_along_a_mesh(net):
    ends = net.line(3, whole=True)
    for end in ends:
        for peer in end.fib.names.values():
            peer.quality.report(1, 1000, 1000, net.NOW)
    first, middle, last = ends
    first.tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(55_000)), gso_size=1300)
    (sent,) = [datagram for _, datagram in first.pump()]
    ((_, passed),) = middle.take(first, [sent])
    last.take(middle, [passed])
    assert sum(len(packet) - 40 for packet in last.tun.packets) == 55_000
