"""Networks behind machines: devices that run nothing are reached over the tunnel, from wherever it is allowed."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from ltunnel.testing import SimNode, World, packets
from tests.sim.conftest import MakeWorld
from tests.sim.sites import LINE, new_world

ALL = (ip_network("0.0.0.0/0"), ip_network("::/0"))
LAN = ip_network("192.168.7.0/24")
LAN6 = ip_network("fd07::/64")
DEVICE, DEVICE6 = "192.168.7.20", "fd07::20"
FAR = ip_network("172.16.0.0/16")
FAR_DEVICE = "172.16.0.20"


def serve(gateway: SimNode, *devices: str) -> SimNode:
    """Let devices behind a machine answer, as its kernel would bring it about."""
    gateway.tun.addresses |= set(devices)
    return gateway


def seen(gateway: SimNode, device: str) -> set[str]:
    """Return who has sent something to a device."""
    return {packet.source for packet in gateway.tun.parsed() if packet.destination == device}


class Scene:
    """A hub, an office with a network behind it, and a node that wants to get there, each behind a NAT of its own."""

    def __init__(self, world: World, *, office: dict[str, Any] | None = None, a: dict[str, Any] | None = None,
                 **hub: Any) -> None:  # fmt: skip
        self.world = world
        self.hub = world.add_hub(quality=LINE, **{"accept_routes": ALL, **hub})
        self.office = self.add("office", **{"routes": (LAN, LAN6), **(office or {})})
        serve(self.office, DEVICE, DEVICE6)
        self.a = self.add("a", **{"accept_routes": ALL, **(a or {})})

    def add(self, name: str, **more: Any) -> SimNode:
        behind = self.world.add_nat(f"{name}-nat", quality=LINE)
        return self.world.add_node(name, behind=behind, quality=LINE, **more)

    def begin(self) -> Scene:
        self.world.start()
        assert self.world.run(10, until=self.world.all_up)
        self.world.run(0.5)
        return self

    def networks(self, node: SimNode) -> list[str]:
        """What a node has its kernel send into the tunnel, as status says."""
        return node.status()["accepted_routes"]

    def talk(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> bool:
        """Ping the device now and then, until something holds."""
        end = self.world.now + seconds
        while self.world.now < end and not until():
            self.world.ping(self.a, DEVICE, timeout=0.3)
        return until()

    def path(self, node: SimNode, other: SimNode) -> str:
        return next(peer["path"] for peer in node.status()["peers"] if peer["name"] == other.name)


@pytest.fixture
def scene(make_world: MakeWorld) -> Scene:
    return Scene(make_world(1)).begin()


# -------------------------------------------------------------------- who gets there


def test_a_device_answers_a_node_and_the_hub(scene: Scene) -> None:
    """Over IPv4 and IPv6, from the first packet on; the device sees the tunnel address that asks."""
    world, a, hub, office = scene.world, scene.a, scene.hub, scene.office
    for device in (DEVICE, DEVICE6):
        assert world.ping(a, device) is not None
        assert world.ping(hub, device) is not None
    assert seen(office, DEVICE) == {a.inner(4), hub.inner(4)}
    assert seen(office, DEVICE6) == {a.inner(6), hub.inner(6)}
    assert not office.drops()
    status = a.status()
    assert (status["routes"], status["accepted_routes"], status["refused_routes"]) == ([], [str(LAN), str(LAN6)], [])
    assert office.status()["routes"] == [str(LAN), str(LAN6)]
    assert next(peer["networks"] for peer in status["peers"] if peer["name"] == "office") == [str(LAN), str(LAN6)]


def test_a_device_that_speaks_first_is_let_through(scene: Scene) -> None:
    """Its packets come from the network behind the office, and so out of the office's session only."""
    world, a, hub, office = scene.world, scene.a, scene.hub, scene.office
    office.tun.inject(packets.udp(DEVICE, a.inner(4), 1, 2, b"hello"))
    office.tun.inject(packets.udp(DEVICE, hub.inner(4), 1, 2, b"hello"))
    world.run(1)
    for node in (a, hub):
        assert [(packet.source, packet.payload) for packet in node.tun.parsed()] == [(DEVICE, b"hello")]
    dropped = office.drops().get("inner source", 0)
    a.tun.inject(packets.udp(DEVICE, office.inner(4), 1, 2, b"I am the device"))
    world.run(1)
    assert office.drops()["inner source"] == dropped + 1


def test_two_sites(make_world: MakeWorld) -> None:
    """Each offers its own network and accepts the other's: devices reach devices."""
    scene = Scene(
        make_world(2), office={"accept_routes": (FAR,)}, a={"routes": (FAR,), "accept_routes": (LAN,)}
    ).begin()
    world, a, office = scene.world, serve(scene.a, FAR_DEVICE), scene.office
    assert scene.networks(a) == [str(LAN)]
    assert scene.networks(office) == [str(FAR)]
    for source, gateway, device, far in ((FAR_DEVICE, a, DEVICE, office), (DEVICE, office, FAR_DEVICE, a)):
        ident = world.next_ident()
        gateway.tun.inject(packets.echo(source, device, ident, 1))
        assert world.run(2, until=lambda: (ident, 1) in gateway.tun.replies)  # noqa: B023 (called at once)
        assert source in seen(far, device)


def test_the_hub_has_a_network_behind_it(make_world: MakeWorld) -> None:
    scene = Scene(make_world(3), routes=(FAR,), accept_routes=())
    serve(scene.hub, FAR_DEVICE)
    scene.begin()
    assert scene.networks(scene.a) == [str(FAR)]
    assert scene.world.ping(scene.a, FAR_DEVICE) is not None
    assert scene.world.ping(scene.office, FAR_DEVICE) is None, "it accepts nothing"
    scene.hub.stop()
    scene.world.run(1)
    assert scene.networks(scene.a) == []


# -------------------------------------------------------------------- who does not


def test_a_hub_that_accepts_nothing(make_world: MakeWorld) -> None:
    scene = Scene(make_world(4), accept_routes=()).begin()
    assert scene.networks(scene.a) == scene.networks(scene.hub) == []
    assert [(entry["network"], entry["peer"]) for entry in scene.hub.status()["refused_routes"]] == [
        (str(LAN), "office"), (str(LAN6), "office"),
    ]  # fmt: skip
    assert scene.world.ping(scene.a, DEVICE) is None
    assert seen(scene.office, DEVICE) == set()
    scene.office.tun.inject(packets.udp(DEVICE, scene.hub.inner(4), 1, 2, b"hello"))
    scene.world.run(1)
    assert scene.hub.drops()["inner source"] == 1


def test_a_node_that_accepts_nothing(make_world: MakeWorld) -> None:
    """The hub passes the offer on; this node neither sends there nor lets anything in from there."""
    scene = Scene(make_world(5), a={"accept_routes": ()}).begin()
    world, a, office = scene.world, scene.a, scene.office
    assert scene.networks(a) == []
    assert a.status()["refused_routes"][0] == {
        "network": str(LAN), "peer": "office", "reason": "this machine accepts none (accept_routes)",
    }  # fmt: skip
    assert world.ping(a, DEVICE) is None
    assert world.ping(a, office) is not None
    office.tun.inject(packets.udp(DEVICE, a.inner(4), 1, 2, b"hello"))
    world.run(1)
    assert a.drops()["inner source"] == 1


def test_a_machine_that_is_in_such_a_network_itself(make_world: MakeWorld) -> None:
    """At home there is the same prefix as in the office: home it is."""
    scene = Scene(make_world(6), a={"addresses": ("192.168.7.3",)}).begin()
    assert scene.networks(scene.a) == [str(LAN6)]
    assert scene.a.status()["refused_routes"] == [
        {"network": str(LAN), "peer": "office", "reason": f"this machine is in {LAN} itself"}
    ]
    assert scene.world.ping(scene.a, DEVICE) is None
    assert scene.world.ping(scene.a, DEVICE6) is not None


def test_nodes_that_are_isolated(make_world: MakeWorld) -> None:
    """They reach what is behind the hub, and nothing behind each other."""
    scene = Scene(make_world(7), client_isolation=True, routes=(FAR,))
    serve(scene.hub, FAR_DEVICE)
    scene.begin()
    assert scene.networks(scene.a) == [str(FAR)]
    assert scene.world.ping(scene.a, FAR_DEVICE) is not None
    assert scene.world.ping(scene.a, DEVICE) is None
    assert scene.world.ping(scene.hub, DEVICE) is not None
    assert seen(scene.office, DEVICE) == {scene.hub.inner(4)}


def test_an_offer_of_half_the_internet(make_world: MakeWorld) -> None:
    """A node that offers whatever it likes to machines that accept everything: nothing that carries the tunnel goes."""
    greedy = tuple(
        map(ip_network, ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "203.0.113.0/24", "10.0.0.0/25",
                         "10.0.0.1/32", "fd00::/64", "224.0.0.0/4", "192.0.2.0/24", "8.8.8.0/24"))
    )  # fmt: skip
    scene = Scene(make_world(8), office={"routes": greedy}).begin()
    world, hub, a = scene.world, scene.hub, scene.a
    assert scene.networks(a) == scene.networks(hub) == ["8.8.8.0/24"], "that much it was allowed"
    assert len(hub.status()["refused_routes"]) == 9
    assert world.ping(a, hub) is not None
    assert world.ping(a, scene.office) is not None
    world.run(200)
    assert world.ping(a, hub) is not None


# -------------------------------------------------------------------- machines that leave, and others that stand by


def test_the_way_there_leaves_and_comes_back(scene: Scene) -> None:
    world, a, office = scene.world, scene.a, scene.office
    assert world.ping(a, DEVICE) is not None
    for end in (office.stop, office.kill):
        end()
        assert world.run(60, until=lambda: scene.networks(a) == [])
        assert world.ping(a, DEVICE) is None
        office.start()
        assert world.run(10, until=lambda: scene.networks(a) == [str(LAN), str(LAN6)])
        assert world.ping(a, DEVICE) is not None
    texts = [event.text for _, event in a.happened("route-withdrawn")]
    assert texts.count(f"{LAN} is not behind office any more") == 2


def test_another_way_stands_by(make_world: MakeWorld) -> None:
    scene = Scene(make_world(9))
    spare = serve(scene.add("spare", routes=(LAN,)), DEVICE)
    scene.begin()
    world, a = scene.world, scene.a
    assert world.ping(a, DEVICE) is not None
    assert (seen(scene.office, DEVICE), seen(spare, DEVICE)) == ({a.inner(4)}, set())
    scene.office.kill()
    left = world.now
    assert world.run(60, until=lambda: bool(seen(spare, DEVICE)) or world.ping(a, DEVICE, timeout=0.5) is not None)
    assert world.now - left < 40, "as soon as the hub knows that the first one is gone"
    scene.office.start()
    world.run(5)
    scene.office.tun.clear()
    assert world.ping(a, DEVICE) is not None
    assert seen(scene.office, DEVICE) == set()


def test_a_direct_path_needs_no_hub() -> None:
    """The best path to the office is the best path to what is behind it, also while the hub is away."""
    scene = Scene(new_world(10)).begin()
    world, a = scene.world, scene.a
    assert scene.talk(30, until=lambda: scene.path(a, scene.office) == "public")
    scene.hub.kill()
    scene.talk(120)
    assert a.state == "connecting"
    assert scene.networks(a) == [str(LAN), str(LAN6)]
    assert world.ping(a, DEVICE) is not None
    scene.hub.start()
    assert world.run(60, until=world.all_up)
    scene.talk(40)
    assert scene.networks(a) == scene.networks(scene.hub) == [str(LAN), str(LAN6)]
    assert world.ping(a, DEVICE) is not None
    assert not a.happened("route-withdrawn")
