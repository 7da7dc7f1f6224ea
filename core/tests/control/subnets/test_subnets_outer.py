"""What carries the tunnel stays outside of the networks that go into it."""

from ipaddress import ip_network

OFFICE = ip_network("192.168.7.0/24")


def test_own_links_come_and_go(place):
    place.offer("a", OFFICE)
    place.subnets.set_links([ip_network("192.168.7.0/26")], place.now)
    assert place.taken == []
    assert place.owner("192.168.7.20") is None
    place.subnets.set_links([], place.now)
    assert place.owner("192.168.7.20") == "a"
    assert place.told == [["a"]] * 3


def test_a_hub_that_moves_into_a_network(place):
    """To an address of its name, or as its datagrams tell."""
    place.offer("a", "198.51.100.0/24", "203.0.113.0/24", OFFICE)
    place.subnets.set_hub_paths([("198.51.100.1", 9000)], place.now)
    place.peer("hub").is_hub = True
    place.meet("hub", "203.0.113.5")
    assert place.taken == [str(OFFICE)]
    place.subnets.set_hub_paths([("192.0.2.1", 9000)], place.now)
    place.move("hub", "192.0.2.1")
    assert place.taken == [str(OFFICE)]
    place.wait(61)
    assert len(place.taken) == 3


def test_where_other_nodes_are_reached_is_their_ways_matter_on_a_node(place):
    place.meet("b", "192.168.7.9")
    place.offer("a", OFFICE)
    assert place.owner("192.168.7.20") == "a"


def test_on_a_hub_a_network_with_a_nodes_outer_address_is_refused(hub):
    hub.meet("b", "192.168.7.9")
    hub.offer("a", OFFICE, "172.16.0.0/16")
    assert hub.refused == [(str(OFFICE), "a", "it holds 192.168.7.9, by which b is reached")]
    hub.meet("c", "172.16.3.3")
    assert hub.taken == []


def test_a_node_that_moves_to_and_fro_does_not_make_the_hub_talk(hub):
    """The network is refused for a while after the node was last seen in it: nodes are told twice, not each time."""
    hub.offer("a", OFFICE)
    hub.meet("b", "192.0.2.1")
    hub.told.clear()
    for _ in range(100):
        hub.move("b", "192.168.7.9")
        hub.wait(0.1)
        hub.move("b", "192.0.2.1")
        hub.wait(0.1)
    assert hub.told == [["a"]]
    assert hub.events() == ["route-accepted", "route-refused"]
    hub.wait(61)
    assert hub.told == [["a"]] * 2
    assert hub.taken == [str(OFFICE)]
    assert hub.ctx.timers.next() is None


def test_a_node_that_stays_keeps_the_network_away(hub):
    hub.offer("a", OFFICE)
    hub.meet("b", "192.168.7.9")
    hub.wait(1000)
    assert hub.taken == []
    assert hub.events() == ["route-accepted", "route-refused"]
    del hub.ctx.sessions[hub.peer("b").key]
    hub.wait(61)
    assert hub.taken == [str(OFFICE)]


def test_nothing_is_looked_at_again_that_is_not_offered_any_more(hub):
    hub.meet("b", "192.168.7.9")
    hub.offer("a", OFFICE)
    assert hub.ctx.timers.next() is not None
    hub.offer("a")
    assert hub.ctx.timers.next() is None


def test_what_lies_inside(place):
    place.offer("a", OFFICE, "fd07::/64")
    inside, outside = ("192.168.7.255", 9000), ("192.168.8.0", 9000)
    assert place.subnets.holds(inside)
    assert place.subnets.holds(("fd07::1", 9000))
    assert place.subnets.holds(("::ffff:192.168.7.1", 9000)), "as a socket for both IP versions names it"
    assert not place.subnets.holds(outside)
    assert place.subnets.leads_into(0, inside)
    assert not place.subnets.leads_into(0, outside)
    assert not place.subnets.leads_into(0, "relay to 0011223344556677")


# -------------------------------------------------------------------- addresses that anybody can name


def test_an_address_that_has_not_proved_itself_does_not_count(hub):
    """A datagram from a forged source makes it a node's path for a moment. That takes nothing from anybody."""
    hub.offer("o", OFFICE)
    hub.meet("e", "192.0.2.1")
    hub.offer("e", "192.168.7.20/32")
    hub.events()
    hub.move("e", "192.168.7.5", 300)
    hub.subnets.look(hub.now)
    assert hub.owner("192.168.7.20") == "o"
    assert hub.refused == [("192.168.7.20/32", "e", "it overlaps a network of o")]
    assert hub.events() == []
    hub.peer("e").path.budget = None
    hub.subnets.settle(hub.now, hub.peer("e").path)
    assert hub.taken == [], "it is the node's own"


def test_who_is_reached_in_a_network_does_not_give_it_to_another(hub):
    """It is refused, and nobody else gets any of it; then it is accepted again."""
    hub.offer("o", OFFICE)
    hub.offer("e", "192.168.7.20/32")
    hub.meet("e", "192.168.7.5")
    hub.offer("f", "192.168.7.128/25", "192.168.0.0/16")
    assert hub.taken == []
    assert [reason for _, name, reason in hub.refused if name != "o"] == ["it overlaps a network of o"] * 3
    assert hub.owner("192.168.7.20") is None
    assert not hub.subnets.holds(("192.168.7.20", 9000)), "nothing of it is routed"
    hub.wait(500)
    hub.move("e", "192.0.2.1")
    hub.wait(61)
    assert hub.taken == [str(OFFICE)]
    assert hub.owner("192.168.7.20") == "o"


def test_who_leaves_or_loses_a_network_keeps_no_place_in_it(hub):
    hub.offer("o", OFFICE)
    hub.offer("e", "192.168.7.20/32")
    hub.meet("b", "192.168.7.5")
    hub.offer("o")
    assert hub.taken == ["192.168.7.20/32"]
    hub.offer("o", OFFICE)
    hub.move("b", "192.0.2.1")
    hub.wait(61)
    assert hub.refused == [(str(OFFICE), "o", "it overlaps a network of e")]


def test_what_was_never_accepted_takes_no_place(hub):
    """Or a network as wide as the internet, in which somebody always is, would keep all others away."""
    hub.meet("b", "192.0.2.1")
    hub.offer("e", "192.0.0.0/6")
    hub.offer("o", OFFICE)
    assert hub.taken == [str(OFFICE)]


def test_whoever_is_gone_for_the_hub_keeps_no_place_from_others(place):
    place.peer("hub").is_hub = True
    place.meet("hub", "192.0.2.1")
    place.offer("a", "172.16.0.0/16")
    place.move("hub", "172.16.0.9")
    assert place.refused == [("172.16.0.0/16", "a", "it holds 172.16.0.9, by which the hub is reached")]
    place.subnets.defer(place.peer("a"))
    place.offer("b", "172.16.4.0/24")
    assert place.owner("172.16.4.1") == "b"
