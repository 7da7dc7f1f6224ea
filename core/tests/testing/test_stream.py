"""Simulated streams: bytes whole and in order, whatever the network does to packets."""

import pytest

from ltunnel.plugin import PortKind, PortSpec, StreamEvent, StreamPort
from ltunnel.testing import Firewall, Host, Nat, Network, Quality, Router, SimStreamPort
from ltunnel.testing.datagrams import TCP
from ltunnel.testing.tcp import ACK, HEADER, PATIENCE, RST

HUB = ("192.0.2.2", 443)


def spec(*, listen: bool = False, host: str = "0.0.0.0", port: int = 0, dual: bool = False) -> PortSpec:
    return PortSpec(kind=PortKind.STREAM, host=host, port=port, dual_stack=dual, extra={"listen": listen})


class Pair:
    """A listening port and a connecting one; `take` keeps what they say."""

    def __init__(self, behind: type[Router] | None = None, quality: Quality | None = None, **settings: object) -> None:
        self.network = Network(1)
        self.internet = Router(self.network, "internet")
        self.left, self.right = Host(self.network, "left"), Host(self.network, "right")
        if behind is Nat:
            self.middle = Nat(self.network, "nat", "198.51.100.1")
            self.middle.attach(self.internet)
            self.left.attach(self.middle, "192.168.1.2", quality=quality)
        else:
            self.left.attach(self.internet, "192.0.2.1", "2001:db8::1", quality=quality)
        self.right.attach(self.internet, "192.0.2.2", "2001:db8::2")
        self.listener = SimStreamPort(self.right, spec(listen=True, port=443, host="::", dual=True), **settings)
        self.connector = SimStreamPort(self.left, spec(), **settings)
        self.buffer = bytearray(2 * 65_536)

    def take(self, port: SimStreamPort) -> list[tuple[object, bytes | StreamEvent]]:
        found: list[tuple[object, bytes | StreamEvent]] = []
        while True:
            try:
                start, end, seg, name = port.recv(memoryview(self.buffer), 100)
            except BlockingIOError:
                return found
            assert start == 100
            found.append((name, StreamEvent(seg) if start == end else bytes(self.buffer[start:end])))

    def bytes_of(self, port: SimStreamPort) -> bytes:
        return b"".join(data for _, data in self.take(port) if isinstance(data, bytes))

    def open(self, remote: tuple[str, int] = HUB) -> tuple[tuple, tuple]:
        near = self.connector.connect(remote)
        self.network.run(1)
        ((far, event),) = self.take(self.listener)
        assert event is StreamEvent.ACCEPTED
        return near, far


def send(port: SimStreamPort, name: object, data: bytes) -> bool:
    return port.send(memoryview(data), 0, len(data), len(data), name)


def test_is_a_port():
    port: StreamPort = Pair().listener
    assert port.local == ("::", 443, 0, 0)
    with pytest.raises(ValueError, match="not a stream port"):
        SimStreamPort(Pair().left, PortSpec(kind=PortKind.UDP, host="0.0.0.0", port=0))


def test_bytes_both_ways_and_an_end():
    pair = Pair()
    near, far = pair.open()
    assert pair.listener.describe(far).startswith("192.0.2.1:")
    assert pair.connector.describe(near) == "192.0.2.2:443"
    assert send(pair.connector, near, b"question")
    assert send(pair.listener, far, b"answer")
    pair.network.run(1)
    assert pair.take(pair.listener) == [(far, b"question")]
    assert pair.take(pair.connector) == [(near, b"answer")]
    send(pair.connector, near, b"last words")
    pair.connector.disconnect(near)
    pair.network.run(1)
    assert pair.take(pair.listener) == [(far, b"last words"), (far, StreamEvent.CLOSED)]
    assert pair.take(pair.connector) == []
    assert not send(pair.connector, near, b"?")
    assert not send(pair.listener, far, b"?")
    assert pair.connector.room(near) == pair.listener.room(far) == 0
    assert pair.connector.describe(near) == ""
    for port in (pair.connector, pair.listener):
        port.disconnect(near)
        assert port.connections == []


def test_what_is_sent_before_it_stands_is_kept():
    pair = Pair(quality=Quality(delay=0.2))
    near = pair.connector.connect(HUB)
    assert send(pair.connector, near, b"early")
    pair.network.run(2)
    (_, event), (_, data) = pair.take(pair.listener)
    assert (event, data) == (StreamEvent.ACCEPTED, b"early")


def test_ipv6_and_nat():
    pair = Pair()
    near, far = pair.open(("2001:db8::2", 443))
    assert pair.connector.describe(near) == "[2001:db8::2]:443"
    assert pair.listener.describe(far).startswith("[2001:db8::1]:")
    assert Pair(behind=Nat).open()[1][0] == "198.51.100.1"


@pytest.mark.parametrize("chunk", [None, lambda: 1])
def test_whole_and_in_order_over_a_bad_network(chunk):
    bad = Quality(delay=0.02, jitter=0.01, loss=0.1, reorder=0.2, duplicate=0.1)
    pair = Pair(quality=bad, chunk=chunk)
    near = pair.connector.connect(HUB)
    data = pair.network.random("data").randbytes(100_000)
    send(pair.connector, near, data)
    got = b""
    for _ in range(200):
        pair.network.run(0.1)
        got += pair.bytes_of(pair.listener)
    assert got == data


def test_connections_take_turns():
    pair = Pair(chunk=lambda: 4)
    first, second = pair.open(), pair.open()
    for near, _ in (first, second):
        send(pair.connector, near, b"12345678")
    pair.network.run(1)
    assert [name for name, _ in pair.take(pair.listener)] == [first[1], second[1]] * 2


def test_a_slow_line_fills_the_queue_and_room_says_so():
    pair = Pair(quality=Quality(delay=0.01, rate=1_000_000, queue=30_000), queue=20_000)
    near, _ = pair.open()
    assert pair.connector.room(near) == 20_000
    send(pair.connector, near, bytes(12_000))
    assert pair.connector.room(near) == 20_000, "it is on its way"
    send(pair.connector, near, bytes(15_000))
    assert pair.connector.room(near) == 5_000
    pair.network.run(0.05)
    assert 5_000 < pair.connector.room(near) < 20_000
    assert send(pair.connector, near, bytes(90_000)), "room is for the caller to keep"
    assert not send(pair.connector, near, b"far too much"), "up to a point"
    assert pair.connector.longest_queue > 80_000
    pair.network.run(3)
    assert pair.connector.room(near) == 20_000
    assert len(pair.bytes_of(pair.listener)) == 117_000


def test_who_does_not_read_stops_the_sender():
    pair = Pair(buffer=50_000)
    near, _ = pair.open()
    send(pair.connector, near, bytes(200_000))
    pair.network.run(10)
    assert pair.connector.room(near) < 262_144 - 100_000
    got = 0
    for _ in range(100):
        got += len(pair.bytes_of(pair.listener))
        pair.network.run(1)
    assert got == 200_000


def test_nobody_there():
    pair = Pair()
    name = pair.connector.connect(("192.0.2.99", 443))
    pair.network.run(PATIENCE + 10)
    assert pair.take(pair.connector) == [(name, StreamEvent.CLOSED)]
    nowhere = Pair(behind=Nat)
    name = nowhere.connector.connect(("2001:db8::2", 443))
    assert nowhere.take(nowhere.connector) == [(name, StreamEvent.CLOSED)], "no way out is known at once"


def test_a_cut_line_ends_both_sides_once_they_have_something_to_say():
    pair = Pair()
    near, far = pair.open()
    pair.left.links[0].take_down()
    send(pair.connector, near, b"?")
    send(pair.listener, far, b"?")
    pair.network.run(PATIENCE + 10)
    assert pair.take(pair.connector) == [(near, StreamEvent.CLOSED)]
    assert pair.take(pair.listener) == [(far, StreamEvent.CLOSED)]


def test_a_program_that_ends_resets_its_connections():
    pair = Pair()
    near, _ = pair.open()
    pair.listener.close()
    pair.network.run(1)
    assert pair.take(pair.connector) == [(near, StreamEvent.CLOSED)]
    again = SimStreamPort(pair.right, spec(listen=True, port=443))
    pair.connector.connect(HUB)
    pair.network.run(1)
    assert pair.take(again)[0][1] is StreamEvent.ACCEPTED


def test_unknown_connections_are_reset_and_scraps_ignored():
    pair = Pair()
    near, far = pair.open()
    stranger = Host(pair.network, "stranger")
    stranger.attach(pair.internet, "192.0.2.3")
    seen = []
    stranger.bind(
        type("Seen", (), {"deliver": lambda self, packet: seen.append(packet.payload) or True})(), None, 5, TCP
    )
    for payload in (b"", b"x", HEADER.pack(ACK, 0, 7, 9), HEADER.pack(RST, 0, 0, 0)):
        stranger.send((None, 5), HUB, payload, TCP)
    pair.network.run(1)
    assert [payload[0] for payload in seen] == [RST | ACK]
    assert pair.listener.connections == [far]
    assert send(pair.connector, near, b"unharmed")
    pair.network.run(1)
    assert pair.bytes_of(pair.listener) == b"unharmed"


def test_a_firewall_that_drops_udp_passes_streams():
    network = Network(1)
    internet = Router(network, "internet")
    firewall = Firewall(network, "firewall", blocked=frozenset({17}), stateful=True)
    firewall.attach(internet)
    inside, outside = Host(network, "inside"), Host(network, "outside")
    inside.attach(firewall, "192.0.2.1")
    outside.attach(internet, "192.0.2.2")
    listener = SimStreamPort(outside, spec(listen=True, port=443))
    SimStreamPort(inside, spec()).connect(HUB)
    network.run(1)
    assert listener.pending == 1
