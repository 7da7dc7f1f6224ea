"""Direct paths over the IP version by which a node does not reach its hub."""

from __future__ import annotations

import pytest

from ltunnel.plugin import Carrier
from ltunnel.testing import Firewall, PortChoice, Quality, SimNode, World
from tests.sim.sites import ANY, BOTH, LINE, Meeting, new_world

RUNS = 20
SOON = 5.0
HUB4, HUB6 = "203.0.113.1", "2001:db8::1"
NETS = {"home": "2001:db8:a::", "office": "2001:db8:b::"}


def site(world: World, name: str, node: str, *, hard: bool = True, ipv6: bool = True, **more: object) -> SimNode:
    """Add a node behind a NAT for IPv4 and a stateful firewall for both versions."""
    settings = {"mapping": BOTH, "ports": PortChoice.RANDOM} if hard else {}
    router = world.add_nat(name, quality=LINE, filtering=BOTH, **settings)
    wall = Firewall(world.network, f"{name}-wall", stateful=True)
    wall.attach(router, LINE)
    addresses = [f"192.168.1.{len(world.nodes) + 9}", *([f"{NETS[name]}2"] if ipv6 else [])]
    return world.add_node(node, behind=wall, addresses=addresses, quality=LINE, **more)


def two_sites(seed: object, *, hub: str = HUB4, others: tuple[str, ...] = (HUB6,), hard: bool = True,
              **transports: bool) -> Meeting:  # fmt: skip
    world = new_world(f"other version {seed}", **transports)
    machine = world.add_hub(address=hub, others=others, quality=LINE)
    return Meeting(world, machine, site(world, "home", "a", hard=hard), site(world, "office", "b", hard=hard))


def versions(node: SimNode) -> dict[int, dict]:
    return {each["version"]: each for each in node.node.nat(node.world.now)["versions"]}


def test_two_hard_nats_meet_over_ipv6_though_the_hub_is_reached_over_ipv4():
    for run in range(RUNS):
        meeting = two_sites(run)
        meeting.begin()
        assert meeting.talk(SOON, until=meeting.direct)
        assert meeting.path(meeting.a)["endpoint"].startswith("[2001:db8:b::2]:")
        assert meeting.path(meeting.b)["endpoint"].startswith("[2001:db8:a::2]:")
        hub = next(peer for peer in meeting.a.status()["peers"] if peer["name"] == "hub")
        assert hub["endpoint"] == "203.0.113.1:9000", "the session with the hub stays where it is"
