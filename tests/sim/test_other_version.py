"""Direct paths over the IP version by which a node does not reach its hub."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ltunnel.testing import Network, Packet
from ltunnel.testing.datagrams import UDP
from tests.sim.sites import LINE, Meeting, new_world
from tests.sim.versions import (
    A6,
    B6,
    HUB4,
    HUB6,
    add_site,
    count_to,
    direct_hosts,
    gate_of,
    host_of,
    meet,
    renumber,
    seen,
)

RUNS = 20
SOON = 5.0


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
    new = "2001:db8:c::2"
    renumber(meeting.a, A6, new)
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
    new = "2001:db8:1::1"
    renumber(meeting.hub, HUB6, new)
    heard = count_to(meeting.world, new)
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
    heard = count_to(meeting.world, HUB6)
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    assert 0 < len(heard) <= 12
    meeting.talk(600)
    assert len(heard) <= 60
    meeting = meet("deaf")
    gate = gate_of(meeting)
    gate.shut |= {(A6, HUB6), (B6, HUB6)}
    heard = count_to(meeting.world, HUB6, at=gate)
    meeting.begin()
    meeting.talk(600)
    assert seen(meeting.a, 6)["reason"] == "the server's answers do not arrive"
    assert 0 < len(heard) <= 60
