"""Nodes behind NATs of every kind find each other: direct where that is possible at all, else through the hub."""

import time

import pytest

from lab import Lab, traffic
from lab.meeting import ONE, OTHER, Meeting
from lab.nat import Kind, Site, cut, heal, narrow
from lab.network import HUB_OUTER6, attach_node
from lab.pings import Pings

pytestmark = pytest.mark.netns

EASY, HARD = 10, 25
"""Seconds until a path should be direct, with room for a busy machine."""
COUNTED = """table ip probes {
    chain passing { type filter hook forward priority -20; ip saddr 198.18.0.2 ip daddr 198.18.1.2 counter; }
}"""
HOST_FIREWALL = """table inet host_firewall {
    chain arriving {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iifname { "lo", "tun0" } accept
    }
}"""
FULL, ADDRESS, PORT, SYMMETRIC = Kind


def meet(lab: Lab, one: Kind, other: Kind) -> Meeting:
    """Start two nodes behind routers of these kinds."""
    return Meeting.build(lab, Site(lab, 0, one).add_host("one"), Site(lab, 1, other).add_host("other"))


@pytest.mark.parametrize(
    ("one", "other", "seconds"),
    [
        (FULL, FULL, EASY),
        (ADDRESS, PORT, EASY),
        (PORT, PORT, EASY),
        (FULL, SYMMETRIC, EASY),
        (SYMMETRIC, ADDRESS, EASY),
        (SYMMETRIC, PORT, HARD),
    ],
    ids=lambda value: value.value if isinstance(value, Kind) else None,
)
def test_two_nodes_find_each_other(lab: Lab, one: Kind, other: Kind, seconds: float) -> None:
    meeting = meet(lab, one, other)
    assert meeting.first_ping().received == 1  # through the hub, while paths are looked for
    meeting.wait_path("public", seconds)
    assert traffic.ping(meeting.one.host, OTHER).received == 3
    sent = meeting.hub.status()["counters"]["tx_bytes"]
    assert traffic.transfer(meeting.one.host, meeting.other.host, OTHER, megabytes=5).sent
    assert meeting.hub.status()["counters"]["tx_bytes"] - sent < 100_000


def test_two_hard_nats_stay_on_the_hub_without_a_storm(lab: Lab) -> None:
    meeting = meet(lab, SYMMETRIC, SYMMETRIC)
    assert meeting.first_ping().received == 1
    lab.internet.nft(COUNTED)
    time.sleep(20)
    assert meeting.path == ("hub", "hub")
    listing = lab.internet.run("nft", "list", "table", "ip", "probes").stdout
    packets = int(listing.split("counter packets ")[1].split()[0])
    assert packets < 100
    assert traffic.ping(meeting.one.host, OTHER).received == 3


@pytest.mark.parametrize("blocked", [False, True], ids=["", "where udp is blocked"])
def test_two_hard_nats_meet_over_ipv6_though_the_hub_is_joined_over_ipv4(lab: Lab, blocked: bool) -> None:
    sites = [Site(lab, number, SYMMETRIC, ipv6=True) for number in (1, 2)]
    for site in sites:
        site.block_udp(blocked)
    meeting = Meeting.build(lab, sites[0].add_host("one"), sites[1].add_host("other"), args=(), ipv6=True)
    assert meeting.first_ping().received == 1
    meeting.wait_path("public", 2 * EASY if blocked else EASY)
    transport = "transport_faketcp" if blocked else "transport_udp"
    assert meeting.transports == (transport, transport)
    one, other = meeting.other.peer(ONE), meeting.one.peer(OTHER)
    assert one
    assert other
    assert one["endpoint"].startswith("[2001:db8:1::2]:")
    assert other["endpoint"].startswith("[2001:db8:2::2]:")
    assert {peer["endpoint"].split(":")[0] for peer in meeting.hub.status()["peers"]} == {"198.18.1.2", "198.18.2.2"}
    sent = meeting.hub.status()["counters"]["tx_bytes"]
    assert traffic.transfer(meeting.one.host, meeting.other.host, OTHER, megabytes=5).sent
    assert meeting.hub.status()["counters"]["tx_bytes"] - sent < 100_000
    assert "IPv6: seen as [2001:db8:1::2]:" in meeting.one.run("nat").stdout


def test_joined_over_ipv6_and_punched_over_ipv4(lab: Lab) -> None:
    sites = [Site(lab, number, PORT, ipv6=True) for number in (1, 2)]
    lab.internet.nft("""table ip6 apart {
        chain passing {
            type filter hook forward priority -20
            ip6 saddr 2001:db8:1::/64 ip6 daddr 2001:db8:2::/64 drop
            ip6 saddr 2001:db8:2::/64 ip6 daddr 2001:db8:1::/64 drop
        }
    }""")
    hosts = [site.add_host(name) for site, name in zip(sites, ("one", "other"), strict=True)]
    meeting = Meeting.build(lab, *hosts, ipv6=True, listen=("-l", "[::]:9000"), hub=f"[{HUB_OUTER6}]")
    assert meeting.first_ping().received == 1
    meeting.wait_path("public", EASY)
    other = meeting.one.peer(OTHER)
    assert other
    assert other["endpoint"].startswith("198.18.2.2:")
    assert {peer["endpoint"].split("]")[0] for peer in meeting.hub.status()["peers"]} == {
        "[2001:db8:1::2", "[2001:db8:2::2",
    }  # fmt: skip
    assert traffic.ping(meeting.one.host, OTHER).received == 3


@pytest.mark.parametrize(
    ("blocked", "transport"), [(0, "transport_udp"), (1, "transport_faketcp"), (2, "transport_faketcp")]
)
def test_usual_transports_where_udp_is_blocked_on_so_many_sides(lab: Lab, blocked: int, transport: str) -> None:
    """The hub is reached by fake TCP, which comes first, through routers that track connections strictly."""
    sites = [Site(lab, number, PORT) for number in range(2)]
    for number, site in enumerate(sites):
        site.track_strictly()
        site.block_udp(number < blocked)
    meeting = Meeting.build(lab, sites[0].add_host("one"), sites[1].add_host("other"), args=())
    assert meeting.first_ping().received == 1
    meeting.wait_path("public", EASY)
    assert meeting.transports == (transport, transport)
    assert {peer["transport"] for peer in meeting.hub.status()["peers"]} == {"transport_faketcp"}
    sent = meeting.hub.status()["counters"]["tx_bytes"]
    assert traffic.transfer(meeting.one.host, meeting.other.host, OTHER, megabytes=5).sent
    assert meeting.hub.status()["counters"]["tx_bytes"] - sent < 100_000


def test_one_lan(lab: Lab) -> None:
    site = Site(lab, 0, PORT)
    meeting = Meeting.build(lab, site.add_host("one"), site.add_host("other"))
    assert meeting.first_ping().received == 1
    meeting.wait_path("lan", EASY)
    assert traffic.ping(meeting.one.host, OTHER).received == 3


def test_equal_private_addresses_are_not_one_lan(lab: Lab) -> None:
    one, other = Site(lab, 0, PORT, subnet=7), Site(lab, 1, PORT, subnet=7)
    meeting = Meeting.build(lab, one.add_host("one"), other.add_host("other"))
    assert meeting.first_ping().received == 1
    meeting.wait_path("public", EASY)
    assert traffic.ping(meeting.one.host, OTHER).received == 3


def test_a_firewall_on_the_machine_itself(lab: Lab) -> None:
    """Public addresses, and on one machine rules that let nothing in but answers."""
    hosts = [attach_node(lab, number) for number in range(2)]
    hosts[0].nft(HOST_FIREWALL)
    meeting = Meeting.build(lab, *hosts)
    assert meeting.first_ping().received == 1
    meeting.wait_path("public", EASY)
    assert traffic.ping(meeting.other.host, ONE).received == 3


def test_a_nat_behind_a_nat(lab: Lab) -> None:
    inner = Site(lab, 2, PORT, behind=Site(lab, 0, PORT))
    meeting = Meeting.build(lab, inner.add_host("one"), Site(lab, 1, PORT).add_host("other"))
    assert meeting.first_ping().received == 1
    meeting.wait_path("public", EASY)


@pytest.mark.parametrize("hairpin", [True, False])
def test_two_sites_of_one_carrier(lab: Lab, hairpin: bool) -> None:
    carrier = Site(lab, 0, FULL, hairpin=hairpin)
    sites = [Site(lab, number, PORT, behind=carrier) for number in (2, 3)]
    meeting = Meeting.build(lab, sites[0].add_host("one"), sites[1].add_host("other"))
    assert meeting.first_ping().received == 1
    if hairpin:
        meeting.wait_path("public", EASY)
    else:
        time.sleep(EASY)
        assert meeting.path == ("hub", "hub")
    assert traffic.ping(meeting.one.host, OTHER).received == 3


def test_a_router_that_lets_strangers_in_to_itself(lab: Lab) -> None:
    one, other = Site(lab, 0, PORT, accepts_input=True), Site(lab, 1, PORT, accepts_input=True)
    meeting = Meeting.build(lab, one.add_host("one"), other.add_host("other"))
    assert meeting.first_ping().received == 1
    meeting.wait_path("public", HARD)


@pytest.mark.parametrize("both", [True, False], ids=["both ways", "one way"])
def test_a_path_is_cut_and_heals(lab: Lab, both: bool) -> None:
    one, other = Site(lab, 0, PORT), Site(lab, 1, PORT)
    meeting = Meeting.build(lab, one.add_host("one"), other.add_host("other"))
    meeting.first_ping()
    meeting.wait_path("public", EASY)
    receiver = meeting.other.host.start("bulk", [*traffic.INSIDE["bulk"], "receive", "5300"])
    receiver.wait_for("ready")
    sender = meeting.one.host.start("stream", [*traffic.INSIDE["bulk"], "stream", OTHER, "5300", "1000000"])
    pings = Pings(meeting.one.host, OTHER)
    time.sleep(1)
    began = time.time()
    cut(lab, one.outside, other.outside, both=both)
    meeting.wait_path("hub", 10)
    time.sleep(2)
    heal(lab)
    meeting.wait_path("public", 65)
    assert pings.longest_silence(since=began) < 7.5
    assert "DUP!" not in pings.output()
    sender.stop(timeout=20)
    receiver.wait()
    assert receiver.output().split()[-1] == sender.output().strip()


@pytest.mark.parametrize("what", ["rebinding", "address"])
def test_a_mapping_changes(lab: Lab, what: str) -> None:
    one, other = Site(lab, 0, FULL), Site(lab, 1, PORT)
    meeting = Meeting.build(lab, one.add_host("one"), other.add_host("other"))
    meeting.first_ping()
    meeting.wait_path("public", EASY)
    pings = Pings(meeting.one.host, OTHER)
    time.sleep(1)
    began = time.time()
    if what == "rebinding":
        one.kind = SYMMETRIC
        one.forget()
    else:
        one.move(9)
    time.sleep(9)
    assert pings.longest_silence(since=began) < 7.5


def test_a_cable_is_plugged_in_elsewhere(lab: Lab) -> None:
    one, elsewhere, other = Site(lab, 0, PORT), Site(lab, 2, PORT, subnet=5), Site(lab, 1, PORT)
    host = one.add_host("one")
    meeting = Meeting.build(lab, host, other.add_host("other"))
    meeting.first_ping()
    meeting.wait_path("public", EASY)
    pings = Pings(host, OTHER)
    time.sleep(1)
    began = time.time()
    host.down("eth0")
    elsewhere.join(host, "eth1")
    time.sleep(9)
    assert pings.longest_silence(since=began) < 7.5
    meeting.wait_path("public", 30)


def test_a_path_swallows_large_packets(lab: Lab) -> None:
    one, other = Site(lab, 0, PORT), Site(lab, 1, PORT)
    hosts = one.add_host("one"), other.add_host("other")
    for host in hosts:  # what is joined would be as long as all its parts to the rule that drops what is long
        host.offload("eth0", {"tx": False, "tso": False, "gso": False, "gro": False})
    meeting = Meeting.build(lab, *hosts)
    meeting.first_ping()
    meeting.wait_path("public", EASY)
    receiver = meeting.other.host.start("bulk", [*traffic.INSIDE["bulk"], "receive", "5300"])
    receiver.wait_for("ready")
    sender = meeting.one.host.start("stream", [*traffic.INSIDE["bulk"], "stream", OTHER, "5300", "1000000"])
    time.sleep(1)
    narrow(lab, one.outside, other.outside, 1300)
    time.sleep(10)
    before = meeting.other.peer(ONE)
    time.sleep(2)
    after = meeting.other.peer(ONE)
    assert before
    assert after
    assert after["rx_bytes"] - before["rx_bytes"] > 1_000_000
    sender.stop(timeout=30)
    receiver.wait()
    assert receiver.output().split()[-1] == sender.output().strip()
