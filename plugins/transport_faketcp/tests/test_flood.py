"""SYNs from everywhere, segments of nobody, real connections of strangers: bounded in memory, and nodes stay."""

from __future__ import annotations

import tracemalloc
from random import Random

from ltunnel.testing import Segment
from ltunnel.testing.packets import ACK, SYN
from ltunnel.testing.segments import fields_of, make_payload
from ltunnel_transport_faketcp.answerer import MAX_FLOWS
from ltunnel_transport_faketcp.opening import write_options

HUB = ("203.0.113.1", 9000)


class Strangers:
    """Deliver straight to the hub's port, and see what it sends."""

    def __init__(self, wall) -> None:
        self.wall = wall
        self.port = wall.hub.ports[0]
        self.random = Random(1)
        self.answers: list[Segment] = []
        wall.lab.internet.drop = lambda packet, _fate: self.answers.append(packet)

    def deliver(self, source, *fields) -> None:
        assert self.port.deliver(Segment(source, HUB, make_payload(*fields)))

    def address(self) -> tuple[str, int]:
        value = self.random.getrandbits(24)
        return f"100.{value >> 16}.{value >> 8 & 255}.{value & 255}", self.random.randint(1, 65_535)


def test_a_syn_flood_costs_no_memory(make_wall):
    wall = make_wall()
    flow, back = wall.open_flow()
    strangers = Strangers(wall)
    options = write_options(1460, 1)

    def flood(count: int) -> None:
        for _ in range(count // 20):
            for _ in range(20):
                strangers.deliver(strangers.address(), strangers.random.getrandbits(32), 0, SYN, 64_240, options)
            wall.hub.poll(wall.now)
            wall.network.run(0.001)

    flood(1000)
    wall.run(0.1)
    assert len(strangers.answers) == 1000
    assert {fields_of(packet).flags for packet in strangers.answers} == {SYN | ACK}
    assert len({fields_of(packet).seq for packet in strangers.answers}) > 990
    strangers.answers = answers = []
    ours = tracemalloc.Filter(True, "*/ltunnel_transport_faketcp/*")
    tracemalloc.start()
    for _ in range(4):
        flood(1000)
        wall.run(0.1)
        answers.clear()
    kept = tracemalloc.take_snapshot().filter_traces([ours]).statistics("filename")
    tracemalloc.stop()
    assert sum(statistic.size for statistic in kept) < 5_000
    assert len(wall.hub.transport._flows) == 1
    wall.node.send(flow, [b"still"], wall.now)
    wall.hub.send(back, [b"there"], wall.now)
    wall.run(0.2)
    assert (wall.hub.datagrams, wall.node.datagrams) == ([b"still"], [b"there"])


def test_answers_are_no_larger_than_questions(make_wall):
    wall = make_wall()
    wall.open_flow()
    strangers = Strangers(wall)
    for options in (b"", write_options(1460, 1)[:4], write_options(1460, 1)):
        strangers.deliver(strangers.address(), 1, 0, SYN, 64_240, options)
        wall.hub.poll(wall.now)
        wall.run(0.1)
        (answer,) = strangers.answers
        strangers.answers.clear()
        assert answer.size <= Segment(HUB, HUB, make_payload(1, 0, SYN, 64_240, options)).size


def test_nobody_gets_in_without_a_cookie(make_wall):
    """Guessed acknowledgements make no connection, and get no answer."""
    wall = make_wall()
    wall.open_flow()
    strangers = Strangers(wall)
    for _ in range(3000):
        number = strangers.random.getrandbits(32)
        strangers.deliver(strangers.address(), 1, number, ACK, 65_535, b"", b"\0\5hello")
        wall.hub.poll(wall.now)
    wall.run(0.5)
    assert len(wall.hub.transport._flows) == 1
    assert wall.hub.transport.counts.strays == 3000
    assert not strangers.answers
    assert not wall.hub.inbox


def test_real_connections_of_strangers(make_wall):
    """They fill the table, but do not push out whom the hub talks to; when quiet for long, they go."""
    wall = make_wall(delay=0.0001)
    flow, back = wall.open_flow()
    wall.hub.send(back, [b"you are a node"], wall.now)
    wall.run(0.1)
    strangers = Strangers(wall)
    for _ in range(MAX_FLOWS + 500):
        source = strangers.address()
        strangers.deliver(source, 7, 0, SYN, 64_240, write_options(1460, 1))
        wall.hub.poll(wall.now)
        wall.network.run(0.001)
        cookie = fields_of(strangers.answers.pop())
        strangers.deliver(source, 8, cookie.seq + 1, ACK, 64_240, b"", b"\0\2hi")
        wall.hub.poll(wall.now)
        strangers.answers.clear()
        wall.hub.inbox.clear()
    assert len(wall.hub.transport._flows) == MAX_FLOWS
    assert wall.hub.transport._flows[back.key] is back
    wall.node.inbox.clear()
    wall.node.send(flow, [b"still"], wall.now)
    wall.hub.send(back, [b"there"], wall.now)
    wall.run(0.3)
    assert (back, b"still") in wall.hub.inbox
    assert wall.node.inbox == [(flow, b"there")]
    for _ in range(10):
        wall.run(20.0)
        wall.node.send(flow, [b"x"], wall.now)
    assert set(wall.hub.transport._flows.values()) == {back}


def test_a_full_table_of_nodes_refuses(make_wall):
    """When all that hold connections are in use, it is the new one that has to wait."""
    wall = make_wall()
    _, back = wall.open_flow()
    transport = wall.hub.transport
    back.sent += 10
    for number in range(MAX_FLOWS - 1):
        other = type(back)(("192.0.2.1", number), back.state, wall.now)
        other.key = number.to_bytes(12, "big")
        other.first, other.sent = 1, 100
        transport._flows[other.key] = other
    second = wall.lab.add_node()
    second.transport.connect(HUB, wall.now)
    wall.run(0.3)
    assert transport.counts.refused == 1
    assert len(transport._flows) == MAX_FLOWS
