"""Connections begin, survive what gets lost and what is forged, and are made anew when they are gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ltunnel.testing.packets import ACK, PSH, RST, SYN
from ltunnel.testing.segments import Fields, fields_of, make_payload
from ltunnel_transport_faketcp.states import State


def kinds(segments: list[Fields]) -> list[str]:
    names = {SYN: "syn", SYN | ACK: "syn-ack", ACK: "ack", PSH | ACK: "data", RST | ACK: "rst"}
    return [names[fields.flags] for fields in segments]


def drop_first(wall, way: str, flags: int, count: int = 1) -> None:
    """Lose the first `count` segments with these flags."""
    left = [count]

    def look(packet, direction):
        if left[0] and direction == way and fields_of(packet).flags == flags:
            left[0] -= 1
            return []
        return [packet]

    wall.tap.look = look


def test_three_way_handshake(make_wall):
    wall = make_wall()
    flow = wall.node.transport.connect(wall.lab.hub_address, wall.now)
    assert flow.state is State.OPENING
    assert not wall.node.send(flow, [b"too early"], wall.now)
    wall.run(0.2)
    assert flow.state is State.OPEN
    assert [(way, kind) for (_, way, _), kind in zip(wall.tap.seen, kinds([f for *_, f in wall.tap.seen]), strict=True)
            ] == [("up", "syn"), ("down", "syn-ack"), ("up", "ack")]  # fmt: skip
    syn, answer, ack = (fields for *_, fields in wall.tap.seen)
    assert answer.ack == (syn.seq + 1) & 0xFFFFFFFF
    assert (ack.seq, ack.ack) == (answer.ack, (answer.seq + 1) & 0xFFFFFFFF)
    assert (wall.established, wall.wall.invalid) == (1, {})
    assert wall.server_flow.state is State.OPEN
    assert wall.hub.datagrams == [], "what was sent too early is lost, not kept"


def test_a_forged_answer_opens_nothing(make_wall):
    """Whoever does not see the SYN does not know what to acknowledge."""
    wall = make_wall()
    drop_first(wall, "down", SYN | ACK)
    flow = wall.node.transport.connect(wall.lab.hub_address, wall.now)
    wall.run(0.1)
    for ack in (flow.first, flow.first + 2, 0, flow.first + 2**31):
        forged = wall.template(down=True)
        packet = replace(forged, payload=make_payload(1, ack, SYN | ACK, 65_160))
        assert wall.node.ports[0].deliver(packet)
        wall.run(0.01)
        assert flow.state is State.OPENING
    assert wall.node.transport.drops["implausible"] == 4
    assert wall.node.transport.tallies["connections"] == 0


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_syn_is_repeated(make_wall, lost):
    wall = make_wall()
    drop_first(wall, "up", SYN, lost)
    flow = wall.node.transport.connect(wall.lab.hub_address, wall.now)
    wall.run(3.0)
    assert flow.state is State.OPEN
    syns = [(when, fields.seq) for when, _, fields in wall.tap.seen if fields.flags == SYN]
    assert [round(when, 1) for when, _ in syns] == [0.0, 1.0, 2.0][: lost + 1]
    assert len({seq for _, seq in syns}) == 1, "the same SYN"
    assert not wall.wall.invalid


def test_a_lost_syn_ack_is_answered_by_another_syn(make_wall):
    wall = make_wall()
    drop_first(wall, "down", SYN | ACK)
    flow = wall.node.transport.connect(wall.lab.hub_address, wall.now)
    wall.run(2.0)
    assert flow.state is State.OPEN
    answers = [fields for fields in wall.tap.of("down") if fields.flags == SYN | ACK]
    assert len({fields.seq for fields in answers}) == 1, "a hub without state gives the same number again"
    assert not wall.wall.invalid


def test_a_lost_ack_does_not_matter(make_wall):
    """Any later segment of the node makes the hub's connection, also when the first batches are lost with the ACK."""
    for batches_lost in (0, 3):
        wall = make_wall()
        wall.near.change("up", loss=0.0)
        drop_first(wall, "up", ACK)
        flow = wall.node.transport.connect(wall.lab.hub_address, wall.now)
        wall.run(0.2)
        assert not wall.hub.transport._flows
        for _ in range(batches_lost):
            drop_first(wall, "up", PSH | ACK)
            wall.node.send(flow, [b"lost"], wall.now)
            wall.run(0.05)
        wall.node.send(flow, [b"first"], wall.now)
        wall.run(0.2)
        assert wall.hub.datagrams == [b"first"]
        wall.hub.send(wall.server_flow, [b"back"], wall.now)
        wall.run(0.2)
        assert wall.node.inbox == [(flow, b"back")]
        assert not wall.wall.invalid


def test_nobody_there_gets_a_new_port_every_five_seconds(make_wall):
    wall = make_wall()
    ports = []
    wall.wall.receive = lambda packet, link: ports.append((wall.now, packet.source[1]))
    flow = wall.node.transport.connect(wall.lab.hub_address, wall.now)
    for _ in range(60):
        wall.node.send(flow, [b"x"], wall.now)
        wall.run(1.0)
    assert flow.state is State.OPENING
    used = [port for _, port in ports]
    assert set(used) == set(wall.node.ports[0].numbers)
    assert [used[i : i + 5] for i in range(0, 60, 5)] == [[used[i]] * 5 for i in range(0, 60, 5)]
    assert [round(ports[i][0]) for i in (0, 5, 10, 15)] == [0, 5, 10, 15]


def test_state_loss_at_the_firewall(make_wall):
    """`conntrack -F` in mid-transfer: traffic is back within 7 s, from another port, in the same flow."""
    wall = make_wall()
    flow, back = wall.open_flow()
    wall.wall.flush()
    start = wall.now
    while wall.hub.datagrams[-1:] != [b"back again"] and wall.now < start + 15:
        wall.node.send(flow, [b"back again"], wall.now)
        wall.run(0.1)
    assert 5.0 < wall.now - start < 7.0
    assert wall.node.transport._flows == {flow.key: flow}
    new = [there for there, data in wall.hub.inbox if data == b"back again"][-1]
    assert new is not back
    assert new.remote[1] != back.remote[1]
    assert wall.node.transport.tallies == {"connections": 2, "connections lost": 1, "resets seen": 0}
    wall.hub.send(new, [b"and forth"], wall.now)
    wall.run(0.2)
    assert wall.node.inbox[-1] == (flow, b"and forth"), "the core's flow is the same"
    assert wall.established == 1


def test_state_loss_is_found_when_idle(make_wall):
    """Without traffic of the core a keepalive finds out, as long as the core uses the flow."""
    wall = make_wall()
    flow, _ = wall.open_flow()
    wall.wall.flush()
    wall.run(32.0)
    assert flow.state is State.OPEN
    assert wall.established == 1


def test_a_hub_that_restarts(make_wall):
    """It has forgotten its connections and its secret; nodes come back by themselves."""
    wall = make_wall()
    flow, _ = wall.open_flow()
    transport = type(wall.hub.transport)
    wall.hub.ports[0].secret = b"another secret" + bytes(18)
    wall.hub.transport = transport(wall.hub.ports[0], listen=True)
    start = wall.now
    while not wall.hub.datagrams and wall.now < start + 15:
        wall.node.send(flow, [b"hello"], wall.now)
        wall.run(0.1)
    assert wall.now - start < 7.0
    assert not wall.wall.invalid


def test_the_address_changes(make_wall):
    """A node that is carried elsewhere does not wait for silence: it calls at once, with its new address."""
    wall = make_wall()
    flow, _ = wall.open_flow()
    before = flow.key
    wall.node.host.move(wall.tap, "198.51.100.77")
    start = wall.now
    wall.run(0.1)
    assert flow.state is State.OPEN
    assert flow.key[-2:] != before[-2:], "another port"
    (syn,) = [(when, fields) for when, way, fields in wall.tap.seen if when >= start and fields.flags == SYN]
    assert syn[0] - start < 0.01
    wall.node.send(flow, [b"moved"], wall.now)
    wall.run(0.1)
    assert wall.hub.inbox[-1][0].remote[0] == "198.51.100.77"
    assert wall.hub.inbox[-1][1] == b"moved"
    assert not wall.wall.invalid


def test_the_same_address_again(make_wall):
    """A cable that is pulled out and put in again: the connection stays."""
    wall = make_wall()
    flow, _ = wall.open_flow()
    before = flow.key
    wall.node.host.move(wall.tap, wall.node.host.addresses[0])
    wall.run(0.5)
    assert wall.node.send(flow, [b"still here"], wall.now)
    wall.run(0.1)
    assert wall.hub.datagrams == [b"still here"]
    assert flow.key == before


def test_carried_through_a_place_without_network(make_wall):
    """Nothing can be sent there; the first SYN leaves as soon as there is a way."""
    wall = make_wall()
    flow, _ = wall.open_flow()
    wall.node.host.detach(wall.node.host.links[0])
    wall.run(2.0)
    wall.node.host.attach(wall.tap, "198.51.100.78")
    wall.run(0.1)
    assert flow.state is State.OPEN
    assert wall.hub.transport._flows[next(reversed(wall.hub.transport._flows))].remote[0] == "198.51.100.78"


def test_no_network_for_a_while(make_wall):
    wall = make_wall()
    wall.node.host.detach(wall.node.host.links[0])
    flow = wall.node.transport.connect(wall.lab.hub_address, wall.now)
    wall.run(20.0)
    assert flow.state is State.OPENING
    wall.node.host.attach(wall.tap, "198.51.100.1")
    wall.run(1.2)
    assert flow.state is State.OPEN


def test_connecting_twice_is_one_flow(make_wall):
    wall = make_wall()
    flow, _ = wall.open_flow()
    assert wall.node.transport.connect(wall.lab.hub_address, wall.now) is flow
    assert wall.node.transport.connect(("203.0.113.9", 9000), wall.now) is not flow


def test_a_new_connection_from_the_same_port(make_wall):
    """A node that restarts may get the port it had: the hub sees another connection, not a wrong one."""
    wall = make_wall()
    flow, back = wall.open_flow()
    for _ in range(3):
        wall.node.send(flow, [bytes(1000)] * 40, wall.now)
        wall.run(0.1)
    wall.node.ports[0].secret = bytes(32)
    wall.node.transport = type(wall.node.transport)(wall.node.ports[0], listen=False)
    wall.node.transport._side._turn = wall.node.ports[0].numbers.index(int.from_bytes(flow.key[-2:], "big"))
    wall.wall.flush()
    wall.hub.inbox.clear()
    again = wall.node.transport.connect(wall.lab.hub_address, wall.now)
    wall.run(0.2)
    assert again.key == flow.key
    wall.node.send(again, [b"new"], wall.now)
    wall.run(0.2)
    assert wall.hub.datagrams == [b"new"]
    new = wall.hub.inbox[0][0]
    assert new is not back
    assert back.state is State.CLOSED
    assert not wall.hub.send(back, [b"to the old one"], wall.now)
    assert not wall.wall.invalid


def test_a_path_that_strips_options(make_wall):
    """Without window scale and timestamps on the way, windows are small and headers short, and it still works."""
    for strip in ("up", "down"):
        wall = make_wall()

        def look(packet, way, strip=strip):
            fields = fields_of(packet)
            if way != strip or not fields.flags & SYN:
                return [packet]
            payload = make_payload(fields.seq, fields.ack, fields.flags, fields.window, fields.options[:4])
            return [type(packet)(packet.source, packet.destination, payload)]

        wall.tap.look = look
        flow, back = wall.open_flow()
        assert (flow.shift, flow.head.timed) == (0, False)
        wall.tap.seen.clear()
        for _ in range(200):
            wall.node.send(flow, [bytes(1000)] * 20, wall.now)
            wall.hub.send(back, [bytes(1000)] * 20, wall.now)
            wall.run(0.03)
        assert len(wall.hub.inbox) > 3900
        assert len(wall.node.inbox) > 3900
        assert {len(fields.options) for *_, fields in wall.tap.seen} == {0}
        assert not wall.wall.invalid
