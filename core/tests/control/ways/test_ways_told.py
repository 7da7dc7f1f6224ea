"""What probing costs, what is told of paths, and what is left when they or their sessions end."""

import pytest

from ltunnel.control.candidates import HangUp
from ltunnel.control.probing import HEARTBEAT
from ltunnel.control.way import WayStep
from ltunnel.control.way_table import BULK
from ltunnel.control.ways import WAY_LIMIT
from ltunnel.plugin import PathClass
from ltunnel.session import Path

UDP = 0


def probes(pair, since: float) -> int:
    """Control datagrams between the two: data has its payload's length."""
    plain = len(pair.payload) + 29
    return len(
        [1 for when, source, to, kind, data in pair.net.log if when >= since and kind == "DATA"
         and source in "ab" and to.split()[0] in "ab" and len(data) != plain]
    )  # fmt: skip


def test_probing_is_cheap(direct):
    direct.talk(10)
    start = direct.net.now
    direct.talk(60)
    # Each side: a round every 2 s, every other one with a large probe, each answered; the hub's path once in 30 s.
    assert probes(direct, start) <= 2 * (60 / HEARTBEAT) * 2 * 1.5 + 20
    start = direct.net.now
    direct.net.run(100)
    assert probes(direct, start) <= 2 * 2 * 100 / 9 + 20


def test_bulk_is_watched_with_full_packets(direct):
    direct.payload = bytes(1200)
    assert len(direct.payload) * 20 > BULK
    direct.talk(5)
    start = direct.net.now
    direct.talk(20)
    large = [data for data in direct.sent_to(direct.b, start) if len(data) == 1439]
    assert len(large) >= 20 / HEARTBEAT


def test_statistics_are_told_on_change_and_once_a_minute(direct):
    direct.talk(1)
    texts = direct.a.texts("routing-stats")
    assert texts == [
        "Routing stats: 1 peers, 0 direct, 0 relay, 1 server",
        "Routing stats: 1 peers, 1 direct, 0 relay, 0 server",
    ]
    direct.talk(125, step=0.5)
    assert direct.a.texts("routing-stats")[2:] == ["Routing stats: 1 peers, 1 direct, 0 relay, 0 server"] * 2
    direct.net.walls = {("a", "b"), ("b", "a")}
    direct.talk(8)
    assert direct.a.texts("routing-stats")[4:] == ["Routing stats: 1 peers, 0 direct, 0 relay, 1 server"]
    direct.b.control.stop(direct.net.now)
    direct.net.drain(direct.b)
    direct.net.run(3)
    assert direct.a.texts("routing-stats")[5:] == ["Routing stats: 0 peers, 0 direct, 0 relay, 0 server"]
    direct.net.run(200)
    assert len(direct.a.texts("routing-stats")) == 6, "nothing to say"


def test_status(direct):
    direct.talk(5)
    hub, way = direct.paths(direct.a)
    assert (hub["class"], hub["state"], hub["used"], hub["endpoint"]) == ("hub", "valid", False, None)
    assert (way["class"], way["state"], way["used"], way["transport"]) == ("public", "valid", True, "udp")
    assert way["endpoint"] == "203.0.113.3:40000"
    assert way["rtt_ms"] == pytest.approx(40)
    assert hub["rtt_ms"] == pytest.approx(80)
    assert (way["jitter_ms"], way["loss"], way["mtu"]) == (pytest.approx(0, abs=0.01), 0, 1400)
    assert way["last_pong"] <= HEARTBEAT + 0.1
    assert direct.a.control.why(direct.peer(direct.a)) == "nearest"


def test_a_policy_sees_what_was_measured(pair):
    pair.go_direct()
    views = {view.path_class: view for view in pair.policy.seen[-1]}
    hub, way = views[PathClass.HUB], views[PathClass.PUBLIC]
    assert hub.via == pair.hub.settings.identity.public
    assert way.via == way.peer == pair.key(pair.a)
    assert (hub.hops, way.hops) == (2, 1)
    assert way.rtt == pytest.approx(0.04)
    assert way.last_pong <= pair.net.now


def test_nothing_is_left_of_a_session_that_ended(direct):
    seeker = direct.add_seeker(direct.a)
    session = direct.session(direct.a)
    direct.b.control.stop(direct.net.now)
    direct.net.drain(direct.b)
    direct.net.run(1)
    assert direct.ways(direct.a).tables == {}
    assert seeker.over is session
    hung = [call for _, who, call in direct.net.calls if who == "a" and isinstance(call, HangUp)]
    assert HangUp(UDP, direct.b.flow) in hung


def test_a_peer_that_begins_anew_is_met_through_the_hub(direct):
    """It has forgotten everything; so the paths of before are dead until they have answered again."""
    direct.restart_b()
    a = direct.a
    assert direct.talk(60, until=lambda: direct.b.got and a.got[-1:] and direct.kind(a) == "public")


def test_a_port_that_closes_takes_its_paths_along(direct):
    ways = direct.ways(direct.a)
    assert ways.uses(UDP)
    assert not ways.uses(7)
    ways.port_closed(UDP, direct.net.now)
    assert direct.kind(direct.a) == "hub"
    assert not ways.uses(UDP)


def test_a_flow_that_is_still_opening_is_tried_again(pair):
    """As with transports that have a handshake of their own."""
    net = pair.net
    net.closed = {UDP}
    pair.probe(pair.a)
    net.run(0.5)
    net.closed = set()
    assert pair.talk(2, until=lambda: pair.kind(pair.a) == "public")


def test_a_flow_that_never_opens_is_given_up(pair):
    pair.net.closed = {UDP}
    pair.probe(pair.a, ("203.0.113.77", 9))
    pair.net.run(6)
    assert HangUp(UDP, ("203.0.113.77", 9)) in [call for _, who, call in pair.net.calls if who == "a"]


def test_without_the_hub_a_port_that_closes_leaves_nothing_to_send_by(direct):
    """The flow's number may be another port's next: nothing goes there any more."""
    direct.net.kill(direct.hub)
    direct.talk(40)
    assert direct.kind(direct.a) == "public"
    direct.ways(direct.a).port_closed(UDP, direct.net.now)
    assert direct.kind(direct.a) == "hub"


def test_too_many_working_paths_are_enough(direct):
    net, (a, b) = direct.net, direct.ends
    table = direct.ways(a).tables[direct.key(a)]
    for i in range(WAY_LIMIT - len(table.ways)):
        way = table.add(Path(UDP, ("203.0.113.200", i)), PathClass.PUBLIC, 1400)
        way.move(WayStep.PONG)
    b.flow = ("203.0.113.3", 41000)
    direct.probe(a)
    net.run(0.2)
    assert len(table.ways) == WAY_LIMIT
    assert direct.path(a, "203.0.113.3:41000") is None
