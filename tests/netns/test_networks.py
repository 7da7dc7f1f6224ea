"""Networks behind machines: devices that run no ltunnel are reached through one that does, and no farther."""

import re
import sys
from collections import Counter

import pytest

from lab import Lab, Program, Tunnel, traffic
from lab.lan import Lan, accept, accepting, config, offer, path, reaches, refused, routed, wait_routed
from lab.nat import Site
from lab.network import HUB_OUTER, KEY, Network, attach_node

pytestmark = pytest.mark.netns


# ---------------------------------------------------------------- reaching devices


@pytest.mark.parametrize("way", ["public", "hub"])
@pytest.mark.parametrize("offloads", [True, False], ids=["", "without offloads"])
def test_a_device_is_reached_that_has_no_way_back(lab: Lab, way: str, offloads: bool) -> None:
    more = ["-p2p=false"] if way == "hub" else []
    network, lan = accepting(lab), Lan(lab, 0)
    gate, far = offer(network, lan, *more), accept(network, *more)
    if not offloads:
        off = dict.fromkeys(("tx", "tso", "gso", "gro"), False)
        for host, link in ((lan.gate, "lan0"), (lan.gate, "eth0"), (lan.device, "eth0"), (far.host, "eth0")):
            host.offload(link, off)
    for tunnel in (far, network.hub):
        wait_routed(tunnel, *lan.networks)
        assert reaches(tunnel.host, lan.address)
        assert reaches(tunnel.host, lan.address6)
    wait_routed(gate)
    gate_name = f"{network.inner(0)}"
    far.wait_status(lambda _: path(far, gate_name) == way, f"go by {way}")
    for address in (lan.address, lan.address6):
        there = traffic.transfer(far.host, lan.device, address, megabytes=5)
        assert there.sent == there.received
    traffic.tcp(far.host, lan.device, lan.address, seconds=1, reverse=True)
    assert lan.hears_from("192.168.7.1") == lan.hears_from("fdaa:7::1") == 0
    assert reaches(far.host, lan.address)
    assert lan.hears_from("192.168.7.1") >= 4
    status = far.status()
    peer = far.peer(gate_name)
    assert peer is not None
    assert sorted(peer["networks"]) == sorted(lan.networks)
    assert gate.status()["routes"] == lan.networks
    assert status["refused_routes"] == network.hub.status()["refused_routes"] == []
    for tunnel in (network.hub, gate, far):
        assert drops(tunnel) == {}


def test_without_masquerade_devices_see_who_it_is(lab: Lab) -> None:
    network, lan = accepting(lab), Lan(lab, 0)
    gate, far = offer(network, lan, masquerade=False), accept(network)
    wait_routed(far, *lan.networks)
    assert traffic.ping(far.host, lan.address, count=3).received == 0, "there is no way back"
    lan.lead_back("10.0.0.0/24", "fd00::/64")
    for address, source in ((lan.address, network.inner(1)), (lan.address6, network.inner6(1))):
        assert lan.hears_from(source) == 0
        assert reaches(far.host, address)
        assert lan.hears_from(source) >= 4
    assert reaches(lan.device, network.inner(1)), "and devices can begin"
    assert "masquerade" not in gate.host.nft("list ruleset")


@pytest.mark.parametrize("masquerade", [True, False], ids=["masquerade", ""])
def test_devices_hear_what_is_too_large_and_what_leads_nowhere(lab: Lab, masquerade: bool) -> None:
    """What goes by the hub has less room: errors about that reach the device, through the gate."""
    network, lan = accepting(lab), Lan(lab, 0)
    offer(network, lan, "-p2p=false", masquerade=masquerade)
    far = accept(network, "-p2p=false")
    wait_routed(far, *lan.networks)
    lan.lead_back("10.0.0.0/24", "fd00::/64")
    assert reaches(lan.device, network.inner(1))
    room = far.status()["tun"]["mtu"]
    for to, headers, said in ((network.inner(1), 28, "Frag needed"), (network.inner6(1), 48, "Packet too big")):
        words = ("ping", "-M", "do", "-c", "3", "-i", "0.2", "-W", "1", "-s", str(room - headers), to)
        shown = lan.device.run(*words, check=False).stdout
        assert said in shown
        (smaller, *_) = re.findall(r"mtu ?= ?(\d+)", shown)
        assert int(smaller) < room
    for to, said in (("10.0.0.99", "Host Unreachable"), ("fd00::99", "unreachable")):
        assert said in lan.device.run("ping", "-c", "2", "-i", "0.2", "-W", "1", to, check=False).stdout


def test_networks_behind_the_hub(lab: Lab) -> None:
    host = lab.host("hub", ipv6=True)
    lab.attach(host, f"{HUB_OUTER}/24")
    lan = Lan(lab, 5, gate=host)
    hub = Tunnel.hub(host, "10.0.0.1/24", "fd00::1/64", key=KEY, args=config(lab, "hub", routes=lan.networks))
    hub.wait_up()
    network = Network(lab, hub)
    far, other = accept(network), network.add_node()
    wait_routed(far, *lan.networks)
    assert reaches(far.host, lan.address)
    assert reaches(far.host, lan.address6)
    other.wait_up()
    assert other.status()["accepted_routes"] == routed(other.host) == [], "it has not asked for any"
    there = traffic.transfer(far.host, lan.device, lan.address, megabytes=5)
    assert there.sent == there.received
    hub.program.stop()
    wait_routed(far)
    hub.start()
    wait_routed(far, *lan.networks)
    assert reaches(far.host, lan.address)


def test_an_office_behind_its_router(lab: Lab) -> None:
    """The gateway is one machine of the LAN among others, and nobody asked the router for anything."""
    network = accepting(lab)
    office, home = Site(lab, 0, subnet=7), Site(lab, 1)
    gate, device, far = office.add_host("gate"), office.add_host("device"), home.add_host("far")
    gate.sysctl({"net.ipv4.ip_forward": 1})
    network.add_node(KEY, config(lab, "gate", routes=["192.168.7.0/24"]), host=gate)
    laptop = network.add_node(KEY, config(lab, "far", accept_routes="all"), host=far)
    wait_routed(laptop, "192.168.7.0/24")
    assert reaches(far, "192.168.7.3")
    laptop.wait_status(lambda _: path(laptop, network.inner(0)) == "public", "go straight")
    there = traffic.transfer(far, device, "192.168.7.3", megabytes=5)
    assert there.sent == there.received
    assert reaches(far, "192.168.7.1"), "the router, too"


@pytest.mark.parametrize("masquerade", [True, False], ids=["masquerade", ""])
def test_two_sites_reach_each_other(lab: Lab, masquerade: bool) -> None:
    network = accepting(lab)
    lans = [Lan(lab, number) for number in range(2)]
    gates = [offer(network, lan, masquerade=masquerade) for lan in lans]
    for lan, other, gate in zip(lans, lans[::-1], gates, strict=True):
        wait_routed(gate, *other.networks)
        lan.lead_back(*other.networks)
    for lan, other in zip(lans, lans[::-1], strict=True):
        assert reaches(lan.device, other.address)
        assert reaches(lan.device, other.address6)
        there = traffic.transfer(lan.device, other.device, other.address, megabytes=5)
        assert there.sent == there.received
    source = "192.168.8.1" if masquerade else lans[0].address
    assert lans[1].hears_from(source) == 0
    assert reaches(lans[0].device, lans[1].address)
    assert lans[1].hears_from(source) >= 4


def drops(tunnel: Tunnel) -> dict[str, int]:
    """Return how many packets of peers were dropped for their inner addresses."""
    found = Counter[str]()
    for peer in tunnel.status()["peers"]:
        found.update(peer["drops"])
    return {reason: count for reason, count in found.items() if reason.startswith("inner ")}


# ---------------------------------------------------------------- what is refused


def test_two_sites_with_equal_private_addresses(lab: Lab) -> None:
    """Who comes first is reached; the other's own LAN stays what it was."""
    network = accepting(lab)
    lans = [Lan(lab, number, subnet=7) for number in range(2)]
    first = offer(network, lans[0])
    wait_routed(network.hub, *lans[0].networks)
    second, far = offer(network, lans[1]), accept(network)
    wait_routed(far, *lans[0].networks)
    assert refused(network.hub, "192.168.7.0/24") == f"it overlaps a network of {first.host.name}"
    assert "itself" in refused(second, "192.168.7.0/24")
    assert routed(second.host) == []
    assert lans[0].hears_from("192.168.7.1") == lans[1].hears_from("192.168.7.1") == 0
    assert reaches(far.host, lans[0].address)
    assert lans[0].hears_from("192.168.7.1") >= 4
    assert lans[1].hears_from("192.168.7.1") == 0
    assert reaches(second.host, lans[1].address), "straight"
    assert lans[1].hears_from("192.168.7.1") >= 4


def test_a_network_that_this_machine_is_in_is_refused_as_long_as_it_is(lab: Lab) -> None:
    network, lan = accepting(lab), Lan(lab, 0)
    offer(network, lan)
    far = accept(network)
    wait_routed(far, *lan.networks)
    far.host.run("ip", "link", "add", "br0", "type", "bridge")
    far.host.up("br0")
    far.host.add_address("br0", "192.168.7.77/25")
    assert refused(far, "192.168.7.0/24") == "this machine is in 192.168.7.0/25 itself"
    wait_routed(far, lan.networks[1])
    far.host.delete_address("br0", "192.168.7.77/25")
    wait_routed(far, *lan.networks)
    assert reaches(far.host, lan.address)


def test_what_nobody_accepts_leads_nowhere(lab: Lab) -> None:
    network, lan = accepting(lab), Lan(lab, 0)
    offer(network, lan)
    some, none = accept(network, accept_routes=["192.168.0.0/16"]), accept(network, accept_routes=[])
    wait_routed(some, lan.networks[0])
    none.wait_up()
    assert "accept_routes" in refused(some, lan.networks[1])
    assert routed(none.host) == []
    assert reaches(some.host, lan.address)


_GREEDY = """
import sys
from ipaddress import ip_network
from ltunnel.session.fib import Fib
beyond, honest = ip_network(sys.argv.pop(1)), Fib.set
def greedy(self, peer):
    if peer.networks:
        peer.networks = (*peer.networks, beyond)
    honest(self, peer)
Fib.set = greedy
from ltunnel.cli.main import run
run()
"""


class GreedyNode(Tunnel):
    """A node that sends a gateway what that does not offer."""

    beyond = "192.168.66.0/24"

    def start(self) -> Program:
        argv = [sys.executable, "-c", _GREEDY, self.beyond, *self.args]
        self.program = self.host.start(f"ltunnel-{self.device}", argv, self.env)
        return self.program


@pytest.mark.parametrize("way", ["public", "hub"])
def test_what_is_not_offered_is_not_passed_on(lab: Lab, way: str) -> None:
    """The gate forwards, and has another LAN: nobody gets there by way of the first."""
    more = ["-p2p=false"] if way == "hub" else []
    network, lan = accepting(lab), Lan(lab, 0)
    gate = offer(network, lan, *more)
    beyond = lab.host("beyond")
    lan.gate.veth("lan1", beyond, "eth0")
    lan.gate.add_address("lan1", "192.168.66.1/24")
    beyond.add_address("eth0", "192.168.66.20/24")
    beyond.add_route("10.0.0.0/24", "192.168.66.1")
    host = attach_node(lab, 1)
    args = [*config(lab, "greedy", accept_routes="all"), *more]
    greedy = GreedyNode.node(host, HUB_OUTER, "10.0.0.3/24", "fd00::3/64", key=KEY, args=args)
    wait_routed(greedy, *lan.networks)
    assert reaches(host, lan.address)
    host.run("ip", "route", "add", GreedyNode.beyond, "dev", "tun0")
    greedy.wait_status(lambda _: path(greedy, network.inner(0)) == way, f"go by {way}")
    assert drops(gate) == {}
    for address in ("192.168.66.20", "192.168.66.1"):
        assert traffic.ping(host, address, count=5).received == 0
    assert drops(gate) == {"inner destination": 10}
    assert reaches(host, lan.address)
