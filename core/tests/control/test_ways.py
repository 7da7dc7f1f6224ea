"""Paths between two nodes: found, measured, left when they fail, come back to; who may be probed, and how much."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network

import pytest

from ltunnel.control.candidates import HangUp
from ltunnel.control.path_mtu import LADDER
from ltunnel.control.probing import HEARTBEAT, KEPT, TRUST
from ltunnel.control.way import WayStep
from ltunnel.control.way_table import BULK
from ltunnel.control.ways import WAY_LIMIT
from ltunnel.plugin import NextHop, PathClass, PathView
from ltunnel.session import Path

UDP = 0
RELAY = 1


class Nearest:
    """The smallest class, then what answers, then the fastest."""

    def __init__(self) -> None:
        self.seen: list[Sequence[PathView]] = []

    def decide(self, paths: Sequence[PathView], now: float) -> Mapping[bytes, NextHop]:
        self.seen.append(paths)
        best: dict[bytes, PathView] = {}
        for path in sorted(paths, key=lambda path: (path.path_class, path.suspect, path.rtt, path.number)):
            best.setdefault(path.peer, path)
        return {
            peer: NextHop(number=path.number, via=path.via, path_class=path.path_class, reason="nearest")
            for peer, path in best.items()
        }


class Seeker:
    def __init__(self) -> None:
        self.sought: list[float] = []
        self.found: list = []

    def seek(self, session, now: float) -> None:
        self.sought.append(now)

    def answered(self, session, transport, address, now) -> None:
        self.found.append((transport, address))

    def relay_changed(self, now: float) -> None:
        pass

    def ended(self, session, now: float) -> None:
        self.over = session


class Pair:
    """Two nodes that talk, with a hub, and what a test does with them."""

    def __init__(self, net, **changes) -> None:
        self.net = net
        self.hub = net.hub()
        self.a = net.node("a", "10.0.0.2/24", relay=True, routing=changes.pop("routing", Nearest()), **changes)
        self.b = net.node("b", "10.0.0.3/24", relay=True, routing=Nearest(), **changes)
        self.ends = (self.a, self.b)
        self.talking = True
        self.payload = b"data"
        net.run(0.5)
        self.talk(1)
        assert self.kind(self.a) == self.kind(self.b) == "hub"

    def other(self, host):
        return self.b if host is self.a else self.a

    def key(self, host) -> bytes:
        return self.other(host).settings.identity.public

    def peer(self, host):
        return host.peers[self.key(host)]

    def session(self, host):
        return host.control.session_with(self.key(host))

    def ways(self, host):
        return host.control._ways

    def paths(self, host) -> list[dict]:
        return host.control.paths(self.peer(host), self.net.now)

    def path(self, host, endpoint: str) -> dict | None:
        return next((path for path in self.paths(host) if path["endpoint"] == endpoint), None)

    def kind(self, host) -> str:
        (used,) = [path for path in self.paths(host) if path["used"]]
        assert self.peer(host).path.transport == (RELAY if used["class"] == "hub" else UDP)
        return used["class"]

    def talk(self, seconds: float, *, until=None, step: float = 0.05, who=None) -> bool:
        """Both send a packet every `step` seconds, which the other side gets; stop when `until` holds."""
        end = self.net.now + seconds
        while self.net.now < end and not (until is not None and until()):
            for host in self.ends if who is None else who:
                peer = host.peers.get(self.key(host))
                if host.send(str(self.other(host).settings.addresses[0].ip), self.payload):
                    peer.stats.tx_packets += 1
                    peer.stats.tx_bytes += len(self.payload)
                elif peer is not None:
                    host.control.want(peer, self.net.now)
                    self.net.drain(host)
            self.net.run(step)
        return until is not None and bool(until())

    def probe(self, host, address=None, kind: PathClass = PathClass.PUBLIC) -> None:
        """What discovery does."""
        self.ways(host).probe(self.session(host), UDP, address or self.other(host).flow, kind, self.net.now)
        self.net.drain(host)

    def go_direct(self) -> None:
        self.probe(self.a)
        assert self.talk(2, until=lambda: self.kind(self.a) == self.kind(self.b) == "public")

    def sent_to(self, host, since: float) -> list[bytes]:
        """Datagrams that anybody sent straight to a host."""
        return [data for when, _, to, _, data in self.net.log if to == host.name and when >= since]


@pytest.fixture
def pair(net):
    return Pair(net)


@pytest.fixture
def direct(pair):
    pair.go_direct()
    return pair


# ------------------------------------------------------------------ finding


def test_without_a_policy_everything_goes_through_the_hub(net):
    pair = Pair(net, routing=None)
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
    seeker = pair.ways(pair.a).seeker = Seeker()
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
    seeker = pair.ways(pair.a).seeker = Seeker()
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


def test_the_lan_is_preferred_and_told_by_own_prefixes(net):
    pair = Pair(net)
    pair.go_direct()
    pair.b.flow = ("192.168.7.3", 40000)
    pair.ways(pair.a).networks = [ip_network("192.168.7.0/24")]
    pair.probe(pair.a, kind=PathClass.LAN)
    assert pair.talk(10, until=lambda: pair.kind(pair.a) == "lan")


@pytest.mark.parametrize(("address", "kind"), [
    ("192.168.7.3", "lan"), ("192.168.8.3", "public"), ("203.0.113.9", "public"), ("100.64.0.9", "public"),
])  # fmt: skip
def test_where_a_peer_comes_from_says_what_kind_of_path_it_is(net, address, kind):
    """A private address is the LAN's only in a prefix of one's own links; a public prefix is never one."""
    pair = Pair(net)
    pair.ways(pair.a).networks = [ip_network("192.168.7.0/24"), ip_network("203.0.113.0/24")]
    pair.b.flow = (address, 40000)
    pair.probe(pair.b)
    assert pair.talk(5, until=lambda: pair.kind(pair.a) == kind)


# ------------------------------------------------------------------ failing and healing


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


# ------------------------------------------------------------------ the hub


def test_direct_paths_go_on_without_the_hub(direct):
    net = direct.net
    net.kill(direct.hub)
    start = len(direct.a.got)
    direct.talk(60)
    assert direct.kind(direct.a) == "public"
    assert len(direct.a.got) > start + 1000
    assert next(path["state"] for path in direct.paths(direct.a)) == "dead", "there is no relay"


# ------------------------------------------------------------------ MTU


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


# ------------------------------------------------------------------ cost


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


# ------------------------------------------------------------------ what is told


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


def test_a_policy_sees_what_was_measured(net):
    policy = Nearest()
    pair = Pair(net, routing=policy)
    pair.go_direct()
    views = {view.path_class: view for view in policy.seen[-1]}
    hub, way = views[PathClass.HUB], views[PathClass.PUBLIC]
    assert hub.via == pair.hub.settings.identity.public
    assert way.via == way.peer == pair.key(pair.a)
    assert (hub.hops, way.hops) == (2, 1)
    assert way.rtt == pytest.approx(0.04)
    assert way.last_pong <= net.now


def test_nothing_is_left_of_a_session_that_ended(direct):
    seeker = direct.ways(direct.a).seeker = Seeker()
    session = direct.session(direct.a)
    direct.b.control.stop(direct.net.now)
    direct.net.drain(direct.b)
    direct.net.run(1)
    assert direct.ways(direct.a)._tables == {}
    assert seeker.over is session
    hung = [call for _, who, call in direct.net.calls if who == "a" and isinstance(call, HangUp)]
    assert HangUp(UDP, direct.b.flow) in hung


def test_a_peer_that_begins_anew_is_met_through_the_hub(direct):
    """It has forgotten everything; so the paths of before are dead until they have answered again."""
    net, (a, b) = direct.net, direct.ends
    net.kill(b)
    direct.talk(1, who=[a])
    direct.b = net.node("b", "10.0.0.3/24", relay=True, routing=Nearest(), flow=b.flow)
    direct.ends = (a, direct.b)
    net.run(0.5)
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
    table = direct.ways(a)._tables[direct.key(a)]
    for i in range(WAY_LIMIT - len(table.ways)):
        way = table.add(Path(UDP, ("203.0.113.200", i)), PathClass.PUBLIC, 1400)
        way.move(WayStep.PONG)
    b.flow = ("203.0.113.3", 41000)
    direct.probe(a)
    net.run(0.2)
    assert len(table.ways) == WAY_LIMIT
    assert direct.path(a, "203.0.113.3:41000") is None
