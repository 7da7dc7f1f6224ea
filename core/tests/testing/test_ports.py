"""The simulated UDP port behaves as the runtime's."""

import pytest

from ltunnel.plugin import Port, PortKind, PortSpec
from ltunnel.testing import Fate, Host, Network, Router, SimUdpPort

ROOM = 65_536


class Pair:
    """Two hosts with a port each."""

    def __init__(self, *, host: str = "0.0.0.0", far: str = "0.0.0.0", dual: bool = False, **settings: object) -> None:
        self.network = Network(1)
        internet = Router(self.network, "internet")
        self.left, self.right = Host(self.network, "left"), Host(self.network, "right")
        self.left.attach(internet, "192.0.2.1", "2001:db8::1")
        self.right.attach(internet, "192.0.2.2", "2001:db8::2")
        self.near = SimUdpPort(self.left, PortSpec(kind=PortKind.UDP, host=far, port=4000))
        self.port = SimUdpPort(
            self.right, PortSpec(kind=PortKind.UDP, host=host, port=7, dual_stack=dual), **settings
        )  # fmt: skip
        self.buffer = bytearray(2 * ROOM)

    def send(self, *datagrams: bytes) -> bool:
        data = b"".join(datagrams)
        sent = self.near.send(memoryview(data), 0, len(data), len(datagrams[0]), ("192.0.2.2", 7))
        self.network.run_due()
        return sent

    def recv(self, pos: int = 0) -> list[bytes]:
        start, end, seg, _ = self.port.recv(memoryview(self.buffer), pos)
        assert start == pos
        if start == end:
            return [b""]
        return [bytes(self.buffer[i : min(i + seg, end)]) for i in range(start, end, seg)]


def test_is_a_port():
    port: Port = Pair().port
    assert port.local == ("0.0.0.0", 7)


def test_datagrams_one_by_one():
    pair = Pair()
    assert pair.send(b"aa", b"bb", b"c")
    assert pair.port in pair.network.ready
    assert pair.port.pending == 3
    assert [pair.recv(), pair.recv(100), pair.recv()] == [[b"aa"], [b"bb"], [b"c"]]
    with pytest.raises(BlockingIOError):
        pair.recv()
    assert (pair.near.sent, pair.port.received) == (3, 3)


def test_gro_joins_what_udp_gro_joins():
    pair = Pair(gro=True)
    pair.send(b"aa", b"bb", b"c")
    assert pair.recv() == [b"aa", b"bb", b"c"]
    pair.send(b"aa", b"c")
    pair.send(b"dd")
    assert pair.recv() == [b"aa", b"c"], "a shorter one is the last"
    assert pair.recv() == [b"dd"]
    pair.send(b"a")
    pair.send(b"bb")
    assert [pair.recv(), pair.recv()] == [[b"a"], [b"bb"]], "a longer one starts anew"
    for _ in range(2):
        pair.send(*[b"x" * 10] * 40)
    assert [len(pair.recv()), len(pair.recv())] == [64, 16]
    for _ in range(2):
        pair.send(*[b"x" * 1400] * 40)
    assert [len(pair.recv()), len(pair.recv())] == [46, 34], "a joined datagram is not above 65,507 bytes"


def test_gro_keeps_sources_apart():
    pair = Pair(gro=True)
    other = SimUdpPort(pair.left, PortSpec(kind=PortKind.UDP, host="0.0.0.0", port=4001))
    for port in (pair.near, other, pair.near):
        port.send(memoryview(b"zz"), 0, 2, 2, ("192.0.2.2", 7))
    pair.network.run_due()
    assert [pair.recv() for _ in range(3)] == [[b"zz"]] * 3
    pair.near.send(memoryview(b""), 0, 0, 0, ("192.0.2.2", 7))
    pair.near.send(memoryview(b""), 0, 0, 0, ("192.0.2.2", 7))
    pair.network.run_due()
    assert [pair.recv(), pair.recv()] == [[b""], [b""]], "empty datagrams come alone"


def test_gro_limit():
    pair = Pair(gro=True, gro_limit=3)
    pair.send(*[b"x"] * 7)
    assert [len(pair.recv()) for _ in range(3)] == [3, 3, 1]


def test_a_full_buffer_loses():
    pair = Pair(buffer=300)
    pair.send(*[bytes(72)] * 5)  # 100 bytes each with headers
    assert (pair.port.pending, pair.port.overflowed) == (3, 2)
    assert pair.right.fates[Fate.BUFFER_FULL] == 2
    pair.recv()
    pair.send(bytes(72))
    assert pair.port.pending == 3


def test_what_a_kernel_refuses():
    pair = Pair()
    data = memoryview(bytearray(70_000))
    to = ("192.0.2.2", 7)
    for start, end, seg, why in (
        (0, 65, 1, "65 datagrams"), (0, 65_508, 1100, "65508 bytes"), (0, 10, 0, "not a range"),
        (5, 4, 1, "not a range"), (0, 80_000, 1400, "not a range"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            pair.near.send(data, start, end, seg, to)
    with pytest.raises(ValueError, match="room"):
        pair.port.recv(memoryview(bytearray(1000)), 0)
    with pytest.raises(OSError, match="in use"):
        SimUdpPort(pair.right, PortSpec(kind=PortKind.UDP, host="0.0.0.0", port=7))
    with pytest.raises(ValueError, match="not raw ports"):
        SimUdpPort(pair.right, PortSpec(kind=PortKind.RAW, host="", port=0))


def test_no_way_there():
    pair = Pair()
    data = memoryview(b"x")
    assert not pair.near.send(data, 0, 1, 1, ("2001:db8::2", 7, 0, 0)), "an IPv4 port"
    assert not pair.near.send(data, 0, 1, 1, ("192.0.2.2", 0))
    pair.left.detach(pair.left.links[0])
    assert not pair.near.send(data, 0, 1, 1, ("192.0.2.2", 7)), "no address left"
    assert (pair.near.sent, pair.near.refused) == (0, 3)


def test_ipv6_endpoints_are_those_of_socket():
    pair = Pair(host="::", far="::")
    assert pair.near.local == ("::", 4000, 0, 0)
    assert pair.near.send(memoryview(b"x"), 0, 1, 1, ("2001:db8::2", 7, 0, 0))
    pair.network.run_due()
    assert pair.port.recv(memoryview(pair.buffer), 0)[3] == ("2001:db8::1", 4000, 0, 0)
    assert not pair.near.send(memoryview(b"x"), 0, 1, 1, ("::ffff:192.0.2.2", 7, 0, 0)), "not dual-stack"


def test_dual_stack():
    pair = Pair(host="::", dual=True)
    assert pair.send(b"four")
    _, end, _, source = pair.port.recv(memoryview(pair.buffer), 0)
    assert source == ("::ffff:192.0.2.1", 4000, 0, 0)
    assert pair.port.send(memoryview(pair.buffer), 0, end, end, source)
    pair.network.run_due()
    assert pair.near.recv(memoryview(pair.buffer), 0)[3] == ("192.0.2.2", 7)


def test_ipv6_only_hears_no_ipv4():
    pair = Pair(host="::")
    pair.send(b"four")
    assert pair.port.pending == 0
    assert pair.right.fates[Fate.PORT_CLOSED] == 1


def test_closing():
    pair = Pair()
    pair.send(b"x")
    pair.port.close()
    assert not pair.network.ready
    pair.send(b"x")
    assert pair.right.fates[Fate.PORT_CLOSED] == 1
    SimUdpPort(pair.right, PortSpec(kind=PortKind.UDP, host="0.0.0.0", port=7))
