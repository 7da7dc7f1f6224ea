"""Strangers at a hub: few, for a short time, and never at the cost of others."""

import pytest

from ltunnel.plugin import StreamEvent
from ltunnel.testing.datagrams import TCP
from ltunnel_transport_tls.flow import Strangers, TlsFlow, site
from ltunnel_transport_tls.transport import HANDSHAKE_TIME, MAX_STRANGERS, MAX_STRANGERS_EACH

DATAGRAMS = [bytes((i,)) * 1400 for i in range(40)]


# -------------------------------------------------------------------- strangers


def hear(sim, port) -> list[StreamEvent]:
    """Let time pass a little; the events that a stranger's port has to tell."""
    sim.run(0.05)
    found = []
    while True:
        try:
            start, end, seg, _ = port.recv(memoryview(bytearray(65_536)), 0)
        except BlockingIOError:
            return found
        if start == end:
            found.append(StreamEvent(seg))


def put(port, connection, data: bytes) -> bool:
    return port.send(memoryview(data), 0, len(data), len(data), connection)


def test_silence_is_ended(make_sim):
    sim = make_sim()
    stranger = sim.stranger("192.0.2.7")
    stranger.connect(sim.hub_address)
    sim.run(HANDSHAKE_TIME - 0.5)
    assert len(sim.hub.ports[0].connections) == 1
    sim.run(1.0)
    assert hear(sim, stranger) == [StreamEvent.CLOSED]
    assert sim.hub.ports[0].connections == []
    assert sim.hub.transport.drops == {"it took too long": 1}
    sim.run(2 * HANDSHAKE_TIME)
    assert sim.hub.transport.next_timeout() is None


def test_slow_words_are_ended_at_the_same_time(make_sim):
    """A handshake that comes byte by byte does not buy time."""
    sim = make_sim()
    genuine = sim.node.transport._connect().start()
    stranger = sim.stranger("192.0.2.7")
    connection = stranger.connect(sim.hub_address)
    closed: list[StreamEvent] = []
    for i in range(300):
        put(stranger, connection, genuine[i % len(genuine) : i % len(genuine) + 1])
        closed += hear(sim, stranger)
        if closed:
            break
    assert closed == [StreamEvent.CLOSED]
    assert sim.now == pytest.approx(HANDSHAKE_TIME, abs=0.5)


def test_who_shakes_hands_and_is_not_answered_is_ended(make_sim):
    """TLS alone proves nothing: the core answers only who knows the network's key."""
    sim = make_sim()
    flow = sim.node.transport.connect(sim.hub_address, sim.now)
    for _ in range(9):
        sim.run(1.0)
        sim.node.send(flow, [b"wrong key"], sim.now)
    assert len(sim.hub.ports[0].connections) == 1
    assert len(sim.hub.transport._strangers) == 1
    sim.run(1.5)
    assert sim.hub.transport.drops == {"it took too long": 1}
    sim.open_flow()
    back = sim.hub.inbox[-1][0] if sim.hub.inbox else next(iter(sim.hub.transport._flows.values()))
    sim.hub.send(back, [b"hello"], sim.now)
    sim.run(3 * HANDSHAKE_TIME)
    assert len(sim.hub.ports[0].connections) == 1, "answered, it stays"


def test_strangers_are_few_and_cannot_shut_others_out(make_sim):
    sim = make_sim()
    flow, back = sim.open_flow()
    sim.hub.send(back, [b"known"], sim.now)
    flood = [sim.stranger(f"192.0.2.{i}") for i in range(1, 13)]
    for round_ in range(40):
        for port in flood:
            port.connect(sim.hub_address)
        sim.run(0.02)
        assert len(sim.hub.transport._strangers) <= MAX_STRANGERS
        assert len(sim.hub.ports[0].connections) <= MAX_STRANGERS + 1
        if round_ == 35:
            late = sim.add_node()
    _, late_back = sim.open_flow(late)
    sim.hub.send(late_back, [b"welcome"], sim.now)
    assert sim.node.send(flow, [b"undisturbed"], sim.now)
    sim.run(0.5)
    assert (back, b"undisturbed") in sim.hub.inbox
    sim.run(2 * HANDSHAKE_TIME)
    assert len(sim.hub.transport._flows) == 1 + 1, "the two that were answered"
    assert len(sim.hub.transport._strangers) == 0


def test_one_address_has_so_many(make_sim):
    sim = make_sim()
    greedy, modest = sim.stranger("192.0.2.1"), sim.stranger("192.0.2.2")
    modest.connect(sim.hub_address)
    for _ in range(MAX_STRANGERS_EACH + 20):
        greedy.connect(sim.hub_address)
    sim.run(1.0)
    assert len(sim.hub.transport._strangers) == MAX_STRANGERS_EACH + 1
    assert sim.hub.transport.drops == {"too many strangers": 20}
    assert hear(sim, modest) == []


def test_garbage_is_ended_at_once(make_sim):
    sim = make_sim()
    stranger = sim.stranger("192.0.2.7")
    random = sim.network.random("garbage")
    genuine = bytearray(sim.node.transport._connect().start())
    for i in range(60):
        connection = stranger.connect(sim.hub_address)
        sim.run(0.05)
        if i % 2:
            data = random.randbytes(random.choice((5, 100, 20_000)))
        else:
            data = genuine[:]
            data[random.randrange(6)] ^= 0xFF
        put(stranger, connection, bytes(data))
        if hear(sim, stranger) != [StreamEvent.CLOSED]:
            stranger.disconnect(connection)
    sim.run(HANDSHAKE_TIME + 1)
    assert sim.hub.ports[0].connections == []
    assert sim.hub.inbox == []
    assert sum(sim.hub.transport.drops.values()) == 60
    sim.open_flow()


@pytest.mark.parametrize("junk", [b"\0\0", b"\xff\xff" + bytes(70_000), b"\0\5hello\0\0"])
def test_a_stream_of_something_else_is_ended(make_sim, junk):
    """The hub's certificate is open to all, so anybody may come this far."""
    sim = make_sim()
    flow, back = sim.open_flow()
    channel = flow.channel
    records = channel.seal(memoryview(junk))
    put(sim.node.ports[0], flow.connection, records)
    sim.run(0.3)
    assert sim.hub.transport.drops == {"it sends something else than datagrams": 1}
    assert sim.hub.datagrams == ([b"hello"] if b"hello" in junk else [])
    assert sim.hub.send(back, [b"?"], sim.now) is False
    sim.run(2.0)
    assert sim.node.send(flow, [b"sorry"], sim.now), "and may come again"


def test_memory_of_a_stranger_is_bounded(make_sim):
    """A handshake message that never ends, and a datagram that never does."""
    sim = make_sim()
    stranger = sim.stranger("192.0.2.7")
    connection = stranger.connect(sim.hub_address)
    sim.run(0.1)
    endless = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(0x4000 - 4)
    following = b"\x16\x03\x01\x40\x00" + bytes(0x4000)
    put(stranger, connection, endless + following * 10)
    sim.run(0.3)
    assert hear(sim, stranger) == [StreamEvent.CLOSED], "OpenSSL takes 128 kB of a message at most"
    flow, back = sim.open_flow()
    put(sim.node.ports[0], flow.connection, flow.channel.seal(memoryview(b"\xff\xe3" + bytes(65_506))))
    sim.run(0.5)
    assert len(back.partial) == 2 + 65_506
    put(sim.node.ports[0], flow.connection, flow.channel.seal(memoryview(b"!")))
    sim.run(0.5)
    assert [len(data) for data in sim.hub.datagrams] == [65_507]
    assert back.partial == b""


def test_a_node_accepts_nobody(make_sim):
    sim = make_sim()
    stranger = sim.stranger("192.0.2.7")
    stranger.host.send((None, 5), (sim.node.host.addresses[0], 9000), b"\1" + bytes(11), TCP)
    sim.run(1.0)
    assert sim.node.transport._flows == {}


def test_sites():
    assert site("192.0.2.7:40122") == "192.0.2.7"
    assert site("[2001:db8:1:2:3::4]:5") == site("[2001:db8:1:2::9]:6") == "2001:db8:1:2::/64"
    assert site("[fe80::1%eth0]:5") == "fe80::/64"
    assert site("") == ""


def test_strangers_go_by_address_and_age():
    strangers = Strangers(4, 2)
    flows = [TlsFlow(f"192.0.2.{host}:{port}", 0.0) for host, port in ((1, 1), (2, 1), (1, 2), (3, 1))]
    assert [strangers.add(flow) for flow in flows] == [None] * 4
    second = TlsFlow("192.0.2.2:2", 0.0)
    assert strangers.add(second) is flows[0], "of the address that has most, the oldest"
    third = TlsFlow("192.0.2.2:3", 0.0)
    assert strangers.add(third) is flows[1], "its own address has enough"
    assert len(strangers) == 4
    for flow in (*flows, second, third):
        strangers.remove(flow)
    assert len(strangers) == 0
    assert strangers._groups == {}
