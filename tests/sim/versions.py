"""Sites with both IP versions, and a hub that is reached over one of them."""

from __future__ import annotations

from typing import Any

from ltunnel.testing import Firewall, Gate, Packet, PortChoice, Router, SimNode, World
from tests.sim.sites import BOTH, LINE, Meeting, new_world

HUB4, HUB6 = "203.0.113.1", "2001:db8::1"
A6, B6, VICTIM = "2001:db8:a::2", "2001:db8:b::2", "2001:db8:dead::1"
HARD = {"mapping": BOTH, "ports": PortChoice.RANDOM}


def add_site(world: World, name: str, node: str, ipv6: str = "", *, hard: bool = True, behind: Router | None = None,
             blocked: frozenset[int] = frozenset(), **more: object) -> SimNode:  # fmt: skip
    """Add a node behind a NAT for IPv4, and a stateful firewall for both versions."""
    router = world.add_nat(name, quality=LINE, filtering=BOTH, behind=behind, **(HARD if hard else {}))
    wall = Firewall(world.network, f"{name}-wall", stateful=True, blocked=blocked)
    wall.attach(router, LINE)
    addresses = [f"192.168.1.{len(world.nodes) + 9}", *filter(None, [ipv6])]
    return world.add_node(node, behind=wall, addresses=addresses, quality=LINE, **more)


def meet(
    seed: object, *, by: int = 4, listens: int = 4, one: str = A6, other: str = B6,
    hard: tuple[bool, bool] = (True, True), apart: bool = False, blocked: frozenset[int] = frozenset(),
    **transports: bool,
) -> Meeting:  # fmt: skip
    """Return two nodes that reach the hub by an IP version; `apart`: nothing passes between them over IPv6."""
    world = new_world(f"other version {seed}", **transports)
    hub4, hub6 = (HUB4, 9000), (HUB6, 9000)
    first, second = (HUB4, HUB6) if listens == 4 else (HUB6, HUB4)
    hub = world.add_hub(address=first, others=[second], quality=LINE)
    gate = Gate(world.network, "exchange")
    gate.attach(world.internet, LINE)
    if apart:
        gate.shut |= {(A6, B6), (B6, A6)}
    a, b = (
        add_site(world, name, node, ipv6, hard=is_hard, behind=gate, blocked=blocked,
                 hub=hub6 if by == 6 and ipv6 else hub4)
        for name, node, ipv6, is_hard in (("home", "a", one, hard[0]), ("office", "b", other, hard[1]))
    )  # fmt: skip
    return Meeting(world, hub, a, b)


def seen(node: SimNode, version: int) -> dict:
    return next(each for each in node.node.nat(node.world.now)["versions"] if each["version"] == version)


def gate_of(meeting: Meeting) -> Gate:
    """Return the router that both sites are behind."""
    nat = meeting.a.link.parent.uplink.parent  # type: ignore[union-attr]
    gate = nat.uplink.parent  # type: ignore[union-attr]
    assert isinstance(gate, Gate)
    return gate


def host_of(path: dict[str, Any]) -> str:
    """Return the far host of a direct path."""
    return str(path["endpoint"]).rpartition(":")[0].strip("[]")


def direct_hosts(meeting: Meeting) -> set[str]:
    """Return the hosts by which one node reaches the other directly."""
    (entry,) = [peer for peer in meeting.a.status()["peers"] if peer["name"] == "b"]
    return {host_of(path) for path in entry["paths"] if path["class"] == "public"}


def count_to(world: World, host: str, at: Router | None = None) -> list[Packet]:
    """Return a list to which each packet for a host is added as it passes."""
    place = at or world.internet
    heard: list[Packet] = []
    receive = place.receive

    def note(packet: Packet, link: object) -> None:
        if packet.destination[0] == host:
            heard.append(packet)
        receive(packet, link)

    place.receive = note  # type: ignore[method-assign]
    return heard


def renumber(machine: SimNode, old: str, new: str) -> None:
    """Give a machine another IPv6 address, and its network the route to it."""
    link = machine.link
    ipv4, _ = machine.host._interfaces[link]
    machine.host._interfaces[link] = (ipv4, new)
    link.parent.remove_route(old)
    link.parent.add_route(new, link)
