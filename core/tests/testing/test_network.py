"""The network in memory: order of events, routes, determinism, and nothing that vanishes uncounted."""

import pytest

from ltunnel.testing import FakeClock, Fate, GilbertElliott, Host, Nat, Network, Packet, Quality, Router


class Sink:
    """Takes what arrives at a port."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.got: list[tuple[float, Packet]] = []

    def deliver(self, packet: Packet) -> bool:
        self.got.append((self.network.clock.now, packet))
        return True

    @property
    def payloads(self) -> list[bytes]:
        return [packet.payload for _, packet in self.got]


def build(seed: int = 1, quality: Quality | None = None, *, trace: bool = False) -> tuple[Network, Host, Host, Sink]:
    network = Network(seed, trace=trace)
    internet = Router(network, "internet")
    left, right = Host(network, "left"), Host(network, "right")
    left.attach(internet, "192.0.2.1", "2001:db8::1")
    right.attach(internet, "192.0.2.2", "2001:db8::2", quality=quality)
    sink = Sink(network)
    right.bind(sink, None, 7)
    return network, left, right, sink


def test_clock_moves_only_forward():
    clock = FakeClock(wall=1000.0)
    clock.advance(5)
    assert (clock.now, clock.wall) == (5, 1005)
    clock.wall_offset -= 300
    assert (clock.now, clock.wall) == (5, 705)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance_to(4.9)


def test_events_run_in_order_of_time_then_of_planning():
    network = Network()
    seen: list[str] = []
    network.at(2, lambda: seen.append("late"))
    network.at(1, lambda: (seen.append("first"), network.at(1, lambda: seen.append("third"))))
    network.at(1, lambda: seen.append("second"))
    network.run(1)
    assert seen == ["first", "second", "third"]
    assert network.next_event() == 2
    network.run(1)
    assert seen[-1] == "late"
    assert network.next_event() is None


def test_packets_take_the_time_of_all_links():
    network = Network()
    internet, region = Router(network, "internet"), Router(network, "region")
    left, right = Host(network, "left"), Host(network, "right")
    left.attach(internet, "192.0.2.1", quality=Quality(delay=0.010))
    right.attach(region, "192.0.2.2", quality=Quality(delay=0.5), up=Quality(delay=0.003))
    region.attach(internet, Quality(delay=0.1))  # after its host: routes are passed on
    sink, back = Sink(network), Sink(network)
    right.bind(sink, None, 7)
    left.bind(back, None, 8)
    assert left.send((None, 8), ("192.0.2.2", 7), b"there")
    assert right.send((None, 7), ("192.0.2.1", 8), b"back")
    network.run(2)
    assert [(round(when, 6), packet.source) for when, packet in sink.got] == [(0.61, ("192.0.2.1", 8))]
    assert [round(when, 6) for when, _ in back.got] == [0.113]


def test_both_families_and_loopback():
    network, left, right, sink = build()
    left.send((None, 8), ("2001:DB8:0::2", 7), b"six")
    right.send((None, 9), ("192.0.2.2", 7), b"self")
    network.run(1)
    assert sorted(sink.payloads) == [b"self", b"six"]
    lonely = Host(network, "lonely")
    assert not lonely.send((None, 1), ("192.0.2.1", 7), b"no address")


def test_unknown_destinations_and_closed_ports_are_counted():
    network, left, right, _ = build()
    left.send((None, 8), ("192.0.2.99", 7), b"x")
    left.send((None, 8), ("192.0.2.2", 99), b"x")
    network.run(1)
    assert network.fates[Fate.NO_ROUTE] == 1
    assert right.fates[Fate.PORT_CLOSED] == 1


def test_an_address_belongs_to_one():
    network, _, _, _ = build()
    router = Router(network, "other")
    Host(network, "a").attach(router, "10.0.0.1")
    with pytest.raises(ValueError, match="already at a"):
        Host(network, "b").attach(router, "10.0.0.1")


def test_moving_takes_the_ports_along_and_leaves_what_is_on_its_way():
    network, left, right, sink = build(quality=Quality(delay=0.1))
    left.send((None, 8), ("192.0.2.2", 7), b"too late")
    network.run(0.05)
    right.move(right.links[0].parent, "198.51.100.7")
    network.run(1)
    left.send((None, 8), ("192.0.2.2", 7), b"to nobody")
    left.send((None, 8), ("198.51.100.7", 7), b"here")
    network.run(1)
    assert sink.payloads == [b"here"]
    assert network.fates[Fate.DOWN] == 1
    assert network.fates[Fate.NO_ROUTE] == 1


def test_several_interfaces_send_by_their_address():
    network = Network(trace=True)
    internet = Router(network, "internet")
    host, far = Host(network, "host"), Host(network, "far")
    wifi = host.attach(internet, "192.0.2.1")
    lte = host.attach(internet, "198.51.100.1")
    far.attach(internet, "203.0.113.1")
    host.send(("198.51.100.1", 5), ("203.0.113.1", 5), b"")
    assert (wifi.up.sent, lte.up.sent) == (0, 1)
    host.send((None, 5), ("203.0.113.1", 5), b"")
    assert (wifi.up.sent, lte.up.sent) == (1, 1)
    host.detach(wifi)
    host.send((None, 5), ("203.0.113.1", 5), b"")
    assert lte.up.sent == 2


def test_binding():
    network, left, _, _ = build()
    sink = Sink(network)
    assert left.bind(sink, "192.0.2.1", 80) == 80
    assert left.bind(sink, "2001:DB8::1", 80) == 80
    with pytest.raises(OSError, match="in use"):
        left.bind(sink, None, 80)
    with pytest.raises(OSError, match="in use"):
        left.bind(sink, "192.0.2.1", 80)
    assert left.bind(sink, "0.0.0.0", 90) == 90
    assert left.bind(Sink(network), "::", 90) == 90
    with pytest.raises(OSError, match="in use"):
        left.bind(sink, "2001:db8::1", 90)
    with pytest.raises(OSError, match="no address"):
        left.bind(sink, "192.0.2.77", 81)
    assert left.bind(sink, None, 80, protocol=6) == 80
    free = {left.bind(Sink(network), None, 0) for _ in range(50)}
    assert len(free) == 50
    left.unbind(sink)
    assert left.bind(Sink(network), None, 80) == 80


def busy_trace(seed: int) -> list[str]:
    bad = Quality(delay=0.02, jitter=0.01, loss=GilbertElliott(to_bad=0.1, to_good=0.4), reorder=0.2, duplicate=0.1)
    network, left, right, _ = build(seed, bad, trace=True)
    nat = Nat(network, "nat", "198.51.100.1")
    nat.attach(right.links[0].parent, bad)
    inside = Host(network, "inside")
    inside.attach(nat, "10.0.0.1")
    for i in range(200):
        for sender in (left, inside):
            network.at(i * 0.003, lambda s=sender, i=i: s.send((None, 9), ("192.0.2.2", 7), bytes([i])))
    network.run(10)
    assert network.trace is not None
    return [str(entry) for entry in network.trace]


def test_same_seed_same_trace():
    first = busy_trace(5)
    assert len(first) > 800
    assert busy_trace(5) == first
    assert busy_trace(6) != first


def test_nothing_vanishes():
    quality = Quality(delay=0.02, jitter=0.01, loss=0.2, reorder=0.2, duplicate=0.3, rate=1e6, queue=3000, mtu=1000)
    network, left, right, sink = build(3, quality)
    for i in range(500):
        network.at(i * 0.004, lambda i=i: left.send((None, 9), ("192.0.2.2", 7), bytes(50 + 10 * (i % 100))))
    network.run(10)
    pipe = right.links[0].down
    assert pipe.sent == 500
    assert sum(pipe.fates.values()) == pipe.sent + pipe.duplicated
    assert {Fate.LOST, Fate.TOO_BIG, Fate.QUEUE_FULL, Fate.DELIVERED} <= set(pipe.fates)
    assert len(sink.got) == pipe.fates[Fate.DELIVERED]
