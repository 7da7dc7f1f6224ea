"""No flapping and no storms: how often a session changes its transport, and what it costs to look for better ones."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from ltunnel.testing import Pings, Quality, Script, Transfer

MakeWalled = Callable[..., Any]
UDP, SECOND, THIRD = "transport_udp", "transport_second", "transport_third"
BACK_WITHIN = 90.0


@pytest.mark.parametrize("loss", [0.33, 0.15])
@pytest.mark.parametrize("seed", range(3))
def test_a_preferred_one_that_loses_a_third(make_walled: MakeWalled, loss: float, seed: int):
    """Whatever is used then, it is not changed all the time, and packets pass."""
    walled = make_walled(seed=seed).join()
    receive, random = walled.wall.receive, Random(seed)

    def lossy(packet: Any, link: Any) -> None:
        if 9000 not in (packet.source[1], packet.destination[1]) or random.random() >= loss:
            receive(packet, link)

    walled.wall.receive = lossy
    watch = walled.watch(0.2, 600)
    watch.run(600)
    assert len(walled.changes()) <= 3
    assert watch.stream.lost / watch.stream.count <= 1 - (1 - loss) ** 2 + 0.02
    assert watch.longest() < 5


def test_one_that_comes_and_goes_is_trusted_less_and_less(make_walled: MakeWalled):
    """Open for 40 s, shut for 20 s, for an hour: the session settles on what holds."""
    walled = make_walled((UDP, SECOND)).join()
    script = Script(walled.world.network)
    script.every(60, start=40, stop=3600).do("shut", walled.wall.shut, UDP)
    script.every(60, start=60, stop=3600).do("open", walled.wall.shut)
    watch = walled.watch(1.0, 3700)
    watch.run(3600)
    assert 3 <= len(walled.changes()) <= 14
    assert len([when for when, _ in walled.node.happened("transport-changed") if when > walled.world.now - 1800]) <= 6
    assert len(walled.hub.happened("node-joined")) == 1
    assert watch.longest() < 10


def test_an_hour_behind_a_wall_is_an_hour_of_few_probes(make_walled: MakeWalled):
    """And flows that are not used are closed again."""
    walled = make_walled(shut=[UDP, SECOND]).join()
    world, wall = walled.world, walled.wall
    world.run(3600)
    assert walled.is_by(THIRD)
    assert 3 * 55 <= wall.stopped[UDP] <= 3 * 70, "three PROBEs a minute"
    assert wall.stopped[SECOND] <= 15 * 70, "its own handshake, once a second while it is tried"
    assert walled.open_flows(SECOND) == 0
    assert not walled.changes()
    assert max(len(walled.node.events), len(walled.hub.events)) < 10
    wall.shut()
    assert world.run(BACK_WITHIN, until=lambda: walled.is_by(UDP))
    world.run(30)
    assert walled.open_flows(SECOND) == walled.open_flows(THIRD) == 0, "nothing is left open"


def test_a_hub_that_is_gone_is_not_stormed(make_walled: MakeWalled):
    walled = make_walled().join()
    world = walled.world
    world.run(5)
    walled.hub.kill()
    before = sum(walled.wall.passed.values())
    world.run(600)
    assert sum(walled.wall.passed.values()) - before <= 600 * 3, "an INIT each in 3 s, and handshakes of flows"
    assert walled.open_flows(SECOND) <= 1
    assert walled.counts[SECOND]["connect"] <= 600 / 6 + 5
    walled.hub.start()
    assert world.run(15, until=lambda: walled.node.state == "up")


def test_probes_that_get_lost_do_not_count_as_loss(make_walled: MakeWalled):
    """Large packets go as records on a path that loses nothing: probes that are stopped elsewhere change nothing."""
    walled = make_walled((UDP, SECOND), shut=[UDP]).join()
    transfer = Transfer(walled.node, walled.hub)
    records = []
    for i in range(900):
        transfer.send(20_000)
        walled.world.run(0.2)
        if i > 50:
            records.append(walled.node.status()["peers"][0]["records"])
    assert walled.wall.stopped[UDP] >= 9, "three rounds of probes at least"
    assert all(records)
    assert walled.node.status()["peers"][0]["loss"] == 0.0


def test_a_look_at_a_silent_host_moves_nothing(make_walled: MakeWalled):
    """Data that nobody answers makes PINGs; they are answered, so the other transports are left alone."""
    walled = make_walled().join()
    walled.hub.tun.answers = False
    Pings(walled.world, walled.node, walled.hub, interval=0.1, count=1200)
    walled.world.run(120)
    assert walled.is_by(UDP)
    assert walled.wall.passed[SECOND] == 0


@pytest.mark.parametrize("seed", range(6))
def test_walls_at_random(make_walled: MakeWalled, seed: int):
    """Transports are shut and opened, the node moves, the line is bad: 10 s later packets pass if any way is open."""
    random = Random(f"walls/{seed}")
    quality = Quality(delay=0.03, jitter=0.02, loss=0.03, reorder=0.1, duplicate=0.02)
    walled = make_walled(quality=quality, seed=seed).join()
    world, node, hub = walled.world, walled.node, walled.hub
    names = (UDP, SECOND, THIRD)
    silent = tried = 0
    for turn in range(60):
        shut = [name for name in names if random.random() < 0.5]
        walled.wall.shut(*shut)
        if turn % 15 == 14:
            node.host.move(walled.wall, f"198.51.100.{80 + turn}")
        start = world.now
        for _ in range(random.choice((1, 3, 10))):
            settled = world.now - start >= 10 and len(shut) < len(names)
            stream = Pings(world, node, hub, interval=0.2, count=10)
            world.run(2.5)
            tried += settled
            silent += settled and not stream.answered
    assert tried > 15
    assert silent == 0, f"in {silent} of {tried} cases a way was open and nothing passed"
    walled.wall.shut()
    assert world.run(30, until=lambda: node.state == "up" and world.ping(node, hub, timeout=0.3))
    world.run(1100)
    assert walled.is_by(UDP), "whatever was held against it is forgiven"
    assert walled.wall.uplink is not None
    walled.wall.uplink.change(loss=0.0)
    world.run(30)
    assert walled.open_flows(SECOND) == walled.open_flows(THIRD) == 0


def test_the_same_seed_gives_the_same_story(make_walled: MakeWalled):
    def story() -> list[tuple[float, str]]:
        walled = make_walled(seed=3).join()
        wall, script = walled.wall, Script(walled.world.network)
        script.at(5).do("shut", wall.shut, UDP).at(20).do("shut", wall.shut, UDP, SECOND).at(40).do("open", wall.shut)
        walled.world.run(150)
        return [(when, event.text) for when, event in walled.node.events]

    assert story() == story()
