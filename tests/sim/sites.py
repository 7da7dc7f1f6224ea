"""Sites of every kind, for nodes that try to reach each other directly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ltunnel_crypto_aesgcm
import ltunnel_nat_punch
import ltunnel_routing_mesh
import ltunnel_transport_faketcp
import ltunnel_transport_udp
from ltunnel.testing import Dependence, Firewall, PortChoice, Quality, Router, SimNode, World
from ltunnel.testing.datagrams import UDP

ANY, HOST, BOTH = (
    Dependence.ENDPOINT_INDEPENDENT,
    Dependence.ADDRESS_DEPENDENT,
    Dependence.ADDRESS_AND_PORT_DEPENDENT,
)
LINE = Quality(delay=0.01)

Site = Callable[[World, str], Router]
"""(world, name) -> the router that a node of the site is behind."""


def nat(**settings: Any) -> Site:
    """Return a site behind one NAT."""
    return lambda world, name: world.add_nat(name, quality=LINE, **settings)


def _public(world: World, name: str) -> Router:
    return world.internet


def _double(world: World, name: str) -> Router:
    outer = world.add_nat(f"{name}-carrier", quality=LINE, filtering=BOTH, ports=PortChoice.RANDOM)
    return world.add_nat(name, f"100.64.0.{len(world.nodes) + 1}", behind=outer, quality=LINE)


def _firewall(world: World, name: str) -> Router:
    wall = Firewall(world.network, name, stateful=True)
    wall.attach(world.internet, LINE)
    return wall


SITES: dict[str, Site] = {
    "public": _public,
    "firewall": _firewall,
    "full cone": nat(filtering=ANY),
    "address-restricted": nat(filtering=HOST),
    "port-restricted": nat(filtering=BOTH),
    "double": _double,
    "accepts input": nat(filtering=BOTH, accepts_input=True),
    "counting": nat(mapping=BOTH, filtering=BOTH, ports=PortChoice.SEQUENTIAL),
    "symmetric": nat(mapping=BOTH, filtering=BOTH, ports=PortChoice.RANDOM),
}


def walled(site: Site, walls: list[Firewall], *, blocked: bool = True) -> Site:
    """Return a site with a firewall in front of its node, which is added to `walls`; it may let no UDP pass."""

    def build(world: World, name: str) -> Router:
        wall = Firewall(world.network, f"{name}-wall", stateful=True, blocked=frozenset({UDP} if blocked else ()))
        wall.attach(site(world, name), LINE)
        walls.append(wall)
        return wall

    return build


LENIENT = frozenset({"public", "full cone", "address-restricted"})
"""Sites that let in what comes from another port of a host that was sent to."""


@dataclass
class Meeting:
    """Two nodes that want to reach each other."""

    world: World
    hub: SimNode
    a: SimNode
    b: SimNode
    began: float = 0.0

    def begin(self, idle: float = 0.0) -> None:
        """Connect both, and send the first packet after a while."""
        self.world.start()
        assert self.world.run(10, until=self.world.all_up)
        self.world.run(idle)
        self.began = self.world.now
        assert self.world.ping(self.a, self.b, timeout=1.0) is not None, "the first ping is not answered in a second"

    def talk(self, seconds: float, *, until: Callable[[], bool] | None = None) -> bool:
        """Ping every half second, until something holds."""
        end = self.world.now + seconds
        while self.world.now < end:
            if until is not None and until():
                return True
            self.world.ping(self.a, self.b, timeout=0.4)
            self.world.run(min(0.25, max(0.0, end - self.world.now)), until=until)
        return until is not None and until()

    def path(self, node: SimNode) -> dict[str, Any]:
        """Return the path that a node uses to the other one."""
        other = self.b if node is self.a else self.a
        entry = next(peer for peer in node.status()["peers"] if peer["name"] == other.name)
        return next(path for path in entry["paths"] if path["used"])

    def direct(self) -> bool:
        """Whether both use a direct path."""
        return all(self._path_class(node) in ("lan", "public") for node in (self.a, self.b))

    def on_lan(self) -> bool:
        """Whether both use a path on their LAN."""
        return all(self._path_class(node) == "lan" for node in (self.a, self.b))

    def transports(self) -> set[str]:
        """Return the names of the transports by which the two send to each other."""
        return {self.path(node)["transport"] for node in (self.a, self.b)}

    def _path_class(self, node: SimNode) -> str:
        other = self.b if node is self.a else self.a
        control = node.node.control  # type: ignore[union-attr]
        peer = control.peers.get(other.settings.identity.public)
        if peer is None or peer.path is None:
            return "none"
        if peer.path.transport == control._ctx.relay:
            return "hub"
        return str(self.path(node)["class"])


def new_world(seed: int | str, *, tcp: bool = False, udp_first: bool = False, **more: Any) -> World:
    """Return a world whose nodes look for direct paths; with `tcp` there is fake TCP, too, first unless said."""
    transports = {"transport_faketcp": ltunnel_transport_faketcp.ltunnel_transport()} if tcp and not udp_first else {}
    transports["transport_udp"] = ltunnel_transport_udp.ltunnel_transport()
    if tcp and udp_first:
        transports["transport_faketcp"] = ltunnel_transport_faketcp.ltunnel_transport()
    return World(
        transports, ltunnel_crypto_aesgcm.ltunnel_cipher(), seed,
        discovery=ltunnel_nat_punch.ltunnel_discovery(), routing=ltunnel_routing_mesh.ltunnel_routing(), **more,
    )  # fmt: skip


def meet(one: str | Site, other: str | Site, seed: int | str, **transports: bool) -> Meeting:
    """Return two nodes at sites, or at sites of these kinds, and their hub."""
    world = new_world(seed, **transports)
    hub = world.add_hub(quality=LINE)
    sites = [SITES[site] if isinstance(site, str) else site for site in (one, other)]
    a = world.add_node("a", behind=sites[0](world, "home"), quality=LINE, offload=False)
    b = world.add_node("b", behind=sites[1](world, "office"), quality=LINE, offload=False)
    return Meeting(world, hub, a, b)
