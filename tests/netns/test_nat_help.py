"""What helps: a router that maps ports; and what people are told about their NATs."""

import json
import time
from ipaddress import ip_network

import pytest

from lab import Lab, traffic
from lab.meeting import Meeting
from lab.nat import Kind, Site
from lab.raw import inside
from lab.tunnel import Tunnel
from ltunnel.plugin import Carrier
from ltunnel.runtime.surroundings import Seen, look_around

pytestmark = pytest.mark.netns


def explained(tunnel: Tunnel) -> dict:
    return json.loads(tunnel.run("nat", "--json", "--tun-name", "tun0").stdout)


def wait_explained(tunnel: Tunnel, wanted, timeout: float = 15.0) -> dict:
    end = time.monotonic() + timeout
    while not wanted(shown := explained(tunnel)):
        assert time.monotonic() < end, shown
        time.sleep(0.2)
    return shown


def test_a_mapped_port_makes_two_hard_nats_direct(lab: Lab) -> None:
    site, other = Site(lab, 0, Kind.SYMMETRIC), Site(lab, 1, Kind.SYMMETRIC)
    gateway = site.router.start("gateway", [*traffic.INSIDE["gateway"], site.outside])
    gateway.wait_for("ready")
    meeting = Meeting.build(lab, site.add_host("one"), other.add_host("other"))
    gateway.wait_for("mapped 192.168.0.2")
    assert meeting.first_ping().received == 1
    meeting.wait_path("public", 15)
    shown = explained(meeting.one)
    assert shown["mapping"] == {"udp": "PCP"}
    assert shown["nat"].endswith("reachable from everywhere")
    assert shown["mapped"][0]["address"][0] == site.outside
    assert meeting.one.program.stop() == 0
    gateway.wait_for("ended 192.168.0.2")


def test_nat_explains_itself(lab: Lab) -> None:
    one, other = Site(lab, 0, Kind.SYMMETRIC), Site(lab, 1, Kind.PORT_RESTRICTED)
    meeting = Meeting.build(lab, one.add_host("one"), other.add_host("other"))
    assert meeting.first_ping().received == 1
    shown = wait_explained(meeting.one, lambda shown: shown["behaviour"]["filtering"] != "unknown")
    assert shown["behaviour"]["mapping"] == "address_and_port_dependent"
    assert "hard (symmetric)" in shown["nat"]
    assert {own["address"] for own in shown["candidates"]} == {"192.168.0.2", one.outside}
    easy = wait_explained(meeting.other, lambda shown: shown["behaviour"]["filtering"] != "unknown")
    assert easy["behaviour"] == {
        "mapping": "endpoint_independent", "filtering": "address_and_port_dependent", "hairpin": "no",
        "preserves_port": "yes",
    }  # fmt: skip
    meeting.wait_path("public", 25)
    (peer,) = explained(meeting.one)["peers"]
    assert peer["name"] == "other"
    assert peer["tried"]["rounds"][-1]["result"] == "direct"
    people = meeting.one.run("nat", "--tun-name", "tun0").stdout
    assert "other by public" in people
    hub = meeting.hub.run("nat", "--tun-name", "tun0")
    assert hub.returncode == 2
    assert "this is a server" in hub.stderr


def look(host, remote: str) -> Seen:
    with inside(host):
        return look_around({Carrier.UDP: 4500}, network="net", remote=(remote, 9000), tun="tun0")


def settled(host, remote: str) -> Seen:
    end = time.monotonic() + 10
    while not (seen := look(host, remote)).settled:
        assert time.monotonic() < end, seen
        time.sleep(0.1)
    return seen


def test_a_lan_is_its_prefix_and_its_router(lab: Lab) -> None:
    """Two hosts of a site name the same LAN; those of another site with the same addresses another one."""
    site, twin = Site(lab, 0, subnet=7), Site(lab, 1, subnet=7)
    hosts = [site.add_host("a"), site.add_host("b"), twin.add_host("c")]
    first, second, elsewhere = (settled(host, "198.18.200.2") for host in hosts)
    assert [own.address for own in first.local] == [("192.168.7.2", 4500)]
    assert first.networks == (ip_network("192.168.7.0/24"),)
    assert first.local[0].network == second.local[0].network != b""
    assert len(first.local[0].network) == 8
    assert elsewhere.local[0].address == ("192.168.7.2", 4500)
    assert elsewhere.local[0].network != first.local[0].network


def test_addresses_without_a_router_have_no_lan_and_odd_ones_are_left_out(lab: Lab) -> None:
    site = Site(lab, 0)
    host, peer = site.add_host("a"), lab.host("cable", ipv6=True)
    host.veth("eth1", peer, "eth0")
    host.add_address("eth1", "10.99.0.1/24")
    host.add_address("eth1", "2001:db8:5::1/64")
    host.veth("tun0", peer, "eth1")
    host.add_address("tun0", "10.0.0.2/24")
    end = time.monotonic() + 10
    while ("2001:db8:5::1", 4500) not in (
        found := {own.address: own.network for own in settled(host, "198.18.200.2").local}
    ):
        assert time.monotonic() < end, found
        time.sleep(0.1)  # it is tentative for a moment
    assert found.pop(("192.168.0.2", 4500)) != b""
    assert found == {("10.99.0.1", 4500): b"", ("2001:db8:5::1", 4500): b""}
