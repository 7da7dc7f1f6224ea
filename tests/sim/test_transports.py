"""Several transports to one hub: the first that works is used, the next when it dies, the preferred one again later.

The session goes along: the same keys, the same counters, the same replay window.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from ltunnel.testing import Pings, Quality, Transfer

MakeWalled = Callable[..., Any]
UDP, SECOND, THIRD = "transport_udp", "transport_second", "transport_third"
ALL = {UDP, SECOND, THIRD}
BACK_WITHIN = 90.0


# -------------------------------------------------------------------- connecting


def test_the_preferred_one_is_taken_when_it_works(make_walled: MakeWalled):
    """The others are not even asked."""
    walled = make_walled().join()
    assert walled.is_by(UDP)
    walled.world.run(300)
    assert walled.wall.passed[SECOND] == walled.wall.passed[THIRD] == 0
    assert not walled.changes()
    (peer,) = walled.node.status()["peers"]
    assert peer["chosen"] == "it is the first choice"
    assert [(way["transport"], way["state"], way["used"]) for way in peer["candidates"]] == [
        (UDP, "working", True), (SECOND, "unknown", False), (THIRD, "unknown", False),
    ]  # fmt: skip
    assert peer["candidates"][0]["rtt_ms"] == pytest.approx(40, abs=1)
    (peer,) = walled.hub.status()["peers"]
    assert (peer["chosen"], peer["candidates"]) == ("the node came by it", [])


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.06, 0.11])
def test_one_that_takes_a_round_trip_to_open_is_still_preferred(make_walled: MakeWalled, delay: float):
    walled = make_walled((SECOND, UDP), quality=Quality(delay=delay)).join()
    assert walled.is_by(SECOND)
    walled.world.run(60)
    assert not walled.changes()


def test_on_a_slow_line_a_lesser_one_may_be_first_but_not_for_long(make_walled: MakeWalled):
    walled = make_walled((SECOND, UDP), quality=Quality(delay=0.4)).join()
    assert walled.world.run(30, until=lambda: walled.is_by(SECOND))
    assert len(walled.changes()) <= 1


@pytest.mark.parametrize(("shut", "expected", "limit"), [
    ((UDP,), SECOND, 0.6), ((UDP, SECOND), THIRD, 0.9), ((SECOND,), UDP, 0.2), ((SECOND, THIRD), UDP, 0.2),
])  # fmt: skip
def test_blocked_from_the_start(make_walled: MakeWalled, shut: tuple[str, ...], expected: str, limit: float):
    walled = make_walled(shut=shut)
    world, start = walled.world, walled.world.now
    walled.join()
    assert world.now - start <= limit
    assert walled.is_by(expected)
    world.run(100)
    assert not walled.changes(), "what is shut is not gone to"
    if expected != UDP:
        assert walled.node.status()["peers"][0]["chosen"] == f"{', '.join(shut)} did not answer"
        assert {walled.candidates()[name] for name in shut} <= {"dead", "trying"}
        assert walled.world.run(10, until=lambda: {walled.candidates()[name] for name in shut} == {"dead"})
    world.run(60)
    walled.wall.shut()
    watch = walled.watch(1.0, BACK_WITHIN)
    assert watch.run(BACK_WITHIN, until=lambda: walled.is_by(UDP))
    assert len(walled.hub.happened("node-joined")) == 1


@pytest.mark.parametrize("which", sorted(ALL))
def test_all_are_blocked_then_one_opens(make_walled: MakeWalled, which: str):
    walled = make_walled(shut=ALL)
    walled.world.start()
    walled.world.run(60)
    (_, event), *_ = walled.node.happened("unreachable")
    ways = ["203.0.113.1:9000 by transport_udp", "203.0.113.1:9001 by transport_second"]
    assert "; ".join([*ways, "203.0.113.1:9002 by transport_third"]) in event.text
    assert "is transport_udp or transport_second or transport_third blocked?" in event.text
    walled.wall.shut(*ALL - {which})
    assert walled.world.run(5, until=walled.world.all_up)
    assert walled.is_by(which)


def test_a_hub_without_the_preferred_one(make_walled: MakeWalled):
    """A node may list more than its hub has."""
    walled = make_walled((THIRD, SECOND, UDP))
    world = walled.world
    world.transports = {UDP: walled.transports[UDP]}
    walled.hub.start()
    world.transports = walled.transports
    walled.node.start()
    assert world.run(5, until=world.all_up)
    world.run(100)
    assert walled.node.status()["peers"][0]["transport"] == UDP
    assert world.ping(walled.hub, walled.node) is not None
    assert not walled.changes()


# -------------------------------------------------------------------- moving


@pytest.mark.parametrize("seed", range(8))
def test_blocked_in_the_middle_and_back_when_it_is_open(make_walled: MakeWalled, seed: int):
    """First, second, third, first: within 4.5 s each, and back within 90 s; nothing of the session is new."""
    walled = make_walled(seed=seed).join()
    watch = walled.watch(0.05, 110)
    with walled.same_session():
        watch.run(5 + Random(seed).random())
        for shut, expected in (((UDP,), SECOND), ((UDP, SECOND), THIRD)):
            walled.wall.shut(*shut)
            start = walled.world.now
            assert watch.run(10, until=lambda expected=expected: walled.is_by(expected))
            watch.run(4)
            assert watch.longest(since=start) <= 4.5
        walled.wall.shut()
        start = walled.world.now
        assert watch.run(BACK_WITHIN, until=lambda: walled.is_by(UDP))
        watch.run(3)
        assert watch.longest(since=start) <= 0.15, "coming back costs nothing"
    assert walled.changes() == walled.changes(walled.hub) == [SECOND, THIRD, UDP]
    reasons = [event.fields["reason"] for _, event in walled.node.happened("transport-changed")]
    assert reasons == [f"{UDP} went dead", f"{SECOND} went dead", "it is preferred, and works again"]
    (_, event), *_ = walled.node.happened("transport-changed")
    assert (event.fields["from"], event.fields["to"]) == (UDP, SECOND)


@pytest.mark.parametrize("down", [True, False])
def test_a_transfer_in_one_direction(make_walled: MakeWalled, down: bool):
    """A bulk transfer with what TCP sends back: it goes on after 4 s, and the way back loses not a byte."""
    walled = make_walled().join()
    ends = (walled.hub, walled.node) if down else (walled.node, walled.hub)
    transfer, answers = Transfer(*ends), Transfer(*ends[::-1], port=5002, seed=2)

    def run(seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            transfer.send(30_000)
            answers.send(10)
            walled.world.run(0.1)

    with walled.same_session():
        run(2)
        walled.wall.shut(UDP)
        run(10)
        assert walled.is_by(SECOND)
        assert transfer.check() >= (12 - 4.5) / 12
        walled.wall.shut()
        transfer, answers = Transfer(*ends, seed=3), Transfer(*ends[::-1], port=5002, seed=4)
        run(60)
        walled.world.run(1)
        assert walled.is_by(UDP)
        assert transfer.check() == answers.check() == 1.0
        assert transfer.repeats == 0


def test_an_idle_tunnel_moves_too(make_walled: MakeWalled):
    """Its keepalive finds out; then the hub reaches the node."""
    walled = make_walled().join()
    walled.world.run(30)
    walled.wall.shut(UDP)
    walled.world.run(14)
    assert walled.is_by(SECOND)
    assert walled.world.ping(walled.hub, walled.node) is not None


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_wall_that_stops_one_direction(make_walled: MakeWalled, direction: str):
    walled = make_walled().join()
    watch = walled.watch(0.1, 30)
    watch.run(3)
    receive, outward = walled.wall.receive, direction == "up"

    def one_way(packet: Any, link: Any) -> None:
        if (packet.destination if outward else packet.source)[1] != 9000:
            receive(packet, link)

    walled.wall.receive = one_way
    watch.run(12)
    assert walled.is_by(SECOND)
    assert watch.longest() <= 4.5


@pytest.mark.parametrize("hole", [10, 20, 100])
@pytest.mark.parametrize("which", sorted(ALL))
def test_all_are_blocked_in_the_middle_then_one_opens(make_walled: MakeWalled, hole: float, which: str):
    """Shorter than `timeout`: the session stays; longer: a new one."""
    walled = make_walled().join()
    watch = walled.watch(0.1, hole + 30)
    watch.run(3)
    walled.wall.shut(*ALL)
    watch.run(hole)
    walled.wall.shut(*ALL - {which})
    start = walled.world.now
    watch.run(10)
    assert walled.is_by(which)
    assert next(when for when in watch.times if when > start) - start <= 5
    assert watch.times[-1] > walled.world.now - 0.3
    assert bool(walled.node.happened("disconnected")) == (hole > 30)
    assert walled.changes() == ([] if which == UDP else [which])


def test_the_hub_is_restarted_while_a_lesser_one_is_in_use(make_walled: MakeWalled):
    walled = make_walled(shut=[UDP]).join()
    world, hub = walled.world, walled.hub
    watch = walled.watch(0.1, 60)
    watch.run(5)
    hub.kill()
    watch.run(2)
    hub.start()
    watch.run(15)
    assert watch.times[-1] > world.now - 0.3
    assert watch.longest() <= 14
    assert walled.is_by(SECOND)
    walled.wall.shut()
    assert world.run(BACK_WITHIN, until=lambda: walled.is_by(UDP))
    hub.stop()
    world.run(1)
    hub.start()
    assert world.run(15, until=lambda: walled.node.state == "up" and world.ping(walled.node, hub, timeout=0.2))


# -------------------------------------------------------------------- networks that change


@pytest.mark.parametrize("seed", range(5))
def test_another_network_that_blocks(make_walled: MakeWalled, seed: int):
    """A laptop is carried to a network that stops what it used: another address and another transport at once."""
    walled = make_walled(seed=seed).join()
    other = walled.add_wall("other")
    other.shut(UDP)
    watch = walled.watch(0.05, 120)
    with walled.same_session():
        watch.run(3)
        walled.node.host.move(other, "198.51.100.77")
        watch.run(10)
        assert walled.is_by(SECOND)
        assert watch.longest() <= 4.6
        assert walled.hub.status()["peers"][0]["endpoint"].startswith("198.51.100.77:")
        other.shut()
        assert watch.run(BACK_WITHIN, until=lambda: walled.is_by(UDP))


def test_roaming_over_a_transport_with_connections(make_walled: MakeWalled):
    """The address changes under a flow that is bound to it: the session goes on over another one."""
    walled = make_walled(shut=[UDP]).join()
    elsewhere = walled.add_wall("elsewhere")
    elsewhere.shut(UDP)
    watch = walled.watch(0.05, 60)
    watch.run(3)
    walled.node.host.move(elsewhere, "198.51.100.88")
    watch.run(12)
    assert watch.times[-1] > walled.world.now - 0.3
    assert watch.longest() <= 6
    assert len(walled.hub.happened("node-joined")) == 1


def test_a_change_of_network_is_used_at_once(make_walled: MakeWalled):
    """The runtime tells, and nobody waits for a timer."""
    walled = make_walled(shut=[UDP]).join()
    walled.world.run(100)
    walled.wall.shut()
    walled.node.node.network_changed(walled.world.now)
    assert walled.world.run(3, until=lambda: walled.is_by(UDP))
    assert walled.candidates() == {UDP: "working", SECOND: "working", THIRD: "unknown"}


def test_a_change_of_network_hurries_a_node_that_is_not_connected(make_walled: MakeWalled):
    walled = make_walled(shut=ALL)
    walled.world.start()
    walled.world.run(60.5)
    walled.wall.shut()
    walled.node.node.network_changed(walled.world.now)
    assert walled.world.run(0.1, until=walled.world.all_up)


def test_another_address_of_the_hub_goes_for_every_transport(make_walled: MakeWalled):
    walled = make_walled(shut=[UDP], hub=("203.0.113.99", 9000))
    walled.world.start()
    walled.world.run(8)
    assert walled.node.state == "connecting"
    walled.node.node.set_hub(walled.world.hub_address(), walled.world.now)
    assert walled.world.run(2, until=walled.world.all_up)
    assert walled.is_by(SECOND)
    walled.world.run(12)
    assert (walled.open_flows(SECOND), walled.open_flows(THIRD)) == (1, 0)


def test_nodes_by_different_transports_talk_to_each_other(make_walled: MakeWalled):
    walled = make_walled()
    world = walled.world
    shut = {"a": (), "b": (UDP,), "c": (UDP, SECOND), "d": (SECOND, THIRD)}
    walls = {name: walled.add_wall(f"wall {name}") for name in shut}
    for name, wall in walls.items():
        wall.shut(*shut[name])
    nodes = {name: world.add_node(name, behind=wall) for name, wall in walls.items()}
    walled.join()
    for one in nodes.values():
        for other in nodes.values():
            assert one is other or world.ping(one, other) is not None
    transfers = [Transfer(nodes[one], nodes[other]) for one, other in ("ab", "bc", "cd", "da")]
    for _ in range(10):
        for transfer in transfers:
            transfer.send(20_000)
        world.run(0.1)
    world.run(1)
    assert [transfer.check() for transfer in transfers] == [1.0] * 4
    walls["a"].shut(UDP)
    stream = Pings(world, nodes["a"], nodes["b"], interval=0.1, count=200)
    world.run(21)
    assert stream.lost <= 45
    by = {peer["name"]: peer["transport"] for peer in walled.hub.status()["peers"]}
    assert by == {"node": UDP, "a": SECOND, "b": SECOND, "c": THIRD, "d": UDP}
