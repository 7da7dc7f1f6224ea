"""Addresses change, links fail, programs die: traffic goes on."""

from collections.abc import Callable

import pytest

from ltunnel.testing import Nat, Pings, PortChoice, Quality, Script, SimNode, World

MakeWorld = Callable[..., World]
FAST = Quality(delay=0.02)


def build(make_world: MakeWorld, seed: int = 1, **nat: object) -> tuple[World, SimNode, SimNode, Nat]:
    world = make_world(seed, trace=True)
    hub = world.add_hub()
    router = world.add_nat("home", quality=FAST, **nat)
    node = world.add_node("node", behind=router)
    world.start()
    assert world.run(5, until=world.all_up)
    return world, hub, node, router


def endpoint(hub: SimNode) -> str:
    """Where the hub sees its (first) node."""
    return str(hub.status()["peers"][0]["endpoint"])


def test_nat_rebinding(make_world: MakeWorld):
    """The NAT forgets and gives another port: the node's next packet tells the hub; what was on its way is lost."""
    world, hub, node, router = build(make_world, ports=PortChoice.RANDOM)
    before = endpoint(hub)
    stream = Pings(world, node, hub, interval=0.01, count=1000)
    world.run(5)
    router.flush()
    world.run(6)
    assert endpoint(hub) != before
    assert hub.happened("roamed")
    assert stream.lost <= 5, "one round trip of 40 ms is 4 packets"
    assert len(hub.happened("node-joined")) == 1, "no new handshake was needed"


def test_nat_rebinding_while_the_hub_sends(make_world: MakeWorld):
    """Packets from the hub find a closed NAT until the node speaks: its keepalive, or its probing after silence."""
    world, hub, node, router = build(make_world, ports=PortChoice.RANDOM)
    world.run(30)
    router.flush()
    assert world.ping(hub, node, timeout=1) is None
    assert world.run(12, until=lambda: world.ping(hub, node, timeout=0.2) is not None)


@pytest.mark.parametrize("seed", range(5))
def test_another_address(make_world: MakeWorld, seed: int):
    """A laptop moves to another network with a stream of pings: traffic goes on within 2 s."""
    world, hub, node, _ = build(make_world, seed)
    stream = Pings(world, node, hub, interval=0.01, count=1000)
    script = Script(world.network)
    script.at(3).do("the node moves", node.host.move, world.internet, "198.51.100.77", quality=FAST)
    world.run(11)
    assert stream.lost * 0.01 <= 2.0
    assert endpoint(hub).startswith("198.51.100.77:")
    assert world.ping(hub, node) is not None


def test_stragglers_do_not_pull_the_session_back(make_world: MakeWorld):
    """What was still on its way over the old, slow path arrives after the move: it counts, and changes nothing."""
    world, hub, node, router = build(make_world)
    assert router.uplink is not None
    router.uplink.change("up", delay=0.5)
    start = world.now
    Pings(world, node, hub, interval=0.01, count=110)  # the last ten after the move
    world.run(1)
    seen = hub.status()["peers"][0]["rx_packets"]
    node.host.move(world.internet, "198.51.100.77", quality=FAST)
    assert world.run(1, until=lambda: endpoint(hub).startswith("198.51.100.77:"))
    while world.now < start + 3:
        world.run(0.005)
        assert endpoint(hub).startswith("198.51.100.77:")
    assert hub.status()["peers"][0]["rx_packets"] - seen >= 55, "the stragglers were not taken"


def test_back_and_forth(make_world: MakeWorld):
    """Two networks in turn, every second: the session follows."""
    world, hub, node, _ = build(make_world)
    stream = Pings(world, node, hub, interval=0.02, count=500)
    for i in range(8):
        world.run(1)
        node.host.move(world.internet, f"198.51.100.{77 + i % 2}", quality=FAST)
    world.run(4)
    assert stream.lost <= 8 * 3
    assert world.ping(hub, node) is not None


def test_a_new_address_is_not_flooded(make_world: MakeWorld):
    """Until it has answered, a new address gets at most three times what came from it."""
    world, hub, node, _ = build(make_world)
    node.host.move(world.internet, "198.51.100.77", quality=Quality(delay=0.3))
    link = node.link
    link.block("down")  # nothing that the hub sends arrives, so nothing can answer it
    assert world.network.trace is not None
    world.network.trace.clear()
    flood = Pings(world, hub, node, interval=0.001, count=3000, size=1200)
    talk = Pings(world, node, hub, interval=0.5, count=4, size=100)
    world.run(4)
    came = sum(entry.packet.size for entry in world.network.trace
               if entry.place == "internet>hub" and entry.packet.source[0] == "198.51.100.77")  # fmt: skip
    went = sum(entry.packet.size for entry in world.network.trace
               if entry.place == "hub>internet" and entry.packet.destination[0] == "198.51.100.77")  # fmt: skip
    assert came > 0
    assert went <= 3 * came
    assert hub.drops()["limited"] > 1000
    link.unblock()
    assert world.run(5, until=lambda: world.ping(hub, node, size=1200, timeout=0.7) is not None)
    assert flood.answered < flood.count
    assert talk.answered <= talk.count


def test_replayed_from_elsewhere(make_world: MakeWorld):
    """Somebody sends recorded datagrams from another address: the session stays where it is."""
    world, hub, node, _ = build(make_world)
    Pings(world, node, hub, interval=0.01, count=50)
    world.run(1)
    assert world.network.trace is not None
    recorded = [entry.packet.payload for entry in world.network.trace if entry.place == "internet>hub"]
    before = endpoint(hub)
    stranger = world.add_stranger()
    sent = hub.link.up.sent
    for payload in recorded:
        stranger.send((None, 4444), ("203.0.113.1", 9000), payload)
    world.run(3)
    assert endpoint(hub) == before
    assert hub.drops()["replayed"] >= 50
    assert not stranger.links[0].down.sent, "a stranger was answered"
    assert hub.link.up.sent - sent <= 8, "but for PINGs, and rounds for the MTU"
    assert world.ping(node, hub) is not None


def test_hub_killed_and_restarted(make_world: MakeWorld):
    """No goodbye, no memory but its bindings: nodes are back within 15 s by themselves, with or without traffic."""
    for pings in (0, 6000):
        world, hub, node, _ = build(make_world)
        idle = world.add_node("idle", quality=FAST)
        idle.start()
        world.run(5)
        stream = Pings(world, node, hub, interval=0.01, count=pings)
        world.run(5)
        hub.kill()
        world.run(2)
        hub.start()
        assert world.run(15, until=lambda hub=hub: len(hub.happened("node-joined")) == 4)
        assert world.ping(node, idle) is not None
        assert stream.count == pings


def test_node_killed_and_restarted(make_world: MakeWorld):
    """A node comes back with the same key from another port: the hub takes it at once."""
    world, hub, node, _ = build(make_world)
    node.restart()
    assert world.run(2, until=lambda: node.state == "up" and world.ping(hub, node, timeout=0.2) is not None)
    assert len(hub.status()["peers"]) == 1


def test_outages(make_world: MakeWorld):
    """Short and long outages, in one direction and both: the tunnel works again soon after each."""
    world, hub, node, router = build(make_world)
    link = router.uplink
    assert link is not None
    script = Script(world.network)
    script.at(10).block(link, "up").at(12).unblock(link)
    script.at(20).block(link, "down").at(30).unblock(link)
    script.at(40).take_down(link).at(60).bring_up(link)
    script.at(70).block(link).at(200).unblock(link)
    arrivals: list[float] = []
    seen = 0
    Pings(world, node, hub, interval=0.1, count=2300)
    while world.now < 232:
        world.run(0.1)
        if len(node.tun.packets) > seen:
            seen = len(node.tun.packets)
            arrivals.append(world.now)
    for end in (12, 30, 60, 200):
        back = next(when for when in arrivals if when >= end + 0.05)
        assert back - end <= 5.0, f"{back - end:.1f} s after the outage that ended at {end} s"
    assert node.state == "up"


def test_hub_with_another_key_is_not_trusted(make_world: MakeWorld):
    """Somebody who holds the network's key sets up a hub at the same address: the node refuses and says why."""
    world, hub, node, _ = build(make_world)
    hub.kill()
    world.nodes.remove(hub)
    hub.host.detach(hub.link)
    impostor = world.add_hub("impostor")
    impostor.start()
    world.run(30)
    assert node.state == "denied"
    assert "key" in node.status()["reason"]
    assert world.ping(node, impostor) is None


def test_silence(make_world: MakeWorld):
    """A node that is carried away without a word: the hub holds it for dead after `timeout`, and it can come back."""
    world, hub, node, _ = build(make_world)
    node.kill()
    world.run(25)
    assert hub.status()["peers"][0]["state"] == "established"
    world.run(20)
    assert hub.status()["peers"][0]["state"] == "expired"
    node.start()
    assert world.run(3, until=lambda: node.state == "up")
    assert world.ping(hub, node) is not None


def test_quiet_tunnels_stay_up(make_world: MakeWorld):
    """An hour without a packet: keepalives hold the NAT's mapping (30 s here) and the session."""
    world, hub, node, _ = build(make_world, timeout=30.0)
    world.run(3600)
    assert world.ping(hub, node, timeout=0.2) is not None
    assert not node.happened("disconnected")
    assert node.status()["peers"][0]["rtt_ms"] == pytest.approx(40.0, abs=1)
