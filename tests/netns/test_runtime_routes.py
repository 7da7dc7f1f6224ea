"""Routes into a TUN device on a real kernel, and the networks that a machine is in itself."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network

import pytest

from lab import Host, Lab
from lab.raw import inside
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.netlink import configure_tun
from ltunnel.runtime.raw_netlink import Netlink
from ltunnel.runtime.tun import open_tun
from ltunnel.runtime.tunnel_routes import METRIC, PROTOCOL, TunnelRoutes

pytestmark = pytest.mark.netns

OFFICE, BRANCH, SIX = ip_network("192.168.7.0/24"), ip_network("10.9.0.0/16"), ip_network("fd07::/64")
OWN = ("10.0.0.2/24", "fd00::2/64")


class Machine:
    """A host with a TUN device, a link to another machine, and a node that wants routes."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.networks: tuple[IPv4Network | IPv6Network, ...] = ()
        self.links: tuple[IPv4Network | IPv6Network, ...] = ()
        self.complaints: list[str] = []
        with inside(host):
            self.loop = Loop()
            self.tun = open_tun("tun7")
            configure_tun("tun7", mtu=1400, queue=500, addresses=[ip_interface(address) for address in OWN])
            self.routes = TunnelRoutes(self.loop, self, "tun7", self.complaints.append, time.monotonic())  # type: ignore[arg-type]

    def set_links(self, networks: tuple[IPv4Network | IPv6Network, ...], _now: float) -> None:
        self.links = networks

    def close(self) -> None:
        self.routes.close()
        self.loop.close()
        self.tun.close()

    def check(self) -> None:
        self.routes.check(time.monotonic())

    def wait(self, until: Callable[[], bool]) -> None:
        """Serve what the kernel says until something holds."""
        deadline = time.monotonic() + 10

        def tick(now: float) -> float:
            due = self.routes.check(now)
            if until():
                self.loop.stop()
            assert now < deadline, (self.routed(), self.links, self.complaints)
            return min(now + 0.05, now + 1 if due is None else due)

        self.loop.run(tick)

    def routed(self) -> list[str]:
        """Return the networks that the kernel has routes for which are ours."""
        found = []
        for family in ("-4", "-6"):
            listing = self.host.run("ip", family, "route", "show", "proto", str(PROTOCOL)).stdout
            for line in listing.splitlines():
                network, rest = line.split(maxsplit=1)
                assert rest.startswith("dev tun7 ")
                assert f"metric {METRIC}" in rest
                found.append(network)
        return sorted(found)

    def device_to(self, address: str) -> str:
        return self.host.run("ip", "route", "get", address).stdout.split("dev ")[1].split()[0]


@pytest.fixture
def machine(lab: Lab) -> Iterator[Machine]:
    host, other = lab.host("one", ipv6=True), lab.host("other", ipv6=True)
    host.veth("eth0", other, "eth0")
    host.add_address("eth0", "192.168.8.2/24")
    host.add_address("eth0", "2001:db8::2/64")
    host.add_address("lo", "203.0.113.1/32")
    machine = Machine(host)
    yield machine
    machine.close()


def test_routes_come_change_and_go(machine: Machine) -> None:
    before = machine.host.traces()
    machine.networks = (OFFICE, SIX)
    machine.check()
    assert machine.routed() == ["192.168.7.0/24", "fd07::/64"]
    for address, source in (("192.168.7.20", "10.0.0.2"), ("fd07::20", "fd00::2")):
        shown = machine.host.run("ip", "route", "get", address).stdout
        assert " dev tun7 " in shown
        assert f" src {source} " in shown
    machine.networks = (BRANCH, SIX)
    machine.check()
    assert machine.routed() == ["10.9.0.0/16", "fd07::/64"]
    machine.networks = ()
    machine.check()
    assert machine.complaints == []
    assert machine.host.traces() == before


def test_they_go_with_the_device(machine: Machine, lab: Lab) -> None:
    machine.networks = (OFFICE, SIX)
    machine.check()
    assert len(machine.routed()) == 2
    machine.tun.close()
    assert machine.routed() == []
    machine.networks = ()
    machine.check()
    assert machine.complaints == [], "what has gone need not be taken back"


def test_a_route_that_is_there_stays_in_force(machine: Machine) -> None:
    host = machine.host
    host.add_route(str(OFFICE), "192.168.8.1")
    host.run("ip", "-6", "route", "add", str(SIX), "via", "2001:db8::1")
    machine.networks = (OFFICE, SIX)
    machine.check()
    assert machine.routed() == ["192.168.7.0/24", "fd07::/64"]
    assert machine.device_to("192.168.7.20") == machine.device_to("fd07::20") == "eth0"
    host.run("ip", "route", "del", str(OFFICE), "via", "192.168.8.1")
    host.run("ip", "-6", "route", "del", str(SIX), "via", "2001:db8::1")
    assert machine.device_to("192.168.7.20") == machine.device_to("fd07::20") == "tun7"


def test_two_tunnels_may_lead_to_one_network(machine: Machine) -> None:
    """The second one's route stands beside the first one's, and each takes back its own."""
    host = machine.host
    for family, network in (("-4", OFFICE), ("-6", SIX)):
        host.run("ip", family, "route", "add", str(network), "dev", "eth0", "metric", str(METRIC), "proto", "76")
    machine.networks = (OFFICE, SIX)
    machine.check()
    assert machine.complaints == []
    for family, network in (("-4", OFFICE), ("-6", SIX)):
        assert len(host.run("ip", family, "route", "show", str(network)).stdout.splitlines()) == 2
    machine.networks = ()
    machine.check()
    for family, network in (("-4", OFFICE), ("-6", SIX)):
        shown = host.run("ip", family, "route", "show", str(network)).stdout
        assert [line.split()[2] for line in shown.splitlines()] == ["eth0"]


def test_routes_that_others_have_cleared_away_come_back(machine: Machine) -> None:
    machine.networks = (OFFICE, SIX)
    machine.check()
    for family in ("-4", "-6"):
        machine.host.run("ip", family, "route", "flush", "dev", "tun7", "proto", str(PROTOCOL))
    assert machine.routed() == []
    machine.wait(lambda: machine.routed() == ["192.168.7.0/24", "fd07::/64"])
    assert machine.complaints == []


def test_routes_come_back_when_the_device_is_up_again(machine: Machine) -> None:
    machine.networks = (OFFICE,)
    machine.check()
    machine.host.down("tun7")
    assert machine.routed() == []
    machine.networks = (OFFICE, BRANCH)
    machine.check()
    machine.check()
    said = ["cannot route 192.168.7.0/24 and 1 other into tun7: Network is down; trying again every 10 s"]
    assert machine.complaints == said
    machine.host.up("tun7")
    machine.wait(lambda: machine.routed() == ["10.9.0.0/16", "192.168.7.0/24"])
    assert machine.complaints == said


def test_own_links_are_told_and_so_are_changes(machine: Machine) -> None:
    assert machine.links == (ip_network("192.168.8.0/24"), ip_network("2001:db8::/64"), ip_network("fe80::/64"))
    machine.host.add_address("eth0", "192.168.7.9/24")
    machine.wait(lambda: OFFICE in machine.links)
    machine.host.delete_address("eth0", "192.168.7.9/24")
    machine.wait(lambda: OFFICE not in machine.links)
    machine.host.netlink.link("del", index=machine.host.index("eth0"))
    machine.wait(lambda: machine.links == ())


@pytest.mark.parametrize("address", ["10.9.3.1/16 scope link", "fd07::1/64 preferred_lft 0", "fd07::1/64"])
def test_the_machine_is_in_a_network_by_whatever_address(machine: Machine, address: str) -> None:
    """Of link scope, deprecated, or tentative, while the kernel still looks for duplicates."""
    if address == "fd07::1/64":
        machine.host.sysctl({"net.ipv6.conf.eth0.accept_dad": 1, "net.ipv6.conf.eth0.dad_transmits": 100})
    machine.host.run("ip", "address", "add", *address.split(), "dev", "eth0")
    network = ip_interface(address.split()[0]).network
    machine.wait(lambda: network in machine.links)
    with inside(machine.host), closing(Netlink()) as netlink:
        found = {fit: {own.host for own in netlink.addresses(fit=fit) or ()} for fit in (True, False)}
    own = ip_interface(address.split()[0]).packed
    assert own in found[False]
    assert own not in found[True]


def test_what_is_said_of_the_own_routes_does_not_go_on_for_ever(machine: Machine) -> None:
    machine.networks = (OFFICE, SIX)
    machine.check()
    turns = []

    def tick(now: float) -> float:
        turns.append(now)
        machine.routes.check(now)
        if now > turns[0] + 2:
            machine.loop.stop()
        return turns[0] + 2.1

    machine.loop.run(tick)
    assert len(turns) < 20


def test_two_hundred_routes_are_a_matter_of_milliseconds(machine: Machine) -> None:
    machine.networks = tuple(ip_network(f"10.{number}.0.0/16") for number in range(1, 201))
    began = time.monotonic()
    machine.check()
    assert time.monotonic() - began < 0.5
    assert len(machine.routed()) == 200
