"""A service with everything around it faked but the loop and a port."""

import os
from ipaddress import ip_address, ip_interface
from types import SimpleNamespace

from ltunnel.control.directory import Binding
from ltunnel.control.events import Event
from ltunnel.control.settings import Role
from ltunnel.node import PortOrder
from ltunnel.runtime.loop import Loop, make_event
from ltunnel.runtime.service import Service
from ltunnel.runtime.udp import open_udp

ALICE = Binding(key=bytes(32), addresses=(ip_address("10.0.0.2"),), name="alice")


class FakeControl:
    state = "up"

    def __init__(self) -> None:
        self.wall_offset = 0.0
        self.events: list[Event] = []
        self.pins = {"hub/net": bytes(32)}

    def forget_binding(self, who: str, now: float) -> Binding | None:
        return ALICE if who == "alice" else None

    def forget_pin(self, name: str, now: float) -> bool:
        return self.pins.pop(name, None) is not None


class FakeNode:
    """Counts what it is asked to do; `events` are handed over once."""

    transport_names = ("transport_udp",)

    def __init__(self, role: Role = Role.HUB) -> None:
        self.settings = SimpleNamespace(
            role=role,
            name="hub\x1b",
            network="net",
            cipher="AESGCM",
            mtu=1400,
            addresses=(ip_interface("10.0.0.1/24"),),
            keys=SimpleNamespace(check="ABCD", keyed=True),
        )
        self.control = FakeControl()
        self.calls: list[str] = []
        self.timeout: float | None = None
        self.orders: list[PortOrder] = []
        self.opened: list[tuple[PortOrder, int]] = []

    def take_orders(self) -> list[PortOrder]:
        orders, self.orders = self.orders, []
        return orders

    def ports_opened(self, order: PortOrder, transports: list[object], now: float) -> list[int]:
        self.opened.append((order, len(transports)))
        return list(range(7, 7 + len(transports)))

    def add_other_port(self, transport: int, other: object, number: int) -> int:
        self.opened.append((transport, number))
        return 7

    def start(self, now: float) -> None:
        self.calls.append("start")

    def stop(self, now: float) -> None:
        self.calls.append("stop")
        self.events.append(Event(name="left", text="left"))

    def handle_tun(self, now: float) -> bool:
        self.calls.append("tun")
        return False

    def handle_port(self, index: int, port: object, now: float) -> bool:
        self.calls.append(f"port {index}")
        port.recv(memoryview(bytearray(70_000)), 0)
        return False

    def next_timeout(self) -> float | None:
        return self.timeout

    def handle_timeout(self, now: float) -> None:
        is_due = self.timeout is not None and self.timeout <= now
        self.calls.append("due" if is_due else "nothing due")  # which sends what is to be sent
        if is_due:
            self.timeout = None

    @property
    def events(self) -> list[Event]:
        return self.control.events

    @events.setter
    def events(self, events: list[Event]) -> None:
        self.control.events = events

    def take_events(self, now: float) -> list[Event]:
        taken, self.events = self.events, []
        return taken

    def status(self, now: float) -> dict[str, object]:
        return {"role": "hub"}


class FakeTun:
    name, offload, refused = "tun0", True, 3

    def __init__(self) -> None:
        self.fd = make_event()

    def fileno(self) -> int:
        return self.fd


class Around:
    """A service with everything around it faked but the loop and the port."""

    def __init__(self, role: Role = Role.HUB) -> None:
        self.loop = Loop()
        self.node = FakeNode(role)
        self.tun = FakeTun()
        self.port = open_udp("127.0.0.1", 0, dual_stack=False)
        self.logged: list[Event] = []
        self.saved: list[str] = []
        self.failing: OSError | None = None
        self.service = Service(
            self.node,
            self.loop,
            self.tun,
            [[self.port]],
            log=self.logged.append,
            savers={"bindings": lambda: self.save("bindings"), "pins": lambda: self.save("pins")},
            warnings=["beware"],
        )

    def save(self, name: str) -> None:
        if self.failing:
            raise self.failing
        self.saved.append(name)

    def names(self) -> list[str]:
        return [event.name for event in self.logged]

    def close(self) -> None:
        self.service.close()
        self.port.close()
        self.loop.close()
        os.close(self.tun.fd)
