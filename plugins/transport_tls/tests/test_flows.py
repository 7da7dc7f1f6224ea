"""Flows in a simulated network: connections that end and are made again, backpressure, strangers and their limits."""

from itertools import pairwise

import pytest

from ltunnel.testing import Quality
from ltunnel_transport_tls import transport as module
from ltunnel_transport_tls.transport import HANDSHAKE_TIME, IDLE_TIME, LAST_RETRY

DATAGRAMS = [bytes((i,)) * 1400 for i in range(40)]


def attempts(sim, seconds: float) -> list[float]:
    """Connect nowhere for some seconds: when each attempt began."""
    begun: list[float] = []
    port = sim.node.ports[0]
    connect = port.connect

    def counted(remote):
        begun.append(sim.now)
        return connect(remote)

    port.connect = counted
    flow = sim.node.transport.connect(("198.51.100.99", 9000), sim.now)
    while sim.now < seconds:
        sim.run(1.0)
        assert sim.node.send(flow, [b"anybody?"], sim.now) is False
    return begun


def put(port, connection, data: bytes) -> bool:
    return port.send(memoryview(data), 0, len(data), len(data), connection)


# -------------------------------------------------------------------- connections come and go


def test_what_is_sent_before_it_stands_is_dropped(make_sim):
    sim = make_sim(quality=Quality(delay=0.1))
    flow = sim.node.transport.connect(sim.hub_address, sim.now)
    for _ in range(3):
        assert sim.node.send(flow, [b"too early"], sim.now) is False
        sim.run(0.1)
    sim.run(1.0)
    assert sim.node.send(flow, [b"in time"], sim.now)
    sim.run(0.3)
    assert sim.hub.datagrams == [b"in time"]


def test_a_remote_has_one_flow(make_sim):
    sim = make_sim()
    flow, _ = sim.open_flow()
    assert sim.node.transport.connect(sim.hub_address, sim.now) is flow
    assert len(sim.node.ports[0].connections) == 1
    sim.node.transport.close(flow, sim.now)
    assert sim.node.transport.connect(sim.hub_address, sim.now) is not flow
    assert sim.node.send(flow, [b"x"], sim.now) is False


def test_the_hub_may_listen_on_another_port(make_sim):
    sim = make_sim()
    sim.hub.ports[0].close()
    sim.hub_address = ("203.0.113.1", 443)
    sim.restart_hub()
    node = sim.add_node(**sim.files.node, port=9000)
    sim.open_flow(node)


def test_a_hub_that_starts_again_is_found_again(make_sim):
    sim = make_sim()
    flow, back = sim.open_flow()
    sim.restart_hub()
    sim.run(2.0)
    assert sim.node.send(flow, [b"again"], sim.now), "the flow is the same"
    sim.run(0.5)
    ((there, data),) = sim.hub.inbox
    assert data == b"again"
    assert there != back
    sim.hub.send(there, [b"welcome back"], sim.now)
    sim.run(0.5)
    assert sim.node.inbox == [(flow, b"welcome back")]


def test_half_a_datagram_of_an_old_connection_is_not_mixed_with_the_new(make_sim):
    sim = make_sim()
    flow, back = sim.open_flow()
    put(sim.hub.ports[0], back.connection, back.channel.seal(memoryview(b"\0\x64half of it")))
    sim.run(0.2)
    assert flow.partial == b"\0\x64half of it"
    sim.restart_hub()
    sim.run(2.0)
    sim.node.send(flow, [b"hello"], sim.now)
    sim.run(0.5)
    sim.hub.send(sim.hub.inbox[-1][0], [b"whole"], sim.now)
    sim.run(0.5)
    assert sim.node.datagrams == [b"whole"]


def test_what_waits_of_a_closed_flow_goes_with_it(make_sim):
    """Two sizes are two calls of `receive`; between them the core may close the flow."""
    sim = make_sim()
    flow, back = sim.open_flow()
    for size in (10, 20):
        sim.hub.send(back, [bytes(size)], sim.now)
    sim.network.run(0.2)
    buf, transport, port = memoryview(bytearray(1 << 17)), sim.node.transport, sim.node.ports[0]
    assert transport.receive(port, buf, 0, sim.now) == (flow, 0, 12, 12)
    transport.close(flow, sim.now)
    with pytest.raises(BlockingIOError):
        transport.receive(port, buf, 0, sim.now)


@pytest.mark.parametrize("said", [b"\0\5whole", b"\0\5whole\0\5ha"])
def test_a_broken_record_ends_a_connection_after_what_came_before_it(make_sim, said):
    sim = make_sim()
    flow, back = sim.open_flow()
    records = flow.channel.seal(memoryview(said))
    broken = bytearray(flow.channel.seal(memoryview(b"x" * 50)))
    broken[30] ^= 1
    put(sim.node.ports[0], flow.connection, records + bytes(broken))
    sim.run(0.05)
    assert sim.hub.datagrams == [b"whole"]
    assert back.is_closed
    assert list(sim.hub.transport.drops.values()) == [1]


def test_a_connection_that_worked_is_made_again_soon(make_sim):
    """Failures count from the last datagram on."""
    sim = make_sim()
    link = sim.node.host.links[0]
    link.take_down()
    flow = sim.node.transport.connect(sim.hub_address, sim.now)
    sim.run(100.0)
    assert flow.failures > 5
    link.bring_up()
    sim.run(30.0)
    _, back = sim.open_flow()
    sim.hub.send(back, [b"hello"], sim.now)
    sim.run(1.0)
    assert flow.failures == 0
    sim.restart_hub()
    sim.run(1.0)
    assert sim.node.send(flow, [b"again"], sim.now)


def test_a_dead_line_is_given_up_and_tried_again(make_sim):
    sim = make_sim()
    flow, _ = sim.open_flow()
    link = sim.node.host.links[0]
    link.take_down()
    for _ in range(40):
        sim.node.send(flow, [b"?"], sim.now)
        sim.run(1.0)
    link.bring_up()
    sim.hub.inbox.clear()
    for _ in range(20):
        sim.node.send(flow, [b"!"], sim.now)
        sim.run(1.0)
        if b"!" in sim.hub.datagrams:
            break
    assert b"!" in sim.hub.datagrams


def test_attempts_come_less_and_less_often(make_sim):
    begun = attempts(make_sim(), 120.0)
    gaps = [later - earlier - HANDSHAKE_TIME for earlier, later in pairwise(begun)]
    assert gaps[:5] == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0])
    assert gaps[5:] == pytest.approx([LAST_RETRY] * len(gaps[5:]))


def test_what_is_refused_at_once_is_not_tried_in_a_loop(make_sim):
    sim = make_sim()
    sim.hub_address = ("2001:db8::99", 9000)
    flow = sim.node.transport.connect(sim.hub_address, sim.now)
    for _ in range(60):
        sim.run(1.0)
        sim.node.send(flow, [b"?"], sim.now)
    assert 6 <= sim.node.transport.drops["the far end closed it"] <= 12


def test_a_flow_that_nobody_uses_rests_and_wakes(make_sim):
    sim = make_sim()
    flow, back = sim.open_flow()
    sim.hub.send(back, [b"x"], sim.now)
    sim.run(IDLE_TIME - 5)
    assert len(sim.node.ports[0].connections) == 1
    sim.run(10.0)
    assert sim.node.ports[0].connections == sim.hub.ports[0].connections == []
    assert sim.node.transport.next_timeout() is None
    assert sim.hub.send(back, [b"x"], sim.now) is False
    assert sim.node.send(flow, [b"x"], sim.now) is False, "but it has begun to connect"
    sim.run(1.0)
    assert sim.node.send(flow, [b"awake"], sim.now)
    sim.run(0.5)
    assert sim.hub.datagrams[-1] == b"awake"


def test_a_flow_in_vain_rests_too(make_sim):
    sim = make_sim()
    sim.node.transport.connect(("198.51.100.99", 9000), sim.now)
    sim.run(2 * IDLE_TIME)
    assert sim.node.transport.next_timeout() is None
    assert sim.node.ports[0].connections == []


def test_a_node_that_only_listens_keeps_its_flow(make_sim):
    """What counts at the node is what it sends, at the hub what it hears; each sends a sign of life now and then."""
    sim = make_sim()
    flow, back = sim.open_flow()
    for _ in range(60):
        assert sim.node.send(flow, [b"alive"], sim.now)
        sim.hub.send(back, [b"alive"], sim.now)
        sim.run(10.0)
    assert len(sim.hub.ports[0].connections) == 1


def test_a_worn_key_is_replaced(make_sim, monkeypatch):
    monkeypatch.setattr(module, "CONNECTION_BYTES", 100_000)
    sim = make_sim()
    flow, _ = sim.open_flow()
    (first,) = sim.node.ports[0].connections
    for _ in range(3):
        assert sim.node.send(flow, DATAGRAMS, sim.now)
        sim.run(2.0)
    assert sim.node.ports[0].connections not in ([], [first])
    assert sim.node.transport.drops == {"its key is worn out": 1}
    assert sim.hub.datagrams == DATAGRAMS * 3


# -------------------------------------------------------------------- trust


def test_a_node_that_does_not_trust_gets_nothing_and_says_so(make_sim):
    sim = make_sim()
    node = sim.add_node(pin="ab" * 32)
    flow = node.transport.connect(sim.hub_address, sim.now)
    for _ in range(30):
        assert node.send(flow, [b"secret"], sim.now) is False
        sim.run(1.0)
    assert sim.hub.inbox == node.inbox == []
    assert node.transport.notices == [
        "TLS connection to 203.0.113.1:9000: the server's certificate has none of the pinned fingerprints"
    ]
    node.transport.notices.clear()
    for _ in range(60):
        node.send(flow, [b"secret"], sim.now)
        sim.run(1.0)
    assert len(node.transport.notices) == 1, "once a minute"


def test_the_name_in_the_config_is_what_is_checked(make_sim):
    sim = make_sim()
    right = sim.add_node(ca=sim.files.cert, name="hub.example")
    wrong = sim.add_node(ca=sim.files.cert, name="other.example")
    sim.open_flow(right)
    wrong.transport.connect(sim.hub_address, sim.now)
    sim.run(1.0)
    assert "not valid for 'other.example'" in wrong.transport.notices[0]


# -------------------------------------------------------------------- backpressure


def test_a_slow_line_drops_instead_of_queueing(make_sim):
    queue, rate = 20_000, 2_000_000
    sim = make_sim(settings={"queue": queue}, quality=Quality(delay=0.01, rate=rate, queue=50_000))
    flow, _ = sim.open_flow()
    port = sim.node.ports[0]
    sent, complete, delays = {}, 0, []
    number, arrived = 0, 0
    for _ in range(400):
        batch = []
        for _ in range(20):
            number += 1
            batch.append(number.to_bytes(4, "big") * 350)
            sent[batch[-1]] = sim.now
        complete += sim.node.send(flow, batch, sim.now)
        sim.run(0.01)
        delays += [sim.now - sent[data] for data in sim.hub.datagrams[arrived:]]
        arrived = len(sim.hub.datagrams)
    assert complete < 100, "send says when it dropped something"
    assert port.longest_queue <= queue
    assert port.refused == 0
    assert arrived * 1400 * 8 > 0.8 * rate * 4.0, "the line is used"
    assert sim.node.transport.drops["queue full"] >= number - arrived - 100
    backlog = (queue + 50_000 + port.mss * 10) * 8 / rate  # what waits here, and what the line itself lets wait
    assert sorted(delays)[len(delays) // 2] < backlog  # half of it waits for no lost segment
    sent_order = list(sent)
    places = [sent_order.index(data) for data in sim.hub.datagrams]
    assert places == sorted(set(places)), "whole, once, in order"


def test_what_fits_goes_and_the_rest_is_dropped(make_sim):
    sim = make_sim(settings={"queue": 10_000})
    flow, _ = sim.open_flow()
    assert sim.node.send(flow, DATAGRAMS, sim.now) is False
    assert sim.node.send(flow, DATAGRAMS[:1], sim.now) in (True, False)
    sim.run(1.0)
    assert 6 <= len(sim.hub.datagrams) <= 8
    assert sim.hub.datagrams == DATAGRAMS[: len(sim.hub.datagrams)] or sim.hub.datagrams[-1] == DATAGRAMS[0]
    sim.hub.inbox.clear()
    assert sim.node.send(flow, DATAGRAMS[:6], sim.now)
    sim.run(1.0)
    assert sim.hub.datagrams == DATAGRAMS[:6]


def test_no_room_at_all(make_sim):
    sim = make_sim(settings={"queue": 1000})
    flow, _ = sim.open_flow()
    assert sim.node.send(flow, DATAGRAMS, sim.now) is False
    sim.run(0.5)
    assert sim.hub.datagrams == []
    assert sim.node.transport.drops == {"queue full": 40}


def test_many_flows(make_sim):
    sim = make_sim()
    nodes = [sim.node, *(sim.add_node() for _ in range(29))]
    flows = [node.transport.connect(sim.hub_address, sim.now) for node in nodes]
    sim.run(1.0)
    for number, (node, flow) in enumerate(zip(nodes, flows, strict=True)):
        assert node.send(flow, [number.to_bytes(2, "big") * 300] * 20, sim.now)
    sim.run(1.0)
    by_flow: dict[object, list[bytes]] = {}
    for there, data in sim.hub.inbox:
        by_flow.setdefault(there, []).append(data)
    assert sorted(by_flow.values()) == [[number.to_bytes(2, "big") * 300] * 20 for number in range(30)]
    for there, data in by_flow.items():
        sim.hub.send(there, data[:1], sim.now)
    sim.run(1.0)
    assert [node.datagrams for node in nodes] == [[number.to_bytes(2, "big") * 300] for number in range(30)]
    assert len({sim.hub.transport.describe(there) for there in by_flow}) == 30


def test_mixed_sizes_arrive_as_they_were_sent(make_sim):
    sim = make_sim()
    flow, back = sim.open_flow()
    random = sim.network.random("sizes")
    sent = []
    for _ in range(60):
        size = random.choice((1, 2, 255, 256, 1400, 9000, 60_000))
        batch = [random.randbytes(size) for _ in range(random.randint(1, max(1, min(64, 60_000 // size))))]
        batch[-1] = batch[-1][: random.randint(1, size)]
        if sim.node.send(flow, batch, sim.now):
            sent += batch
        sim.run(random.choice((0.0, 0.1)))
    sim.run(1.0)
    assert len(sent) > 500
    got = [data for there, data in sim.hub.inbox if there == back]
    assert [data for data in got if data in set(sent)] == sent


# -------------------------------------------------------------------- parts
