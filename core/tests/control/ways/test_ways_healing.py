"""Paths that fail are left and come back to; peers that move are followed; what is too large for a path is not sent."""

import pytest

from ltunnel.control.measure import FEWEST
from ltunnel.control.path_mtu import LADDER
from ltunnel.control.probing import KEPT, TRUST
from ltunnel.control.ways import WAY_LIMIT


@pytest.mark.parametrize("walls", [{("a", "b"), ("b", "a")}, {("a", "b")}, {("b", "a")}], ids=["both", "there", "back"])
def test_a_blocked_path_is_left_in_time_and_come_back_to(direct, walls):
    net = direct.net
    for _ in range(3):
        direct.talk(1.7)
        direct.net.walls, start = walls, net.now
        assert direct.talk(TRUST, until=lambda: direct.kind(direct.a) == direct.kind(direct.b) == "hub")
        assert net.now - start <= TRUST
        got = [len(host.got) for host in direct.ends]
        direct.talk(30)
        assert all(len(host.got) > before + 500 for host, before in zip(direct.ends, got, strict=True))
        net.walls, start = set(), net.now
        assert direct.talk(60, until=lambda: direct.kind(direct.a) == direct.kind(direct.b) == "public")
        assert net.now - start <= 12


def test_an_idle_path_is_found_dead_soon_after_traffic_resumes(direct):
    net = direct.net
    net.run(25)
    assert direct.kind(direct.a) == "public"
    net.walls = {("a", "b"), ("b", "a")}
    net.run(3)
    assert direct.talk(TRUST, until=lambda: direct.kind(direct.a) == "hub", who=[direct.a])


def test_data_alone_one_way_is_watched_as_well(direct):
    """Nothing ever answers the data; PONGs say that it arrives."""
    direct.talk(30, who=[direct.a])
    assert direct.kind(direct.a) == "public"
    assert not direct.a.texts("path-changed")[1:]
    direct.net.walls, start = {("a", "b")}, direct.net.now
    assert direct.talk(TRUST, until=lambda: direct.kind(direct.a) == "hub", who=[direct.a])
    assert direct.net.now - start <= TRUST


def test_losses_do_not_end_a_path(direct):
    direct.net.loss = 0.1
    direct.talk(60)
    assert len(direct.a.texts("path-changed")) <= 3
    assert direct.path(direct.a, "203.0.113.3:40000")["loss"] > 0.05


def test_what_was_lost_while_a_path_was_dead_says_nothing_about_it_afterwards(direct):
    direct.net.walls = {("a", "b"), ("b", "a")}
    direct.talk(20)
    assert direct.path(direct.a, "203.0.113.3:40000")["loss"] > 0
    direct.net.walls = set()
    assert direct.talk(20, until=lambda: direct.kind(direct.a) == "public")
    assert direct.path(direct.a, "203.0.113.3:40000")["loss"] == 0


def test_a_peer_with_another_port_is_followed(direct):
    """Its NAT has forgotten it: its datagrams come from elsewhere, and nothing reaches it where it was."""
    net, (a, b) = direct.net, direct.ends
    for port in (40001, 40002, 40003):
        b.flow, start = ("203.0.113.3", port), net.now
        assert direct.talk(TRUST, until=lambda port=port: direct.peer(a).path.flow == ("203.0.113.3", port))
        assert net.now - start <= 3
        assert direct.kind(b) == "public", "b's own path is where it was"
    assert len(direct.paths(a)) == 5


def test_a_replay_from_elsewhere_moves_nothing(direct):
    net, (a, b) = direct.net, direct.ends
    data = next(data for _, source, to, kind, data in reversed(net.log) if (source, to, kind) == ("b", "a", "DATA"))
    net.run(0.1)
    before = len(net.log)
    net.inject(a, ("203.0.113.66", 1), data)
    net.run(3)
    assert not [entry for entry in net.log[before:] if entry[2] == "nobody"]
    assert direct.peer(a).path.flow == b.flow


def test_who_carries_datagrams_elsewhere_cannot_flood_a_third_party(direct):
    """Datagrams of b's that never arrived are brought from the third party's address: at most three times as much goes
    there, and the path in use stays."""
    net, (a, b) = direct.net, direct.ends
    net.cut = lambda source, target, data: source is b and target is a and data[0] == 6 and net.now < hold
    hold = net.now + 0.5
    direct.talk(0.4)
    kept = [entry[4] for entry in net.log if entry[1:4] == ("b", "a", "DATA") and entry[0] > hold - 0.5]
    third = ("203.0.113.66", 1)
    before = len(net.log)
    for data in kept:
        net.inject(a, third, data)
    direct.talk(20)
    sent = [entry[4] for entry in net.log[before:] if entry[2] == "nobody"]
    assert sum(map(len, sent)) <= 3 * sum(map(len, kept))
    assert len(sent) <= 5
    assert direct.peer(a).path.flow == b.flow
    assert all(path["endpoint"] != "203.0.113.66:1" for path in direct.paths(a)), "forgotten"


def test_there_are_only_so_many_paths(direct):
    a, b = direct.ends
    for port in range(100):
        b.flow = ("203.0.113.3", 50000 + port)
        direct.talk(0.2)
    assert len(direct.paths(a)) <= WAY_LIMIT + 1


def test_dead_paths_are_forgotten(direct):
    direct.net.walls = {("a", "b"), ("b", "a")}
    direct.talk(KEPT + 30, step=1.0)
    assert [path["class"] for path in direct.paths(direct.a)] == ["hub"]


def test_no_packet_comes_twice_and_few_are_lost_when_paths_change(direct):
    """Numbered packets through three moves: none arrives twice; lost is only what was on a path that was cut."""
    net, (a, b) = direct.net, direct.ends
    b.got.clear()
    sent = 0
    for round_ in range(120):
        if round_ == 40:
            net.walls = {("a", "b"), ("b", "a")}
        if round_ == 80:
            net.walls = set()
        for _ in range(5):
            a.send("10.0.0.3", sent.to_bytes(4, "big"))
            direct.peer(a).stats.tx_packets += 1
            sent += 1
        net.run(0.25)
    assert len(set(b.got)) == len(b.got)
    assert len(b.got) >= sent - 5 * 4 * TRUST


def test_direct_paths_go_on_without_the_hub(direct):
    net = direct.net
    net.kill(direct.hub)
    start = len(direct.a.got)
    direct.talk(60)
    assert direct.kind(direct.a) == "public"
    assert len(direct.a.got) > start + 1000
    assert next(path["state"] for path in direct.paths(direct.a)) == "dead", "there is no relay"


def test_a_path_that_carries_less_is_used_with_less(pair):
    pair.net.largest = 1272  # 1300 with IP and UDP
    pair.probe(pair.a)
    assert pair.talk(20, until=lambda: pair.kind(pair.a) == "public")
    pair.talk(20)
    assert 1272 - 39 - 16 <= pair.peer(pair.a).mtu <= 1272 - 39


def test_a_black_hole_is_noticed_in_seconds(direct):
    """Small packets go on; the large ones of a bulk transfer would vanish."""
    net = direct.net
    direct.payload = bytes(1300)
    direct.talk(5)
    for host in direct.ends:
        assert direct.peer(host).mtu == 1400
    net.largest, start = 1272, net.now
    assert direct.talk(10, until=lambda: all(direct.peer(host).mtu <= LADDER[1] for host in direct.ends))
    assert net.now - start <= 4.5
    assert direct.kind(direct.a) == "public", "the path is as good as any otherwise"
    direct.talk(20)
    assert 1272 - 39 - 16 <= direct.peer(direct.a).mtu <= 1272 - 39
    net.largest = 65_535
    direct.talk(620, step=1.0)
    assert direct.peer(direct.a).mtu == 1400, "larger ones are tried again"


def test_a_relay_that_does_not_answer_is_suspect_and_no_more(pair):
    """The hub's session lives, but what the hub forwards does not arrive."""
    pair.net.cut = lambda source, target, data: {source.name, target.name} == {"a", "b"}
    states = set()
    for _ in range(60):
        pair.talk(0.25)
        states.add(pair.paths(pair.a)[0]["state"])
    assert states == {"valid", "suspect"}
    assert pair.paths(pair.a)[0]["state"] == "suspect"
    pair.net.cut = None
    assert pair.talk(5, until=lambda: pair.paths(pair.a)[0]["state"] == "valid")


def test_what_was_lost_while_the_hub_was_away_does_not_count_against_it(direct):
    net = direct.net
    bindings = direct.hub.control.bindings
    net.kill(direct.hub)
    direct.talk(60)
    net.hub(bindings=bindings)
    assert direct.talk(30, until=lambda: direct.paths(direct.a)[0]["state"] == "valid")
    direct.talk(1)
    assert direct.paths(direct.a)[0]["loss"] <= 2 / FEWEST, "b may come back a little later"
