"""With FEC: what comes out is what went in, and what the path loses is made again."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.testing import packets
from ltunnel.testing.offload import complete, offload
from ltunnel.wire.frames import Report
from ltunnel.wire.types import MessageType
from ltunnel_fec_rs import ReedSolomon
from ltunnel_fec_xor import XorParity

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PLUGINS = {"rs": ReedSolomon, "xor": XorParity}


def fec(k=10, m=3, mode=FecMode.FIXED, plugin="rs", **more):
    return Codes(plugin, PLUGINS[plugin]), FecSettings(mode=mode, data=k, parity=m, **more)


def peer_of(end):
    (peer,) = set(end.fib._hosts.values())
    return peer


def address(version: int, number: int) -> str:
    return f"10.0.0.{number}" if version == 4 else f"fd00::{number}"


@st.composite
def traffic(draw: st.DrawFn) -> list[tuple[bytes, int | None]]:
    """Packets from the first to the second node, each different, with the segment size of super-packets."""
    out: list[tuple[bytes, int | None]] = []
    for serial in range(draw(st.integers(1, 12))):
        version = draw(st.sampled_from((4, 6)))
        ends = address(version, 1), address(version, 2)
        head = 20 if version == 4 else 40
        body = random.Random(serial).randbytes
        match draw(st.sampled_from(("tcp", "super", "udp", "uso", "echo"))):
            case "tcp":
                out.append((packets.tcp(*ends, 1, 2, body(draw(st.integers(0, 1300))), seq=serial), None))
            case "super":
                seg = draw(st.integers(1, 1400 - head - 20))
                size = draw(st.integers(1, min(60_000, 250 * seg)))
                packet = packets.tcp(*ends, 3, 100 + serial, body(size), ident=65_530 * (version == 4))
                out.append((packet, seg))
            case "udp":
                size = draw(st.integers(0, 1300))
                for i in range(draw(st.integers(1, 25))):
                    out.append((packets.udp(*ends, 5, 1000 + 100 * serial + i, body(size)), None))
            case "uso":
                seg = draw(st.integers(1, 1300))
                size = draw(st.integers(1, min(40_000, 60 * seg)))
                out.append((packets.udp(*ends, 7, 200 + serial, body(size)), seg))
            case "echo":
                out.append((packets.echo(*ends, 9, serial, body(draw(st.integers(0, 1300)))), None))
    return out


def on_the_wire(sent: list[tuple[bytes, int | None]]) -> Counter[bytes]:
    return Counter(piece for packet, seg in sent for piece in complete(*offload(packet, seg)))


def send(end, sent) -> list[bytes]:
    datagrams = []
    for packet, seg in sent:
        end.tun.inject(packet, gso_size=seg)
        datagrams += [datagram for _, datagram in end.pump()]
    return datagrams + end.close_groups()


MODES = st.sampled_from(list(FecMode))
PAIRS = st.sampled_from(((10, 3), (20, 10), (10, 5), (1, 1), (2, 1), (4, 4), (20, 2)))


@SETTINGS
@given(sent=traffic(), gro=st.booleans(), mode=MODES, pair=PAIRS, plugin=st.sampled_from(("rs", "xor")),
       prefixed=st.booleans(), records=st.booleans())  # fmt: skip
def test_on_a_clean_path_all_arrives_once(net, sent, gro, mode, pair, plugin, prefixed, records):
    left, right = net.pair(fec=fec(*pair, mode=mode, plugin=plugin), prefixed=prefixed)
    if records:
        net.use_records(left)
    right.port.gro = gro
    right.take(left, send(left, sent))
    assert Counter(right.tun.packets) == on_the_wire(sent)
    stats = peer_of(right).fec
    assert (stats.recovered, stats.lost, stats.late, stats.refused) == (0, 0, 0, 0)
    assert not peer_of(right).stats.drops


@SETTINGS
@given(sent=traffic(), gro=st.booleans(), mode=MODES, pair=PAIRS, plugin=st.sampled_from(("rs", "xor")),
       seed=st.integers(0, 1 << 32), loss=st.floats(0, 0.5), shuffled=st.sampled_from((0, 1, 5, 100)),
       records=st.booleans())  # fmt: skip
def test_whatever_the_path_does_nothing_arrives_twice_or_wrong(
    net, sent, gro, mode, pair, plugin, seed, loss, shuffled, records
):
    left, right = net.pair(fec=fec(*pair, mode=mode, plugin=plugin))
    if records:
        net.use_records(left)
    right.port.gro = gro
    chance = random.Random(seed)
    datagrams = []
    for datagram in send(left, sent):
        if chance.random() >= loss:
            datagrams.append(datagram)
        if chance.random() < 0.1:
            datagrams.append(datagram)
        if chance.random() < 0.05:
            broken = bytearray(datagram)
            broken[chance.randrange(12, len(broken))] ^= 1 << chance.randrange(8)
            datagrams.append(bytes(broken))
    if shuffled:
        datagrams = [d for _, d in sorted(enumerate(datagrams), key=lambda x: x[0] + chance.uniform(0, shuffled))]
    right.take(left, datagrams)
    arrived, expected = Counter(right.tun.packets), on_the_wire(sent)
    # A packet may be cut differently from how it would have been whole: compare what TCP and UDP see.
    assert not pieces(arrived) - pieces(expected)


def pieces(found: Counter[bytes]) -> Counter[object]:
    """Payload and place of each packet; flags and lengths of pieces are the business of other tests."""
    out: Counter[object] = Counter()
    for packet, count in found.items():
        parsed = packets.parse(packet)
        out[parsed.source, parsed.destination, parsed.dport, parsed.seq, parsed.echo_sequence, parsed.payload] += count
    return out


@pytest.mark.parametrize("plugin", ["rs", "xor"])
@pytest.mark.parametrize("seg", [1340, None])
def test_any_loss_of_one_in_a_group_is_made_good(net, plugin, seg):
    for lost in range(40):
        left, right = net.pair(fec=fec(10, 1, plugin=plugin))
        if seg:
            sent = [(packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, random.Random(1).randbytes(40_000)), seg)]
        else:
            sent = [(packets.udp("10.0.0.1", "10.0.0.2", 1, i, bytes(10 * i)), None) for i in range(30)]
        datagrams = send(left, sent)
        del datagrams[lost % len(datagrams)]
        right.take(left, datagrams)
        assert pieces(Counter(right.tun.packets)) == pieces(on_the_wire(sent))


def test_a_late_original_is_not_delivered_again(net):
    left, right = net.pair(fec=fec(2, 1))
    sent = [(packets.udp("10.0.0.1", "10.0.0.2", 1, i, bytes(i)), None) for i in range(2)]
    first, second, parity = send(left, sent)
    right.take(left, [second, parity])
    assert len(right.tun.packets) == 2
    right.take(left, [first])
    assert len(right.tun.packets) == 2
    stats = peer_of(right).fec
    assert (stats.recovered, stats.late, stats.wasted) == (1, 1, 0)


def test_a_group_is_closed_by_its_deadline(net):
    left, right = net.pair(fec=fec(10, 3, deadline=0.008))
    left.tun.inject(packets.udp("10.0.0.1", "10.0.0.2", 1, 2, b"alone"))
    assert len(left.pump()) == 1
    assert left.sender.next_timeout() == pytest.approx(left.now + 0.008)
    left.sender.handle_timeout(left.now + 0.007)
    assert left.port.sent == []
    left.sender.handle_timeout(left.now + 0.008)
    (_, parity), *more = left.port.sent
    assert len(more) == 1  # as safe as ten with three
    assert left.sender.next_timeout() is None
    right.take(left, [parity])
    assert [p.payload for p in right.tun.parsed()] == [b"alone"]


@pytest.mark.parametrize(("arrived", "patient"), [(6, False), (7, True), (9, True)])
def test_a_group_that_will_soon_be_full_gets_half_its_deadline_more(net, arrived, patient):
    left, _ = net.pair(fec=fec(10, 3, deadline=0.008))

    def send(number):
        left.tun.inject(packets.udp("10.0.0.1", "10.0.0.2", 1, number, bytes(1000)))
        return len(left.pump())

    born = left.now
    assert sum(map(send, range(arrived))) == arrived
    left.sender.handle_timeout(born + 0.008)
    assert len(left.port.sent) == (0 if patient else 3)
    left.port.sent.clear()
    left.now += 0.009
    if patient:
        assert left.sender.next_timeout() == pytest.approx(born + 0.012)
        assert sum(map(send, range(10 - arrived))) == 10 - arrived + 3
        assert left.sender.next_timeout() is None
    assert sum(map(send, range(arrived))) == arrived  # the next group, which stays as it is
    left.sender.handle_timeout(left.now + 0.008)
    left.sender.handle_timeout(left.now + 0.0121)
    assert len(left.port.sent) == 3
    assert left.sender.next_timeout() is None


def test_a_group_closed_early_has_as_much_parity_as_keeps_it_safe(net):
    for k, m, packets_in_it, parity in ((10, 3, 1, 2), (10, 3, 5, 3), (20, 10, 1, 5), (20, 10, 9, 8), (20, 10, 19, 10)):
        left, _ = net.pair(fec=fec(k, m))
        for i in range(packets_in_it):
            left.tun.inject(packets.udp("10.0.0.1", "10.0.0.2", 1, i, bytes(1000)))
        left.pump()
        assert len(left.close_groups()) == parity


def test_in_auto_lone_packets_do_not_drown_themselves(net):
    left, _ = net.pair(fec=fec(mode=FecMode.AUTO))
    peer, shards = peer_of(left), left.sender
    line = shards.line(peer, peer.epoch, left.now)
    for _ in range(4):
        left.now += 0.5
        sent = round((left.now - 999) * 1000)
        line.steering.report(1, Report(sent, sent * 4 // 5, sent // 5), left.now)
    shards._choose(line, left.now)
    assert line.choice.m > 0
    for i in range(2000):  # two seconds
        left.now += 0.001
        left.tun.inject(packets.udp("10.0.0.1", "10.0.0.2", 1, i, bytes(1000)))
        left.pump()
        shards.handle_timeout(left.now + 1)
    assert peer.fec.data_sent == 2000
    assert 0.5 * 2000 < peer.fec.parity_sent < 0.6 * 2000 + 2 * 25 + 33


def test_groups_that_cannot_be_repaired_are_given_up(net):
    left, right = net.pair(fec=fec(10, 1))
    sent = [(packets.udp("10.0.0.1", "10.0.0.2", 1, i, bytes(1000)), None) for i in range(10)]
    datagrams = send(left, sent)
    right.take(left, datagrams[2:])
    stats = peer_of(right).fec
    assert (len(right.tun.packets), stats.lost) == (8, 0)
    due = right.shards.next_timeout()
    assert due == pytest.approx(right.now + 0.5)
    right.shards.handle_timeout(due)
    assert (stats.recovered, stats.lost) == (0, 2)
    assert right.shards.next_timeout() is None


def test_a_packet_of_a_slow_flow_has_copies_a_millisecond_later(net):
    left, right = net.pair(fec=fec(mode=FecMode.LATENCY))
    left.tun.inject(packets.echo("10.0.0.1", "10.0.0.2", 1, 1, bytes(56)))
    datagrams = [datagram for _, datagram in left.pump()]
    assert len(datagrams) == 1
    assert left.sender.next_timeout() == pytest.approx(left.now + 0.001)
    datagrams += left.close_groups()
    assert len(datagrams) == 3
    assert left.sender.next_timeout() is None
    for only in datagrams:
        left, right = net.pair(fec=fec(mode=FecMode.LATENCY))
        right.take(left, [only])
        assert len(right.tun.packets) == 1
    right.take(left, [datagram for datagram in datagrams if datagram != only])
    assert len(right.tun.packets) == 1


def test_while_nothing_is_lost_auto_sends_what_goes_without_fec(net):
    sent = []
    for made in (None, fec(mode=FecMode.AUTO), fec(mode=FecMode.OFF)):
        left, _ = net.pair(fec=made)
        net.use_records(left)
        left.tun.inject(packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, bytes(50_000), seq=1), gso_size=1300)
        sent.append([datagram for _, datagram in left.pump()])
    assert sent[0] == sent[1] == sent[2]
    assert {datagram[0] for datagram in sent[0]} == {MessageType.RECORD}


@pytest.mark.parametrize(("rows", "groups"), [(44, 5), (40, 4), (10, 1), (9, 0), (15, 1), (18, 1), (35, 4), (32, 3)])
def test_rows_of_a_super_packet_are_spread_where_that_costs_little_parity(net, rows, groups):
    left, right = net.pair(fec=fec(10, 3))
    left.tun.inject(packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, bytes(1300 * rows), seq=1), gso_size=1300)
    datagrams = [datagram for _, datagram in left.pump()]
    assert len(datagrams) == rows + 3 * groups
    right.take(left, datagrams[3:rows] + datagrams[rows:])  # three in a row are lost
    right.take(left, left.close_groups())
    assert peer_of(right).fec.recovered == 3
    assert peer_of(right).stats.rx_packets == rows
