"""Which routes the kernel is asked for, and what the node hears of this machine's own links."""

import errno
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest

from ltunnel.runtime import tunnel_routes as module
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.network_watch import QUIET
from ltunnel.runtime.raw_netlink import Link, LinkRoute, OwnAddress
from ltunnel.runtime.tunnel_routes import METRIC, PROTOCOL, TRY_AGAIN, TunnelRoutes

OFFICE, BRANCH = ip_network("192.168.7.0/24"), ip_network("10.9.0.0/16")
TUN, LOOPBACK, ETHERNET = 1, 7, 8
"""Indexes of interfaces; the test's "TUN" is the loopback of where it runs, which has number 1 everywhere."""


class Machine:
    """A kernel with routes and addresses, and a node that wants some."""

    def __init__(self) -> None:
        self.routes: set[LinkRoute] = set()
        self.calls = 0
        self.broken = 0
        self.own: list[OwnAddress] | None = [
            OwnAddress(TUN, bytes((10, 0, 0, 2)), 24),
            OwnAddress(LOOPBACK, bytes((10, 255, 0, 1)), 32),
        ]
        self.networks: tuple[IPv4Network | IPv6Network, ...] = ()
        self.told: list[tuple[float, list[str]]] = []
        self.complaints: list[str] = []
        self.closed = 0

    def set_links(self, networks: tuple[IPv4Network | IPv6Network, ...], now: float) -> None:
        self.told.append((now, [str(network) for network in networks]))

    # what the kernel answers

    def addresses(self, *, fit: bool) -> list[OwnAddress] | None:
        assert not fit
        return self.own

    def link(self, device: int) -> Link | None:
        if device == ETHERNET + 1:
            return None
        return Link(device, f"dev{device}", 1, 0x9 if device == LOOPBACK else 0x1, 1500, b"")

    def add_route(self, route: LinkRoute) -> int:
        self.calls += 1
        if not self.broken:
            self.routes.add(route)
        return self.broken

    def delete_route(self, route: LinkRoute) -> int:
        self.calls += 1
        if not self.broken:
            self.routes.remove(route)
        return self.broken

    def close(self) -> None:
        self.closed += 1

    @property
    def routed(self) -> list[str]:
        assert {(route.device, route.metric, route.protocol) for route in self.routes} <= {(TUN, METRIC, PROTOCOL)}
        return sorted(str(ip_network((route.host, route.prefix))) for route in self.routes)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(module, "Netlink", lambda: machine)
    return machine


@pytest.fixture
def routes(machine: Machine, loop: Loop) -> Iterator[TunnelRoutes]:
    routes = TunnelRoutes(loop, machine, "lo", machine.complaints.append, 1.0)  # type: ignore[arg-type]
    yield routes
    routes.close()
    assert machine.closed == 1


def test_routes_come_change_and_go_with_what_the_node_accepts(machine, routes):
    assert routes.check(1.0) is None
    assert machine.calls == 0
    machine.networks = (OFFICE, BRANCH)
    assert routes.check(2.0) is None
    assert machine.routed == ["10.9.0.0/16", "192.168.7.0/24"]
    routes.check(3.0)
    assert machine.calls == 2, "nothing has changed"
    machine.networks = (BRANCH,)
    routes.check(4.0)
    assert machine.routed == ["10.9.0.0/16"]
    machine.networks = ()
    routes.check(5.0)
    assert machine.routed == []
    assert machine.complaints == []


def test_what_the_kernel_may_have_lost_is_put_back(machine, routes):
    machine.networks = (OFFICE,)
    routes.check(1.0)
    machine.routes.clear()
    routes._watch._heard(10.0)
    assert routes.check(10.0) == 10.0 + QUIET
    assert routes.check(10.0 + QUIET) is None
    assert machine.routed == ["192.168.7.0/24"]


def test_a_refusal_is_told_once_and_tried_again_until_it_works(machine, routes):
    machine.networks = (OFFICE,)
    machine.broken = errno.ENETDOWN
    assert routes.check(1.0) == 1.0 + TRY_AGAIN
    assert routes.check(1.0 + TRY_AGAIN) == 1.0 + 2 * TRY_AGAIN
    assert machine.calls == 2
    assert machine.complaints == ["cannot route 192.168.7.0/24 into lo: Network is down; trying again every 10 s"]
    machine.broken = 0
    assert routes.check(1.0 + 2 * TRY_AGAIN) is None
    assert machine.routed == ["192.168.7.0/24"]
    machine.broken = errno.ENETDOWN
    machine.networks = (OFFICE, BRANCH)
    routes.check(40.0)
    assert machine.complaints[1:] == [
        "cannot route 192.168.7.0/24 and 1 other into lo: Network is down; trying again every 10 s"
    ], "it had worked in between"


def test_one_line_tells_of_all_that_fails_for_one_reason(machine, routes):
    machine.networks = tuple(ip_network(f"10.{number}.0.0/16") for number in range(200))
    machine.broken = errno.ENETDOWN
    routes.check(1.0)
    machine.networks = (*machine.networks, OFFICE)
    routes.check(2.0)
    assert machine.complaints == [
        "cannot route 10.0.0.0/16 and 199 others into lo: Network is down; trying again every 10 s"
    ]
    machine.broken = errno.EPERM
    routes.check(2.0 + TRY_AGAIN)
    assert machine.complaints[1:] == [
        "cannot route 10.0.0.0/16 and 200 others into lo: Operation not permitted; trying again every 10 s"
    ]


def test_networks_that_stay_the_very_same_are_not_compared(machine, routes):
    class Same(tuple):
        __slots__ = ()

        def __ne__(self, other: object) -> bool:
            raise AssertionError("element by element")

        __eq__, __hash__ = __ne__, tuple.__hash__

    routes.check(1.0)
    machine.networks = routes._wanted = Same((OFFICE,))
    assert routes.check(2.0) is None
    assert machine.calls == 0


def test_a_route_that_cannot_be_taken_back_is_not_forgotten(machine, routes):
    machine.networks = (OFFICE,)
    routes.check(1.0)
    machine.networks = ()
    machine.broken = errno.EPERM
    assert routes.check(2.0) == 2.0 + TRY_AGAIN
    routes.check(2.0 + TRY_AGAIN)
    assert machine.complaints == [
        "cannot take back the route of 192.168.7.0/24: Operation not permitted; trying again every 10 s"
    ]
    machine.broken = 0
    assert routes.check(2.0 + 2 * TRY_AGAIN) is None
    assert machine.routed == []


def test_the_node_hears_of_own_links_at_once_and_when_they_change(machine, routes):
    assert machine.told == [(1.0, [])], "device and loopback do not count"
    machine.own += [
        OwnAddress(ETHERNET, bytes((192, 168, 8, 5)), 24),
        OwnAddress(ETHERNET, ip_network("2001:db8::/64").network_address.packed[:-1] + b"\x07", 64),
        OwnAddress(ETHERNET, bytes((192, 168, 8, 6)), 24),
        OwnAddress(ETHERNET + 1, bytes((192, 168, 9, 6)), 24),  # its link has just gone
    ]
    routes._watch._heard(10.0)
    assert routes.check(10.0) == 10.0 + QUIET
    assert len(machine.told) == 1
    routes.check(10.0 + QUIET)
    assert machine.told[1:] == [(10.0 + QUIET, ["192.168.8.0/24", "2001:db8::/64"])]
    routes._watch._heard(20.0)
    routes.check(21.0)
    assert len(machine.told) == 2, "nothing has changed"


def test_links_stay_as_they_were_until_all_are_known(machine, routes):
    routes.check(1.0)
    complete = [*machine.own, OwnAddress(ETHERNET, bytes((192, 168, 8, 5)), 24)]
    machine.own = None
    routes._watch._heard(10.0)
    assert routes.check(10.0) == 10.0 + QUIET
    assert routes.check(10.0 + QUIET) == 10.0 + QUIET + TRY_AGAIN
    assert routes.check(10.0 + QUIET + TRY_AGAIN) == 10.0 + QUIET + 2 * TRY_AGAIN
    assert len(machine.told) == 1
    machine.own = complete
    assert routes.check(10.0 + QUIET + 2 * TRY_AGAIN) is None
    assert machine.told[1:] == [(10.0 + QUIET + 2 * TRY_AGAIN, ["192.168.8.0/24"])]


def test_links_that_are_not_known_at_the_start_are_asked_for_again(machine, loop):
    machine.own = None
    routes = TunnelRoutes(loop, machine, "lo", machine.complaints.append, 1.0)  # type: ignore[arg-type]
    assert routes.check(1.0) == 1.0 + TRY_AGAIN
    assert machine.told == []
    machine.own = []
    assert routes.check(1.0 + TRY_AGAIN) is None
    assert machine.told == [(1.0 + TRY_AGAIN, [])]
    routes.close()


def test_what_a_change_of_links_does_to_the_networks_takes_effect_at_once(machine, routes):
    machine.networks = (OFFICE,)
    routes.check(1.0)
    machine.own.append(OwnAddress(ETHERNET, bytes((192, 168, 7, 5)), 24))
    machine.set_links = lambda networks, now: setattr(machine, "networks", ())
    routes._watch._heard(10.0)
    assert routes.check(10.0 + QUIET) is None
    assert machine.routed == []
