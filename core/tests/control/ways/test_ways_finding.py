"""How a place becomes a path, and of which kind; what discovery is told; who may be probed, and how often."""

from ipaddress import ip_network

import pytest

from ltunnel.control.candidates import HangUp
from ltunnel.plugin import PathClass

UDP = 0


def test_without_a_policy_everything_goes_through_the_hub(net, make_pair):
    pair = make_pair(routing=None)
    pair.probe(pair.a)
    pair.net.inject(pair.a, ("203.0.113.66", 1), b"")
    before = net.now
    pair.probe(pair.b)  # b would like to
    pair.talk(5)
    assert pair.kind(pair.a) == "hub"
    assert [path["class"] for path in pair.paths(pair.a)] == ["hub"]
    assert not [entry for entry in net.log if entry[0] > before and entry[1:3] == ("a", "nobody")]


def test_a_path_carries_data_after_an_answer_and_a_full_one(pair):
    """One round trip for the PROBE, one for the padded one; then both sides have moved, each by itself."""
    start = pair.net.now
    pair.probe(pair.a)
    assert pair.talk(1, until=lambda: pair.kind(pair.a) == "public", step=0.005)
    assert pair.net.now - start == pytest.approx(4 * pair.net.delay, abs=0.011)
    assert pair.peer(pair.a).mtu == 1400, "more than through the hub"
    assert pair.talk(1, until=lambda: pair.kind(pair.b) == "public")
    full = max(len(data) for data in pair.sent_to(pair.b, start))
    assert full == 1400 + 11 + 28, "as large as any datagram that the path will have to carry"
    (text,) = pair.a.texts("path-changed")
    assert text == "reaching b directly (203.0.113.3:40000, udp): nearest"


def test_what_discovery_is_told(pair):
    seeker = pair.add_seeker(pair.a)
    pair.talk(1)
    assert len(seeker.sought) == 1, "while there is traffic it looks for a path at once"
    pair.probe(pair.a, ("203.0.113.77", 9))
    pair.probe(pair.a)
    pair.talk(1)
    assert seeker.found == [(UDP, pair.b.flow)]
    started = pair.net.now
    pair.talk(130)
    later = [when for when in seeker.sought if when > started]
    assert 2 <= len(later) <= 3, "a better one, once a minute"


def test_searches_grow_rarer_and_stop_without_traffic(pair):
    seeker = pair.add_seeker(pair.a)
    pair.talk(100, step=0.5)
    gaps = [round(later - earlier) for earlier, later in zip(seeker.sought, seeker.sought[1:], strict=False)]
    assert gaps == [5, 15, 30, 45]
    known = len(seeker.sought)
    pair.net.run(100)
    assert len(seeker.sought) == known


def test_where_nothing_answers_is_no_path(pair):
    pair.probe(pair.a, ("203.0.113.77", 9))
    pair.talk(15)
    assert [path["class"] for path in pair.paths(pair.a)] == ["hub"]
    hung = [call for _, who, call in pair.net.calls if who == "a" and isinstance(call, HangUp)]
    assert hung == [HangUp(UDP, ("203.0.113.77", 9))], "its flow is closed"


def test_an_answer_counts_only_from_where_the_probe_went(pair):
    """Somebody who carries datagrams elsewhere does not become a path by it."""
    pair.net.walls = {("b", "a")}
    pair.probe(pair.a)
    pair.net.run(0.1)
    pong = next(data for when, source, to, _, data in reversed(pair.net.log) if (source, to) == ("b", "a"))
    pair.net.inject(pair.a, ("203.0.113.66", 5), pong)
    assert not any(path["state"] == "valid" for path in pair.paths(pair.a) if path["class"] != "hub")


def test_the_lan_is_preferred_and_told_by_own_prefixes(pair):
    pair.go_direct()
    pair.b.flow = ("192.168.7.3", 40000)
    pair.ways(pair.a).networks = [ip_network("192.168.7.0/24")]
    pair.probe(pair.a, kind=PathClass.LAN)
    assert pair.talk(10, until=lambda: pair.kind(pair.a) == "lan")


@pytest.mark.parametrize(("address", "kind"), [
    ("192.168.7.3", "lan"), ("192.168.8.3", "public"), ("203.0.113.9", "public"), ("100.64.0.9", "public"),
])  # fmt: skip
def test_where_a_peer_comes_from_says_what_kind_of_path_it_is(pair, address, kind):
    """A private address is the LAN's only in a prefix of one's own links; a public prefix is never one."""
    pair.ways(pair.a).networks = [ip_network("192.168.7.0/24"), ip_network("203.0.113.0/24")]
    pair.b.flow = (address, 40000)
    pair.probe(pair.b)
    assert pair.talk(5, until=lambda: pair.kind(pair.a) == kind)
