"""No direct path leads into a network that goes into the tunnel: its datagrams would go around in circles."""

from ipaddress import ip_network

import pytest

from ltunnel.control.candidates import Dial, HangUp
from ltunnel.plugin import PathClass

ALL = (ip_network("0.0.0.0/0"), ip_network("::/0"))
OUTER = ip_network("203.0.113.2/31")
"""Where both nodes are, the second one at 203.0.113.3."""


def offer(pair, *networks) -> None:
    """Have something be behind b, in the eyes of a."""
    subnets = pair.a.control._p.subnets
    subnets.offer(pair.peer(pair.a), networks)
    subnets.settle(pair.net.now)
    pair.net.drain(pair.a)


def straight(pair, since: float) -> list[bytes]:
    """What a sent straight to b."""
    return [data for when, who, to, _, data in pair.net.log if when > since and (who, to) == ("a", "b")]


@pytest.fixture
def pair(make_pair):
    pair = make_pair(accept_routes=ALL)
    pair.talk(
        25, step=0.5
    )  # the hub has introduced them for the last time: its word would be newer than that of `offer`
    return pair


def test_a_path_is_left_when_its_address_goes_into_the_tunnel(direct):
    pair, before = direct, direct.net.now
    calls = len(pair.net.calls)
    offer(pair, OUTER)
    assert pair.a.networks == (OUTER,)
    assert pair.kind(pair.a) == "hub"
    assert pair.path(pair.a, "203.0.113.3:40000") is None
    assert [call for _, who, call in pair.net.calls[calls:] if who == "a"] == [HangUp(0, pair.b.flow)]
    got = len(pair.b.got)
    pair.talk(30)
    assert len(pair.b.got) - got >= 590, "nothing is lost that was not on its way"
    assert not straight(pair, before), "no probe, and no answer to one either"
    assert pair.kind(pair.b) == "hub", "who gets no answers takes the other way, too"


def test_a_path_that_leads_elsewhere_stays(direct):
    offer(direct, ip_network("203.0.113.128/25"))
    direct.talk(2)
    assert direct.kind(direct.a) == "public"


def test_it_comes_back_when_the_network_goes(direct):
    offer(direct, OUTER)
    direct.talk(2)
    offer(direct)
    assert direct.a.networks == ()
    direct.probe(direct.a)
    assert direct.talk(3, until=lambda: direct.kind(direct.a) == "public")


def test_nobody_is_probed_there(pair):
    offer(pair, OUTER)
    before, calls = pair.net.now, len(pair.net.calls)
    pair.probe(pair.a)
    pair.talk(5)
    assert not [call for _, who, call in pair.net.calls[calls:] if who == "a" and isinstance(call, Dial)]
    assert not straight(pair, before)


def test_whoever_comes_from_there_is_not_answered_there(pair):
    offer(pair, OUTER)
    before = pair.net.now
    for _ in range(5):
        pair.probe(pair.b)
        pair.talk(1)
    assert pair.path(pair.a, "203.0.113.3:40000") is None
    assert not straight(pair, before)
    assert (pair.kind(pair.a), pair.kind(pair.b)) == ("hub", "hub")


def test_probes_that_are_out_lead_to_nothing(pair):
    """Its answer is on the way when the network is accepted."""
    pair.probe(pair.a)
    pair.net.run(0.03)
    assert straight(pair, pair.net.now - 0.05)
    before = pair.net.now
    offer(pair, OUTER)
    pair.talk(5)
    assert pair.path(pair.a, "203.0.113.3:40000") is None
    assert not straight(pair, before)


def test_probes_that_wait_for_a_flow_are_given_up(pair):
    """A connection that is opening when the network is accepted."""
    probe, hung_up = pair.ways(pair.a).probe, HangUp(0, pair.b.flow)
    pair.net.closed.add(0)
    probe(pair.session(pair.a), 0, pair.b.flow, PathClass.PUBLIC, pair.net.now)
    pair.net.drain(pair.a)
    pair.net.run(0.3)
    before, calls = pair.net.now, len(pair.net.calls)
    offer(pair, OUTER)
    pair.net.closed.clear()
    pair.net.run(3)
    assert hung_up in [call for _, who, call in pair.net.calls[calls:] if who == "a"]
    assert not straight(pair, before)


def test_a_flow_that_was_ordered_before_is_closed_again(pair):
    """The order to open it is on its way to the owner."""
    pair.ways(pair.a).probe(pair.session(pair.a), 0, pair.b.flow, PathClass.PUBLIC, pair.net.now)
    (dial,) = pair.a.control.calls
    subnets = pair.a.control._p.subnets
    subnets.offer(pair.peer(pair.a), (OUTER,))
    subnets.settle(pair.net.now)
    pair.a.control.calls.clear()
    pair.a.control.dialled(dial, pair.b.flow, pair.net.now)
    assert pair.a.control.calls == [HangUp(0, pair.b.flow)]
    assert pair.a.control.outbox == []
