"""Packets in at one TUN come out at the other byte for byte, whatever the path does to the datagrams between."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltunnel.session import Drop
from ltunnel.testing import packets
from ltunnel.testing.offload import complete, offload

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def address(version: int, number: int) -> str:
    return f"10.0.0.{number}" if version == 4 else f"fd00::{number}"


@st.composite
def traffic(draw: st.DrawFn, source: int = 1, destination: int = 2) -> list[tuple[bytes, int | None]]:
    """Packets between two nodes, with the segment size of those that are super-packets."""
    out: list[tuple[bytes, int | None]] = []
    for serial in range(draw(st.integers(1, 12))):
        version = draw(st.sampled_from((4, 6)))
        ends = address(version, source), address(version, destination)
        head = 20 if version == 4 else 40
        body = random.Random(serial).randbytes
        match draw(st.sampled_from(("tcp", "super", "udp", "uso", "echo"))):
            case "tcp":
                out.append((packets.tcp(*ends, 1, 2, body(draw(st.integers(0, 1300))), seq=serial), None))
            case "super":
                options = bytes(draw(st.sampled_from((0, 12, 40))))
                seg = draw(st.integers(1, 1400 - head - 20 - len(options)))
                size = draw(st.integers(1, min(60_000, 250 * seg)))
                flags = draw(st.sampled_from((packets.ACK, packets.ACK | packets.PSH, packets.ACK | packets.CWR)))
                seq = draw(st.sampled_from((0, 0xFFFFFF00, 12345)))
                packet = packets.tcp(
                    *ends, 3, 4, body(size), seq=seq, flags=flags, options=options, ident=65_530 * (version == 4)
                )
                out.append((packet, seg))
            case "udp":
                size = draw(st.integers(0, 1300))
                out += [(packets.udp(*ends, 5, 6, body(size)), None)] * draw(st.integers(1, 5))
            case "uso":
                seg = draw(st.integers(1, 1300))
                out.append((packets.udp(*ends, 7, 8, body(draw(st.integers(1, min(40_000, 60 * seg))))), seg))
            case "echo":
                out.append((packets.echo(*ends, 9, serial, body(draw(st.integers(0, 1300)))), None))
    return out


def on_the_wire(sent: list[tuple[bytes, int | None]]) -> list[bytes]:
    """The plain packets that the traffic stands for."""
    return [piece for packet, seg in sent for piece in complete(*offload(packet, seg))]


def unordered(pieces: list[bytes]) -> Counter[bytes]:
    """Packets but for what joining UDP datagrams changes: the identification, and with it the header checksum."""
    return Counter(
        piece[:4] + bytes(2) + piece[6:10] + bytes(2) + piece[12:] if piece[0] == 0x45 and piece[9] == 17 else piece
        for piece in pieces
    )


def inject(end, sent) -> list[bytes]:
    """Put traffic into an end's TUN, as its kernel does, and return the datagrams."""
    datagrams = []
    for packet, seg in sent:
        end.tun.inject(packet, gso_size=seg)
        if end.tun.pending > 30:
            datagrams += end.pump()
    return [datagram for _, datagram in datagrams + end.pump()]


@SETTINGS
@given(sent=traffic(), gro=st.booleans(), offloads=st.booleans(), records=st.booleans(), uso=st.booleans())
def test_a_clean_path_delivers_everything_in_order(net, sent, gro, offloads, records, uso):
    left, right = net.pair(uso=uso)
    left.tun.offload = offloads
    if records:
        net.use_records(left)
    right.port.gro = gro
    right.take(left, inject(left, sent))
    assert right.tun.refused == []
    right.tun.parsed()
    assert unordered(right.tun.packets) == unordered(on_the_wire(sent))
    tcp = [piece for piece in right.tun.packets if piece[9 if piece[0] >> 4 == 4 else 6] == 6]
    assert tcp == [piece for piece in on_the_wire(sent) if piece[9 if piece[0] >> 4 == 4 else 6] == 6]
    (peer,) = set(right.fib._hosts.values())
    assert peer.stats.rx_packets == len(on_the_wire(sent))
    assert peer.stats.rx_bytes == sum(map(len, on_the_wire(sent)))
    assert peer.stats.drops == {}


@SETTINGS
@given(
    sent=traffic(),
    gro=st.booleans(),
    prefixed=st.booleans(),
    records=st.booleans(),
    seed=st.integers(0, 2**32),
    loss=st.sampled_from((0.0, 0.01, 0.1, 0.5)),
)
def test_loss_reordering_and_duplication_lose_only_what_was_lost(
    net, sent, gro, prefixed, records, seed, loss
):  # fmt: skip
    left, right = net.pair(prefixed=prefixed)
    if records:
        net.use_records(left)
    right.port.gro = gro
    rng = random.Random(seed)
    path = []
    for number, datagram in enumerate(inject(left, sent)):
        if rng.random() >= loss:
            path += [(number + rng.choice((0, 0, 0, rng.randrange(40))), datagram)] * rng.choice((1, 1, 1, 2))
    path.sort(key=lambda entry: entry[0])
    datagrams = [datagram for _, datagram in path]
    right.take(left, datagrams)
    assert right.tun.refused == []
    right.tun.parsed()
    arrived, expected = unordered(right.tun.packets), unordered(on_the_wire(sent))
    assert not arrived - expected, "something was delivered that was not sent, or twice"
    if loss == 0:
        assert arrived == expected
    (peer,) = set(right.fib._hosts.values())
    assert peer.stats.drops.keys() <= {Drop.REPLAYED}
    repeated = len(datagrams) - len(set(datagrams))
    replayed = peer.stats.drops.get(Drop.REPLAYED, 0)
    assert replayed <= repeated if records else replayed == repeated


@SETTINGS
@given(sent=traffic(), seed=st.integers(0, 2**32))
def test_forged_datagrams_cost_themselves_alone(net, sent, seed):
    left, right = net.pair()
    rng = random.Random(seed)
    path, forged = [], 0
    for datagram in inject(left, sent):
        path.append(datagram)
        if rng.random() < 0.3:
            broken = bytearray(datagram)
            broken[rng.randrange(12, len(broken))] ^= 1 << rng.randrange(8)
            path.insert(len(path) - rng.randrange(2), bytes(broken))
            forged += 1
    right.take(left, path)
    assert unordered(right.tun.packets) == unordered(on_the_wire(sent))
    (peer,) = set(right.fib._hosts.values())
    drops = peer.stats.drops
    assert drops.get(Drop.FORGED, 0) + drops.get(Drop.REPLAYED, 0) == forged


@SETTINGS
@given(sent=traffic(), mtu=st.sampled_from((1400, 1280)), gro=st.booleans(), records=st.booleans())
def test_a_peer_with_a_smaller_mtu(net, sent, mtu, gro, records):
    left, right = net.pair(right_mtu=mtu)
    if records:
        net.use_records(left)
    right.port.gro = gro
    right.take(left, inject(left, sent))
    assert right.tun.refused == []
    right.tun.parsed()
    assert all(len(packet) <= mtu for packet in right.tun.packets)
    wire = on_the_wire(sent)
    if all(len(packet) <= mtu for packet in wire):
        assert unordered(right.tun.packets) == unordered(wire)
    else:  # super-packets of TCP are cut smaller, everything else that does not fit is refused
        for packet, seg in sent:
            if seg is None and len(packet) <= mtu and packets.parse(packet).protocol != packets.UDP:
                assert packet in right.tun.packets
        streams = [
            parsed.payload
            for packet, seg in sent
            if seg
            and (parsed := packets.parse(packet)).protocol == packets.TCP
            and (len(parsed.payload) > seg or len(packet) <= mtu)
        ]
        arrived = [p.payload for p in right.tun.parsed() if p.protocol == packets.TCP and p.sport == 3]
        assert b"".join(streams) == b"".join(arrived)


def test_a_super_packet_takes_few_calls_each_way(net):
    left, right = net.pair()
    packet = packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, bytes(59_000))
    datagrams = inject(left, [(packet, 1348)])
    assert left.port.calls == 1
    right.take(left, datagrams)
    assert len(right.tun.writes) == 1
    assert right.tun.writes[0][1][40:] == packet[40:]


def test_small_packets_share_datagrams_and_writes(net):
    left, right = net.pair()
    sent = [(packets.udp("10.0.0.1", "10.0.0.2", 1, 2, bytes([i]) * 100), None) for i in range(60)]
    datagrams = inject(left, sent)
    assert len(datagrams) <= 7
    assert max(map(len, datagrams)) <= 1400 + 11 + 28
    right.take(left, datagrams)
    assert len(right.tun.writes) <= 7
    assert [packets.parse(p).payload for p in right.tun.packets] == [bytes([i]) * 100 for i in range(60)]


@pytest.mark.parametrize("gro", [True, False])
def test_interleaved_peers_get_their_own(net, gro):
    hub, left, right = net.star()
    for i in range(40):
        hub.tun.inject(packets.udp("10.0.0.1", f"10.0.0.{2 + i % 2}", 1, 2, bytes([i]) * 50))
    out = hub.pump()
    for node, parity in ((left, 0), (right, 1)):
        node.port.gro = gro
        mine = [datagram for to, datagram in out if to == node.endpoint]
        assert len(mine) <= 3, "packets for one peer share datagrams although others lie between"
        node.take(hub, mine)
        assert [p.payload[0] for p in node.tun.parsed()] == [i for i in range(40) if i % 2 == parity]
