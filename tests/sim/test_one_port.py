"""One hub, one port number: nodes with real TCP segments, with UDP that looks like TCP, and with plain UDP."""

from itertools import permutations

import pytest

import ltunnel_crypto_aesgcm
import ltunnel_transport_faketcp
import ltunnel_transport_udp
from ltunnel.testing import PortSettings, Quality, SimNode, Transfer, World

PLAIN, SEGMENTS, FRAMED = "transport_udp", "transport_faketcp", "transport_faketcp:udp"
DESCRIPTORS = {
    PLAIN: ltunnel_transport_udp.ltunnel_transport(),
    SEGMENTS: ltunnel_transport_faketcp.ltunnel_transport(),
    FRAMED: ltunnel_transport_faketcp.ltunnel_transport(),
}


@pytest.fixture(params=list(permutations(DESCRIPTORS)), ids="-".join)
def world(request) -> World:
    """A hub with all of them, in every order, and a node for each; not yet started."""
    world = World(DESCRIPTORS, ltunnel_crypto_aesgcm.ltunnel_cipher(), options={FRAMED: {"framing": "udp"}})
    world.transports = {name: DESCRIPTORS[name] for name in request.param}
    world.add_hub()
    for name in ("plain", "segments", "framed"):
        world.add_node(name, quality=Quality(delay=0.01))
    return world


def start(world: World) -> tuple[SimNode, SimNode, SimNode, SimNode]:
    """Start the hub, then each node with the one transport that it is to use."""
    hub, *nodes = world.nodes
    hub.start()
    for node, name in zip(nodes, (PLAIN, SEGMENTS, FRAMED), strict=True):
        world.transports = {name: DESCRIPTORS[name]}
        node.start()
    assert world.run(10, until=world.all_up)
    return hub, *nodes


def test_all_reach_all(world: World) -> None:
    machines = start(world)
    hub = machines[0]
    assert {peer["name"]: peer["transport"] for peer in hub.status()["peers"]} == {
        "plain": PLAIN, "segments": SEGMENTS, "framed": FRAMED,
    }  # fmt: skip
    for source, target in permutations(machines, 2):
        assert world.ping(source, target) is not None, (source.name, target.name)
    assert hub.drops() == {}
    assert all(transport["drops"] == {} for transport in hub.status()["transports"])


def test_they_send_at_the_same_time(world: World) -> None:
    hub, *nodes = start(world)
    transfers = [Transfer(node, hub, port=5001 + i, seed=i) for i, node in enumerate(nodes)]
    transfers += [Transfer(hub, node, port=6001 + i, seed=9 + i) for i, node in enumerate(nodes)]
    for _ in range(50):
        for transfer in transfers:
            transfer.send(40_000)
        world.run(0.01)
    world.run(1)
    assert [transfer.check() for transfer in transfers] == [1.0] * 6
    assert hub.drops() == {}


def test_a_node_may_move_between_the_kinds() -> None:
    """Of one node, plain UDP and framed UDP come from different ports; what is kept for one blocks no other."""
    world = World(DESCRIPTORS, ltunnel_crypto_aesgcm.ltunnel_cipher(), options={FRAMED: {"framing": "udp"}})
    hub, node = world.add_hub(ports=PortSettings(gro=False)), world.add_node("a")
    hub.start()
    for name in (FRAMED, PLAIN, SEGMENTS, FRAMED):
        world.transports = {name: DESCRIPTORS[name]}
        node.start()
        assert world.run(10, until=world.all_up)
        world.run(1)
        assert hub.status()["peers"][0]["transport"] == name
        assert world.ping(node, hub) is not None
        node.kill()


def test_garbage_to_the_shared_port_is_counted_by_one_of_them() -> None:
    world = World(DESCRIPTORS, ltunnel_crypto_aesgcm.ltunnel_cipher(), options={FRAMED: {"framing": "udp"}})
    hub = world.add_hub()
    world.start()
    stranger = world.add_stranger()
    random = world.network.random("garbage")
    for size in range(200):
        stranger.send((None, 1000), (hub.host.addresses[0], 9000), random.randbytes(size))
    world.run(1)
    assert sum(hub.drops().values()) >= 199
