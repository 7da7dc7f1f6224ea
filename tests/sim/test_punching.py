"""Every pair of kinds of site: direct where that is possible at all, quietly on the hub where it is not."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest

from ltunnel.testing import Firewall, Nat, Packet, Quality, SimNode
from tests.sim.sites import ANY, BOTH, LENIENT, LINE, SITES, Meeting, meet, new_world

RUNS = 20
SOON, LATER = 5.0, 20.0
"""Seconds from the first packet: direct paths in general, and those that take guessing."""


def is_impossible(one: str, other: str) -> bool:
    """Whether neither side can know a port of the other: one takes random ports, and no side keeps its own."""
    return {one, other} <= {"symmetric", "counting"} and "symmetric" in (one, other)


def needs_guessing(one: str, other: str) -> bool:
    return "symmetric" in (one, other) and not LENIENT & {one, other} and not is_impossible(one, other)


PAIRS = list(combinations_with_replacement(SITES, 2))
EASY = [pair for pair in PAIRS if not is_impossible(*pair) and not needs_guessing(*pair)]
GUESSED = [pair for pair in PAIRS if needs_guessing(*pair)]
HOPELESS = [pair for pair in PAIRS if is_impossible(*pair)]


def took(one: str, other: str, run: int, patience: float) -> float | None:
    """Return how long two nodes have taken to a direct path, None for too long."""
    meeting = meet(one, other, f"{one}/{other}/{run}")
    meeting.begin()
    return meeting.world.now - meeting.began if meeting.talk(patience, until=meeting.direct) else None


@pytest.mark.parametrize(("one", "other"), EASY)
def test_direct_where_it_is_possible(one: str, other: str):
    times = [took(one, other, run, SOON) for run in range(RUNS)]
    assert None not in times, f"{times.count(None)} of {RUNS} did not find each other"


@pytest.mark.parametrize(("one", "other"), GUESSED)
def test_random_ports_are_guessed(one: str, other: str):
    times = [took(one, other, run, LATER) for run in range(RUNS)]
    assert times.count(None) <= RUNS // 20, f"{times.count(None)} of {RUNS} did not find each other"


class Probes:
    """Counts what goes over a link to any host but the hub."""

    def __init__(self, node: SimNode, hub: str) -> None:
        self.times: list[float] = []
        self._hub = hub
        self._node = node
        link = node.link
        self._send = link.send
        link.send = self._count  # type: ignore[method-assign]

    def _count(self, device, packet: Packet) -> None:
        if device is self._node.host and packet.destination[0] != self._hub:
            self.times.append(self._node.world.now)
        self._send(device, packet)

    def most_a_minute(self) -> int:
        return max((sum(begin <= when < begin + 60.0 for when in self.times) for begin in self.times), default=0)


@pytest.mark.parametrize(("one", "other"), HOPELESS)
def test_two_hard_nats_stay_on_the_hub_without_a_storm(one: str, other: str):
    for run in range(3):
        meeting = meet(one, other, run)
        counts = [Probes(node, "203.0.113.1") for node in (meeting.a, meeting.b)]
        meeting.begin()
        assert not meeting.talk(150, until=meeting.direct)
        assert meeting.world.ping(meeting.a, meeting.b) is not None, "the hub still carries"
        assert sum(len(count.times) for count in counts) > 0
        assert max(count.most_a_minute() for count in counts) < 100


# -------------------------------------------------------------------- one LAN, one carrier, equal addresses


def house(seed: object, *, hairpin: bool = False) -> Meeting:
    """Two nodes on one LAN."""
    world = new_world(f"house {seed}")
    hub = world.add_hub(quality=LINE)
    home = world.add_nat("home", quality=LINE, filtering=BOTH, hairpin=hairpin)
    a, b = (world.add_node(name, behind=home, quality=Quality(delay=0.0005)) for name in "ab")
    return Meeting(world, hub, a, b)


@pytest.mark.parametrize("hairpin", [False, True])
def test_nodes_on_one_lan_talk_on_the_lan(hairpin: bool):
    for run in range(RUNS):
        meeting = house(run, hairpin=hairpin)
        meeting.begin()
        assert meeting.talk(SOON, until=meeting.on_lan), "not on the LAN"
        meeting.talk(5)
        assert meeting.on_lan()


def carrier(seed: object, *, hairpin: bool) -> Meeting:
    """Two homes behind the NAT of one carrier."""
    world = new_world(f"carrier {seed}")
    hub = world.add_hub(quality=LINE)
    outer = world.add_nat("carrier", quality=LINE, filtering=ANY, hairpin=hairpin)
    homes = [
        world.add_nat(name, f"100.64.0.{number}", behind=outer, quality=LINE, filtering=BOTH)
        for number, name in enumerate(("home", "flat"), start=10)
    ]
    a, b = (world.add_node(name, behind=home, quality=LINE) for name, home in zip("ab", homes, strict=True))
    return Meeting(world, hub, a, b)


def test_behind_one_carrier_that_turns_packets_around_it_is_direct():
    for run in range(RUNS):
        meeting = carrier(run, hairpin=True)
        meeting.begin()
        assert meeting.talk(SOON, until=meeting.direct)
        assert meeting.a.node.nat(meeting.world.now)["behaviour"]["hairpin"] == "yes"


def test_behind_one_carrier_that_does_not_it_goes_by_the_hub():
    for run in range(3):
        meeting = carrier(run, hairpin=False)
        meeting.begin()
        assert not meeting.talk(30, until=meeting.direct)
        shown = meeting.a.node.nat(meeting.world.now)
        assert shown["behaviour"]["hairpin"] == "no"
        assert "turn packets around" in shown["peers"][0]["tried"]["advice"][0]


def test_equal_private_addresses_are_not_one_lan():
    for run in range(RUNS):
        world = new_world(f"equal {run}")
        hub = world.add_hub(quality=LINE)
        routers = [world.add_nat(name, quality=LINE, filtering=BOTH) for name in ("home", "office")]
        a, b = (
            world.add_node(name, behind=router, addresses=["192.168.1.10"], quality=LINE)
            for name, router in zip("ab", routers, strict=True)
        )
        meeting = Meeting(world, hub, a, b)
        meeting.begin()
        assert meeting.talk(SOON, until=meeting.direct)
        assert not meeting.on_lan()


def test_a_neighbours_private_address_is_not_looked_for_on_the_own_lan():
    """The peer's private address is somebody else's here: nothing is sent there."""
    world = new_world("printer")
    hub = world.add_hub(quality=LINE)
    home, office = (world.add_nat(name, quality=LINE, filtering=BOTH) for name in ("home", "office"))
    a = world.add_node("a", behind=home, addresses=["192.168.1.10"], quality=LINE)
    printer = world.add_node("printer", behind=home, addresses=["192.168.1.20"], quality=LINE)
    b = world.add_node("b", behind=office, addresses=["192.168.1.20"], quality=LINE)
    heard: list[Packet] = []
    receive = printer.host.receive
    printer.host.receive = lambda packet, link: (  # type: ignore[method-assign]
        heard.append(packet) if packet.source[0] == "192.168.1.10" else None, receive(packet, link)
    )  # fmt: skip
    meeting = Meeting(world, hub, a, b)
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    meeting.talk(10)
    assert not heard


# -------------------------------------------------------------------- other networks


def test_in_a_network_of_private_addresses_without_nat_it_is_direct():
    """The hub sees both at private addresses, so it may name them."""
    world = new_world("routed")
    hub = world.add_hub(address="10.1.0.1", quality=LINE)
    a = world.add_node("a", addresses=["10.2.0.2"], quality=LINE)
    b = world.add_node("b", addresses=["10.3.0.3"], quality=LINE)
    meeting = Meeting(world, hub, a, b)
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)


def test_over_ipv6_firewalls_let_both_in():
    for run in range(3):
        world = new_world(f"ipv6 {run}")
        hub = world.add_hub(address="2001:db8::1", quality=LINE)
        walls = []
        for name in ("home", "office"):
            wall = Firewall(world.network, name, stateful=True)
            wall.attach(world.internet, LINE)
            walls.append(wall)
        a = world.add_node("a", behind=walls[0], addresses=["2001:db8:a::2"], quality=LINE)
        b = world.add_node("b", behind=walls[1], addresses=["2001:db8:b::2"], quality=LINE)
        meeting = Meeting(world, hub, a, b)
        meeting.begin()
        assert meeting.talk(SOON, until=meeting.direct)


@pytest.mark.parametrize("both", [False, True])
def test_routers_that_remember_early_packets_are_opened_by_hints(both: bool):
    """The line to the hub is lopsided, so that both do not begin together, and whoever comes first spoils it."""
    lopsided = Quality(delay=0.005), Quality(delay=0.12)
    for run in range(RUNS):
        world = new_world(f"lopsided {run}")
        hub = world.add_hub(quality=LINE)
        home = world.add_nat("home", quality=LINE, filtering=BOTH, accepts_input=True)
        office = world.add_nat("office", quality=LINE, filtering=BOTH, accepts_input=both)
        a = world.add_node("a", behind=home, quality=lopsided[0], up=lopsided[run % 2])
        b = world.add_node("b", behind=office, quality=LINE)
        meeting = Meeting(world, hub, a, b)
        meeting.begin()
        assert meeting.talk(SOON, until=meeting.direct)


# -------------------------------------------------------------------- what worked is found again


def test_a_path_that_has_worked_is_found_again_after_the_lines_were_cut():
    meeting = meet("port-restricted", "symmetric", "again")
    meeting.begin()
    assert meeting.talk(LATER, until=meeting.direct)
    router: Nat = meeting.a.link.parent  # type: ignore[assignment]
    router.flush()
    router.renumber("192.0.2.77")
    assert meeting.talk(20, until=lambda: not meeting.direct()), "the old path is dead"
    assert meeting.talk(100, until=meeting.direct), "not found again"


def test_nothing_is_left_open_after_guessing():
    meeting = meet("symmetric", "port-restricted", "left open")
    meeting.begin()
    assert meeting.talk(LATER, until=meeting.direct)
    meeting.talk(60)
    assert meeting.direct()
    assert len(meeting.a.ports) <= 4, "fresh ports are still open"


def test_a_node_that_takes_no_direct_paths_says_so():
    world = new_world("unwilling")
    hub = world.add_hub(quality=LINE)
    a, b = world.add_node("a", quality=LINE), world.add_node("b", quality=LINE)
    hub.start()
    a.start()
    world.discovery = None
    b.start()
    assert world.run(5, until=world.all_up)
    meeting = Meeting(world, hub, a, b)
    assert not meeting.talk(20, until=meeting.direct)
    (peer,) = a.node.nat(world.now)["peers"]
    assert peer["tried"]["refused"] == "that node takes no direct paths"
    assert b.node.nat(world.now)["enabled"] is False


def test_a_hub_without_a_second_port_is_enough_for_easy_nats():
    world = new_world("one port")
    hub = world.add_hub(quality=LINE)
    hub._open_other_port = lambda _node: None  # type: ignore[method-assign]
    homes = [world.add_nat(name, quality=LINE, filtering=BOTH) for name in ("home", "office")]
    a, b = (world.add_node(name, behind=home, quality=LINE) for name, home in zip("ab", homes, strict=True))
    meeting = Meeting(world, hub, a, b)
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    assert "no second port" in a.node.nat(world.now)["nat"]


def test_direct_paths_outlive_the_hub_and_a_new_one_is_asked_again():
    meeting = meet("port-restricted", "port-restricted", "hub gone")
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    meeting.hub.kill()
    meeting.talk(60)
    assert meeting.direct()
    assert meeting.world.ping(meeting.a, meeting.b) is not None
    meeting.hub.start()
    assert meeting.world.run(30, until=meeting.world.all_up)
    meeting.talk(5)
    assert meeting.direct()
    assert meeting.a.node.nat(meeting.world.now)["behaviour"]["mapping"] == "endpoint_independent"
