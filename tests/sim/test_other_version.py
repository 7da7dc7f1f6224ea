"""Direct paths over the IP version by which a node does not reach its hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ltunnel.plugin import Candidate, CandidateKind, Carrier
from ltunnel.testing import Firewall, Gate, Network, Packet, PortChoice, Router, SimNode, World
from ltunnel.testing.datagrams import UDP
from ltunnel.wire.observe import Observe
from ltunnel.wire.places import HubPlace
from ltunnel.wire.punch import Punch, PunchStage
from tests.sim.mallory import Mallory, key
from tests.sim.sites import BOTH, LINE, Meeting, new_world

RUNS = 20
SOON = 5.0
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


# -------------------------------------------------------------------- what it is for


@pytest.mark.parametrize("listens", [4, 6])
def test_two_hard_nats_meet_over_ipv6_though_the_hub_is_reached_over_ipv4(listens: int):
    for run in range(RUNS):
        meeting = meet(run, listens=listens)
        meeting.begin()
        assert meeting.talk(SOON, until=meeting.direct)
        assert meeting.path(meeting.a)["endpoint"].startswith(f"[{B6}]:")
        assert meeting.path(meeting.b)["endpoint"].startswith(f"[{A6}]:")
        (hub,) = [peer for peer in meeting.a.status()["peers"] if peer["name"] == "hub"]
        assert hub["endpoint"] == f"{HUB4}:9000", "the session with the hub stays where it is"
        assert meeting.a.node.nat(meeting.world.now)["behaviour"]["mapping"] == "address_and_port_dependent"


@pytest.mark.parametrize("hard", [(False, False), (False, True), (True, False)])
def test_joined_over_ipv6_and_punched_over_ipv4(hard: tuple[bool, bool]):
    """Over IPv6 nothing passes between the two sites; one NAT may even take random ports, which are guessed."""
    for run in range(RUNS if hard == (False, False) else 2):
        meeting = meet(run, by=6, listens=6, hard=hard, apart=True)
        meeting.begin()
        assert meeting.talk(SOON if hard == (False, False) else 20.0, until=meeting.direct)
        assert meeting.path(meeting.a)["endpoint"].startswith("192.0.2.")
        (hub,) = [peer for peer in meeting.a.status()["peers"] if peer["name"] == "hub"]
        assert hub["endpoint"] == f"[{HUB6}]:9000"


@pytest.mark.parametrize(("one", "other"), [(A6, ""), ("", B6)])
def test_a_node_with_ipv6_meets_one_without(one: str, other: str):
    """One joined over IPv6, the other over IPv4, which is all that it has."""
    for run in range(5):
        meeting = meet(run, by=6, listens=6, one=one, other=other, hard=(False, False))
        meeting.begin()
        assert meeting.talk(SOON, until=meeting.direct)
        assert meeting.path(meeting.a)["endpoint"].startswith("192.0.2.")


def test_fake_tcp_is_met_over_ipv6_where_udp_is_blocked():
    for run in range(5):
        meeting = meet(run, tcp=True, blocked=frozenset({UDP}))
        meeting.begin()
        assert meeting.talk(2 * SOON, until=meeting.direct)
        assert meeting.transports() == {"transport_faketcp"}
        assert meeting.path(meeting.a)["endpoint"].startswith(f"[{B6}]:")


def test_both_versions_are_kept_and_one_takes_the_place_of_the_other():
    meeting = meet("both", hard=(False, False))
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    meeting.talk(2)
    hosts = direct_hosts(meeting)
    assert hosts == {B6, "192.0.2.2"}
    used = host_of(meeting.path(meeting.a))
    one, other = (A6, B6) if used == B6 else ("192.0.2.1", "192.0.2.2")
    gate_of(meeting).shut |= {(one, other), (other, one)}
    meeting.talk(8)
    assert meeting.direct()
    assert {host_of(meeting.path(meeting.a))} == hosts - {used}


# -------------------------------------------------------------------- what changes


def test_ipv6_that_comes_later_is_found_and_used():
    meeting = meet("later", other="")
    meeting.begin()
    assert not meeting.talk(10, until=meeting.direct)
    assert seen(meeting.b, 6)["reason"] == "this machine has no global address"
    link = meeting.b.link
    meeting.b.host._interfaces[link] += (B6,)
    link.parent.add_route(B6, link)
    assert meeting.talk(60, until=meeting.direct)
    assert seen(meeting.b, 6)["seen"]["udp"].startswith(f"[{B6}]:")


def test_beside_a_path_over_ipv4_ipv6_is_found_when_it_comes():
    meeting = meet("beside", hard=(False, False))
    gate_of(meeting).shut |= {(A6, B6), (B6, A6)}
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    meeting.talk(20)
    assert meeting.path(meeting.a)["endpoint"].startswith("192.0.2.")
    gate_of(meeting).shut.clear()

    assert meeting.talk(130, until=lambda: direct_hosts(meeting) == {B6, "192.0.2.2"})


def test_another_prefix_is_proved_anew():
    meeting = meet("renumbered")
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    link, new = meeting.a.link, "2001:db8:c::2"
    ipv4, _ = meeting.a.host._interfaces[link]
    meeting.a.host._interfaces[link] = (ipv4, new)
    link.parent.remove_route(A6)
    link.parent.add_route(new, link)
    assert meeting.talk(30, until=lambda: meeting.direct() and f"[{new}]" in meeting.path(meeting.b)["endpoint"])
    assert seen(meeting.a, 6)["seen"]["udp"].startswith(f"[{new}]:")


def test_the_session_with_the_hub_moves_to_the_other_version():
    """What was the other version leads to the hub then, and the other way round; neighbours are still found."""
    meeting = meet("moves", hard=(False, False), listens=6)
    meeting.world.start()
    assert meeting.world.run(10, until=meeting.world.all_up)
    meeting.world.run(3)
    assert [seen(meeting.a, version)["used"] for version in (4, 6)] == [True, False]
    meeting.a.node.set_hub((HUB6, 9000), meeting.world.now)
    meeting.world.run(15)
    assert [seen(meeting.a, version)["used"] for version in (4, 6)] == [False, True]
    assert all(seen(meeting.a, version)["seen"] for version in (4, 6))
    assert meeting.talk(SOON, until=meeting.direct)
    meeting.talk(2)
    assert direct_hosts(meeting) == {B6, "192.0.2.2"}


@pytest.mark.parametrize("slower", [0.0, 0.03])
def test_a_hub_that_was_restarted_has_all_prove_themselves_anew(slower: float):
    """In the first round already: what goes over IPv6 may take longer than what asks for the round."""
    for run in range(5):
        meeting = meet(f"restarted {run}")
        link = meeting.hub.link
        send = link.send

        def delayed(
            device: object, packet: Packet, send: Callable[..., None] = send, network: Network = meeting.world.network
        ) -> None:
            late = slower if ":" in packet.destination[0] else 0.0
            network.at(network.clock.now + late, lambda: send(device, packet))

        link.send = delayed  # type: ignore[method-assign]
        meeting.world.start()
        assert meeting.world.run(10, until=meeting.world.all_up)
        meeting.world.run(5)
        meeting.hub.restart()
        meeting.world.run(60)
        assert meeting.world.all_up()
        meeting.began = meeting.world.now
        assert meeting.talk(SOON, until=meeting.direct)


def test_a_hub_that_gets_another_prefix_is_asked_there():
    """It says so when keys are made anew."""
    meeting = meet("hub renumbered")
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    link, new = meeting.hub.link, "2001:db8:1::1"
    ipv4, _ = meeting.hub.host._interfaces[link]
    meeting.hub.host._interfaces[link] = (ipv4, new)
    link.parent.remove_route(HUB6)
    link.parent.add_route(new, link)
    heard = _count(meeting.world, new)
    meeting.talk(130)
    ends = (A6, B6)
    gate_of(meeting).shut |= {ends, ends[::-1]}
    meeting.talk(120, until=lambda: heard)
    assert heard


def test_a_hub_that_has_no_ipv6_cannot_be_asked():
    world = new_world("no ipv6 there")
    hub = world.add_hub(quality=LINE)
    meeting = Meeting(world, hub, add_site(world, "home", "a", A6), add_site(world, "office", "b", B6))
    meeting.begin()
    assert not meeting.talk(10, until=meeting.direct)
    assert seen(meeting.a, 6)["reason"] == "the server does not listen there at a public address"
    assert seen(meeting.a, 4)["reason"] is None
    assert seen(meeting.a, 4)["used"]


def test_the_hubs_name_says_where_to_ask_too():
    """The hub does not know of its IPv6 address, as behind a router; the name has it, and another that is wrong."""
    meeting = meet("name")
    tell = meeting.hub._tell_places
    meeting.hub._tell_places = lambda node: (tell(node), node.set_places([]))  # type: ignore[method-assign]
    meeting.world.start()
    for node in (meeting.a, meeting.b):
        node.node.set_hub_names([("2001:db8:bad::1", 9000), (HUB4, 9000), (HUB6, 9000)], meeting.world.now)
    assert meeting.world.run(10, until=meeting.world.all_up)
    assert meeting.talk(SOON, until=meeting.direct)
    assert meeting.path(meeting.a)["endpoint"].startswith(f"[{B6}]:")


def test_it_costs_few_packets():
    """Seen once and not asked again without need; and where nothing answers, less and less often."""
    meeting = meet("cheap")
    heard = _count(meeting.world, HUB6)
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    assert 0 < len(heard) <= 12
    meeting.talk(600)
    assert len(heard) <= 60
    meeting = meet("deaf")
    gate = gate_of(meeting)
    gate.shut |= {(A6, HUB6), (B6, HUB6)}
    heard = _count(meeting.world, HUB6, at=gate)
    meeting.begin()
    meeting.talk(600)
    assert seen(meeting.a, 6)["reason"] == "the server's answers do not arrive"
    assert 0 < len(heard) <= 60


def _count(world: World, host: str, at: Router | None = None) -> list[Packet]:
    """Return a list to which each packet for a host is added as it passes."""
    place = at or world.internet
    heard: list[Packet] = []
    receive = place.receive

    def count(packet: Packet, link: object) -> None:
        if packet.destination[0] == host:
            heard.append(packet)
        receive(packet, link)

    place.receive = count  # type: ignore[method-assign]
    return heard


# -------------------------------------------------------------------- what an adversary tries


class Scene:
    """A hub that is reached over IPv4, a node that has IPv6, Mallory, and an address that is none of theirs."""

    def __init__(self) -> None:
        self.world = world = new_world("foreign ipv6")
        self.hub = world.add_hub(address=HUB4, others=[HUB6], quality=LINE)
        self.a = add_site(world, "home", "a", A6)
        self.mallory = Mallory(world)
        machine = self.mallory.machine
        self.own = machine.host.addresses[0]
        self.victim = world.add_stranger(address=VICTIM)
        self.heard: list[Packet] = []
        self.victim.receive = lambda packet, _link: self.heard.append(packet)  # type: ignore[method-assign]
        world.start()
        assert world.run(5, until=world.all_up)
        assert world.ping(machine, self.a) is not None
        world.run(2)
        self.probes = _count(world, self.own)

    @property
    def lies(self) -> tuple[Candidate, ...]:
        named = [(VICTIM, 53), (VICTIM, 9000), (HUB6, 22), (self.own, 7777)]
        return tuple(
            Candidate(kind=kind, address=address, priority=100 - place, carrier=carrier)
            for place, address in enumerate(named)
            for kind, carrier in ((CandidateKind.HOST, Carrier.UDP), (CandidateKind.SRFLX, Carrier.TCP))
        )

    def ask(self, number: int = 0) -> None:
        """Have Mallory ask for a path, with addresses that are not its own."""
        punch = Punch(stage=PunchStage.REQUEST, key=key(self.a), round=number, candidates=self.lies)
        self.mallory.say(self.hub, punch)

    def check(self) -> None:
        assert [packet for packet in self.heard if packet.source[0] != HUB6] == []
        assert any(packet.destination[1] == 7777 for packet in self.probes), "what is Mallory's is probed"


def test_a_foreign_ipv6_address_gets_no_probes():
    scene = Scene()
    for number in range(3):
        scene.ask(number)
        scene.world.run(5)
    scene.check()
    assert not scene.heard


def test_a_spoofed_ipv6_source_binds_nothing():
    """OBSERVEs that seem to come from there are asked to prove it, and nobody answers."""
    scene = Scene()
    machine = scene.mallory.machine
    epoch = scene.mallory.peer(scene.hub).epoch
    sent = 0
    for port in range(5000, 5020):
        datagram = epoch.seal_frame(Observe.TYPE, Observe(bytes(8)).pack())
        machine.link.send(machine.host, Packet((VICTIM, port), (HUB6, 9000), datagram))
        sent += len(datagram)
        scene.world.run(0.05)
    scene.ask()
    scene.world.run(5)
    scene.check()
    assert 0 < sum(len(packet.payload) for packet in scene.heard) <= 3 * sent


def test_what_is_forged_or_repeated_binds_nothing():
    """The hub does not even answer to where it came from."""
    scene = Scene()
    machine = scene.mallory.machine
    session = scene.hub.node.control._ctx.sessions[key(scene.a)]
    hub = scene.a.node.control.hub
    before = dict(session.proved)
    for port in range(5000, 5010):
        datagram = hub.epoch.seal_frame(Observe.TYPE, Observe(bytes(8)).pack())
        forged = datagram[:-1] + bytes((datagram[-1] ^ 1,))
        machine.link.send(machine.host, Packet((VICTIM, port), (HUB6, 9000), forged))
        scene.a.node.control.outbox.append((hub.path.transport, hub.path.flow, datagram))
        scene.a.node._send_messages(scene.world.now)
        scene.world.run(0.2)
        machine.link.send(machine.host, Packet((VICTIM, port), (HUB6, 9000), datagram))
        scene.world.run(0.2)
    assert session.proved.keys() == before.keys()
    assert not scene.heard


def test_a_hub_that_names_no_public_address_as_its_own_is_not_asked_there():
    world = new_world("lying hub")
    hub = world.add_hub(address=HUB4, others=[HUB6], quality=LINE)
    a = add_site(world, "home", "a", A6)
    sent: set[str] = set()
    send = a.host.send

    def note(source: tuple[str | None, int], to: tuple[str, int], *rest: object, **more: object) -> bool:
        sent.add(to[0])
        return send(source, to, *rest, **more)  # type: ignore[arg-type]

    a.host.send = note  # type: ignore[assignment]
    lies = [HubPlace(Carrier.UDP, (host, 9)) for host in ("fd00::9", "::1", "ff02::1", "fe80::1")]
    hub._tell_places = lambda node: node.set_places(lies)  # type: ignore[method-assign]
    world.start()
    assert world.run(5, until=world.all_up)
    world.run(60)
    assert sent == {HUB4, "192.0.2.1"}, "besides the own address, to see whether the NAT turns packets around"
