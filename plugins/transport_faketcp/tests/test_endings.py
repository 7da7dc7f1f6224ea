"""Connections end: when somebody says so who may not, when nothing answers, when nobody wants them any more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ltunnel.testing.conntrack import TrackState
from ltunnel.testing.packets import ACK, FIN, RST, SYN
from ltunnel.testing.segments import Fields, make_payload
from ltunnel_transport_faketcp.states import State


@pytest.mark.parametrize("flags", [RST, RST | ACK, FIN | ACK])
@pytest.mark.parametrize("down", [True, False])
def test_resets_from_the_path_are_not_obeyed(make_wall, flags, down):
    """A forged RST or FIN, with the right numbers: the far end is asked, it answers, traffic goes on."""
    wall = make_wall()
    flow, back = wall.open_flow()
    sender, receiver = (back, flow) if down else (flow, back)
    end = (wall.node if down else wall.hub).transport
    wall.inject(Fields(sender.sent, sender.received, flags, 0, b"", b""), down=down)
    assert wall.run(0.1, lambda: receiver.state is not State.OPEN)
    assert receiver.state is State.DOUBTED
    assert end.tallies == {"connections": 1, "connections lost": 0, "resets seen": 1}
    wall.run(0.3)
    assert receiver.state is State.OPEN
    for _ in range(40):
        wall.node.send(flow, [b"up"], wall.now)
        wall.hub.send(back, [b"down"], wall.now)
        wall.run(0.5)
    assert wall.hub.datagrams == [b"up"] * 40
    assert wall.node.datagrams == [b"down"] * 40
    assert not wall.wall.invalid


def test_after_a_forged_reset_the_firewall_is_kept_awake(make_wall):
    """It holds the connection for closed and forgets it in 10 s, so the node says something more often."""
    wall = make_wall()
    flow, back = wall.open_flow()
    wall.inject(Fields(back.sent, back.received, RST | ACK, 0, b"", b""))
    for _ in range(4):
        wall.run(15.0)
        wall.node.send(flow, [b"still here"], wall.now)
    wall.run(0.5)
    assert wall.hub.datagrams == [b"still here"] * 4
    assert not wall.wall.invalid


def test_a_storm_of_resets(make_wall):
    """Hundreds of forged resets cost a probe now and then, not one each."""
    wall = make_wall()
    flow, back = wall.open_flow()
    wall.wall.invalid.clear()
    wall.tap.seen.clear()
    for _ in range(200):
        packet = wall.template(down=True)
        wall.tap.receive(replace(packet, payload=make_payload(back.sent, 0, RST)), wall.near)
        wall.run(0.001)
    wall.node.send(flow, [b"alive"], wall.now)
    wall.run(0.5)
    assert wall.hub.datagrams == [b"alive"]
    assert wall.node.transport.counts.hints == 200
    assert len(wall.tap.of("up")) < 40


def test_a_reset_that_is_true(make_wall):
    """Nothing answers any more: another connection after 2 s, not 5."""
    wall = make_wall()
    flow, back = wall.open_flow()
    wall.hub.send(back, [b"x"], wall.now)
    wall.run(0.5)
    wall.hub.transport.close(back, wall.now)
    start = wall.now
    wall.run(0.1)
    assert flow.state is State.DOUBTED
    assert wall.run(10.0, lambda: bool(wall.hub.transport._flows))
    assert 2.0 < wall.now - start < 2.5


def test_a_flow_that_nobody_uses_is_let_go(make_wall):
    """A node stops calling a hub that the core has left, tells it so, and calls again when it is wanted."""
    wall = make_wall()
    flow, back = wall.open_flow()
    wall.run(130.0)
    assert flow.state is State.IDLE
    assert wall.tap.of("up")[-2].flags & RST or wall.tap.of("up")[-1].flags & RST
    wall.run(20.0)
    assert back.state is State.CLOSED
    assert not wall.hub.transport._flows
    wall.tap.seen.clear()
    wall.run(100.0)
    assert not wall.tap.seen
    assert not wall.node.send(flow, [b"lost"], wall.now)
    wall.run(0.3)
    assert wall.node.send(flow, [b"there"], wall.now)
    wall.run(0.3)
    assert wall.hub.datagrams == [b"there"]


def test_a_hub_forgets_silent_nodes(make_wall):
    wall = make_wall()
    _, back = wall.open_flow()
    wall.node.host.detach(wall.node.host.links[0])
    wall.run(170.0)
    assert back.state is State.OPEN
    wall.run(20.0)
    assert back.state is State.CLOSED
    assert not wall.hub.transport._flows


def test_a_hub_gives_up_sending_into_silence(make_wall):
    wall = make_wall()
    _, back = wall.open_flow()
    wall.node.host.detach(wall.node.host.links[0])
    for _ in range(65):
        wall.hub.send(back, [b"hello?"], wall.now)
        wall.run(1.0)
    assert back.state is State.CLOSED


def test_closing_sends_a_reset(make_wall):
    wall = make_wall()
    flow, _ = wall.open_flow()
    wall.node.transport.close(flow, wall.now)
    wall.run(1.0)
    assert wall.tap.of("up")[0].flags == SYN
    assert RST | ACK in [fields.flags for fields in wall.tap.of("up")]
    assert wall.established == 0
    assert not wall.wall.invalid
    assert flow.state is State.CLOSED
    wall.run(60.0)
    assert not wall.hub.transport._flows


@pytest.mark.parametrize("end", ["node", "hub"])
def test_leaving_tells_the_firewall(make_wall, end):
    """At the end of the program a firewall's entry goes from ESTABLISHED to CLOSE, by segments that it finds valid."""
    wall = make_wall()
    flow, back = wall.open_flow()
    getattr(wall, end).transport.leave(wall.now)
    left, stays = (flow, back) if end == "node" else (back, flow)
    assert left.state is State.CLOSED
    assert not getattr(wall, end).transport._flows
    assert not getattr(wall, end).send(left, [b"too late"], wall.now)
    wall.run(0.1)
    assert stays.hinted
    assert stays.is_up, "whoever stays only asks"
    assert (wall.established, wall.wall.in_state(TrackState.CLOSE)) == (0, 1)
    assert not wall.wall.invalid
