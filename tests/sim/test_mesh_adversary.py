"""A key holder in the mesh who lies: about metrics, sequence numbers and whom he reaches; and what he sends besides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ltunnel.data.relay_frames import Run
from ltunnel.session import Peer
from ltunnel.testing import Pings, packets
from ltunnel.wire.advert import INFINITY, Advert, Route, Want
from ltunnel.wire.relay import TRAILER, node_name
from ltunnel.wire.types import FrameType
from tests.sim.knots import Scene, make_scene


class Mallory:
    """The node m of a scene, and what he can do."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        node = scene["m"].node
        assert node is not None
        self.node = node
        self.relays: Any = node._inbound._relays

    def name(self, of: str) -> bytes:
        return node_name(self.scene[of].settings.identity.public)

    def say(self, to: str, frame_type: int, body: bytes) -> None:
        """Send a frame in the session with a neighbour."""
        peer = self.scene.peer("m", to)
        assert peer.epoch is not None
        assert peer.path is not None
        self.node.control.outbox.append(
            (peer.path.transport, peer.path.flow, peer.epoch.seal_frame(frame_type, body))
        )  # fmt: skip
        self.node.handle_timeout(self.scene.world.now)

    def claim(self, to: str, *routes: Route, wants: Sequence[Want] = ()) -> None:
        self.say(to, FrameType.ADVERT, Advert(hold=100.0, routes=tuple(routes), wants=tuple(wants)).pack())

    def swallow(self) -> list[tuple[bytes, bytes]]:
        """Pass nothing on from now on; return what would have been, as (destination, frame), growing."""
        seen: list[tuple[bytes, bytes]] = []
        forwarder = self.relays._forwarder

        def take_runs(epoch: Any, parts: Sequence[Run], length: int, now: float) -> None:
            for first, stop, last, trailer in parts:
                data = bytes(forwarder.arena.view[first * length : stop * length + last])
                seen.append((TRAILER.unpack(trailer)[0], data))

        def take_record(epoch: Any, arena: Any, length: int, now: float) -> None:
            data = bytes(arena.view[:length])
            seen.append((TRAILER.unpack(data[-TRAILER.size :])[0], data))

        forwarder.take_runs, forwarder.take_record = take_runs, take_record
        return seen

    def advert(self, to: str, dest: str, *, seqno: int, metric: int = 1, hops: int = 1) -> None:
        self.claim(to, Route(self.name(dest), seqno & 0xFFFF, metric, hops))

    def seqno(self, of: str) -> int:
        return self.scene.mesh(of).routes.seqno


@pytest.fixture
def scene() -> Scene:
    """a reaches c through b; m reaches a, b and, in truth, nobody else that matters."""
    scene = make_scene("abcm", ["ab", "bc", "am", "bm"])
    scene.talk("ab", "bc", "am", "bm", "ac")
    assert scene.world.run(5, until=scene.both("a", "c", "mesh"))
    return scene


def test_who_claims_to_be_near_is_tried_and_not_used(scene: Scene) -> None:
    """The lowest metric and the newest numbers, again and again; he passes nothing on."""
    mallory = Mallory(scene)
    seen = mallory.swallow()
    pings = Pings(scene.world, scene["a"], scene["c"], interval=0.05, count=1200)
    for turn in range(60):
        for to in "ab":
            mallory.advert(to, "c", seqno=mallory.seqno("c") + turn * 100)
            mallory.advert(to, "a" if to == "b" else "b", seqno=mallory.seqno("a") + turn)
        scene.world.run(1)
        assert scene.used("a", "c")["via"] == "b"
        hop = scene.hop("b", "c")
        assert hop is not None
        assert hop.name == "c", "who has a path of his own uses that"
    scene.world.run(1)
    assert (pings.lost, pings.repeated) == (0, 0)
    assert len(seen) <= 60, "he was probed, no more"


def test_numbers_that_were_raised_by_lies_do_not_shut_the_true_ones_out() -> None:
    """A path over two nodes: one of them hears the newest number from m, and the true one only later."""
    scene = make_scene("abcdm", ["ab", "bc", "cd", "bm"])
    scene.talk("ab", "bc", "cd", "bm", "ad")
    assert scene.world.run(8, until=scene.both("a", "d", "mesh"))
    mallory = Mallory(scene)
    mallory.swallow()
    pings = Pings(scene.world, scene["a"], scene["d"], interval=0.1, count=1500)
    scene.world.run(5)
    for _ in range(3):
        mallory.advert("b", "d", seqno=mallory.seqno("d") + 20_000)
        scene.world.run(1)
    scene.world.run(2)
    lured = scene.hop("b", "d")
    assert lured is not None
    assert lured.name == "m", "as a distance vector may"
    mallory.claim("b", Route(mallory.name("d"), 0, INFINITY, 1))
    assert scene.world.run(10, until=lambda: (hop := scene.hop("b", "d")) is not None and hop.name == "c")
    assert scene.world.run(60, until=scene.both("a", "d", "mesh"))
    scene.world.run(max(0.0, pings.end - scene.world.now + 1))
    assert pings.lost * 0.1 <= 6.5, "in between it went through the hub"


def test_what_he_passes_on_he_cannot_read() -> None:
    scene = make_scene("acm", ["am", "cm"])
    scene.talk("am", "cm", "ac")
    assert scene.world.run(5, until=scene.both("a", "c", "mesh"))
    marker = b"PLAINTEXT-MARKER"
    mallory = Mallory(scene)
    before = scene.relayed("m")
    assert scene.world.ping(scene["a"], scene["c"], size=16) is not None
    passed = mallory.swallow()
    scene["a"].tun.inject(_marked(scene, marker * 50))
    scene.world.run(0.5)
    assert any(dest == mallory.name("c") and len(data) > 800 for dest, data in passed)
    assert not any(marker in data for _, data in passed)
    assert scene.relayed("m") > before


def _marked(scene: Scene, payload: bytes) -> bytes:
    return packets.udp(scene["a"].inner(), scene["c"].inner(), 1, 2, payload)


def test_a_path_that_he_cuts_is_left_in_time() -> None:
    scene = make_scene("acm", ["am", "cm"])
    scene.talk("am", "cm", "ac")
    assert scene.world.run(5, until=scene.both("a", "c", "mesh"))
    pings = Pings(scene.world, scene["a"], scene["c"], interval=0.05, count=400)
    scene.world.run(5)
    Mallory(scene).swallow()
    assert scene.world.run(6.5, until=scene.both("a", "c", "hub"))
    scene.world.run(max(0.0, pings.end - scene.world.now + 1))
    assert pings.lost * 0.05 <= 6.5


def test_names_that_nobody_has_make_nobody_send_anything(scene: Scene) -> None:
    """An advert names nodes, not places: there is nothing that it could make anybody probe."""
    mallory = Mallory(scene)
    before = [len(scene.paths("a", name)) for name in "bcm"]
    for turn in range(20):
        strange = [Route(b"%8d" % (turn * 48 + number), 1, 5, 1) for number in range(48)]
        mallory.claim("a", *strange)
        scene.world.run(0.2)
    assert not any(dest.strip().isdigit() for dest in scene.mesh("b").routes.chosen), "it is not told on"
    assert [len(scene.paths("a", name)) for name in "bcm"] == before
    assert scene.kinds("a", "c") == {"mesh"}


def test_a_flood_is_cut_off(scene: Scene) -> None:
    mallory = Mallory(scene)
    wants = [Want(mallory.name("a"), number, 3) for number in range(8)]
    before = scene["a"].link.up.sent
    for number in range(500):
        mallory.claim("a", wants=[want._replace(seqno=number * 60 & 0xFFFF) for want in wants])
    scene.world.run(1)
    assert scene["a"].link.up.sent - before < 150
    assert scene["a"].drops()["limited"] >= 400
    scene.world.run(5)
    assert scene.kinds("a", "c") == {"mesh"}


@pytest.mark.parametrize("seed", range(3))
def test_hostile_frames_are_counted(scene: Scene, seed: int) -> None:
    mallory = Mallory(scene)
    random = scene.world.network.random(f"hostile {seed}")
    good = Advert(hold=1.0, routes=(Route(mallory.name("m"), 1, 0, 0),), wants=(Want(b"nobody--", 1, 1),)).pack()
    for _ in range(60):
        body = bytearray(random.choice([good, random.randbytes(random.randrange(200))]))
        for _ in range(random.randrange(3)):
            if body:
                body[random.randrange(len(body))] = random.randrange(256)
        mallory.say("a", FrameType.ADVERT, bytes(body))
        scene.world.run(0.2)
    assert scene["a"].drops()["malformed"] >= 20
    assert scene.world.ping(scene["a"], scene["c"]) is not None
    assert scene.kinds("a", "c") == {"mesh"}


def test_handshakes_in_the_name_of_others_cost_only_who_brings_them(scene: Scene) -> None:
    """m may say that it brings INITs of c; those that c sends through the hub are answered all the same."""
    mallory, node = Mallory(scene), scene["a"].node
    assert node is not None
    assert node.relay is not None
    assert node.mesh is not None
    neighbours, now = node.control._neighbours, scene.world.now
    assert neighbours is not None
    brought = [neighbours.answers(node.mesh, mallory.name("m") + mallory.name("c"), now) for _ in range(50)]
    assert sum(brought) <= 8
    assert neighbours.answers(node.relay, mallory.name("c"), now)
    assert neighbours.answers(node.mesh, mallory.name("b") + mallory.name("c"), now)
    assert not neighbours.answers(node.mesh, mallory.name("b") + b"stranger", now)
    assert not neighbours.answers(node.mesh, b"stranger" + mallory.name("c"), now)


def test_another_cannot_be_at_distance_zero(scene: Scene) -> None:
    mallory = Mallory(scene)
    mallory.claim("a", Route(mallory.name("c"), mallory.seqno("c") + 1 & 0xFFFF, 0, 0))
    scene.world.run(1)
    assert scene["a"].drops()["malformed"] == 1


def test_the_hub_takes_no_adverts(scene: Scene) -> None:
    node = scene["m"].node
    assert node is not None
    hub: Peer | None = node.control.hub
    assert hub is not None
    assert hub.epoch is not None
    assert hub.path is not None
    frame = Advert(hold=1.0).pack()
    node.control.outbox.append((hub.path.transport, hub.path.flow, hub.epoch.seal_frame(FrameType.ADVERT, frame)))
    node.handle_timeout(scene.world.now)
    scene.world.run(1)
    assert scene.hub.drops() == {"unknown type": 1}
