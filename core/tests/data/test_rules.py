"""What the data path refuses, and how it says so."""

from __future__ import annotations

import struct

import pytest

from core.tests.data.pieces import peer_of
from ltunnel.constants import REJECT_AFTER_PACKETS, REJECT_AFTER_TIME
from ltunnel.data.virtio import VNET
from ltunnel.data.waiting import PATIENCE
from ltunnel.session import Drop
from ltunnel.testing import packets
from ltunnel.wire.types import FrameType

UDP = packets.udp("10.0.0.1", "10.0.0.2", 1, 2, b"hello")


def test_an_inner_source_that_is_not_the_peers_is_dropped(net):
    left, right = net.pair()
    left.tun.inject(packets.udp("10.0.0.9", "10.0.0.2", 1, 2, b"x"))
    left.tun.inject(packets.udp("fd00::9", "fd00::2", 1, 2, b"x"))
    left.tun.inject(packets.tcp("10.0.0.9", "10.0.0.2", 1, 2, bytes(5000)), gso_size=1300)
    right.take(left, [datagram for _, datagram in left.pump()])
    assert right.tun.writes == []
    assert peer_of(right).stats.drops == {Drop.SOURCE: 6}


def test_a_routed_prefix_counts_as_the_peers_own(net):
    left, right = net.pair()
    peer_of(right).networks = (__import__("ipaddress").ip_network("10.7.0.0/16"),)
    left.tun.inject(packets.udp("10.7.1.2", "10.0.0.2", 1, 2, b"x"))
    right.take(left, [datagram for _, datagram in left.pump()])
    assert len(right.tun.writes) == 1


def test_errors_are_limited_in_rate(net):
    left, _ = net.pair()
    for i in range(500):
        left.tun.inject(packets.udp("10.0.0.1", f"10.0.0.{3 + i % 200}", 1, 2, b"x"))
    left.pump()
    assert 0 < len(left.tun.writes) <= 50
    assert left.stats.drops[Drop.NO_ROUTE] == 500


def test_no_error_about_an_error_or_a_multicast(net):
    left, _ = net.pair()
    left.tun.inject(packets.udp("10.0.0.1", "224.0.0.251", 5353, 5353, b"x"))
    left.tun.inject(packets.udp("fd00::1", "ff02::fb", 5353, 5353, b"x"))
    unreachable = struct.pack(">BBHI", 3, 1, 0, 0) + UDP
    left.tun.inject(packets.ip("10.0.0.1", "10.0.0.99", packets.ICMP, unreachable))
    left.pump()
    assert left.tun.writes == []
    assert left.stats.drops == {Drop.NO_ROUTE: 3}


def test_a_packet_too_big_for_the_peer_is_refused_with_its_mtu(net):
    left, _ = net.pair(mtu=1400, right_mtu=1300)
    left.tun.inject(packets.udp("10.0.0.1", "10.0.0.2", 1, 2, bytes(1360)))
    left.tun.inject(packets.udp("fd00::1", "fd00::2", 1, 2, bytes(1340)))
    left.tun.inject(packets.udp("10.0.0.1", "10.0.0.2", 1, 2, bytes(5000)), gso_size=1350)
    assert left.pump() == []
    first, second, third = left.tun.packets
    assert first[20:22] == bytes((3, 4))
    assert struct.unpack(">H", first[26:28]) == (1300,)
    assert second[40:42] == bytes((2, 0))
    assert struct.unpack(">I", second[44:48]) == (1300,)
    assert struct.unpack(">H", third[26:28]) == (1300,)
    assert peer_of(left).stats.drops == {Drop.TOO_BIG: 3}


def test_a_device_behind_this_machine_hears_of_it_from_who_it_sent_to(net):
    """An error from one of this machine's own addresses would not get past its kernel, which takes it for a martian."""
    _, right = net.pair(routes=("192.168.7.0/24", "fd07::/64"))
    peer_of(right).mtu = 1300
    for device, far, nobody in (("192.168.7.20", "10.0.0.1", "10.0.0.9"), ("fd07::20", "fd00::1", "fd00::9")):
        right.tun.inject(packets.udp(device, nobody, 1, 2, b"x"))
        right.tun.inject(packets.udp(device, far, 1, 2, bytes(1340)))
    assert right.pump() == []
    told = [(packet.source, packet.destination) for packet in right.tun.parsed()]
    assert told == [
        ("10.0.0.9", "192.168.7.20"), ("10.0.0.1", "192.168.7.20"), ("fd00::9", "fd07::20"), ("fd00::1", "fd07::20"),
    ]  # fmt: skip


def test_a_packet_that_may_be_fragmented_is(net):
    left, right = net.pair(mtu=1400, right_mtu=700)
    body = struct.pack(">HHHH", 1, 2, 1308, 0) + bytes(range(256)) * 5 + bytes(20)
    packet = packets.ip("10.0.0.1", "10.0.0.2", packets.UDP, body, ident=7, dont_fragment=False)
    left.tun.inject_raw(bytes(10) + packet)
    right.take(left, [datagram for _, datagram in left.pump()])
    pieces = sorted(right.tun.packets, key=lambda p: struct.unpack(">H", p[6:8])[0] & 0x1FFF)
    assert all(len(piece) <= 700 for piece in pieces)
    assert b"".join(piece[20:] for piece in pieces) == body
    assert [bool(piece[6] & 0x20) for piece in pieces] == [True] * (len(pieces) - 1) + [False]


@pytest.mark.parametrize("padding", [b"", b"\x01", b"\x01\x01\x01"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("offloads", [True, False])
def test_the_mss_of_a_syn_is_clamped(net, version, padding, offloads):
    left, right = net.pair(mtu=1400, right_mtu=1280)
    left.tun.offload = offloads
    ends = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    options = padding + packets.mss_option(1360)
    left.tun.inject(packets.tcp(*ends, 1, 2, flags=packets.SYN, options=options))
    right.take(left, [datagram for _, datagram in left.pump()])
    (syn,) = right.tun.parsed()  # which checks the checksum
    at = len(padding)
    assert syn.options[at : at + 4] == packets.mss_option(1240 if version == 4 else 1220)


def test_a_smaller_mss_stays(net):
    left, right = net.pair()
    left.tun.inject(packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, flags=packets.SYN, options=packets.mss_option(536)))
    right.take(left, [datagram for _, datagram in left.pump()])
    assert right.tun.parsed()[0].options == packets.mss_option(536)


@pytest.mark.parametrize(
    "options", [b"\x02", b"\x02\x00\x05\x50", b"\x05\xff\x00\x00", b"\x01\x01\x01\x02", b"\x02\x04"]
)
def test_broken_tcp_options_do_no_harm(net, options):
    left, right = net.pair(right_mtu=1280)
    sent = packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, flags=packets.SYN, options=options)
    left.tun.inject(sent)
    right.take(left, [datagram for _, datagram in left.pump()])
    assert right.tun.packets == [sent]


def test_no_keys_no_packets(net):
    left, _ = net.pair()
    peer = peer_of(left)
    left.tun.inject(UDP)
    epoch, peer.epoch = peer.epoch, None
    assert left.pump() == []
    left.waiting.handle_timeout(net.NOW + PATIENCE)
    peer.epoch = epoch
    epoch.counter = REJECT_AFTER_PACKETS
    left.tun.inject(UDP)
    assert left.pump() == []
    epoch.counter = REJECT_AFTER_PACKETS - 3
    left.tun.inject(packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, bytes(13_000)), gso_size=1300)
    assert left.pump() == [], "a batch that would pass the limit is not begun"
    epoch.counter, epoch.created = 0, net.NOW - REJECT_AFTER_TIME
    left.tun.inject(UDP)
    assert left.pump() == []
    assert peer.stats.drops == {Drop.NO_SESSION: 13}


def test_expired_keys_open_nothing(net):
    left, right = net.pair()
    left.tun.inject(UDP)
    datagrams = [datagram for _, datagram in left.pump()]
    peer_of(right).epoch.created = net.NOW - REJECT_AFTER_TIME
    right.take(left, datagrams)
    assert right.tun.writes == []
    assert peer_of(right).stats.drops == {Drop.EXPIRED: 1}


def test_an_unproven_address_gets_no_more_than_its_budget(net):
    left, right = net.pair()
    peer = peer_of(left)
    peer.path.budget = 400
    for _ in range(5):
        left.tun.inject(packets.udp("10.0.0.1", "10.0.0.2", 1, 2, bytes(200)))
        left.pump()
    assert left.port.calls == 1
    assert peer.stats.drops == {Drop.LIMITED: 4}
    right.tun.inject(packets.udp("10.0.0.2", "10.0.0.1", 1, 2, bytes(200)))
    before = peer.path.budget
    datagrams = [datagram for _, datagram in right.pump()]
    left.take(right, datagrams)
    assert peer.path.budget == before + 3 * len(datagrams[0])


def test_a_full_queue_is_counted(net):
    left, _ = net.pair()
    left.port.full = True
    left.tun.inject(packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, bytes(13_000)), gso_size=1300)
    left.pump()
    assert peer_of(left).stats.drops == {Drop.QUEUE_FULL: 10}


def test_books_are_kept_for_liveness(net):
    left, right = net.pair()
    there, back = peer_of(left), peer_of(right)
    left.tun.inject(UDP)
    datagrams = [datagram for _, datagram in left.pump()]
    assert there.unanswered_since == there.last_tx == net.NOW
    back.unanswered_since = net.NOW - 2
    right.take(left, datagrams)
    assert back.unanswered_since is None
    assert back.last_rx == net.NOW


def test_another_source_is_reported_with_whether_it_is_newest(net):
    left, right = net.pair()
    for _ in range(2):
        left.tun.inject(UDP)
        left.pump()
    sent = []
    for i in range(2):
        left.tun.inject(packets.udp("10.0.0.1", "10.0.0.2", 1, i, b"x"))
        sent += [datagram for _, datagram in left.pump()]
    left.endpoint = ("198.51.100.7", 5)
    right.take(left, sent[1:])
    right.take(left, sent[:1])
    assert right.control.notices == [(("198.51.100.7", 5), True), (("198.51.100.7", 5), False)]


class Hostile:
    """A peer with good keys and bad manners: seals whatever plaintext it is given."""

    def __init__(self, net):
        self.left, self.right = net.pair()
        self.epoch = peer_of(self.left).epoch

    def send(self, *plaintexts: bytes) -> None:
        self.right.take(self.left, [self.epoch.seal_frame(text[-1], text[:-1]) for text in plaintexts])

    @property
    def drops(self):
        return peer_of(self.right).stats.drops


def row(header: bytes, payload: bytes, **fields: int) -> bytes:
    """A row's plaintext with chosen trailer fields."""
    trailer = {"gso": 1, "hl": len(header), "l4": 20, "rows": 1, "seg": len(payload) or 1, "place": 0} | fields
    return payload + header + struct.pack("<BBBBHBB", *trailer.values(), FrameType.ROW)


TCP_HEADER = packets.tcp("10.0.0.1", "10.0.0.2", 1, 2)
GOOD = packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, b"abcd")


@pytest.mark.parametrize(
    "fields",
    [
        {"hl": 0}, {"hl": 255}, {"hl": 39}, {"hl": 41}, {"l4": 0}, {"l4": 40}, {"l4": 19}, {"l4": 24}, {"gso": 0},
        {"gso": 4}, {"gso": 5}, {"gso": 0xFF}, {"rows": 0}, {"place": 1}, {"place": 255, "rows": 255}, {"seg": 0},
        {"seg": 3},
    ],
)  # fmt: skip
def test_a_row_whose_trailer_lies_is_dropped(net, fields):
    hostile = Hostile(net)
    hostile.send(row(TCP_HEADER, b"abcd", **fields))
    assert hostile.right.tun.writes == []
    assert hostile.drops == {Drop.MALFORMED: 1}


@pytest.mark.parametrize(
    "header",
    [
        packets.udp("10.0.0.1", "10.0.0.2", 1, 2, b"")[:28] + bytes(12),
        b"\x75" + TCP_HEADER[1:],
        b"\x46" + TCP_HEADER[1:],
        TCP_HEADER[:6] + b"\x20\x00" + TCP_HEADER[8:],
        TCP_HEADER[:6] + b"\x00\x01" + TCP_HEADER[8:],
        TCP_HEADER[:32] + b"\x60" + TCP_HEADER[33:],
    ],
)
def test_a_row_whose_header_is_no_tcp_header_is_dropped(net, header):
    hostile = Hostile(net)
    hostile.send(row(header, b"abcd"))
    assert hostile.right.tun.writes == []
    assert hostile.drops == {Drop.MALFORMED: 1}


def test_a_row_from_a_foreign_source_in_the_last_place_is_dropped(net):
    hostile = Hostile(net)
    foreign = packets.tcp("10.0.0.66", "10.0.0.2", 1, 2)
    hostile.send(
        row(TCP_HEADER, bytes(100), rows=3, seg=100, place=0),
        row(TCP_HEADER, bytes(100), rows=3, seg=100, place=1),
        row(foreign, bytes(100), rows=3, seg=100, place=2),
    )
    assert hostile.right.tun.writes == []
    assert hostile.drops == {Drop.SOURCE: 3}


def entry(packet: bytes, virtio: bytes = bytes(10)) -> bytes:
    return virtio + packet + bytes((FrameType.BUNDLE,))


@pytest.mark.parametrize(
    "plaintext",
    [
        bytes((FrameType.BUNDLE,)),
        bytes(10) + bytes((FrameType.BUNDLE,)),
        entry(UDP[:19]),
        entry(UDP[:2] + b"\xff\xff" + UDP[4:]),
        entry(UDP[:2] + b"\x00\x05" + UDP[4:]),
        entry(b"\x05" + UDP[1:]),
        entry(packets.udp("fd00::1", "fd00::2", 1, 2, b"x")[:30]),
        entry(UDP, VNET.pack(0, 1, 28, 1, 20, 6)),
        entry(UDP, VNET.pack(1, 0, 0, 0, 20, 200)),
        entry(UDP, VNET.pack(1, 0, 0, 0, 2000, 6)),
        entry(UDP, VNET.pack(1, 0, 0, 0, 0, 2)),
    ],
)
def test_a_bundle_that_lies_is_dropped(net, plaintext):
    hostile = Hostile(net)
    hostile.send(plaintext)
    assert hostile.right.tun.writes == []
    assert hostile.drops == {Drop.MALFORMED: 1}


def test_what_stands_before_the_lie_is_delivered(net):
    hostile = Hostile(net)
    hostile.send(entry(UDP) + entry(UDP[:19]))
    assert hostile.right.tun.packets == [UDP]


def test_unknown_virtio_flags_do_not_reach_the_device(net):
    hostile = Hostile(net)
    hostile.send(entry(UDP, VNET.pack(0xFE, 0, 0, 0, 0, 0)))
    assert hostile.right.tun.refused == []
    assert hostile.right.tun.packets == [UDP]


def test_frames_of_other_kinds(net):
    hostile = Hostile(net)
    hostile.send(
        bytes(9) + bytes((FrameType.PADDING,)),
        bytes(9) + bytes((FrameType.RELAY,)),
        b"ping body" + bytes((FrameType.PING,)),
        entry(UDP),
    )
    assert hostile.right.control.frames == [(FrameType.PING, b"ping body")]
    assert hostile.drops == {Drop.UNKNOWN_TYPE: 1}
    assert hostile.right.tun.packets == [UDP]


def test_frames_of_many_kinds_in_datagrams_of_one_size(net):
    hostile = Hostile(net)
    size = len(entry(UDP))
    ping = bytes(size - 1) + bytes((FrameType.PING,))
    hostile.send(*[entry(UDP), ping, entry(UDP), entry(UDP), ping, ping] * 6)
    assert hostile.right.tun.packets == [UDP] * 18
    assert len(hostile.right.control.frames) == 18
    assert hostile.drops == {}


def test_a_device_without_uso_gets_datagrams(net):
    left, right = net.pair(uso=False)
    left.tun.inject(packets.udp("10.0.0.1", "10.0.0.2", 1, 2, bytes(range(250)) * 20), gso_size=1000)
    for i in range(3):
        left.tun.inject(packets.udp("10.0.0.1", "10.0.0.2", 3, 4, bytes([i])))
    right.take(left, [datagram for _, datagram in left.pump()])
    assert len(right.tun.writes) == 8
    assert {header.gso_type for header, _ in right.tun.writes} == {0}
    assert b"".join(p.payload for p in right.tun.parsed() if p.dport == 2) == bytes(range(250)) * 20


def test_more_datagrams_at_once_than_rows(net):
    left, right = net.pair()
    right.port.limit = 200
    epoch = peer_of(left).epoch
    texts = [entry(packets.udp("10.0.0.1", "10.0.0.2", 1, 2, bytes([i]) * 300)) for i in range(150)]
    texts.append(entry(packets.udp("10.0.0.1", "10.0.0.2", 1, 2, b"last")))
    right.take(left, [epoch.seal_frame(text[-1], text[:-1]) for text in texts])
    assert [p.payload[0] for p in right.tun.parsed()] == [*range(150), ord("l")]


def test_strangers_datagrams_are_counted_and_dropped(net):
    left, right = net.pair()
    import random

    rng = random.Random(1)
    left.tun.inject(packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, bytes(20_000)), gso_size=1300)
    real = [datagram for _, datagram in left.pump()]
    stray = []
    for _ in range(3000):
        kind = rng.randrange(4)
        base = rng.choice(real)
        if kind == 0:
            stray.append(rng.randbytes(rng.randrange(1, 1500)))
        elif kind == 1:
            stray.append(base[: rng.randrange(1, len(base))])
        elif kind == 2:
            stray.append(b"\x06" + rng.randbytes(rng.randrange(1, 100)))
        else:
            broken = bytearray(base)
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
            stray.append(bytes(broken))
    assert right.take(left, stray) == []
    assert right.tun.writes == []
    counted = sum(right.stats.drops.values()) + sum(peer_of(right).stats.drops.values())
    assert counted + len(right.control.datagrams) == len(stray)
    right.take(left, real)
    assert len(right.tun.packets) == 16, "the real ones still pass"
