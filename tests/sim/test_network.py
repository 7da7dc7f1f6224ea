"""Hub and nodes: who reaches whom, and who is refused."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import pytest

from ltunnel.keys.psk import format_key
from ltunnel.testing import Dependence, Firewall, PortChoice, Quality, Router, SimNode, World, packets

MakeWorld = Callable[..., World]


def build(make_world: MakeWorld, names: str = "abc", **hub: object) -> tuple[World, SimNode, list[SimNode]]:
    world = make_world()
    machine = world.add_hub(**hub)
    nodes = [world.add_node(name, quality=Quality(delay=0.01)) for name in names]
    world.start()
    assert world.run(10, until=world.all_up)
    return world, machine, nodes


@pytest.mark.parametrize("version", [4, 6])
def test_all_pairs_ping(make_world: MakeWorld, version: int):
    """Hub and three nodes, small and large packets, both inner families."""
    world, _, _ = build(make_world)
    for one, other in permutations(world.nodes, 2):
        for size in (8, 1300):
            assert world.ping(one, other, version=version, size=size) is not None, f"{one.name} to {other.name}"


def test_behind_nats_and_firewalls(make_world: MakeWorld):
    """Whatever stands between a node and its hub: the hub relays."""
    world = make_world()
    world.add_hub()
    office = Firewall(world.network, "office", stateful=True)
    office.attach(world.internet)
    symmetric = {"mapping": Dependence.ADDRESS_AND_PORT_DEPENDENT, "ports": PortChoice.RANDOM}
    provider = world.add_nat("provider", **symmetric)
    routers: list[Router] = [
        world.add_nat("cone", filtering=Dependence.ENDPOINT_INDEPENDENT), world.add_nat("symmetric", **symmetric),
        world.add_nat("inner", "100.64.0.7", behind=provider), office,
    ]  # fmt: skip
    nodes = [world.add_node(f"node{i}", behind=router) for i, router in enumerate(routers)]
    world.start()
    assert world.run(5, until=world.all_up)
    for one, other in permutations(nodes, 2):
        assert world.ping(one, other) is not None
    world.run(600)  # keepalives hold mappings that live for 120 s
    for one, other in permutations(nodes, 2):
        assert world.ping(one, other, timeout=0.5) is not None


def test_outside_ipv6(make_world: MakeWorld):
    """The hub is reached over IPv6, by a node that has nothing else, and IPv4 runs inside."""
    world = make_world()
    hub = world.add_hub(address="2001:db8::1")
    node = world.add_node("node", addresses=["2001:db8:1::5"])
    world.start()
    assert world.run(5, until=world.all_up)
    assert world.ping(node, hub) is not None
    assert hub.status()["peers"][0]["endpoint"].startswith("[2001:db8:1::5]:")


def test_dual_stack_hub(make_world: MakeWorld):
    """A hub on :: takes IPv4 too, and shows IPv4 addresses as such."""
    world = make_world()
    hub = world.add_hub(address="2001:db8::1")
    hub.host.move(world.internet, "2001:db8::1", "203.0.113.1")
    six = world.add_node("six", addresses=["2001:db8:1::5"])
    four = world.add_node("four", hub=("203.0.113.1", 9000))
    world.start()
    assert world.run(5, until=world.all_up)
    assert world.ping(six, four) is not None
    endpoints = {peer["name"]: peer["endpoint"] for peer in hub.status()["peers"]}
    assert endpoints["four"].startswith("198.51.100.")


def test_isolation(make_world: MakeWorld):
    """With client isolation nodes reach the hub, and the hub them, but not each other."""
    world, hub, (a, b, _) = build(make_world, client_isolation=True)
    assert world.ping(a, hub) is not None
    assert world.ping(hub, b) is not None
    assert world.ping(a, b) is None
    assert world.ping(b, a, version=6) is None
    assert [node.drops()["no route"] for node in (a, b)] == [1, 1], "they have not heard of each other"
    assert not b.tun.packets or all(packet.source != a.inner() for packet in b.tun.parsed())


def test_an_address_belongs_to_the_key_that_had_it_first(make_world: MakeWorld):
    """A second node with the same address is refused and says why; the first is not disturbed, also after a restart."""
    world, hub, (a, b, _) = build(make_world)
    thief = world.add_node("thief", tunnel=[f"{a.inner()}/24"])
    thief.start()
    assert world.run(5, until=lambda: thief.state == "denied")
    reason = thief.status()["reason"]
    assert a.inner() in reason
    assert "another node" in reason
    assert world.ping(b, a) is not None
    hub.restart()
    a.stop()
    thief.restart()
    world.run(10)
    assert thief.state == "denied", "bindings outlive a restart of the hub"
    a.start()
    assert world.run(5, until=lambda: a.state == "up")
    assert world.run(10, until=lambda: b.state == "up" and world.ping(b, a) is not None)


@pytest.mark.parametrize(("tunnel", "words"), [
    ("10.0.0.1/24", "hub"), ("10.99.0.5/24", "not in this network"), ("10.0.0.255/24", "10.0.0.0/24"),
])  # fmt: skip
def test_addresses_that_nobody_can_have(make_world: MakeWorld, tunnel: str, words: str):
    """The hub's own, one of another network, the broadcast address: refused with a reason."""
    world = make_world()
    world.add_hub()
    node = world.add_node("node", tunnel=[tunnel])
    world.start()
    assert world.run(5, until=lambda: node.state == "denied")
    assert words in node.status()["reason"]


def test_a_denied_node_comes_in_when_its_address_is_free(make_world: MakeWorld):
    """It asks again by itself."""
    world, hub, (a, _, _) = build(make_world)
    second = world.add_node("second", tunnel=[f"{a.inner()}/24"])
    second.start()
    assert world.run(5, until=lambda: second.state == "denied")
    a.stop()
    assert hub.node is not None
    assert hub.node.control.forget_binding("a", world.now) is not None
    assert world.run(40, until=lambda: second.state == "up")
    assert world.ping(second, hub) is not None


def test_wrong_key(make_world: MakeWorld):
    """Not one byte from the hub; within 5 s the node says what may be wrong, within seconds the hub, too."""
    world = make_world(trace=True)
    hub = world.add_hub()
    stranger = world.add_node("stranger", secret=format_key(bytes(range(32))))
    world.start()
    world.run(5)
    assert stranger.state == "connecting"
    (_, event), *_ = stranger.happened("unreachable")
    assert stranger.status()["key_check"] in event.text
    assert hub.link.up.sent == 0, "the hub answered"
    assert hub.drops()["wrong key"] >= 3
    assert any("key" in event.text and "198.51.100" in event.text for _, event in hub.events)
    world.run(60)
    assert hub.link.up.sent == 0


def test_max_clients(make_world: MakeWorld):
    """Nodes above the limit are refused with a reason, and come in when one leaves."""
    world = make_world()
    world.add_hub(max_clients=2)
    nodes = [world.add_node(name) for name in "abc"]
    world.start()
    assert world.run(5, until=lambda: sorted(node.state for node in nodes) == ["denied", "up", "up"])
    late = next(node for node in nodes if node.state == "denied")
    assert "2" in late.status()["reason"]
    next(node for node in nodes if node.state == "up").stop()
    assert world.run(40, until=lambda: late.state == "up")


def test_single_client(make_world: MakeWorld):
    """With multi_client off there is one node at a time."""
    world = make_world()
    world.add_hub(multi_client=False)
    nodes = [world.add_node(name) for name in "ab"]
    world.start()
    world.run(5)
    assert sorted(node.state for node in nodes) == ["denied", "up"]


def test_inner_source_is_checked(make_world: MakeWorld):
    """A node that sends under another's address is not listened to, neither by the hub nor by other nodes."""
    world, hub, (a, b, c) = build(make_world)
    assert world.meet(a, b)
    for target in (b, hub):
        a.tun.inject(packets.echo(c.inner(), target.inner(), 77, 1))
        a.tun.inject(packets.echo(c.inner(6), target.inner(6), 77, 1))
        a.tun.inject(packets.echo(hub.inner(), target.inner(), 77, 1))
    world.run(1)
    assert [node.drops()["inner source"] for node in (hub, b)] == [3, 3]
    assert not b.tun.packets
    assert not hub.tun.packets
    assert world.ping(a, b) is not None


def test_no_route(make_world: MakeWorld):
    """A packet to an address that nobody has is answered with an ICMP error, and is counted.

    The error comes from that address: a kernel believes nothing that comes from an address of its own.
    """
    world, hub, (a, _, _) = build(make_world)
    for source, nobody in ((a.inner(), "10.0.0.200"), (a.inner(6), "fd00::200")):
        a.tun.inject(packets.udp(source, nobody, 1, 2, b"anybody?"))
    world.run(1)
    errors = {packet.protocol: packet for packet in a.tun.parsed() if packet.protocol in (packets.ICMP, packets.ICMPV6)}
    assert (errors[packets.ICMP].icmp_type, errors[packets.ICMP].source) == (3, "10.0.0.200")
    assert (errors[packets.ICMPV6].icmp_type, errors[packets.ICMPV6].source) == (1, "fd00::200")
    assert a.drops()["no route"] == 2
    hub.tun.inject(packets.udp(hub.inner(), "10.0.0.200", 1, 2, b"anybody?"))
    world.run(1)
    assert hub.drops()["no route"] == 1


def test_goodbye(make_world: MakeWorld):
    """A node that stops is gone at once; the others hear about a hub that stops and find it again."""
    world, hub, (a, b, _) = build(make_world)
    a.stop()
    world.run(0.1)
    assert world.ping(b, a) is None
    assert {peer["name"]: peer["state"] for peer in hub.status()["peers"]}["a"] != "established"
    hub.stop()
    world.run(0.1)
    assert b.state == "connecting"
    hub.start()
    assert world.run(10, until=lambda: b.state == "up")
    assert world.ping(b, hub) is not None


def test_names_are_unique(make_world: MakeWorld):
    """Two nodes of one name: the second is refused and told why."""
    world, _, _ = build(make_world)
    double = world.add_node("double")
    double.settings = replace(double.settings, name="A")
    double.start()
    assert world.run(5, until=lambda: double.state == "denied")
    assert "name" in double.status()["reason"]
