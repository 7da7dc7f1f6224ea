"""Whatever strangers send: no exception, no answer, counters move, and what works goes on working."""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from ltunnel.testing import Host, Packet, Pings, PortSettings, Quality, SimNode, Transfer, World
from ltunnel.wire.types import MessageType

MakeWorld = Callable[..., World]
COUNT = 10_000


class Stranger:
    """A host that hears what comes to it."""

    def __init__(self, world: World, name: str = "stranger", address: str = "198.51.100.250") -> None:
        self.host: Host = world.add_stranger(name, address)
        self.heard: list[Packet] = []
        self.host.bind(self, None, 4444)

    def deliver(self, packet: Packet) -> bool:
        self.heard.append(packet)
        return True

    def send(self, to: tuple[str, int], payload: bytes) -> None:
        self.host.send((None, 4444), to, payload)


def build(make_world: MakeWorld, **ports: object) -> tuple[World, SimNode, SimNode, list[bytes]]:
    """A hub and a node that have talked; also all datagrams that they sent."""
    world = make_world(trace=True)
    settings = PortSettings(**ports)
    hub = world.add_hub(ports=settings)
    node = world.add_node("node", quality=Quality(delay=0.01), ports=settings)
    world.start()
    assert world.run(5, until=world.all_up)
    Pings(world, node, hub, interval=0.01, count=20)
    transfer = Transfer(node, hub)
    transfer.send(40_000)
    world.run(1)
    assert transfer.check() == 1.0
    assert world.network.trace is not None
    arrivals = ("internet>hub", "internet>node")
    genuine = [entry.packet.payload for entry in world.network.trace if entry.place in arrivals]
    world.network.trace.clear()
    return world, hub, node, genuine


def spoil(genuine: list[bytes], random: Random) -> bytes:
    """Random bytes; or a genuine datagram that is cut, extended, or has bits flipped."""
    kind = random.randrange(5)
    if kind == 0:
        return random.randbytes(random.choice((1, 2, 11, 12, 27, 28, 29, 56, 92, 140, 144, 500, 1400)))
    if kind == 1:
        return bytes([random.randrange(9)]) + random.randbytes(random.choice((11, 55, 143, 139, 200)))
    data = bytearray(random.choice(genuine))
    if kind == 2:
        return bytes(data[: random.randint(1, len(data) - 1)])
    if kind == 3:
        return bytes(data) + random.randbytes(random.randint(1, 40))
    for _ in range(random.randint(1, 4)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def total(node: SimNode) -> int:
    return sum(node.drops().values())


@pytest.mark.parametrize("gro", [True, False])
@pytest.mark.parametrize("at_hub", [True, False])
def test_strangers(make_world: MakeWorld, gro: bool, at_hub: bool):
    """Ten thousand datagrams: each is counted once, none is answered, the session is not disturbed."""
    world, hub, node, genuine = build(make_world, gro=gro)
    target = hub if at_hub else node
    address = (target.host.addresses[0], int(target.ports[0][0].local[1]))
    stranger = Stranger(world)
    random = Random(f"fuzz/{gro}/{at_hub}")
    before = total(target)
    for i in range(COUNT):
        stranger.send(address, spoil(genuine, random))
        if i % random.choice((1, 3, 40)) == 0:
            world.run(0.001)
    world.run(1)
    assert not stranger.heard
    assert total(target) - before == COUNT
    assert len({reason for reason, count in target.drops().items() if count > 20}) >= 4, target.drops()
    assert node.state == "up"
    assert world.ping(node, hub) is not None
    assert world.ping(hub, node) is not None
    assert len(hub.happened("node-joined")) == 1


def test_verbatim_repetition_to_the_hub(make_world: MakeWorld):
    """Everything that the hub ever got, again, from elsewhere, twice: nothing comes of it."""
    world, hub, node, genuine = build(make_world)
    stranger = Stranger(world)
    before = hub.status()["peers"][0]
    for _ in range(2):
        for payload in genuine:
            stranger.send(("203.0.113.1", 9000), payload)
        world.run(1)
    assert not stranger.heard
    after = hub.status()["peers"][0]
    assert (before["endpoint"], before["key"]) == (after["endpoint"], after["key"])
    assert world.ping(node, hub) is not None


@pytest.mark.parametrize("shared", [0.05, 0.3])
def test_somebody_on_the_path_flips_bits(make_world: MakeWorld, shared: float):
    """Handshakes, pings and transfers: what is spoiled is lost, nothing else happens."""
    for seed in range(5):
        world = make_world(seed)
        hub = world.add_hub()
        node = world.add_node("node", quality=Quality(delay=0.01, corrupt=shared))
        world.start()
        assert world.run(30, until=world.all_up)
        stream = Pings(world, hub, node, interval=0.01, count=300)
        transfer = Transfer(node, hub)
        for _ in range(10):
            transfer.send(50_000)
            world.run(0.4)
        assert transfer.check() == pytest.approx(1 - shared, abs=0.1)
        assert transfer.repeats == 0
        assert stream.lost / stream.count == pytest.approx(1 - (1 - shared) ** 2, abs=0.12)
        assert stream.repeated == 0
        pipe = node.link.up
        forged = {"forged", "malformed", "unknown session", "unknown type", "expired keys", "replayed", "wrong key"}
        assert sum(count for reason, count in hub.drops().items() if reason in forged) >= pipe.corrupted * 0.9


def test_a_flood_of_inits_with_a_right_mac(make_world: MakeWorld):
    """Somebody repeats handshakes from many addresses: the hub stays small and keeps serving."""
    world, hub, node, genuine = build(make_world)
    inits = [payload for payload in genuine if payload[0] == 1]
    assert inits
    strangers = [Stranger(world, f"s{i}", f"192.0.2.{i + 1}") for i in range(50)]
    sent = hub.link.up.sent
    for _ in range(20):
        for stranger in strangers:
            stranger.send(("203.0.113.1", 9000), inits[0])
        world.run(0.01)
    assert hub.link.up.sent - sent <= 5, "an INIT seen before was answered"
    assert world.ping(node, hub) is not None


def test_no_reply_is_larger_than_its_request(make_world: MakeWorld):
    """Seen on the wire, for every first contact: INIT and RESP, TIME, COOKIE; three times as much in a session."""
    world = make_world(trace=True)
    world.add_hub(max_clients=1)
    nodes = [world.add_node(f"node{i}") for i in range(3)]
    nodes[1].wall_error = 1e7
    world.start()
    world.run(3)
    assert sorted(node.state for node in nodes) == ["denied", "denied", "up"]
    assert world.network.trace is not None
    came: Counter[tuple[str, int]] = Counter()
    went: Counter[tuple[str, int]] = Counter()
    for entry in world.network.trace:
        if entry.place == "internet>hub":
            came[entry.packet.source] += entry.packet.size
        elif entry.place == "hub>internet":
            node, most = entry.packet.destination, 3 if entry.packet.payload[0] == MessageType.DATA else 1
            went[node] += entry.packet.size
            assert went[node] <= most * came[node], str(entry)
