"""Nodes that reach each other through other nodes: found, used, left, without loops."""

from __future__ import annotations

import pytest

from ltunnel.control.probing import TRUST
from ltunnel.testing import Pings, Stream, Transfer
from tests.sim.knots import Scene, make_scene


@pytest.fixture
def three() -> Scene:
    """a and c reach b, but not each other."""
    scene = make_scene("abc", ["ab", "bc"])
    scene.talk("ab", "bc", "ac")
    assert scene.world.run(4, until=scene.both("a", "c", "mesh"))
    return scene


def test_two_nodes_reach_each_other_through_a_third(three: Scene) -> None:
    assert three.used("a", "c")["via"] == three.used("c", "a")["via"] == "b"
    assert three.used("a", "c")["hops"] == 2
    hub = three.hub.host.links[0]
    before, relayed = hub.down.sent, three.relayed("b")
    transfer = Transfer(three["a"], three["c"])
    for _ in range(10):
        transfer.send(40_000)
        three.world.run(0.2)
    assert transfer.check() == 1.0
    assert three.relayed("b") - relayed >= 400_000 // 1400
    assert hub.down.sent - before <= 20, "the hub has nothing to do with it"
    assert [event.text for _, event in three["a"].happened("routing-stats")][-1] == (
        "Routing stats: 2 peers, 1 direct, 1 relay, 0 server"
    )


def test_nothing_is_lost_when_the_hub_is_cut_off(three: Scene) -> None:
    """The great use: whoever has lost the hub is reached through somebody who is reached."""
    pings = Pings(three.world, three["a"], three["c"], interval=0.05, count=1200)
    three.world.run(5)
    three.cut_hub("a")
    three.world.run(56)
    assert (pings.lost, pings.repeated) == (0, 0)
    assert three["a"].state == "connecting"
    assert three.kinds("a", "c") == {"mesh"}


def test_keys_are_renewed_through_a_node(three: Scene) -> None:
    """For longer than keys live, without the hub, so that new ones are made over the path in use."""
    three.cut_hub("a")
    pings = Pings(three.world, three["a"], three["c"], interval=0.5, count=500)
    before = three.peer("a", "c").epoch
    three.world.run(251)
    assert three.peer("a", "c").epoch is not before
    assert (pings.lost, pings.repeated) == (0, 0)


@pytest.mark.parametrize("end", ["a", "b"])
def test_a_session_is_begun_through_a_node_when_the_hub_is_away(end: str) -> None:
    """a and c have been introduced, but have never talked."""
    scene = make_scene("abc", ["ab", "bc"])
    scene.talk("ab", "bc")
    if end == "a":
        scene.cut_hub("a")
    else:
        scene.hub.kill()
    scene.world.run(35)
    assert scene.world.ping(scene["a"], scene["b"]) is not None
    start = scene.world.now
    assert scene.world.ping(scene["a"], scene["c"], timeout=3) is not None
    assert scene.world.now - start <= 2.5
    assert scene.world.run(2, until=scene.both("a", "c", "mesh"))


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_the_hub_takes_over_when_the_relay_is_gone(three: Scene, kill: bool) -> None:
    pings = Pings(three.world, three["a"], three["c"], interval=0.05, count=400)
    stream = Stream(three.world, three["c"], three["a"])
    three.world.run(5)
    (three["b"].kill if kill else three["b"].stop)()
    start = three.world.now
    assert three.world.run(TRUST, until=three.both("a", "c", "hub"))
    if not kill:
        assert three.world.now - start <= 0.1, "it said goodbye"
    before = stream.read
    three.world.run(pings.end - three.world.now + 1)
    assert stream.read > before
    assert pings.repeated == 0
    assert pings.lost * 0.05 <= (TRUST if kill else 0.2)
    three["b"].start()
    three.world.run(5)
    three.wire()
    three.talk("ab", "bc")
    assert three.world.run(10, until=three.both("a", "c", "mesh")), "and back when it is there again"


def test_a_link_that_dies_is_told_at_once(three: Scene) -> None:
    """b finds out that c is gone for it; a hears of it and need not find out by itself."""
    Pings(three.world, three["b"], three["c"], interval=0.1, count=200)
    Pings(three.world, three["a"], three["c"], interval=0.1, count=200)
    three.world.run(3)
    three.links.discard("bc")
    three.wire()
    assert three.world.run(TRUST, until=lambda: three.used("b", "c")["class"] == "hub")
    assert three.world.run(0.2, until=lambda: three.used("a", "c")["class"] == "hub")
    three.links.add("bc")
    three.wire()
    assert three.world.run(60, until=three.both("a", "c", "mesh"))


def test_a_direct_path_is_better_and_looked_for(three: Scene) -> None:
    pings = Pings(three.world, three["a"], three["c"], interval=0.1, count=600)
    three.world.run(5)
    three.links.add("ac")
    three.wire()
    assert three.world.run(50, until=three.both("a", "c", "public"))
    three.world.run(5)
    three.links.discard("ac")
    three.wire()
    assert three.world.run(TRUST, until=three.both("a", "c", "mesh")), "and back to the mesh, not to the hub"
    three.world.run(max(0.0, pings.end - three.world.now))
    assert pings.lost * 0.1 <= TRUST


def test_the_better_of_two_relays_is_used_and_left_when_it_loses_much() -> None:
    scene = make_scene("abcd", ["ab", "ad", "cb", "cd"])
    scene["d"].link.change(delay=0.02)
    scene.talk("ab", "ad", "cb", "cd", "ac")
    pings = Pings(scene.world, scene["a"], scene["c"], interval=0.1, count=1800)
    assert scene.world.run(10, until=scene.both("a", "c", "mesh"))
    scene.world.run(10)
    assert scene.used("a", "c")["via"] == scene.used("c", "a")["via"] == "b"
    scene["b"].link.change(loss=0.5)
    assert scene.world.run(90, until=lambda: scene.used("a", "c")["via"] == "d")
    assert pings.repeated == 0


def test_a_path_through_two_nodes() -> None:
    scene = make_scene("abcd", ["ab", "bc", "cd"])
    scene.talk("ab", "bc", "cd", "ad")
    assert scene.world.run(5, until=scene.both("a", "d", "mesh"))
    assert scene.world.run(2, until=lambda: scene.used("a", "d")["hops"] == scene.used("d", "a")["hops"] == 3)
    assert (scene.used("a", "d")["via"], scene.used("d", "a")["via"]) == ("b", "c")
    scene.cut_hub("a")
    scene.cut_hub("d")
    transfer = Transfer(scene["a"], scene["d"])
    for _ in range(10):
        transfer.send(20_000)
        scene.world.run(0.2)
    assert transfer.check() == 1.0
    assert scene.relayed("b") > 100
    assert scene.relayed("c") > 100


def test_two_links_at_most_leave_no_path_through_two_nodes() -> None:
    scene = make_scene("abcd", ["ab", "bc", "cd"], max_hops=2)
    scene.talk("ab", "bc", "cd", "ac", "ad")
    assert scene.world.run(5, until=scene.both("a", "c", "mesh"))
    scene.world.run(60)
    assert scene.kinds("a", "d") == {"hub"}


@pytest.mark.parametrize("who", ["b", "c"])
def test_nobody_relays_or_is_reached_so_who_takes_no_part(who: str) -> None:
    scene = make_scene("abc", ["ab", "bc"])
    world = scene.world
    scene[who].kill()
    object.__setattr__(scene[who].settings, "mesh", False)
    scene[who].start()
    world.run(2)
    scene.wire()
    scene.talk("ab", "bc", "ac")
    Pings(world, scene["a"], scene["c"], interval=0.2, count=300)
    world.run(62)
    assert scene.kinds("a", "c") == {"hub"}
    assert all(scene.relayed(name) == 0 for name in "abc")
    assert scene[who].status()["mesh"] is None


def test_a_session_that_a_path_goes_through_is_not_ended_for_idleness(three: Scene) -> None:
    Pings(three.world, three["a"], three["c"], interval=1.0, count=400)
    three.world.run(395)
    assert three.kinds("a", "c") == {"mesh"}
    assert len(three["b"].happened("neighbour-left")) == 0


def test_nobody_keeps_a_mesh_alive_that_nobody_uses(three: Scene) -> None:
    three.world.run(600)
    assert {peer["state"] for name in "abc" for peer in three[name].status()["peers"] if not peer["hub"]} == {"idle"}
    before = three.hub.host.links[0].up.sent
    three.world.run(60)
    assert three.hub.host.links[0].up.sent - before < 60


def test_a_hub_that_isolates_its_nodes_has_no_mesh() -> None:
    """Also if it begins to when there is one already."""
    scene = make_scene("abc", ["ab", "bc"])
    world = scene.world
    scene.talk("ab", "bc", "ac")
    assert world.run(4, until=scene.both("a", "c", "mesh"))
    scene.hub.kill()
    object.__setattr__(scene.hub.settings, "client_isolation", True)
    scene.hub.start()
    Pings(world, scene["a"], scene["c"], interval=0.1, count=400)
    assert world.run(40, until=lambda: "mesh" not in scene.kinds("a", "c"))
    world.run(5)
    relayed = scene.relayed("b")
    world.run(5)
    assert scene.relayed("b") == relayed
    assert all(scene[name].status()["mesh"] == {"links": [], "routes": []} for name in "abc")


def test_status_says_who_is_reached_how(three: Scene) -> None:
    status = three["a"].status()
    assert status["mesh"]["links"] == ["b"]
    routes = {route["name"]: route for route in status["mesh"]["routes"]}
    assert (routes["c"]["via"], routes["c"]["hops"]) == ("b", 2)
    assert 40 <= routes["c"]["metric_ms"] <= 90, "twice there and back over lines of 10 ms"
    peer = next(peer for peer in status["peers"] if peer["name"] == "c")
    assert (peer["path"], peer["via"], peer["endpoint"], peer["transport"]) == ("mesh", "b", None, "mesh")
    event = three["a"].happened("path-changed")[-1][1]
    assert event.text.startswith("reaching c through another node (b): ")
    assert event.fields["via"] == "b"


@pytest.mark.parametrize("seed", range(6))
def test_paths_that_come_and_go_never_make_a_circle(seed: int) -> None:
    """Links of four nodes are cut and mended at random; what is relayed never comes back to where it was."""
    scene = make_scene("abcd", ["ab", "bc", "cd", "da"], seed)
    scene.talk("ab", "bc", "cd", "da", "ac", "bd")
    random = scene.world.network.random("links")
    pings = [Pings(scene.world, scene[one], scene[other], interval=0.1, count=1200) for one, other in ("ac", "bd")]
    edges = ["ab", "bc", "cd", "ad", "ac", "bd"]
    for _ in range(30):
        scene.links ^= {random.choice(edges)}
        scene.wire()
        scene.world.run(random.choice([0.5, 3.0, 8.0]))
        for start in "abcd":
            for dest in "abcd":
                at, seen = start, set()
                while at != dest:
                    assert at not in seen
                    seen.add(at)
                    hop = scene.hop(at, dest)
                    if hop is None:
                        break
                    at = hop.name
    assert all(scene[name].drops().get("hop limit", 0) == 0 for name in "abcd")
    assert all(some.repeated == 0 for some in pings)


def test_the_same_seed_gives_the_same_run() -> None:
    def run() -> list[tuple[float, str]]:
        scene = make_scene("abc", ["ab", "bc"], 7)
        scene.talk("ab", "bc", "ac")
        Pings(scene.world, scene["a"], scene["c"], interval=0.1, count=300)
        scene.world.run(10)
        scene["b"].kill()
        scene.world.run(20)
        return [(when, event.text) for name in "ac" for when, event in scene[name].events]

    assert run() == run()
