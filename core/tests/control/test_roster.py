"""Whom a node takes for whom: whatever a hub says, in whatever order, an address has one owner and it is the newest."""

from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltunnel.control.context import Context
from ltunnel.control.pins import Pins, pin_name
from ltunnel.control.roster import Roster
from ltunnel.control.session import Session
from ltunnel.control.states import State
from ltunnel.control.subnets import Subnets
from ltunnel.session import Peer
from ltunnel.wire.frames import PeerEntry, Peers
from ltunnel.wire.relay import node_name

OWN, HUB = bytes([1]) * 32, bytes([2]) * 32
KEYS = [bytes([number]) * 32 for number in range(3, 8)]
ADDRESSES = [ip_interface(f"10.0.0.{number}/24") for number in range(1, 7)]  # 1 is the hub's, 2 this node's
LAN, OTHER = ip_network("192.168.7.0/24"), ip_network("172.16.0.0/16")
ALL = (ip_network("0.0.0.0/0"), ip_network("::/0"))
NETWORKS = [LAN, OTHER, *LAN.subnets(), LAN.supernet(), *ALL, ADDRESSES[1].network]


class Setting:
    """A roster, and what is around it."""

    def __init__(self, base, pins: Pins | None = None) -> None:
        self.ctx = Context(base, lambda size: bytes(size), 0.0, lambda *_: "", ("udp", "relay"), 1)
        self.hub = Session(Peer(HUB, "hub", is_hub=True))
        self.hub.peer.hosts = frozenset({ADDRESSES[0].packed})
        self.pins = pins or Pins({})
        self.subnets = Subnets(self.ctx)
        self.roster = Roster(self.ctx, self.pins, self.hub, self.subnets)

    def introduce(self, *entries: PeerEntry) -> list[str]:
        return [bare.peer.name for bare in self.roster.introduce(Peers(entries), 0.0)]

    def owner(self, address) -> str | None:
        peer = self.ctx.fib.lookup(address.packed)
        return None if peer is None else peer.name

    def check(self) -> None:
        """Say what always holds."""
        owners = {}
        for neighbour in self.roster:
            peer = neighbour.peer
            assert self.ctx.peers[peer.key] is peer
            assert self.roster.named(node_name(peer.key)) is neighbour
            for host in peer.hosts:
                assert host not in owners, "an address has one owner"
                owners[host] = None if neighbour.refused else peer
        assert ADDRESSES[0].packed not in owners
        assert ADDRESSES[1].packed not in owners
        for address in ADDRESSES:
            assert self.ctx.fib.lookup(address.packed) is owners.get(address.packed)
        assert set(self.ctx.fib.names.values()) == {peer for peer in owners.values() if peer is not None}
        ways = {network: each.peer for each in self.roster for network in each.peer.networks}
        assert sorted(ways) == list(self.subnets.taken)
        for network, peer in ways.items():
            assert owners[min(peer.hosts)] is peer, "it has an address, and is not refused"
            assert network in self.roster.get(peer.key).behind
            assert self.ctx.fib.lookup(network[20].packed) is peer
        assert not {*ALL, ADDRESSES[1].network} & set(ways)


@pytest.fixture
def base(net):
    return net.settings("a", None, "10.0.0.2/24")


entry = st.builds(
    PeerEntry,
    key=st.sampled_from([HUB, *KEYS]),
    name=st.sampled_from("abc"),
    addresses=st.lists(st.sampled_from(ADDRESSES), max_size=3).map(tuple),
    behind=st.lists(st.sampled_from(NETWORKS), max_size=2).map(tuple),
)


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rounds=st.lists(st.lists(entry, max_size=4), max_size=8), forget=st.lists(st.booleans(), min_size=8, max_size=8))
def test_whatever_the_hub_says(base, rounds, forget):
    pins = Pins({pin_name("hub.example:9000", "test", "c"): KEYS[0]})
    place = Setting(replace(base, accept_routes=ALL), pins)
    for entries, forgets in zip(rounds, forget, strict=False):
        place.introduce(*entries)
        for bare in [each for each in place.roster if not each.peer.hosts]:
            place.roster.forget(bare, 0.0)
        place.check()
        if forgets:
            place.roster.hub_met(0.0)
            place.roster.unnamed_due(0.0)
            assert not len(place.roster)
            place.check()


def test_the_newest_word_counts(base):
    place = Setting(base)
    assert place.introduce(PeerEntry(KEYS[0], "b", (ADDRESSES[2], ADDRESSES[3]))) == []
    assert place.introduce(PeerEntry(KEYS[1], "c", (ADDRESSES[3],))) == []
    assert (place.owner(ADDRESSES[2]), place.owner(ADDRESSES[3])) == ("b", "c")
    assert place.introduce(PeerEntry(KEYS[1], "c", (ADDRESSES[2],))) == ["b"], "it has nothing left"
    assert (place.owner(ADDRESSES[2]), place.owner(ADDRESSES[3])) == ("c", None)


def test_nobody_gets_the_hubs_address_or_ours(base):
    place = Setting(base)
    place.introduce(PeerEntry(KEYS[0], "b", tuple(ADDRESSES[:3])))
    assert [place.owner(address) for address in ADDRESSES[:3]] == [None, None, "b"]


def test_addresses_outside_of_the_tunnel_are_nobodys(base):
    """Neither those in a network behind another, which would go first, nor of an IP version that is not used here."""
    place = Setting(replace(base, accept_routes=ALL))
    device, other = ip_interface("192.168.7.20/32"), ip_interface("fd00::4/64")
    place.introduce(PeerEntry(KEYS[0], "b", (ADDRESSES[2],), behind=(LAN,)))
    place.introduce(PeerEntry(KEYS[1], "c", (device, ADDRESSES[3], other)))
    assert [place.owner(address) for address in (device, ADDRESSES[3], other)] == ["b", "c", None]
    assert not place.roster.get(KEYS[1]).peer.owns(device.packed)
    assert place.introduce(PeerEntry(KEYS[2], "d", (other,), behind=(OTHER,))) == []
    assert place.roster.get(KEYS[2]).present, "it is there, to relay for others"
    assert place.owner(ip_interface("172.16.0.1")) is None, "nobody can be asked for it who has no address"


def test_neither_this_node_nor_its_hub_is_a_neighbour(base):
    place = Setting(base)
    place.introduce(PeerEntry(base.identity.public, "a", (ADDRESSES[2],)), PeerEntry(HUB, "hub", (ADDRESSES[3],)))
    assert not len(place.roster)


def test_a_name_with_another_pinned_key_owns_nothing(base):
    pin = pin_name("hub.example:9000", "test", "b")
    place = Setting(base, Pins({pin: KEYS[0]}))
    place.introduce(PeerEntry(KEYS[1], "b", (ADDRESSES[2],)))
    place.introduce(PeerEntry(KEYS[1], "b", (ADDRESSES[2],)))
    assert [event.name for event in place.ctx.events] == ["neighbour-refused"], "told once"
    assert place.owner(ADDRESSES[2]) is None
    place.pins.forget(pin)
    place.roster.pin_forgotten(0.0)
    assert place.owner(ADDRESSES[2]) == "b"


def test_the_roster_is_bounded_and_so_are_pins(base, monkeypatch):
    monkeypatch.setattr("ltunnel.control.roster.ROSTER_LIMIT", 4)
    place = Setting(base)
    place.introduce(*(PeerEntry(bytes([number]) * 32, f"n{number}", (ADDRESSES[2],)) for number in range(10, 20)))
    assert len(place.roster) == 4
    for number in range(6):
        place.roster.pin(Peer(bytes([number]) * 32, f"n{number}"))
    assert len(place.pins.items) == 4
    place.pins.items["other.example:9000/test"] = HUB
    assert place.pins.add("another.example:9000/test", HUB), "hubs are pinned whatever nodes there are"


# -------------------------------------------------------------------- networks behind nodes


def behind(place: Setting) -> list[str | None]:
    """Who is the way to each of the two networks."""
    return [place.owner(ip_interface("192.168.7.20")), place.owner(ip_interface("172.16.0.1"))]


@pytest.fixture
def accepting(base):
    return Setting(replace(base, accept_routes=ALL))


def test_networks_may_change_where_nothing_else_does(accepting):
    b = PeerEntry(KEYS[0], "b", (ADDRESSES[2],))
    for networks, owners in [
        ((LAN,), ["b", None]),
        ((LAN, OTHER), ["b", "b"]),
        ((OTHER,), [None, "b"]),
        ((), 2 * [None]),
    ]:
        accepting.introduce(replace(b, behind=networks))
        assert behind(accepting) == owners
    assert accepting.subnets.refused == []


def test_a_node_that_goes_takes_its_networks_along_and_another_takes_over(accepting):
    accepting.introduce(
        PeerEntry(KEYS[0], "b", (ADDRESSES[2],), behind=(LAN,)),
        PeerEntry(KEYS[1], "c", (ADDRESSES[3],), behind=(LAN, OTHER)),
    )
    assert behind(accepting) == ["b", "c"]
    accepting.introduce(PeerEntry(KEYS[0], "b"))
    assert behind(accepting) == ["c", "c"]
    accepting.introduce(PeerEntry(KEYS[1], "c"))
    assert accepting.subnets.taken == ()


def test_a_node_that_lives_keeps_its_networks_until_the_hub_names_another(accepting):
    """The hub says that b is gone; a session with b goes on. Then the hub says that c is the way."""
    accepting.introduce(PeerEntry(KEYS[0], "b", (ADDRESSES[2],), behind=(LAN,)))
    session = accepting.ctx.sessions[KEYS[0]] = Session(accepting.ctx.peers[KEYS[0]])
    session.state = State.ESTABLISHED
    assert session.in_use
    accepting.introduce(PeerEntry(KEYS[0], "b"))
    assert behind(accepting) == ["b", None]
    accepting.introduce(PeerEntry(KEYS[1], "c", (ADDRESSES[3],), behind=(LAN,)))
    assert behind(accepting) == ["c", None]
    accepting.introduce(PeerEntry(KEYS[1], "c", (ADDRESSES[3],)))
    assert behind(accepting) == ["b", None]
    del accepting.ctx.sessions[KEYS[0]]
    accepting.roster.over(accepting.roster.get(KEYS[0]), 0.0)
    assert accepting.subnets.taken == ()


def test_a_node_that_is_not_named_again_loses_its_networks(accepting):
    accepting.introduce(PeerEntry(KEYS[0], "b", (ADDRESSES[2],), behind=(LAN,)))
    accepting.roster.hub_met(0.0)
    assert behind(accepting) == ["b", None]
    accepting.roster.unnamed_due(0.0)
    assert accepting.subnets.taken == ()


def test_a_node_without_addresses_left_has_no_networks(accepting):
    accepting.introduce(PeerEntry(KEYS[0], "b", (ADDRESSES[2],), behind=(LAN,)))
    (bare,) = accepting.introduce(PeerEntry(KEYS[1], "c", (ADDRESSES[2],)))
    assert bare == "b"
    assert accepting.subnets.taken == ()


def test_a_name_with_another_pinned_key_is_the_way_to_nothing(base):
    pin = pin_name("hub.example:9000", "test", "b")
    place = Setting(replace(base, accept_routes=ALL), Pins({pin: KEYS[0]}))
    for _ in range(2):
        place.introduce(PeerEntry(KEYS[1], "b", (ADDRESSES[2],), behind=(LAN,)))
        assert place.subnets.taken == ()
    place.introduce(PeerEntry(KEYS[1], "b", (ADDRESSES[2],), behind=(OTHER,)))
    place.pins.forget(pin)
    place.roster.pin_forgotten(0.0)
    assert behind(place) == [None, "b"]
    place.pins.add(pin, KEYS[0])
    place.introduce(PeerEntry(KEYS[1], "b", (ADDRESSES[3],), behind=(OTHER,)))
    assert place.subnets.taken == (), "it is refused again"


def test_the_hub_may_not_give_away_what_this_node_offers_or_is_in(base):
    """Whatever a hub says, a node vets it."""
    place = Setting(replace(base, accept_routes=ALL, routes=(LAN,)))
    place.subnets.set_links([OTHER], 0.0)
    place.introduce(PeerEntry(KEYS[0], "b", (ADDRESSES[2],), behind=(LAN, OTHER, *ALL)))
    assert place.subnets.taken == ()
    assert len(place.subnets.refused) == 4
