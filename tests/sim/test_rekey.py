"""Keys change while packets flow, and nobody notices."""

from collections.abc import Callable

import pytest

from ltunnel.constants import REJECT_AFTER_PACKETS, REKEY_AFTER_PACKETS
from ltunnel.testing import Pings, Quality, SimNode, World

MakeWorld = Callable[..., World]


def build(make_world: MakeWorld, seed: int, quality: Quality) -> tuple[World, SimNode, SimNode]:
    world = make_world(seed)
    hub = world.add_hub()
    node = world.add_node("node", quality=quality)
    world.start()
    assert world.run(10, until=world.all_up)
    return world, hub, node


def handshakes(world: World, source: SimNode) -> float:
    """When the session with the first peer was last keyed (monotonic seconds)."""
    return world.now - source.status()["peers"][0]["last_handshake"]


@pytest.mark.parametrize("seed", range(5))
def test_rekey_under_a_ping_stream(make_world: MakeWorld, seed: int):
    """A ping every 10 ms, both ways, over the time when keys change: at most one is lost."""
    quality = Quality(delay=0.015, jitter=0.01, reorder=0.05, hold=0.01)
    world, hub, node = build(make_world, seed, quality)
    first = handshakes(world, node)
    world.run(113)
    assert handshakes(world, node) == pytest.approx(first, abs=0.01), "keys have changed too early"
    streams = [Pings(world, *ends, interval=0.01, count=1000) for ends in ((node, hub), (hub, node))]
    world.run(10.5)
    assert handshakes(world, node) > first + 100, "keys did not change"
    assert handshakes(world, hub) > first + 100
    for stream in streams:
        assert stream.lost <= 1
        assert stream.repeated == 0


def test_rekey_again_and_again(make_world: MakeWorld):
    """An hour of pings, one a second: some thirty changes of keys, at most one ping lost with each."""
    world, hub, node = build(make_world, 1, Quality(delay=0.02))
    stream = Pings(world, node, hub, interval=1.0, count=3600)
    world.run(3601)
    assert stream.lost <= 1
    assert node.state == "up"
    assert handshakes(world, node) > 3600 - 130


def test_rekey_by_packets(make_world: MakeWorld):
    """The counter, too, calls for new keys, long before it may not go on."""
    world, hub, node = build(make_world, 1, Quality(delay=0.02))
    before = handshakes(world, node)
    assert node.node is not None
    assert node.node.control.hub is not None
    epoch = node.node.control.hub.epoch
    assert epoch is not None
    epoch.counter = REKEY_AFTER_PACKETS - 100
    stream = Pings(world, node, hub, interval=0.01, count=1000)
    world.run(11)
    assert handshakes(world, node) > before
    assert node.node.control.hub.epoch is not epoch
    assert epoch.counter < REJECT_AFTER_PACKETS
    assert stream.lost <= 1


def test_rekey_on_a_bad_network(make_world: MakeWorld):
    """With 20 % loss each way the change takes several tries; traffic flows all the while on the old keys."""
    quality = Quality(delay=0.03, loss=0.2, reorder=0.1, duplicate=0.1, hold=0.05)
    for seed in range(5):
        world, hub, node = build(make_world, seed, quality)
        world.run(115)
        stream = Pings(world, node, hub, interval=0.02, count=1000)
        world.run(21)
        assert handshakes(world, node) > 100
        expected = 1 - 0.8 * 0.8
        assert stream.lost / stream.count == pytest.approx(expected, abs=0.06)


def test_without_rekey_keys_are_not_used_for_ever(make_world: MakeWorld):
    """Handshakes are blocked: after 180 s the old keys are refused by both ends, and new ones follow when they can."""
    world, hub, node = build(make_world, 1, Quality(delay=0.02))
    node.link.change(mtu=150)  # RESP and CONFIRM are larger; pings of the smallest size pass
    before = handshakes(world, node)
    world.run(170)
    assert handshakes(world, node) == pytest.approx(before, abs=0.01)
    assert world.ping(node, hub, size=8) is not None
    world.run(15)
    assert world.ping(node, hub, size=8) is None
    assert world.ping(hub, node, size=8) is None
    node.link.change(mtu=1500)
    assert world.run(10, until=lambda: node.state == "up" and world.now - handshakes(world, node) < 9)
    assert world.ping(node, hub) is not None


def test_both_begin_at_once(make_world: MakeWorld):
    """Node and hub rekey at the same moment: one set of keys remains and both use it."""
    for seed in range(5):
        world, hub, node = build(make_world, seed, Quality(delay=0.1, jitter=0.02))
        world.run(60)
        for machine in (hub, node):
            assert machine.node is not None
            (peer,) = machine.node.control.peers.values()
            assert peer.epoch is not None
            peer.epoch.counter = REKEY_AFTER_PACKETS  # noticed by the next look at the clock
        stream = Pings(world, node, hub, interval=0.01, count=600)
        world.run(7)
        assert stream.lost <= 1
        assert handshakes(world, node) > 55
        assert handshakes(world, hub) > 55
        ends = [next(iter(m.node.control.peers.values())).epoch for m in (hub, node) if m.node is not None]
        assert ends[0] is not None
        assert ends[1] is not None
        assert (ends[0].local_index, ends[0].remote_index) == (ends[1].remote_index, ends[1].local_index)
