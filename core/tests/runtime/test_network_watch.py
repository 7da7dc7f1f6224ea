import os
import socket
from collections.abc import Iterator

import pytest

from ltunnel.runtime.link import source_address
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.network_watch import LATEST, QUIET, NetworkWatch


class Machine:
    """A watch over an address that a test changes; what the kernel says goes through a pair of sockets."""

    def __init__(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address: str | None = "192.0.2.1"
        self.calls: list[float] = []
        ours, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.kernel.setblocking(False)

        class Netlink:
            def __new__(cls, family: int, kind: int, protocol: int):
                assert (family, protocol) == (socket.AF_NETLINK, socket.NETLINK_ROUTE)
                return FakeSocket(ours)

        monkeypatch.setattr("ltunnel.runtime.network_watch.socket.socket", Netlink)
        self.watch = NetworkWatch(loop, lambda: self.address, self.calls.append)

    def say(self, now: float) -> None:
        self.kernel.send(b"an address came")
        self.watch._heard(now)


class FakeSocket:
    def __init__(self, real: socket.socket) -> None:
        self.real = real
        self.fileno, self.close, self.setblocking, self.recv = real.fileno, real.close, real.setblocking, real.recv

    def bind(self, address: tuple[int, int]) -> None:
        assert address == (0, 0x550)


@pytest.fixture
def machine(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(loop, monkeypatch)
    yield machine
    machine.watch.close()
    machine.kernel.close()


def test_another_address_is_told_once_it_is_quiet(machine):
    assert machine.watch.check(1.0) is None
    machine.address = "198.51.100.1"
    assert machine.watch.check(2.0) is None, "the kernel has said nothing"
    machine.say(10.0)
    assert machine.watch.check(10.0) == 10.0 + QUIET
    machine.say(10.3)
    assert machine.watch.check(10.6) == 10.3 + QUIET
    assert machine.watch.check(10.3 + QUIET) is None
    assert machine.calls == [10.3 + QUIET]
    assert machine.watch.check(20.0) is None


def test_what_changes_nothing_is_not_told(machine):
    machine.say(10.0)
    assert machine.watch.check(11.0) is None
    machine.address = None
    machine.say(20.0)
    machine.watch.check(21.0)
    machine.address = "192.0.2.1"
    machine.say(30.0)
    machine.watch.check(31.0)
    assert machine.calls == [], "the same network is back"
    machine.address = "192.0.2.2"
    machine.say(40.0)
    machine.watch.check(41.0)
    assert machine.calls == [41.0]


def test_a_kernel_that_never_stops_talking_is_not_waited_for(machine):
    machine.address = "198.51.100.1"
    for i in range(100):
        machine.say(10.0 + i * 0.1)
        machine.watch.check(10.0 + i * 0.1)
    assert len(machine.calls) == 1
    assert machine.calls[0] == pytest.approx(10.0 + LATEST, abs=0.11)


def test_the_kernel_is_asked_for_the_own_address():
    assert source_address(("127.0.0.1", 9)) == "127.0.0.1"
    assert source_address(("::1", 9)) in ("::1", None)


@pytest.mark.skipif(os.geteuid() != 0, reason="adds an address to the loopback device")
@pytest.mark.netns
def test_a_real_change_is_heard():
    from pyroute2 import netns

    name = f"watch{os.getpid()}"
    netns.create(name)
    try:
        netns.pushns(name)
        try:
            loop = Loop()
            calls: list[float] = []
            seen: list[str] = ["before"]
            watch = NetworkWatch(loop, lambda: seen[-1], calls.append)
            from pyroute2 import IPRoute

            with IPRoute() as route:
                seen.append("after")
                route.addr("add", index=1, address="192.0.2.9", prefixlen=32)

            def tick(now: float) -> float | None:
                due = watch.check(now)
                if calls:
                    loop.stop()
                return due

            loop.run(tick)
            assert len(calls) == 1
            watch.close()
            loop.close()
        finally:
            netns.popns()
    finally:
        netns.remove(name)
