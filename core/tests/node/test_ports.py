"""Ports on demand: numbers, limits, and what a node asks of its owner."""

from __future__ import annotations

import pytest

from ltunnel.control.candidates import ClosePort, OpenPorts
from ltunnel.node.ports import LIMIT, CloseOrder, NodePorts, OpenOrder
from ltunnel.testing import World
from ltunnel_crypto_aesgcm import ltunnel_cipher
from ltunnel_transport_udp import ltunnel_transport


class Named:
    """In the place of a transport."""


@pytest.fixture
def ports() -> NodePorts:
    """Of a node with two transports."""
    return NodePorts(["udp", "relay"], [Named(), Named()])


def test_instances_get_numbers_behind_those_of_the_configuration(ports):
    assert ports.order(OpenPorts(0, "owner", 2))
    (order,) = ports.take_orders()
    assert order == OpenOrder(0, 2, "owner")
    made = [Named(), Named()]
    assert ports.opened(order, made) == [2, 3]
    assert ports._transports[2:] == made
    assert ports._names == ["udp", "relay", "udp", "udp"]
    assert ports.open == 2
    assert ports.take_orders() == []


def test_numbers_of_closed_ones_are_given_out_again(ports):
    assert ports.opened(OpenOrder(0, 3, "owner"), [Named(), Named(), Named()]) == [2, 3, 4]
    ports.close(ClosePort(3))
    assert ports.take_orders() == [CloseOrder(3)]
    assert ports.open == 2
    closed = ports._transports[3]
    assert not closed.send(("192.0.2.1", 9), memoryview(bytearray(200)), 128, 130, 2, 0.0)
    with pytest.raises(BlockingIOError):
        closed.receive(None, memoryview(bytearray(10)), 0, 0.0)
    assert closed.next_timeout() is None
    ports.close(ClosePort(3))
    assert ports.take_orders() == [], "it is closed"
    assert [ports.add(1, Named()), ports.add(0, Named())] == [3, 5]
    assert ports._names[3] == "relay"


def test_what_was_configured_stays(ports):
    ports.close(ClosePort(0))
    ports.close(ClosePort(1))
    assert ports.take_orders() == []


def test_no_more_are_ordered_than_may_be_open(ports):
    assert ports.order(OpenPorts(0, "a", LIMIT - 10))
    assert ports.order(OpenPorts(0, "b", 256))
    assert not ports.order(OpenPorts(0, "c", 1))
    first, second = ports.take_orders()
    assert (first.count, second.count) == (LIMIT - 10, 10)
    ports.opened(first, [Named()])
    assert ports.order(OpenPorts(0, "d", 1000))
    (third,) = ports.take_orders()
    assert third.count == LIMIT - 11, "one is open, ten are ordered"


def test_a_node_has_them_opened_uses_them_and_has_them_closed():
    """The whole way: an order of the control side, the owner's answer, traffic by the new port, the end."""
    world = World({"transport_udp": ltunnel_transport()}, ltunnel_cipher(), seed=1)
    hub, node = world.add_hub(), world.add_node("node")
    world.start()
    assert world.run(5, until=world.all_up)
    control = node.node.control
    brought = []
    control.ports_opened = lambda owner, indexes, now: brought.append((owner, list(indexes)))
    control.calls.append(OpenPorts(0, "owner", 3))
    node.node.handle_timeout(world.now)
    world.run(0.1)
    assert brought == [("owner", [2, 3, 4])]
    locals_ = {node.ports[index][0].local[1] for index in (0, 2, 3, 4)}
    assert len(locals_) == 4
    frame = control.hub.epoch.seal_frame(0x10, b"token123")
    control.outbox.append((3, control.hub.path.flow, frame))
    node.node.handle_timeout(world.now)
    world.run(0.1)
    assert hub.status()["peers"][0]["endpoint"].endswith(f":{node.ports[3][0].local[1]}")
    control.calls += [ClosePort(index) for index in (2, 3, 4)]
    node.node.handle_timeout(world.now)
    world.run(0.1)
    assert set(node.ports) == {0}
    assert world.ping(node, hub) is not None


def test_a_hub_has_a_second_port_that_answers():
    world = World({"transport_udp": ltunnel_transport()}, ltunnel_cipher(), seed=1)
    hub, node = world.add_hub(), world.add_node("node")
    world.start()
    assert world.run(5, until=world.all_up)
    assert [port[0].local[1] for port in hub.ports.values()] == [9000, 9001]
    assert hub.node.transport_names == ("transport_udp",)
    control = node.node.control
    control.outbox.append((0, ("203.0.113.1", 9001), control.hub.epoch.seal_frame(0x14, b"token123")))
    answers = []
    world.network.trace = answers
    node.node.handle_timeout(world.now)
    world.run(0.1)
    assert any(entry.packet.source == ("203.0.113.1", 9001) for entry in answers)
