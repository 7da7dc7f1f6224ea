"""The service around a node, with a double of the node: what becomes of events, orders, timers and failures."""

import errno
import os
import time

import pytest

from core.tests.runtime.around import ALICE, Around
from ltunnel.control.directory import Binding
from ltunnel.control.events import Event, Level
from ltunnel.control.settings import Role
from ltunnel.errors import HostError
from ltunnel.node import CloseOrder, OpenOrder
from ltunnel.plugin import NoOptions, TransportContext
from ltunnel.registry import Part
from ltunnel.runtime.fresh_ports import FreshPorts
from ltunnel.runtime.host_changes import HostChanges
from ltunnel_transport_udp import ltunnel_transport


def test_running_is_starting_serving_and_saying_goodbye(around):
    around.port.send(memoryview(bytearray(5)), 0, 5, 5, around.port.local)
    take = around.node.handle_port

    def take_and_plan(index: int, port: object, now: float) -> bool:
        around.node.timeout = now + 0.02
        return take(index, port, now)

    def stop_soon(now: float) -> None:
        if around.node.timeout is not None and now >= around.node.timeout:
            around.node.calls.append("timeout")
            around.loop.stop()

    around.node.handle_port = take_and_plan
    around.node.handle_timeout = stop_soon
    around.service.run()
    assert around.node.calls == ["start", "port 0", "timeout", "stop"]
    assert around.names() == ["start", "warning", "left"]
    assert around.logged[0].fields["key_check"] == "ABCD"
    assert around.logged[1].level is Level.WARNING


def test_events_are_logged_and_what_they_change_is_stored(around):
    around.node.events = [Event(name="bindings", text="a"), Event(name="node-joined", text="b")]
    around.service.tick(0.0)
    assert around.names() == ["bindings", "node-joined"]
    assert around.saved == ["bindings"]


class FakeFec:
    def __init__(self) -> None:
        self.orders: list[dict[str, object]] = []

    def change(self, now: float, **order: object) -> None:
        if order.get("mode") == "best":
            raise ValueError("mode: should be one of these")
        self.orders.append(order)

    def status(self) -> dict[str, object]:
        return {"mode": "fixed"}


def test_what_is_sent_against_losses_is_changed_by_order(around):
    around.node.fec = FakeFec()
    assert around.service.answer({"command": "fec", "data": 20, "parity": 10}, 0.0) == {"fec": {"mode": "fixed"}}
    assert around.service.answer({"command": "fec"}, 0.0) == {"fec": {"mode": "fixed"}}
    assert around.node.fec.orders == [{"data": 20, "parity": 10}]
    assert around.names() == ["fec"]
    for wrong in ({"mode": "best"}, {"data": "20"}, {"parity": True}, {"data": 1.5}):
        with pytest.raises(HostError, match=r"^(mode|data and parity): should be "):
            around.service.answer({"command": "fec", **wrong}, 0.0)
    around.node.fec = None
    with pytest.raises(HostError, match="without a FEC plugin"):
        around.service.answer({"command": "fec"}, 0.0)


def test_a_full_disk_is_said_once_and_tried_again(around):
    around.failing = OSError(errno.ENOSPC, "No space left on device")
    around.node.events = [Event(name="bindings", text="a")]
    assert around.service.tick(100.0) == 130.0
    assert around.service.tick(130.0) == 160.0
    failures = [event for event in around.logged if event.level is Level.ERROR]
    assert len(failures) == 1
    assert "cannot store bindings: No space left on device" in failures[0].text
    around.failing = None
    assert around.service.tick(160.0) is None
    assert around.saved == ["bindings"]
    assert around.names()[-1] == "stored"


def test_the_status_joins_what_node_and_runtime_know(around):
    status = around.service.status(0.0)
    assert status["role"] == "hub"
    assert status["warnings"] == ["beware"]
    assert status["tun"]["refused"] == 3
    assert status["ports"][0]["local"] == f"127.0.0.1:{around.port.local[1]}"


def test_a_warning_that_is_checked_goes_when_it_is_heeded(around):
    around.service._check = lambda: ["switch it on"]
    assert around.service.status(0.0)["warnings"] == ["beware", "switch it on"]
    around.service._check = list
    assert around.service.status(0.0)["warnings"] == ["beware"]


def test_what_an_answer_tells_of_is_stored_before(around):
    around.node.events = [Event(name="pins", text="met the hub")]
    around.service.answer({"command": "status"}, 0.0)
    assert around.saved == ["pins"]


def test_orders_take_effect_at_once(around):
    def forget(who: str, now: float) -> Binding:
        around.node.events = [Event(name="bindings", text="forgotten")]
        return ALICE

    around.node.control.forget_binding = forget
    answer = around.service.answer({"command": "forget", "peer": "alice"}, 0.0)
    assert answer == {"forgotten": ALICE.to_dict()}
    assert around.node.calls == ["nothing due"]
    assert around.saved == ["bindings"]
    assert around.service.answer({"command": "forget-pin", "name": "hub/net"}, 0.0) == {"forgotten": "hub/net"}


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"command": "forget", "peer": "bob\x1b"}, r"no client has the name, address or key bob\x1b"),
        ({"command": "forget"}, "no client has the name"),
        ({"command": "forget-pin", "name": "x"}, "no server is pinned as x"),
        ({"command": "dance\n"}, r"no such command: dance\x0a"),
    ],
)
def test_orders_that_cannot_be_followed_are_refused_in_words(around, request_, text):
    with pytest.raises(HostError) as caught:
        around.service.answer(request_, 0.0)
    assert text in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_node_keeps_no_bindings():
    around = Around(Role.NODE)
    with pytest.raises(HostError, match="only a server"):
        around.service.answer({"command": "forget", "peer": "alice"}, 0.0)
    around.close()


def test_a_device_that_is_gone_ends_the_run_with_a_word(around):
    def gone(now: float) -> bool:
        raise OSError(errno.EBADFD, "File descriptor in bad state")

    around.node.handle_tun = gone
    os.eventfd_write(around.tun.fd, 1)
    with pytest.raises(HostError, match="the device tun0 was taken away"):
        around.service.run()
    around.loop.watch(around.tun.fd, gone)  # nothing stayed watched
    around.loop.unwatch(around.tun.fd)


def test_a_mistake_on_a_packet_costs_the_packet(around):
    secret = b"what was in the packet"
    seen = []

    def trip(index: int, port: object, now: float) -> bool:
        port.recv(memoryview(bytearray(70_000)), 0)
        seen.append(index)
        if len(seen) == 3:
            around.loop.stop()
        raise ValueError(secret)

    around.node.handle_port = trip
    for _ in range(3):
        around.port.send(memoryview(bytearray(5)), 0, 5, 5, around.port.local)
    around.service.run()
    assert seen == [0, 0, 0]
    assert around.names()[-1] == "left"
    (told,) = [event for event in around.logged if event.name == "internal-error"]
    assert "ValueError at test_service.py:" in told.text
    assert secret.decode() not in str(told)
    assert around.service.status(0.0)["internal_errors"] == 3


# ---------------------------------------------------------------- ports on demand


@pytest.fixture
def fresh(around, tmp_path) -> Around:
    """A service that may open ports."""
    parts = [Part("transport_udp", ltunnel_transport(), NoOptions())]
    context = TransportContext(listen=None, remote=("127.0.0.1", 9), local_port=4242)
    changes = HostChanges(tmp_path, "tun0", pytest.fail)
    around.service.fresh_ports = FreshPorts(parts, context, changes, receive_buffer=100_000)
    return around


def ports_of(around: Around) -> list[dict[str, object]]:
    return around.service.status(0.0)["ports"][1:]


def test_ports_are_opened_served_and_closed_as_ordered(fresh):
    order = OpenOrder(0, 2, "owner")
    fresh.node.orders = [order]
    fresh.service.tick(time.monotonic())
    assert fresh.node.opened == [(order, 2)]
    first, second = ports_of(fresh)
    assert first["transport"] == "transport_udp"
    numbers = [int(port["local"].rpartition(":")[2]) for port in (first, second)]
    assert len({*numbers, 4242, 0}) == 4, "each has a number of its own"
    fresh.port.send(memoryview(bytearray(5)), 0, 5, 5, ("127.0.0.1", numbers[1]))
    fresh.node.timeout = end = time.monotonic() + 0.3
    fresh.node.handle_timeout = lambda now: fresh.loop.stop() if now >= end else None
    fresh.node.orders = [CloseOrder(7)]
    fresh.service.run()
    assert "port 8" in fresh.node.calls
    assert "port 7" not in fresh.node.calls
    assert fresh.node.calls[-1] == "stop"
    assert [port["local"] for port in ports_of(fresh)] == [second["local"]]
    fresh.service.close()
    assert ports_of(fresh) == []


def test_fewer_ports_than_ordered_are_better_than_none(fresh, monkeypatch):
    real = fresh.service.fresh_ports.open

    def open_one(transport: int) -> object:
        if fresh.service.fresh_ports.opened:
            raise HostError("too many open files")
        fresh.service.fresh_ports.opened = True
        return real(transport)

    fresh.service.fresh_ports.opened = False
    monkeypatch.setattr(fresh.service.fresh_ports, "open", open_one)
    for order in (OpenOrder(0, 5, "first"), OpenOrder(0, 5, "second")):
        fresh.node.orders.append(order)
    fresh.service.tick(time.monotonic())
    assert [count for _, count in fresh.node.opened] == [1, 0]
    assert fresh.names().count("no-port") == 1, "told once a minute"


def test_a_hubs_second_port(around, tmp_path):
    parts = [Part("transport_udp", ltunnel_transport(), NoOptions())]
    changes = HostChanges(tmp_path, "tun0", pytest.fail)
    fresh = FreshPorts(parts, TransportContext(listen=("127.0.0.1", 9), remote=None), changes, receive_buffer=100_000)
    instance = fresh.open(0, listen=0)
    around.service.fresh_ports = fresh
    around.service.add_other_port(0, instance)
    assert around.node.opened == [(0, instance.port.local[1])]
    with pytest.raises(HostError, match="in use"):
        fresh.open(0, listen=instance.port.local[1])
    around.service.close()
    assert instance.port.fileno() < 0
