"""Nodes of which only some can reach each other directly, for tests of paths through nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ltunnel_routing_mesh
from ltunnel.control.mesh import Mesh
from ltunnel.control.session import Session
from ltunnel.plugin import Address, PathClass
from ltunnel.session import Peer
from ltunnel.testing import Gate, Quality, SimNode, World
from ltunnel.wire.relay import node_name
from tests.sim.conftest import build_world

FAST = Quality(delay=0.01)


class Finder:
    """Stands in for discovery: finds the nodes whose addresses a test has named."""

    def __init__(self, machine: SimNode) -> None:
        self.machine = machine
        self.known: dict[str, Address] = {}

    def attach(self) -> None:
        assert self.machine.node is not None
        self.ways = self.machine.node.control._ways
        assert self.ways is not None
        self.ways.seeker = self

    def seek(self, session: Session, now: float) -> None:
        assert session.peer is not None
        assert self.ways is not None
        if session.peer.name in self.known:
            self.ways.probe(session, 0, self.known[session.peer.name], PathClass.PUBLIC, now)

    def answered(self, session: Session, transport: int, flow: object, now: float) -> None:
        pass

    def relay_changed(self, now: float) -> None:
        pass

    def ended(self, session: Session, now: float) -> None:
        pass


class Scene:
    """A hub and nodes, each behind a gate of its own; only some pairs can reach each other directly."""

    def __init__(self, world: World, names: str, links: Sequence[str], **settings: Any) -> None:
        self.world = world
        self.hub = world.add_hub(quality=FAST)
        self.gates: dict[str, Gate] = {}
        self.nodes: dict[str, SimNode] = {}
        self.finders: dict[str, Finder] = {}
        for name in names:
            gate = self.gates[name] = Gate(world.network, f"gate-{name}")
            gate.attach(world.internet, FAST)
            self.nodes[name] = world.add_node(name, behind=gate, **settings)
            self.finders[name] = Finder(self.nodes[name])
        self.links = set(links)
        world.start()
        assert world.run(10, until=world.all_up)
        world.run(1)
        self.wire()

    def __getitem__(self, name: str) -> SimNode:
        return self.nodes[name]

    def wire(self) -> None:
        """Let through what may pass."""
        place = {name: node.host.addresses[0] for name, node in self.nodes.items()}
        for one, gate in self.gates.items():
            gate.shut = {
                pair
                for other in self.nodes
                if one + other not in self.links and other + one not in self.links and one != other
                for pair in ((place[one], place[other]), (place[other], place[one]))
            }
        for name, finder in self.finders.items():
            finder.known = {
                other: (place[other], self.nodes[other].ports[0][0].local[1])
                for other in self.nodes
                if (name + other in self.links or other + name in self.links) and self.nodes[other].ports
            }
            if self.nodes[name].node is not None:
                finder.attach()

    def cut_hub(self, name: str) -> None:
        """Let nothing pass between a node and the hub."""
        here, there = self.nodes[name].host.addresses[0], self.hub.host.addresses[0]
        self.gates[name].shut |= {(here, there), (there, here)}

    def talk(self, *pairs: str) -> None:
        """Let pairs begin sessions and find their direct paths."""
        for pair in pairs:
            assert self.world.ping(self[pair[0]], self[pair[1]]) is not None
        for pair in pairs:
            if pair in self.links or pair[::-1] in self.links:
                assert self.world.run(3, until=self.both(pair[0], pair[1], "public"))

    def peer(self, here: str, there: str) -> Peer:
        node = self[here].node
        assert node is not None
        return next(peer for peer in node.control.peers.values() if peer.name == there)

    def paths(self, here: str, there: str) -> list[dict[str, Any]]:
        node = self[here].node
        assert node is not None
        return node.control.paths(self.peer(here, there), self.world.now)

    def used(self, here: str, there: str) -> dict[str, Any]:
        return next((path for path in self.paths(here, there) if path["used"]), {"class": "none", "via": None})

    def kinds(self, one: str, other: str) -> set[str]:
        return {self.used(one, other)["class"], self.used(other, one)["class"]}

    def both(self, one: str, other: str, kind: str) -> Callable[[], bool]:
        return lambda: self.kinds(one, other) == {kind}

    def hop(self, at: str, dest: str) -> Peer | None:
        """To whom a node relays what is for another one."""
        node = self[at].node
        assert node is not None
        return node.control.hops.next.get(node_name(self[dest].settings.identity.public))

    def mesh(self, name: str) -> Mesh:
        """A node's part in the mesh."""
        node = self[name].node
        assert node is not None
        assert node.control._neighbours is not None
        assert node.control._neighbours.mesh is not None
        return node.control._neighbours.mesh

    def relayed(self, name: str) -> int:
        return sum(peer["relayed_datagrams"] for peer in self[name].status()["peers"])


def make_scene(names: str, links: Sequence[str], seed: int = 1, **settings: Any) -> Scene:
    """Return nodes that are connected to their hub; `links` are pairs that can reach each other directly."""
    world = build_world(seed, routing=ltunnel_routing_mesh.ltunnel_routing())
    return Scene(world, names, links, **settings)
