"""Records with parity: repaired whatever is lost, delivered once, reported truly; a peer that lies and a stranger."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from core.tests.data.pieces import arrived, peer_of, stream
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.groups import PATIENCE
from ltunnel.data.fec.record_parity import MOST_BYTES, RECORD_PARITY, TRAILER, Shape, plan
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.data.records import Assembly
from ltunnel.session import Drop
from ltunnel.testing import packets
from ltunnel.wire.types import FrameType, MessageType
from ltunnel_fec_rs import ReedSolomon
from ltunnel_fec_xor import XorParity

PLUGINS = {"rs": ReedSolomon, "xor": XorParity}
SIZE = 59_312
SEG = 1348


def make(net, k=10, m=3, plugin="rs", mode=FecMode.FIXED, **more):
    left, right = net.pair(fec=(Codes(plugin, PLUGINS[plugin]), FecSettings(mode=mode, data=k, parity=m)), **more)
    net.use_records(left)
    return left, right


def send(left, *numbers: int, size: int = SIZE) -> list[bytes]:
    for number in numbers:
        left.tun.inject(stream(number, size), gso_size=SEG)
    return [datagram for _, datagram in left.pump()]


def whole(*numbers: int) -> dict[int, bytes]:
    return {number: stream(number, SIZE)[40:] for number in numbers}


def parts_of(datagrams: list[bytes], prefix: int = 0) -> tuple[list[bytes], list[bytes]]:
    parts = [datagram for datagram in datagrams if datagram[prefix] == MessageType.RECORD]
    return parts, datagrams[len(parts) :]


def group_of(parts: list[bytes], groups: int, number: int) -> list[bytes]:
    return parts[number::groups]


@pytest.mark.parametrize(("k", "m", "plugin", "groups", "count"),
                         [(10, 3, "rs", 5, 3), (10, 1, "xor", 5, 1), (1, 1, "xor", 43, 1),
                              (43, 9, "rs", 1, 9), (10, 5, "rs", 5, 5), (20, 10, "rs", None, 0)])  # fmt: skip
def test_parity_goes_with_a_record_unless_its_groups_would_be_far_from_full(net, k, m, plugin, groups, count):
    left, right = make(net, k, m, plugin)
    parts, parity = parts_of(send(left, 1))
    if groups is None:
        assert parts == []
        return
    assert len(parts) == 43
    assert len(parity) == groups * count
    assert {datagram[0] for datagram in parity} == {MessageType.DATA}
    assert max(map(len, parity)) == 1400 + 11 + 10 + 28, "as large as the shards of rows may be"
    fec = peer_of(left).fec
    assert (fec.data_sent, fec.parity_sent) == (43, groups * count)
    right.take(left, parts + parity)
    assert arrived(right) == whole(1)
    assert len(right.tun.writes) == 1
    fec = peer_of(right).fec
    assert (fec.data_received, fec.parity_received, fec.wasted) == (43, groups * count, groups * count)
    assert not peer_of(right).stats.drops


@pytest.mark.parametrize(("mode", "m"), [(FecMode.AUTO, 3), (FecMode.OFF, 3), (FecMode.FIXED, 0)])
def test_without_parity_records_go_as_ever(net, mode, m):
    left, _ = make(net, m=m, mode=mode)
    parts, parity = parts_of(send(left, 1))
    assert (len(parts), parity) == (42, [])


@pytest.mark.parametrize("gro", [True, False])
@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize(("m", "plugin"), [(3, "rs"), (1, "xor"), (2, "xor")])
def test_any_losses_that_the_code_heals(net, m, plugin, gro, prefixed):
    left, right = make(net, 10, m, plugin, prefixed=prefixed)
    right.port.gro = gro
    chance = random.Random(1)
    for number in range(1, 40):
        parts, parity = parts_of(send(left, number), 2 * prefixed)
        groups = len(parity) // m
        lost: set[int] = set()
        for group in range(groups):
            members = range(group, len(parts), groups)
            if plugin == "rs":
                lost |= set(chance.sample(members, chance.randint(0, m)))
            else:
                columns = [members[column::m] for column in range(m)]
                lost |= {chance.choice(column) for column in columns if chance.random() < 0.7}
        if number == 1:
            lost.add(len(parts) - 1)
        right.take(left, [part for place, part in enumerate(parts) if place not in lost] + parity)
        assert arrived(right).keys() >= {number}, lost
    assert arrived(right) == whole(*range(1, 40))
    assert not peer_of(right).stats.drops


def test_every_pattern_in_a_group_of_two(net):
    left, right = make(net, 2, 2)
    for number, lost in enumerate(combinations(range(4), 2), 1):
        parts, parity = parts_of(send(left, number))
        groups = len(parity) // 2
        pair = group_of(parts, groups, 5), group_of(parity, groups, 5)
        gone = [(*pair[0], *pair[1])[place] for place in lost]
        right.take(left, [datagram for datagram in parts + parity if datagram not in gone])
        assert arrived(right).keys() >= {number}
    assert arrived(right) == whole(*range(1, 7))


@pytest.mark.parametrize("gro", [True, False])
def test_in_any_order_of_many_records_at_once(net, gro):
    left, right = make(net)
    right.port.gro = gro
    parts, parity = parts_of(send(left, *range(1, 11)))
    datagrams = [part for place, part in enumerate(parts) if place % 17] + parity
    random.Random(3).shuffle(datagrams)
    right.take(left, datagrams)
    assert arrived(right) == whole(*range(1, 11))
    assert len(right.tun.writes) == 10


def test_parity_first(net):
    left, right = make(net)
    parts, parity = parts_of(send(left, 1))
    right.take(left, parity + parts[3:])
    assert arrived(right) == whole(1)


def test_too_many_losses_cost_the_record_alone_and_are_counted(net):
    left, right = make(net)
    first, second = parts_of(send(left, 1)), parts_of(send(left, 2))
    right.take(left, first[0][:-20] + first[1] + second[0][1:] + second[1])
    assert arrived(right) == whole(2)
    fec = peer_of(right).fec
    assert (fec.recovered, fec.lost) == (1, 0)
    right.now += PATIENCE
    assert right.shards.next_timeout() <= right.now
    right.shards.handle_timeout(right.now)
    assert (fec.recovered, fec.lost) == (1, 20)
    assert right.shards.next_timeout() is None


def test_reports_tell_of_parts_that_were_restored(net):
    left, right = make(net)
    parts, parity = parts_of(send(left, 1))
    right.take(left, parts[:7] + parts[9:20] + parts[21:] + parity)
    assert arrived(right) == whole(1)
    window, fec = peer_of(right).epoch.window, peer_of(right).fec
    assert (window.top + 1, window.accepted) == (58, 55)
    assert (fec.recovered, fec.lost, fec.data_received) == (3, 0, 40)
    assert fec.wasted + fec.recovered == fec.parity_received == 15


def test_late_originals_and_copies_are_not_delivered_again(net):
    left, right = make(net)
    parts, parity = parts_of(send(left, 1))
    right.take(left, parts[2:] + parity)
    right.take(left, parts + parity)
    assert len(right.tun.writes) == 1
    assert peer_of(right).stats.drops == {Drop.REPLAYED: 58}


def test_a_record_made_of_parity_alone_is_delivered_once(net):
    left, right = make(net, 1, 2)
    parts, parity = parts_of(send(left, 1))
    right.take(left, parity + parts)
    assert len(right.tun.writes) == 1
    assert arrived(right) == whole(1)


def test_a_part_of_a_stranger_spoils_its_record_alone(net):
    left, right = make(net)
    first, second = parts_of(send(left, 1)), parts_of(send(left, 2))
    forged = first[0][5][:500] + bytes(len(first[0][5]) - 500)
    right.take(left, [forged, *first[0][1:], *first[1], *second[0], *second[1]])
    assert arrived(right) == whole(2)
    assert peer_of(right).stats.drops[Drop.FORGED] == 43


def test_no_parity_without_authenticity(net):
    left, right = make(net)
    parts, parity = parts_of(send(left, 1))
    broken = [datagram[:100] + bytes((datagram[100] ^ 1,)) + datagram[101:] for datagram in parity]
    right.take(left, parts[1:] + broken)
    assert right.tun.writes == []
    assert peer_of(right).fec.parity_received == 0
    assert peer_of(right).stats.drops == {Drop.FORGED: 15}
    right.take(left, parts[:1])
    assert arrived(right) == whole(1)


def test_the_first_loss_ends_records(net):
    left, _ = make(net)
    peer_of(left).quality.report(1, 2000, 1999, net.NOW)
    parts, shards = parts_of(send(left, 1))
    assert parts == []
    assert len(shards) >= 44 + 12


def test_short_and_small_packets_go_as_shards(net):
    left, _ = make(net)
    assert parts_of(send(left, 1, size=20 * SEG))[0] == []


@pytest.mark.parametrize("mode", [FecMode.FIXED, FecMode.SPREAD])
def test_many_large_datagrams_go_as_a_record(net, mode):
    left, right = make(net, mode=mode)
    sent = [packets.udp("10.0.0.1", "10.0.0.2", 1, 2, bytes((number,)) * 1300) for number in range(45)]
    for packet in sent:
        left.tun.inject(packet)
    parts, parity = parts_of([datagram for _, datagram in left.pump()])
    assert (len(parts), len(parity)) == (43, 15)
    right.take(left, parts[:8] + parts[12:] + parity)
    assert [packet.payload[0] for packet in right.tun.parsed()] == list(range(45))


def test_small_packets_of_slow_flows_go_by_themselves(net):
    """In the mode latency what is small gets copies, whatever the rest of a batch is."""
    left, _ = make(net, mode=FecMode.LATENCY)
    line = left.sender.line(peer_of(left), peer_of(left).epoch, left.now)
    line.code = left.sender.codes.get(10, 3)
    sent = [packets.udp("10.0.0.1", "10.0.0.2", 1, 2, bytes((number,)) * 1300) for number in range(45)]
    for packet in [*sent, packets.udp("10.0.0.1", "10.0.0.2", 3, 4, b"key")]:
        left.tun.inject(packet)
    assert parts_of([datagram for _, datagram in left.pump()])[0] == []


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_through_a_relay(net, plugin):
    fec = Codes(plugin, PLUGINS[plugin]), FecSettings(mode=FecMode.FIXED, data=10, parity=1)
    hub, left, right = net.relayed(fec=fec, prefixed=True)
    peer = left.fib.lookup(bytes((10, 0, 0, 3)))
    peer.quality.report(4 * 4 + 1, 1000, 1000, net.NOW)
    left.tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 7, bytes(range(250)) * 200), gso_size=1200)
    datagrams = [datagram for _, datagram in left.pump()]
    assert peer.fec.parity_sent >= 4
    onwards = [datagram for _, datagram in hub.take(left, datagrams[1:])]
    right.take(hub, onwards)
    assert arrived(right) == {7: bytes(range(250)) * 200}
    assert right.fib.lookup(bytes((10, 0, 0, 2))).fec.recovered > 0


# ---------------------------------------------------------------- a peer that lies


def frame(shape: Shape, counter: int, group: int, index: int, body: bytes) -> bytes:
    parts, _, last, groups, k, m = shape
    return body + TRAILER.pack(counter, parts, last, groups, group, index, k, m, RECORD_PARITY)


def test_parity_that_cannot_be_is_refused(net):
    left, right = make(net)
    epoch = peer_of(left).epoch
    good = Shape(parts=40, size=100, last=60, groups=4, k=10, m=3)
    assert good.has(3, 2)
    assert not good.has(4, 0)
    assert not good.has(0, 3)
    assert all(Shape(**(good._asdict() | change)).has(0, 0) is False for change in (
        {"parts": 0}, {"parts": 65}, {"last": 0}, {"last": 101}, {"size": 2000}, {"groups": 0}, {"groups": 41},
        {"groups": 3}, {"k": 33}))  # fmt: skip
    lies = [
        frame(good, 5, 4, 0, bytes(100)),
        frame(good, 5, 0, 3, bytes(100)),
        frame(good._replace(k=0), 5, 0, 0, bytes(100)),
        frame(good._replace(m=250), 5, 0, 0, bytes(100)),
        frame(good, (1 << 28) - 39, 0, 0, bytes(100)),
    ]
    right.take(left, [epoch.seal_frame(lie[-1], lie[:-1]) for lie in lies])
    assert peer_of(right).fec.refused == len(lies)
    assert right.inbound.records.assembly._records == {}
    contradictory = [frame(good, 500, 0, 0, bytes(100)), frame(good._replace(m=4), 500, 0, 1, bytes(100)),
                     frame(good, 500, 0, 0, bytes(100))]  # fmt: skip
    right.take(left, [epoch.seal_frame(lie[-1], lie[:-1]) for lie in contradictory])
    assert peer_of(right).fec.refused == len(lies) + 2
    right.take(left, [epoch.seal_frame(RECORD_PARITY, body) for body in (b"", bytes(12))])
    assert peer_of(right).stats.drops == {Drop.MALFORMED: 2}


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_lies_cost_neither_memory_nor_an_exception(net, plugin):
    left, right = make(net, 10, 2, plugin)
    epoch, peer = peer_of(left).epoch, peer_of(right)
    chance = np.random.default_rng(5)
    delivered: Counter[int] = Counter()
    for number in range(1, 1000):
        parts, parity = parts_of(send(left, number))
        opened = [(datagram, *right_frame(peer, datagram)) for datagram in parity]
        datagrams = [part for part in parts if chance.random() > 0.05]
        for datagram, kind, body in opened:
            roll = int(chance.integers(8))
            if roll < 5:
                datagrams.append(datagram)
                continue
            lie = bytearray(body)
            for _ in range(int(chance.integers(1, 4))):
                lie[-1 - int(chance.integers(TRAILER.size - 1))] = int(chance.integers(256))
            if roll == 7:
                del lie[: int(chance.integers(len(lie)))]
            datagrams.append(epoch.seal_frame(kind, bytes(lie)))
        if number % 3 == 0:
            chance.shuffle(datagrams)
        right.port.gro = number % 2 == 0
        right.now += (0.0, 0.001, 0.3)[number % 5 % 3]
        right.take(left, datagrams)
        right.shards.handle_timeout(right.now)
        epoch.created = peer.epoch.created = left.now = right.now
        peer_of(left).quality.report(1, 2000 + number * 100, 2000 + number * 100, right.now)
        for port, payload in arrived(right).items():
            assert payload == stream(port, SIZE)[40:]
            delivered[port] += 1
        right.tun.clear()
        assembly = right.inbound.records.assembly
        assert len(assembly._records) <= Assembly.LIMIT
        kept = [record.parity for record in assembly.coded()]
        assert all(parity.count * parity.shape.size <= MOST_BYTES for parity in kept)
    fec = peer.fec
    print(f"{plugin}: {len(delivered)} of 999 records, {fec}")
    assert max(delivered.values()) == 1
    assert len(delivered) > 300
    assert min(fec.refused, fec.recovered, fec.lost, fec.wasted) > 100


def right_frame(peer, datagram: bytes) -> tuple[int, bytes]:
    """Open a datagram that is on its way to a peer's session, without taking it in."""
    out = memoryview(bytearray(len(datagram) - 28))
    assert peer.epoch.opener.open([memoryview(datagram)[:12]], [memoryview(datagram)[12:]], [out])
    assert out[-1] == FrameType.RECORD_PARITY
    return out[-1], bytes(out[:-1])


def test_plans_keep_to_the_parity_that_was_asked_for():
    for plugin, k, m in (("rs", 10, 3), ("rs", 20, 10), ("rs", 100, 20), ("xor", 10, 1), ("xor", 8, 2), ("rs", 1, 254)):
        codes = Codes(plugin, PLUGINS[plugin])
        code = codes.get(k, m)
        for length in range(1000, 65_000, 173):
            found = plan(length, 1408, code, codes)
            if found is not None:
                parts, groups, slices = found
                assert 30 <= parts == -(-length // 1408)
                assert groups * slices / parts <= 1.2 * m / k
                assert slices <= m
                assert -(-parts // groups) <= k
