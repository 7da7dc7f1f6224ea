"""The simulated raw port behaves as the runtime's, and refuses what a kernel could not have meant."""

from ipaddress import ip_address

import pytest

from ltunnel.plugin import PortKind, PortSpec, RawPort
from ltunnel.testing import Fate, Host, Network, Packet, Router, Segment, SimRawPort, packets
from ltunnel.testing.offload import GsoType, VirtioHeader, offload
from ltunnel.testing.packets import ACK, FIN, PSH, RST, SYN, TCP
from ltunnel.testing.raw import HEADROOM
from ltunnel.testing.segments import Fields, fields_of, from_ip, make_payload, to_ip

ROOM = 65_536
NEAR, FAR = ("192.0.2.1", 4000), ("192.0.2.2", 7)


class Pair:
    """Two hosts with a raw port each."""

    def __init__(self, *, host: str = "0.0.0.0", far: str = "0.0.0.0", dual: bool = False, **settings: object) -> None:
        self.network = Network(1)
        internet = Router(self.network, "internet")
        self.left, self.right = Host(self.network, "left"), Host(self.network, "right")
        self.left.attach(internet, "192.0.2.1", "2001:db8::1")
        self.right.attach(internet, "192.0.2.2", "2001:db8::2")
        self.near = SimRawPort(self.left, PortSpec(kind=PortKind.RAW, host=far, port=4000))
        self.port = SimRawPort(
            self.right, PortSpec(kind=PortKind.RAW, host=host, port=7, dual_stack=dual), **settings
        )  # fmt: skip

    def send(self, packet: bytes, seg: int = 1400, header: VirtioHeader | None = None, to: str = "192.0.2.2") -> bool:
        """Send an IP packet with whole checksums, as a transport would have to offer it."""
        offered, partial = offload(packet, seg)
        data = bytearray(HEADROOM) + (header or offered).pack() + partial
        sent = self.near.send(memoryview(data), HEADROOM, len(data), seg, (to,))
        self.network.run_due()
        return sent

    def deliver(self, *segments: tuple[int, bytes, int]) -> None:
        """Put (seq, data, flags) into the far port."""
        for seq, data, flags in segments:
            assert self.port.deliver(Segment(NEAR, FAR, make_payload(seq, 1, flags, 100, b"", data)))

    def recv(self) -> tuple[Fields, int]:
        """Return the next packet, which must be whole, and its segment size."""
        buf = memoryview(bytearray(100 + ROOM))
        start, _, seg, source = self.port.recv(buf, 100)
        assert start == 100
        assert source == ("192.0.2.1",)
        length = int.from_bytes(buf[112:114], "big")
        fields = fields_of(from_ip(bytes(buf[110 : 110 + length])))
        assert fields is not None
        assert VirtioHeader.unpack(bytes(buf[100:110])).gso_size == seg
        return fields, seg


def packet_of(data: bytes = b"", **fields: int) -> bytes:
    return packets.tcp(NEAR[0], FAR[0], NEAR[1], FAR[1], data, **{"seq": 5, "ack": 6, **fields})


def test_is_a_raw_port():
    port: RawPort = Pair().port
    assert port.local == ("0.0.0.0", 7)
    assert list(port.numbers) == [7]
    assert len(port.secret) == 32


def test_several_numbers():
    pair = Pair()
    spec = PortSpec(kind=PortKind.RAW, host="::", port=0, dual_stack=True, extra={"protocol": 6, "numbers": 5})
    port = SimRawPort(pair.left, spec)
    assert len(set(port.numbers)) == 5
    assert port.local == ("::", port.numbers[0], 0, 0)
    port.close()
    assert SimRawPort(pair.left, spec).secret != port.secret
    for bad in (
        {"kind": PortKind.UDP}, {"extra": {"protocol": 17}}, {"extra": {"numbers": 0}},
        {"port": 9, "extra": {"numbers": 2}},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"port"):
            SimRawPort(pair.left, PortSpec(**{"kind": PortKind.RAW, "host": "::", "port": 0, **bad}))
    with pytest.raises(OSError, match="in use"):
        SimRawPort(pair.left, PortSpec(kind=PortKind.RAW, host="0.0.0.0", port=4000))


def test_routes():
    pair = Pair()
    assert pair.near.route("192.0.2.2")[:2] == (ip_address("192.0.2.1").packed, 1500)
    assert pair.near.route("2001:db8::2") is None, "an IPv4 port"
    pair.left.detach(pair.left.links[0])
    assert pair.near.route("192.0.2.2") is None
    dual = Pair(far="::", dual=True)
    assert dual.near.route("2001:db8::2")[:2] == (ip_address("2001:db8::1").packed, 1500)
    assert dual.near.route("192.0.2.2") is None, "not dual-stack"


def test_super_packets_are_cut():
    pair = Pair()
    data = bytes(range(250)) * 12
    assert pair.send(packet_of(data, flags=PSH | ACK), 1000)
    got = [pair.recv() for _ in range(3)]
    assert b"".join(fields.data for fields, _ in got) == data
    assert [(fields.seq, fields.flags, seg) for fields, seg in got] == [
        (5, ACK, 0), (1005, ACK, 0), (2005, PSH | ACK, 0)]  # fmt: skip
    with pytest.raises(BlockingIOError):
        pair.recv()
    assert (pair.near.sent, pair.port.received) == (3, 3)


def test_short_packets_are_padded_as_ethernet_does():
    pair = Pair()
    pair.send(packet_of(b"ab"))
    buf = memoryview(bytearray(b"\xff" * ROOM))
    start, end, seg, _ = pair.port.recv(buf, 0)
    assert (start, end, seg) == (0, 56, 0)
    assert bytes(buf[50:56]) == b"ab" + bytes(4)


@pytest.mark.parametrize(
    ("segments", "joined"),
    [
        ([(0, 100, ACK), (100, 100, ACK), (200, 40, PSH | ACK)], [(240, 100)]),
        ([(0, 100, ACK), (100, 40, ACK), (140, 40, ACK)], [(140, 100), (40, 0)]),  # a shorter one is the last
        ([(0, 100, ACK), (100, 101, ACK)], [(100, 0), (101, 0)]),
        ([(0, 100, PSH | ACK), (100, 100, ACK)], [(100, 0), (100, 0)]),  # nothing after a push
        ([(0, 100, ACK), (101, 100, ACK)], [(100, 0), (100, 0)]),  # a hole
        ([(0, 100, ACK), (100, 0, ACK), (100, 100, ACK)], [(100, 0), (0, 0), (100, 0)]),
        ([(0, 100, ACK), (100, 100, RST | ACK)], [(100, 0), (100, 0)]),
        ([(0, 100, SYN), (101, 100, ACK), (201, 100, FIN | ACK)], [(100, 0), (200, 100)]),
        ([(2**32 - 50, 100, ACK), (50, 100, ACK)], [(200, 100)]),
        ([(i * 1000, 1000, ACK) for i in range(70)], [(64_000, 1000), (6000, 1000)]),
        ([(i * 1400, 1400, ACK) for i in range(60)], [(46 * 1400, 1400), (14 * 1400, 1400)]),
    ],
)
def test_gro_joins_what_linux_joins(segments: list[tuple[int, int, int]], joined: list[tuple[int, int]]):
    pair = Pair(gro=True)
    pair.deliver(*[(seq, bytes(size), flags) for seq, size, flags in segments])
    got = [pair.recv() for _ in joined]
    assert [(len(fields.data), seg) for fields, seg in got] == joined
    assert not pair.port.pending


def test_gro_keeps_others_apart():
    pair = Pair(gro=True)
    alike = {"seq": 0, "ack": 1, "flags": ACK, "window": 9, "options": b"", "data": bytes(10)}
    for change in ({"ack": 2}, {"window": 8}, {"options": b"\1\1\1\1"}):
        for fields in (alike, alike | {"seq": 10} | change):
            pair.port.deliver(Segment(NEAR, FAR, make_payload(**fields)))
        assert [pair.recv()[1], pair.recv()[1]] == [0, 0]
    for source in (NEAR, (NEAR[0], 4001)):
        pair.port.deliver(Segment(source, FAR, make_payload(**alike | {"seq": 10 * (source != NEAR)})))
    assert [pair.recv()[1], pair.recv()[1]] == [0, 0]


def test_what_a_kernel_would_not_have_meant():
    pair = Pair()
    good = packet_of(bytes(3000), flags=PSH | ACK)
    header, partial = offload(good, 1400)
    for changes, why in (
        ({"gso_size": 1300}, "segments of 1400"),
        ({"gso_type": GsoType.TCP6}, "gso_type 4"),
        ({"hdr_len": 52}, "segments of"),
        ({"csum_offset": 6}, "elsewhere"),
        ({"flags": 0}, "without"),
        ({"gso_type": GsoType.NONE, "gso_size": 0, "hdr_len": 0}, "segments of"),
    ):
        fields = {name: getattr(header, name) for name in header.__slots__}
        with pytest.raises(ValueError, match=why):
            pair.send(good, 1400, VirtioHeader(**fields | changes))
    for data, why in (
        (packets.udp(NEAR[0], FAR[0], 4000, 7, b"x" * 30), "left to the port"),
        (packets.tcp(NEAR[0], FAR[0], 4001, 7), "source port 4001"),
        (packets.tcp("192.0.2.1", "192.0.2.3", 4000, 7), "next hop"),
    ):
        with pytest.raises(ValueError, match=why):
            pair.send(data)
    wrong = bytearray(HEADROOM) + header.pack() + partial
    wrong[HEADROOM + 10 + 20 + 16] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        pair.near.send(memoryview(wrong), HEADROOM, len(wrong), 1400, ("192.0.2.2",))
    with pytest.raises(ValueError, match="headroom"):
        pair.near.send(memoryview(wrong), HEADROOM - 1, len(wrong), 1400, ("192.0.2.2",))
    with pytest.raises(ValueError, match="room"):
        pair.port.recv(memoryview(bytearray(1000)), 0)


def test_it_writes_where_it_may():
    pair = Pair()
    header, partial = offload(packet_of(b"data"), 1400)
    data = bytearray(b"\x55" * (HEADROOM + 20)) + header.pack() + partial
    pair.near.send(memoryview(data), HEADROOM + 20, len(data), 1400, ("192.0.2.2",))
    assert data[:20] == b"\x55" * 20
    assert data[20 : HEADROOM + 30] == b"\xee" * (HEADROOM + 10)
    assert data[HEADROOM + 30 :] == partial


def test_no_way_there():
    pair = Pair()
    pair.left.move(pair.left.links[0].parent, "192.0.2.9")
    assert not pair.send(packet_of()), "not our address any more"
    assert pair.near.refused == 1


def test_a_full_buffer_loses():
    pair = Pair(buffer=100)
    pair.send(packet_of(bytes(50)))
    pair.send(packet_of(bytes(50)))
    assert (pair.port.pending, pair.port.overflowed) == (1, 1)
    assert pair.right.fates[Fate.BUFFER_FULL] == 1
    pair.port.close()
    pair.send(packet_of())
    assert pair.right.fates[Fate.PORT_CLOSED] == 1


def test_what_strangers_send_is_delivered_as_it_is():
    pair = Pair()
    for data in (b"", b"x", b"y" * 30):
        pair.left.send((None, 4000), FAR, data, TCP)
        pair.network.run_due()
        buf = memoryview(bytearray(ROOM))
        pair.port.recv(buf, 0)
        assert bytes(buf[10:]).startswith(to_ip(Packet(NEAR, FAR, data, TCP)))


def test_ipv6():
    pair = Pair(host="::", far="::")
    packet = packets.tcp("2001:db8::1", "2001:db8::2", 4000, 7, bytes(2000), flags=ACK)
    assert pair.send(packet, 1400, to="2001:db8::2")
    buf = memoryview(bytearray(ROOM))
    start, end, _, source = pair.port.recv(buf, 0)
    assert (end - start, source) == (10 + 40 + 20 + 1400, ("2001:db8::1",))
    assert packets.parse(bytes(buf[10:end])).payload == bytes(1400)


def test_segments():
    options = packets.mss_option(1460) + b"\1\3\3\7"
    packet = packets.tcp("192.0.2.1", "192.0.2.2", 1, 2, b"data", seq=3, ack=4, flags=SYN, window=5, options=options)
    segment = from_ip(packet)
    assert (segment.source, segment.destination, segment.size) == (("192.0.2.1", 1), ("192.0.2.2", 2), len(packet))
    fields = fields_of(segment)
    assert fields == Fields(3, 4, SYN, 5, options, b"data")
    assert fields.length == 5
    assert (fields.option(2), fields.option(3), fields.option(8)) == (b"\x05\xb4", b"\7", None)
    assert make_payload(*fields)[:12] == segment.payload[:12]
    assert from_ip(to_ip(segment)) == segment
    assert fields_of(Segment(NEAR, FAR, bytes(15))) is None
    assert fields_of(Segment(NEAR, FAR, make_payload(1, 2, ACK)[:8] + b"\xf0" + bytes(7))) is None
    for damaged in (b"\3\1", b"\3", b"\3\4\0", b"\0\3\3\7"):
        assert Fields(0, 0, 0, 0, damaged, b"").option(3) is None
    with pytest.raises(ValueError, match="not TCP"):
        from_ip(packets.udp("192.0.2.1", "192.0.2.2", 1, 2, b""))
