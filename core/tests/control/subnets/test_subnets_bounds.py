"""Whatever is offered, by however many, however often."""

from ipaddress import ip_address, ip_network

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltunnel.control.subnets import CROWDED, EVENT_BURST, OFFER_LIMIT
from ltunnel.session.peer import contains

OFFICE = ip_network("192.168.7.0/24")


def test_offers_are_bounded(hub, monkeypatch):
    monkeypatch.setattr("ltunnel.control.subnets.OFFER_LIMIT", 30)
    assert OFFER_LIMIT >= 4096
    hub.offer("a", *(f"172.16.{number}.0/24" for number in range(24)))
    hub.offer("b", *(f"172.17.{number}.0/24" for number in range(24)))
    assert len(hub.taken) == 30
    assert len(hub.peer("b").networks) == 6
    assert sum(hub.ctx.stats.drops.values()) == 1
    assert hub.refused == [("172.17.6.0/24", "b", CROWDED)]
    hub.offer("a")
    hub.offer("b", *(f"172.17.{number}.0/24" for number in range(24)))
    assert len(hub.peer("b").networks) == 24
    assert hub.refused == []


def test_what_there_is_no_room_for_is_told_once(hub, monkeypatch):
    monkeypatch.setattr("ltunnel.control.subnets.OFFER_LIMIT", 2)
    hub.offer("a", "172.16.0.0/24", "172.16.1.0/24")
    hub.events()
    for number in range(3):
        hub.offer("b", OFFICE, f"172.17.{number}.0/24")
    (event,) = hub.ctx.events
    assert (event.name, event.fields["network"], event.fields["reason"]) == ("route-refused", str(OFFICE), CROWDED)
    hub.offer("b")
    assert hub.refused == [], "who has left is remembered nowhere"


def test_what_is_known_goes_before_what_is_new(hub, monkeypatch):
    """A peer that offers more than there is room for loses nothing by it that it had, in whatever order it names it."""
    monkeypatch.setattr("ltunnel.control.subnets.OFFER_LIMIT", 3)
    hub.offer("a", OFFICE, "172.16.0.0/24")
    hub.offer("a", *(f"172.17.{number}.0/24" for number in range(5)), "172.16.0.0/24", OFFICE)
    assert hub.taken == ["172.16.0.0/24", "172.17.0.0/24", str(OFFICE)]
    assert "route-withdrawn" not in hub.events()


def test_offers_that_are_not_allowed_take_no_room_from_those_that_are(make_place, monkeypatch):
    monkeypatch.setattr("ltunnel.control.subnets.OFFER_LIMIT", 30)
    monkeypatch.setattr("ltunnel.control.subnets.OUTSIDE_LIMIT", 20)
    place = make_place(accept=("192.168.0.0/16",))
    for name in "abcd":
        place.offer(name, *(f"172.16.{number}.0/24" for number in range(24)))
    assert len(place.refused) == 20 + 4
    place.offer("o", OFFICE)
    assert place.taken == [str(OFFICE)]


def test_events_are_bounded(hub):
    for _ in range(200):
        hub.offer("a", OFFICE)
        hub.offer("a")
    assert len(hub.events()) == EVENT_BURST
    assert hub.taken == []
    hub.offer("b", OFFICE)
    assert hub.events() == ["route-accepted"], "nobody makes another go unnoticed"


networks = st.builds(
    lambda number, length: ip_network(((172 << 24) + (number << 20), length), strict=False),
    st.integers(0, 15), st.integers(7, 13),
)  # fmt: skip
step = st.one_of(
    st.tuples(st.just("offer"), st.sampled_from("abcd"), st.lists(networks, max_size=3)),
    st.tuples(st.just("defer"), st.sampled_from("abcd"), st.just([])),
    st.tuples(st.just("links"), st.just(""), st.lists(networks, max_size=1)),
)


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(step, max_size=12))
def test_whatever_is_offered(make_place, steps):
    """What is accepted never overlaps, the tables agree with it, and it stays as long as nothing speaks against it."""
    place = make_place(accept=("172.0.0.0/7",))
    links: list = []
    held: dict = {}
    for what, name, these in steps:
        match what:
            case "offer":
                place.offer(name, *these)
            case "defer":
                place.subnets.defer(place.peer(name))
                place.subnets.settle(place.now)
            case _:
                links = these
                place.subnets.set_links(these, place.now)
        taken = place.subnets.taken
        assert list(taken) == sorted(taken)
        assert not any(one.overlaps(other) for one in taken for other in taken if one is not other)
        assert not any(network.overlaps(link) for network in taken for link in links)
        owners = {network: peer.name for peer in place.peers.values() for network in peer.networks}
        assert sorted(owners) == list(taken)
        for network in taken:
            assert place.owner(str(network[1])) == owners[network]
        for network, _, reason in place.subnets.refused:
            assert reason
            if "overlaps a network of" in reason:
                assert any(network.overlaps(other) for other in taken)
        for number in range(16):
            address = ip_address((172 << 24) + (number << 20) + 1)
            there = any(contains(network, address.packed) for network in taken)
            assert place.subnets.holds((str(address), 1)) is there
        if what == "links" and not these:
            assert all(owners.get(network) == owner for network, owner in held.items())
        held = owners
