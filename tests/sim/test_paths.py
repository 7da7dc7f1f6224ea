"""Two nodes on the best path there is: found, cut one way or both, moved, mended; what runs inside notices little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import Any

import pytest

import ltunnel_routing_mesh
from ltunnel.control.probing import TRUST
from ltunnel.control.session import Session
from ltunnel.plugin import Address, PathClass
from ltunnel.session import Peer
from ltunnel.testing import (
    Dependence,
    Gate,
    Pings,
    PortChoice,
    Quality,
    SimNode,
    Stream,
    Transfer,
    World,
)

MakeWorld = Callable[..., World]
FAST = Quality(delay=0.01)
BACK = 60.0
"""A path that works again is in use after so many seconds at most."""


class Finder:
    """Stands in for discovery: probes the addresses that a test names whenever a path is sought."""

    def __init__(self, machine: SimNode, *candidates: tuple[Address, PathClass]) -> None:
        assert machine.node is not None
        self.ways = machine.node.control._ways
        self.candidates = list(candidates)
        self.sought: list[float] = []
        self.ways.seeker = self

    def seek(self, session: Session, now: float) -> None:
        self.sought.append(now)
        for address, kind in self.candidates:
            self.ways.probe(session, 0, address, kind, now)

    def answered(self, session: Session, transport: int, address: Address, now: float) -> None:
        pass

    def relay_changed(self, now: float) -> None:
        pass

    def ended(self, session: Session, now: float) -> None:
        pass


class Pair:
    """Two nodes and their hub, the nodes behind gates."""

    def __init__(self, world: World, a: SimNode, b: SimNode, gates: Sequence[Gate]) -> None:
        self.world, self.a, self.b, self.gates = world, a, b, gates

    def join(self) -> Pair:
        self.world.start()
        assert self.world.run(10, until=self.world.all_up)
        self.world.run(1)
        return self

    def peer(self, here: SimNode) -> Peer:
        there = self.b if here is self.a else self.a
        assert here.node is not None
        return next(peer for peer in here.node.control.peers.values() if peer.name == there.name)

    def paths(self, here: SimNode) -> list[dict[str, Any]]:
        assert here.node is not None
        return here.node.control.paths(self.peer(here), self.world.now)

    def kind(self, here: SimNode) -> str:
        return next((path["class"] for path in self.paths(here) if path["used"]), "none")

    @property
    def kinds(self) -> set[str]:
        """By what kinds of path the two send."""
        return {self.kind(self.a), self.kind(self.b)}

    def both(self, kind: str) -> Callable[[], bool]:
        return lambda: self.kinds == {kind}

    def shut(self, *, there: bool = True, back: bool = True) -> None:
        ends = self.a.host.addresses[0], self.b.host.addresses[0]
        for gate in self.gates:
            gate.shut = {ends} if there else set()
            if back:
                gate.shut.add(ends[::-1])

    def open(self) -> None:
        for gate in self.gates:
            gate.shut = set()


def build(make_world: MakeWorld, seed: int = 1, **more: Any) -> World:
    world = make_world(seed, routing=ltunnel_routing_mesh.ltunnel_routing(), **more)
    world.add_hub(quality=FAST)
    return world


def gated(world: World, name: str) -> Gate:
    gate = Gate(world.network, name)
    gate.spared = world.hub_address()[0]
    gate.attach(world.internet, FAST)
    return gate


def port(machine: SimNode) -> int:
    return machine.ports[0][0].local[1]


def endpoint(pair: Pair, machine: SimNode) -> str:
    """Where a machine sends what is for the other one."""
    return next(str(path["endpoint"]) for path in pair.paths(machine) if path["used"])


@pytest.fixture
def pair(make_world: MakeWorld) -> Pair:
    """Two nodes with public addresses; a finds b."""
    world = build(make_world)
    gate = gated(world, "gate")
    pair = Pair(world, world.add_node("a", behind=gate), world.add_node("b"), [gate]).join()
    Finder(pair.a, ((pair.b.host.addresses[0], port(pair.b)), PathClass.PUBLIC))
    return pair


@pytest.fixture
def direct(pair: Pair) -> Pair:
    assert pair.world.ping(pair.a, pair.b) is not None
    assert pair.world.run(3, until=pair.both("public"))
    return pair


def test_the_first_ping_goes_through_the_hub_and_soon_all_is_direct(pair: Pair) -> None:
    start = pair.world.now
    assert pair.world.ping(pair.a, pair.b, timeout=1) is not None, "the handshake, and then the ping, in a second"
    assert pair.world.run(1, until=pair.both("public"))
    assert pair.world.now - start <= 1.5
    hub = pair.world.nodes[0].host.links[0]
    before = hub.down.sent
    assert pair.world.ping(pair.a, pair.b) is not None
    assert hub.down.sent - before <= 2, "the hub has nothing to do with it"


@pytest.mark.parametrize(("there", "back"), [(True, True), (True, False), (False, True)], ids=["both", "there", "back"])
def test_a_stream_survives_a_path_that_is_cut_and_mended(direct: Pair, there: bool, back: bool) -> None:
    world = direct.world
    stream = Stream(world, direct.a, direct.b)
    pings = Pings(world, direct.b, direct.a, interval=0.05, count=1600)
    world.run(5)
    direct.shut(there=there, back=back)
    start = world.now
    assert world.run(TRUST, until=direct.both("hub"))
    assert world.now - start <= TRUST
    before = stream.read
    world.run(20)
    assert stream.read > before, "it goes on through the hub"
    assert direct.kinds == {"hub"}
    direct.open()
    start = world.now
    assert world.run(BACK, until=direct.both("public"))
    assert world.now - start <= 15
    world.run(pings.end - world.now + 1)
    assert pings.repeated == 0
    assert pings.lost * 0.05 <= TRUST
    assert stream.longest <= 10, "TCP's own retransmission adds to it"
    assert stream.read > 100_000


def test_nothing_comes_twice_or_wrong_while_paths_change(direct: Pair) -> None:
    """Segments with their places: each arrives once at most and is what it should be."""
    world = direct.world
    transfer = Transfer(direct.a, direct.b)
    for turn in range(60):
        if turn % 20 == 5:
            direct.shut()
        if turn % 20 == 15:
            direct.open()
        transfer.send(40_000)
        world.run(1)
    assert transfer.check() > 0.6
    seen = [(parsed.protocol, parsed.payload[:0], parsed.seq) for parsed in direct.b.tun.parsed() if parsed.payload]
    assert len(seen) == len(set(seen))


def test_the_nat_of_one_side_forgets(make_world: MakeWorld) -> None:
    """Its datagrams come from another port from then on, and nothing reaches the old one."""
    world = build(make_world)
    home = world.add_nat("home", ports=PortChoice.RANDOM, quality=FAST)
    gate = gated(world, "gate")
    pair = Pair(world, world.add_node("a", behind=home), world.add_node("b", behind=gate), [gate]).join()
    Finder(pair.a, ((pair.b.host.addresses[0], port(pair.b)), PathClass.PUBLIC))
    assert world.ping(pair.a, pair.b) is not None
    assert world.run(3, until=pair.both("public"))
    for _ in range(3):
        pings = Pings(world, pair.b, pair.a, interval=0.05, count=400)
        world.run(2)
        before = endpoint(pair, pair.b)
        home.flush()
        world.run(19)
        assert pings.lost * 0.05 <= TRUST
        assert pings.repeated == 0
        assert pair.kinds == {"public"}
        assert endpoint(pair, pair.b) != before


@pytest.mark.parametrize("seed", range(3))
def test_a_machine_moves_to_another_network(make_world: MakeWorld, seed: int) -> None:
    """The cable is pulled and plugged in elsewhere, another address; both directions go on in time."""
    world = build(make_world, seed)
    pair = Pair(world, world.add_node("a", quality=FAST), world.add_node("b", quality=FAST), []).join()
    Finder(pair.a, ((pair.b.host.addresses[0], port(pair.b)), PathClass.PUBLIC))
    assert world.ping(pair.a, pair.b) is not None
    assert world.run(3, until=pair.both("public"))
    stream = Stream(world, pair.b, pair.a)
    forth = Pings(world, pair.a, pair.b, interval=0.05, count=600)
    back = Pings(world, pair.b, pair.a, interval=0.05, count=600)
    world.run(3)
    pair.a.host.move(world.internet, "198.51.100.77", quality=FAST)
    assert pair.a.node is not None
    pair.a.node.network_changed(world.now)
    world.run(28)
    assert forth.lost * 0.05 <= TRUST
    assert back.lost * 0.05 <= TRUST
    assert stream.longest <= 10
    assert pair.kinds == {"public"}
    assert endpoint(pair, pair.b).startswith("198.51.100.77:")


def test_machines_on_one_lan_talk_over_the_lan(make_world: MakeWorld) -> None:
    """Both behind one NAT that can hairpin, so that there are a path on the LAN, one through the NAT, and the hub's."""
    world = build(make_world)
    home = world.add_nat("home", hairpin=True, filtering=Dependence.ENDPOINT_INDEPENDENT, quality=FAST)
    pair = Pair(world, world.add_node("a", behind=home), world.add_node("b", behind=home), []).join()
    assert pair.a.node is not None
    assert pair.b.node is not None
    outside = next(str(path["endpoint"]) for path in world.nodes[0].status()["peers"] if path["name"] == "b")
    host, _, number = outside.rpartition(":")
    finder = Finder(pair.a, ((host, int(number)), PathClass.PUBLIC))
    for machine in (pair.a, pair.b):
        machine.node.control._ways.networks = [ip_network("192.168.1.0/24")]  # type: ignore[union-attr]
    assert world.ping(pair.a, pair.b) is not None
    assert world.run(5, until=lambda: pair.kind(pair.a) == "public")
    finder.candidates.append(((pair.b.host.addresses[0], port(pair.b)), PathClass.LAN))
    pings = Pings(world, pair.a, pair.b, interval=0.5, count=140)
    assert world.run(70, until=pair.both("lan")), "a better one is looked for once a minute"
    world.run(max(0.0, pings.end - world.now + 1))
    assert (pings.lost, pings.repeated) == (0, 0)


def test_equal_private_addresses_behind_different_nats_are_no_lan(make_world: MakeWorld) -> None:
    """b's own address is, in a's network, a third machine with the same program: it has no key to answer with."""
    world = build(make_world)
    here, there = world.add_nat("here", quality=FAST), world.add_nat("there", quality=FAST)
    a = world.add_node("a", behind=here, addresses=["192.168.1.5"])
    b = world.add_node("b", behind=there, addresses=["192.168.1.9"])
    double = world.add_node("double", behind=here, addresses=["192.168.1.9"])
    pair = Pair(world, a, b, []).join()
    assert a.node is not None
    a.node.control._ways.networks = [ip_network("192.168.1.0/24")]  # type: ignore[union-attr]
    finder = Finder(a, (("192.168.1.9", port(double)), PathClass.LAN), (("192.168.1.9", port(b)), PathClass.LAN))
    pings = Pings(world, a, b, interval=0.2, count=300)
    world.run(61)
    assert pings.lost == 0
    assert len(finder.sought) > 3
    assert pair.kinds == {"hub"}
    assert [path["class"] for path in pair.paths(a)] == ["hub"]
    assert double.drops().get("unknown session", 0) >= 3, "the probes came there"


def test_ipv6(make_world: MakeWorld) -> None:
    world = make_world(1, routing=ltunnel_routing_mesh.ltunnel_routing())
    world.add_hub(address="2001:db8::1", quality=FAST)
    a = world.add_node("a", addresses=["2001:db8:a::5"], quality=FAST)
    b = world.add_node("b", addresses=["2001:db8:b::5"], quality=FAST)
    pair = Pair(world, a, b, []).join()
    Finder(a, (("2001:db8:b::5", port(b)), PathClass.PUBLIC))
    assert world.ping(a, b, version=6) is not None
    assert world.run(3, until=pair.both("public"))
    assert endpoint(pair, a) == f"[2001:db8:b::5]:{port(b)}"
    assert world.ping(a, b, version=6) is not None


@pytest.mark.parametrize("offload", [True, False])
def test_bulk_moves_again_soon_after_a_black_hole_opens(make_world: MakeWorld, offload: bool) -> None:
    """1300 bytes and no word about it. Super-packets are cut smaller; without offload the sender is told by ICMP."""
    world = build(make_world)
    gate = gated(world, "gate")
    a = world.add_node("a", behind=gate, offload=offload)
    pair = Pair(world, a, world.add_node("b", quality=FAST), [gate]).join()
    Finder(a, ((pair.b.host.addresses[0], port(pair.b)), PathClass.PUBLIC))
    assert world.ping(a, pair.b) is not None
    assert world.run(3, until=pair.both("public"))
    transfer = Transfer(a, pair.b)
    for _ in range(5):
        transfer.send(20_000)
        world.run(0.5)
    gate.largest = 1300
    start, count = world.now, len(pair.b.tun.packets)
    while len(pair.b.tun.packets) == count and world.now - start < 10:
        size = 1360 if offload else min(1360, pair.peer(a).mtu - 40)  # as the machine's TCP learns from ICMP
        transfer.send(20_000, mss=size)
        world.run(0.2)
    assert world.now - start <= 5
    assert pair.kinds == {"public"}
    world.run(20)
    assert 1300 - 28 - 39 - 16 <= pair.peer(a).mtu <= 1300 - 28 - 39
    assert transfer.check() > 0


def test_a_black_hole_before_the_hub_is_left_by_both(make_world: MakeWorld) -> None:
    """Each side sends smaller packets from then on; and so do two nodes through the hub."""
    world = build(make_world)
    gate = gated(world, "gate")
    gate.spared = None
    pair = Pair(world, world.add_node("a", behind=gate), world.add_node("b", quality=FAST), [gate]).join()
    hub = world.nodes[0]
    assert world.meet(pair.a, pair.b)
    transfers = [Transfer(pair.a, hub), Transfer(hub, pair.a), Transfer(pair.b, pair.a)]
    gate.largest = 1300
    start, before = world.now, [len(machine.tun.packets) for machine in (hub, pair.a)]
    assert pair.a.node is not None
    assert hub.node is not None
    while world.now - start < 6:
        for transfer in transfers:
            transfer.send(20_000)
        world.run(0.2)
    assert all(len(m.tun.packets) > seen for m, seen in zip((hub, pair.a), before, strict=True))
    world.run(15)
    sizes = [peer.mtu for peer in (pair.a.node.control.hub, *hub.node.control.peers.values()) if peer is not None]
    assert sorted(size <= 1300 - 28 - 39 for size in sizes) == [False, True, True], "a's hub, the hub's a; not its b"
    assert max(pair.peer(pair.a).mtu, pair.peer(pair.b).mtu) <= 1300 - 28 - 39 - 46


def test_sessions_and_direct_paths_need_no_hub(direct: Pair) -> None:
    world = direct.world
    world.nodes[0].kill()
    pings = Pings(world, direct.a, direct.b, interval=0.1, count=900)
    world.run(91)
    assert pings.lost == 0
    assert direct.kinds == {"public"}
    world.nodes[0].start()
    assert world.run(30, until=world.all_up)
    direct.shut()
    pings = Pings(world, direct.a, direct.b, interval=0.05, count=400)
    world.run(21)
    assert direct.kinds == {"hub"}
    assert pings.lost * 0.05 <= TRUST


def test_a_line_that_loses_packets_is_no_reason_to_leave_it(direct: Pair) -> None:
    direct.b.link.change(loss=0.05)
    Pings(direct.world, direct.a, direct.b, interval=0.1, count=1200)
    direct.world.run(121)
    assert len(direct.a.happened("path-changed")) <= 3


def test_what_is_said_about_it(direct: Pair) -> None:
    direct.world.run(2)
    (_, event), *_ = direct.a.happened("path-changed")
    where = f"{direct.b.host.addresses[0]}:{port(direct.b)}"
    assert event.fields["from"] == "hub"
    assert event.fields["to"] == "public"
    assert event.fields["endpoint"] == where
    assert event.text.startswith(f"reaching b directly ({where}, transport_udp): ")
    assert direct.a.happened("routing-stats")[-1][1].text == "Routing stats: 1 peers, 1 direct, 0 relay, 0 server"


def test_the_same_seed_gives_the_same_run(make_world: MakeWorld) -> None:
    def run() -> list[tuple[float, str]]:
        world = build(make_world, 7)
        gate = gated(world, "gate")
        pair = Pair(world, world.add_node("a", behind=gate), world.add_node("b", quality=FAST), [gate]).join()
        Finder(pair.a, ((pair.b.host.addresses[0], port(pair.b)), PathClass.PUBLIC))
        Pings(world, pair.a, pair.b, interval=0.1, count=300)
        world.run(10)
        pair.shut()
        world.run(25)
        return [(when, event.text) for machine in (pair.a, pair.b) for when, event in machine.events]

    assert run() == run()
