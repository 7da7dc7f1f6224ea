"""Which of the networks that others offer are accepted, why the others are not, and who is told."""

from ipaddress import ip_address, ip_network

import pytest

from ltunnel.control import Role

OFFICE, OTHER = ip_network("192.168.7.0/24"), ip_network("172.16.0.0/16")

# -------------------------------------------------------------------- accepted


def test_an_accepted_network_is_routed_to_whoever_offers_it(place):
    place.offer("a", "fd07::/64", "192.168.7.0/24", "172.16.0.0/16")
    assert place.taken == ["172.16.0.0/16", "192.168.7.0/24", "fd07::/64"]
    assert (place.owner("192.168.7.20"), place.owner("fd07::20"), place.owner("192.168.8.1")) == ("a", "a", None)
    assert place.peer("a").owns(ip_address("192.168.7.20").packed)
    assert place.refused == []
    assert place.told == [["a"]]
    assert place.events() == ["route-accepted"] * 3


def test_what_is_offered_again_changes_nothing(place):
    place.offer("a", OFFICE, "127.0.0.0/8")
    place.events()
    place.told.clear()
    place.offer("a", "127.0.0.0/8", OFFICE, OFFICE)
    place.subnets.look(place.now)
    assert (place.taken, place.events(), place.told) == ([str(OFFICE)], [], [])


def test_what_is_not_offered_any_more_is_withdrawn(place):
    place.offer("a", OFFICE, "127.0.0.0/8")
    place.offer("a", OTHER)
    assert place.taken == [str(OTHER)]
    assert place.peer("a").networks == (OTHER,)
    assert place.owner("192.168.7.20") is None
    assert place.events() == [
        "route-refused", "route-accepted", "route-withdrawn", "route-accepted",
    ], "nobody misses what was refused"  # fmt: skip
    place.offer("a")
    assert (place.taken, place.refused, place.peer("a").networks) == ([], [], ())


def test_nothing_is_sent_to_a_peer_that_is_not_routed_to(place):
    """Its networks are known, as those of a node that is on its way out; but it is out of the table."""
    peer = place.peer("a")
    place.ctx.fib.remove(peer)
    place.offer("a", OFFICE)
    assert place.owner("192.168.7.20") is None


# -------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("0.0.0.0/0", "it is every address that there is"),
        ("::/0", "it is every address that there is"),
        ("127.0.0.0/8", "it overlaps 127.0.0.0/8, which is behind no machine"),
        ("0.0.0.0/1", "it overlaps 0.0.0.0/8, which is behind no machine"),
        ("128.0.0.0/1", "it overlaps 169.254.0.0/16, which is behind no machine"),
        ("239.1.2.0/24", "it overlaps 224.0.0.0/3, which is behind no machine"),
        ("fd00::/60", "it overlaps the tunnel's own network"),
        ("fe80::/64", "it overlaps fe80::/10, which is behind no machine"),
        ("ff02::/16", "it overlaps ff00::/8, which is behind no machine"),
        ("::1/128", "it overlaps ::/127, which is behind no machine"),
        ("10.0.0.0/24", "it overlaps the tunnel's own network"),
        ("10.0.0.7/32", "it overlaps the tunnel's own network"),
        ("10.0.0.0/8", "it overlaps the tunnel's own network"),
        ("192.168.1.128/25", "it overlaps 192.168.1.0/24, which this machine offers itself"),
        ("192.168.0.0/22", "it overlaps 192.168.1.0/24, which this machine offers itself"),
        ("192.168.4.0/24", "this machine is in 192.168.4.0/25 itself"),
        ("fd04::/48", "this machine is in fd04::/64 itself"),
        ("203.0.113.0/24", "it holds 203.0.113.9, by which the hub is reached"),
        ("198.51.100.7/32", "it holds 198.51.100.7, by which the hub is reached"),
        ("2001:db8::/32", "it holds 2001:db8::9, by which the hub is reached"),
        ("192.0.2.0/25", "it holds 192.0.2.77, by which the hub is reached"),
    ],
)
def test_every_reason(make_place, network, reason):
    place = make_place(routes=("192.168.1.0/24",))
    place.subnets.set_links([ip_network("192.168.4.0/25"), ip_network("fd04::/64")], place.now)
    place.subnets.set_hub_paths([("203.0.113.9", 9000), ("198.51.100.7", 9000)], place.now)
    place.subnets.set_hub_names([("203.0.113.9", 0), ("2001:db8::9", 0)], place.now)
    place.peer("hub").is_hub = True
    place.meet("hub", "192.0.2.77")
    place.offer("a", network)
    assert place.refused == [(network, "a", reason)]
    assert place.taken == []
    assert place.peer("a").networks == ()
    assert place.events() == ["route-refused"]


@pytest.mark.parametrize(
    ("accept", "network", "taken"),
    [
        (("192.168.0.0/16",), "192.168.7.0/24", True),
        (("192.168.7.0/24",), "192.168.7.0/24", True),
        (("10.9.0.0/16", "192.168.7.0/24"), "192.168.7.128/25", True),
        (("192.168.7.0/24",), "192.168.0.0/16", False),
        (("192.168.7.0/25", "192.168.7.128/25"), "192.168.7.0/24", False),
        (("0.0.0.0/0",), "fd07::/64", False),
        (("::/0",), "fd07::/64", True),
    ],
)
def test_an_offer_lies_within_one_of_those_that_are_allowed(make_place, accept, network, taken):
    place = make_place(accept=accept)
    place.offer("a", network)
    assert place.taken == [network] * taken
    assert place.refused == [(network, "a", "it is not within accept_routes")] * (not taken)


@pytest.mark.parametrize(
    ("tunnel", "network", "version"), [("10.0.0.1/24", "fd07::/64", 6), ("fd00::1/64", "192.168.7.0/24", 4)]
)
def test_a_machine_has_an_address_of_that_kind(make_place, tunnel, network, version):
    """Else its kernel routes nothing there, and nothing is to be given up for it."""
    place = make_place(tunnel=(tunnel,))
    place.offer("a", network)
    assert place.refused == [(network, "a", f"this machine has no IPv{version} address in the tunnel")]
    assert not place.subnets.holds(("fd07::20", 9000))
    assert not place.subnets.holds(("192.168.7.20", 9000))


@pytest.mark.parametrize(("role", "level"), [(Role.NODE, "info"), (Role.HUB, "warning")])
def test_nothing_is_accepted_by_default(make_place, role, level):
    """That is no trouble on a node; on a hub, nobody gets to the network then."""
    place = make_place(role, accept=())
    place.offer("a", OFFICE)
    assert place.refused == [(str(OFFICE), "a", "this machine accepts none (accept_routes)")]
    (event,) = place.ctx.events
    assert (event.name, event.level.value) == ("route-refused", level)
    assert event.text.startswith("a offers a route to 192.168.7.0/24, which is ignored: ")
    assert event.fields["network"] == "192.168.7.0/24"


def test_a_refusal_is_told_once_for_each_reason(place):
    place.offer("a", OFFICE)
    for links in (["192.168.7.0/24"], ["192.168.7.0/24", "192.168.9.0/24"], ["192.168.0.0/16"], [], []):
        place.subnets.set_links(list(map(ip_network, links)), place.now)
    assert place.events() == ["route-accepted", "route-refused", "route-refused", "route-accepted"]


# -------------------------------------------------------------------- one network, several machines


def test_first_come_first_served_and_who_stands_by_takes_over(place):
    place.offer("a", OFFICE)
    place.offer("b", OFFICE)
    place.offer("c", "192.168.7.128/25")
    assert place.owner("192.168.7.200") == "a"
    assert [reason for *_, reason in place.refused] == ["it overlaps a network of a"] * 2
    place.events()
    place.told.clear()
    place.offer("a")
    assert (place.owner("192.168.7.200"), place.owner("192.168.7.2")) == ("b", "b")
    assert place.refused == [("192.168.7.128/25", "c", "it overlaps a network of b")]
    assert place.events() == ["route-withdrawn", "route-refused", "route-accepted"]
    assert place.told == [["a", "b"]]
    place.offer("a", OFFICE)
    assert place.owner("192.168.7.200") == "b", "it is there, and so it stays"
    place.offer("b")
    assert place.owner("192.168.7.200") == "c", "it has waited longer than a, which left in between"
    assert place.owner("192.168.7.2") is None


def test_whoever_offers_more_takes_nothing_from_others(place):
    place.offer("a", OTHER)
    place.offer("b", OFFICE)
    place.offer("a", "192.168.0.0/16", OTHER)
    assert place.owner("192.168.7.20") == "b"


def test_what_holds_stays_when_an_older_offer_becomes_possible(place):
    place.subnets.set_links([ip_network("192.168.7.0/25")], place.now)
    place.offer("a", OFFICE)
    place.offer("b", "192.168.7.128/25")
    place.subnets.set_links([], place.now)
    assert (place.owner("192.168.7.2"), place.owner("192.168.7.200")) == (None, "b")


def test_whoever_is_gone_for_the_hub_yields_to_others_but_not_to_nobody(place):
    place.offer("a", OFFICE)
    place.subnets.defer(place.peer("a"))
    place.subnets.settle(place.now)
    assert place.owner("192.168.7.20") == "a"
    assert place.events() == ["route-accepted"]
    place.offer("b", OFFICE)
    assert place.owner("192.168.7.20") == "b"
    place.offer("a", OFFICE)
    place.offer("c", OFFICE)
    place.offer("b")
    assert place.owner("192.168.7.20") == "a", "it is back, and has waited longer than c"
