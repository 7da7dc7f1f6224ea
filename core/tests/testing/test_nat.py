"""NATs and firewalls, seen from outside as RFC 5780 tests see them."""

from itertools import product

import pytest

from ltunnel.testing import Dependence, Fate, Firewall, Host, Nat, Network, Packet, PortChoice, Router
from ltunnel.testing.datagrams import SimEndpoint

EI, AD, APD = Dependence.ENDPOINT_INDEPENDENT, Dependence.ADDRESS_DEPENDENT, Dependence.ADDRESS_AND_PORT_DEPENDENT
PUBLIC = ("203.0.113.1", "203.0.113.2")
STUN = (3478, 3479)


class Talker:
    """A host that keeps what it hears, by own port."""

    def __init__(self, network: Network, parent: Router, name: str, *addresses: str) -> None:
        self.host = Host(network, name)
        self.network = network
        self.host.attach(parent, *addresses)
        self.heard: list[Packet] = []

    def listen(self, *ports: int, address: str | None = None) -> "Talker":
        for port in ports:
            self.host.bind(self, address, port)
        return self

    def deliver(self, packet: Packet) -> bool:
        self.heard.append(packet)
        return True

    def say(self, to: SimEndpoint, text: bytes = b"", *, port: int = 5000, address: str | None = None) -> None:
        self.host.send((address, port), to, text)
        self.network.run(0.01)

    def last(self) -> Packet | None:
        packet = self.heard[-1] if self.heard else None
        self.heard.clear()
        return packet


class Lab:
    """A STUN server with two addresses and two ports, and a client behind a NAT."""

    def __init__(self, **nat: object) -> None:
        self.network = Network(1)
        self.internet = Router(self.network, "internet")
        self.server = Talker(self.network, self.internet, "server", *PUBLIC).listen(*STUN)
        self.nat = Nat(self.network, "nat", "198.51.100.1", **nat)
        self.nat.attach(self.internet)
        self.client = Talker(self.network, self.nat, "client", "192.168.1.10").listen(5000)
        self.other = Talker(self.network, self.nat, "other", "192.168.1.11").listen(5000)

    def mapped(self, address: str = PUBLIC[0], port: int = STUN[0], *, client: Talker | None = None) -> SimEndpoint:
        """Binding request: what the server sees."""
        (client or self.client).say((address, port))
        packet = self.server.last()
        assert packet is not None
        return packet.source

    def answers(self, address: str, port: int, to: SimEndpoint) -> bool:
        """Whether the server, from this address and port, reaches the client."""
        self.server.say(to, b"answer", port=port, address=address)
        return self.client.last() is not None


def mapping_behaviour(lab: Lab) -> Dependence:
    """RFC 5780, section 4.3."""
    first = lab.mapped()
    if lab.mapped(PUBLIC[1], STUN[0]) == first:
        assert lab.mapped(PUBLIC[1], STUN[1]) == first
        return EI
    second = lab.mapped(PUBLIC[1], STUN[0])
    return AD if lab.mapped(PUBLIC[1], STUN[1]) == second else APD


def filtering_behaviour(lab: Lab) -> Dependence:
    """RFC 5780, section 4.4: answers from where nothing was sent to."""
    mapped = lab.mapped(PUBLIC[0], STUN[0])
    assert lab.answers(PUBLIC[0], STUN[0], mapped)
    if lab.answers(PUBLIC[1], STUN[1], mapped):
        return EI
    return AD if lab.answers(PUBLIC[0], STUN[1], mapped) else APD


@pytest.mark.parametrize(("mapping", "filtering"), list(product(Dependence, Dependence)))
def test_behaviours(mapping: Dependence, filtering: Dependence):
    assert mapping_behaviour(Lab(mapping=mapping, filtering=filtering)) is mapping
    assert filtering_behaviour(Lab(mapping=mapping, filtering=filtering)) is filtering


def test_ports_are_preserved_unless_taken():
    lab = Lab()
    assert lab.mapped() == ("198.51.100.1", 5000)
    assert lab.mapped(client=lab.other) == ("198.51.100.1", 5001)
    symmetric = Lab(mapping=APD)
    assert [symmetric.mapped(PUBLIC[0], port)[1] for port in STUN] == [5000, 5001]


def test_ports_in_sequence_and_at_random():
    sequential = Lab(mapping=APD, ports=PortChoice.SEQUENTIAL, port_range=(40_000, 40_999))
    assert [sequential.mapped(*far)[1] for far in product(PUBLIC, STUN)] == [40_000, 40_001, 40_002, 40_003]
    random = Lab(mapping=APD, ports=PortChoice.RANDOM)
    ports = [random.mapped(*far)[1] for far in product(PUBLIC, STUN)]
    assert len(set(ports)) == 4
    assert 5000 not in ports


def test_ports_run_out_and_come_back():
    lab = Lab(port_range=(5000, 5001), timeout=30)
    third = Talker(lab.network, lab.nat, "third", "192.168.1.12")
    lab.mapped()
    lab.mapped(client=lab.other)
    third.say((PUBLIC[0], STUN[0]))
    assert lab.server.last() is None
    assert lab.nat.fates[Fate.NO_PORTS] == 1
    lab.network.run(31)
    assert lab.mapped(client=third)[1] in (5000, 5001)


def test_mappings_time_out():
    lab = Lab(timeout=30, ports=PortChoice.RANDOM)
    mapped = lab.mapped()
    lab.network.run(29)
    assert lab.mapped() == mapped, "traffic from inside refreshes"
    lab.network.run(29)
    assert lab.answers(PUBLIC[0], STUN[0], mapped)
    lab.network.run(2)
    assert not lab.answers(PUBLIC[0], STUN[0], mapped), "traffic from outside does not"
    assert not list(lab.nat.mappings())
    assert lab.mapped() != mapped


def test_inbound_refresh():
    lab = Lab(timeout=30, inbound_refresh=True)
    mapped = lab.mapped()
    for _ in range(5):
        lab.network.run(29)
        assert lab.answers(PUBLIC[0], STUN[0], mapped)


def test_filter_permissions_time_out_one_by_one():
    lab = Lab(filtering=AD, timeout=30)
    mapped = lab.mapped(PUBLIC[0])
    lab.network.run(20)
    lab.mapped(PUBLIC[1])
    lab.network.run(20)
    assert not lab.answers(PUBLIC[0], STUN[0], mapped)
    assert lab.answers(PUBLIC[1], STUN[0], mapped)


def test_hairpinning():
    lab = Lab(hairpin=True, filtering=EI)
    mapped = lab.mapped(client=lab.other)
    lab.client.say(mapped, b"hello neighbour")
    packet = lab.other.last()
    assert packet is not None
    assert packet.source == ("198.51.100.1", 5001), "the external source address (RFC 4787, REQ-9)"
    assert packet.destination == ("192.168.1.11", 5000)
    own = lab.mapped()
    lab.client.say(own, b"hello me")
    assert lab.client.last() is not None
    strict = Lab(hairpin=True, filtering=APD)
    strict.client.say(strict.mapped(client=strict.other))
    assert strict.other.last() is None
    assert strict.nat.fates[Fate.FILTERED] == 1
    without = Lab(hairpin=False, filtering=EI)
    without.client.say(without.mapped(client=without.other))
    assert without.other.last() is None
    assert without.nat.fates[Fate.NO_HAIRPIN] == 1


def test_neighbours_reach_each_other_directly():
    lab = Lab()
    lab.client.say(("192.168.1.11", 5000), b"over the switch")
    packet = lab.other.last()
    assert packet is not None
    assert packet.source == ("192.168.1.10", 5000)


def test_inside_addresses_are_not_reached_from_outside():
    lab = Lab(filtering=EI)
    lab.mapped()
    lab.server.say(("192.168.1.10", 5000))
    assert lab.client.last() is None
    lab.server.say(("198.51.100.1", 6000))
    assert lab.nat.fates[Fate.NO_MAPPING] == 1


def test_flush_and_renumber():
    lab = Lab(ports=PortChoice.RANDOM)
    before = lab.mapped()
    lab.nat.flush()
    assert not lab.answers(PUBLIC[0], STUN[0], before)
    after = lab.mapped()
    assert after != before
    lab.nat.renumber("198.51.100.77")
    assert not lab.answers(PUBLIC[0], STUN[0], after)
    assert lab.mapped()[0] == "198.51.100.77"
    assert lab.answers(PUBLIC[0], STUN[0], lab.mapped())


def test_forwarded_ports():
    lab = Lab(mapping=APD)
    lab.nat.forward_port(9000, ("192.168.1.10", 5000))
    lab.network.run(1000)
    lab.nat.flush()
    assert lab.answers(PUBLIC[1], STUN[1], ("198.51.100.1", 9000))
    assert lab.mapped() == ("198.51.100.1", 9000), "answers leave by the same port"
    with pytest.raises(ValueError, match="taken"):
        lab.nat.forward_port(9000, ("192.168.1.11", 5000))


def test_double_nat():
    lab = Lab()
    home = Nat(lab.network, "home", "192.168.1.50", mapping=EI, filtering=EI)
    home.attach(lab.nat)
    deep = Talker(lab.network, home, "deep", "192.168.1.10").listen(5000)  # the same private address, one level down
    lab.mapped()
    mapped = lab.mapped(client=deep)
    assert mapped == ("198.51.100.1", 5001)
    lab.server.say(mapped, b"answer", port=STUN[0], address=PUBLIC[0])
    packet = deep.last()
    assert packet is not None
    assert packet.destination == ("192.168.1.10", 5000)
    lab.server.say(mapped, b"answer", port=STUN[1], address=PUBLIC[1])
    assert deep.last() is None, "the outer one filters"


def test_ipv6_passes_untranslated():
    lab = Lab()
    six = Talker(lab.network, lab.internet, "six", "2001:db8::1").listen(1)
    inside = Talker(lab.network, lab.nat, "inside", "2001:db8:1::5").listen(5000)
    inside.say(("2001:db8::1", 1))
    packet = six.last()
    assert packet is not None
    assert packet.source == ("2001:db8:1::5", 5000)
    six.say(("2001:db8:1::5", 5000), port=1)
    assert inside.last() is not None


def test_firewall_drops_udp_and_passes_tcp():
    network = Network()
    internet = Router(network, "internet")
    firewall = Firewall(network, "office", blocked=frozenset({17}))
    firewall.attach(internet)
    outside = Talker(network, internet, "outside", "203.0.113.1").listen(80)
    outside.host.bind(outside, None, 80, protocol=6)
    inside = Talker(network, firewall, "inside", "198.51.100.5").listen(5000)
    inside.say(("203.0.113.1", 80))
    assert outside.last() is None
    outside.say(("198.51.100.5", 5000), port=80)
    assert inside.last() is None
    assert firewall.fates[Fate.FILTERED] == 2
    inside.host.send((None, 5000), ("203.0.113.1", 80), b"", protocol=6)
    network.run(0.01)
    assert outside.last() is not None
    firewall.blocked = frozenset()
    inside.say(("203.0.113.1", 80))
    assert outside.last() is not None


def test_stateful_firewall():
    network = Network()
    internet = Router(network, "internet")
    firewall = Firewall(network, "home", stateful=True, timeout=60)
    firewall.attach(internet)
    outside = Talker(network, internet, "outside", "2001:db8::1").listen(80)
    inside = Talker(network, firewall, "inside", "2001:db8:1::1").listen(5000)
    there = ("2001:db8:1::1", 5000)
    outside.say(there, port=80)
    assert inside.last() is None
    inside.say(("2001:db8::1", 80))
    outside.say(there, port=80)
    assert inside.last() is not None
    outside.say(there, port=81)
    assert inside.last() is None
    network.run(61)
    outside.say(there, port=80)
    assert inside.last() is None
    inside.say(("2001:db8::1", 80))
    firewall.flush()
    outside.say(there, port=80)
    assert inside.last() is None


def test_packets_end_where_their_hops_do_and_a_nat_looks_before_it_translates():
    network = Network(1)
    internet = Router(network, "internet")
    nat = Nat(network, "nat", "192.0.2.1")
    nat.attach(internet)
    far = Talker(network, internet, "far", PUBLIC[0]).listen(STUN[0])
    near = Talker(network, nat, "near", "192.168.1.2").listen(5000)
    for hops, arrives in ((1, False), (2, False), (3, True), (0, True)):
        near.host.send((None, 5000), (PUBLIC[0], STUN[0]), b"", hops=hops)
        network.run(0.01)
        assert (far.last() is not None) is arrives
        if hops == 1:
            assert not nat._by_port, "nothing was opened"
    assert nat.fates[Fate.EXPIRED] == 1
    assert internet.fates[Fate.EXPIRED] == 1


def test_a_router_that_accepts_packets_takes_another_port_for_whoever_came_first():
    network = Network(1)
    internet = Router(network, "internet")
    nat = Nat(network, "nat", "192.0.2.1", filtering=APD, accepts_input=True)
    nat.attach(internet)
    hub, early = (
        Talker(network, internet, name, address).listen(STUN[0]) for name, address in zip("he", PUBLIC, strict=True)
    )
    near = Talker(network, nat, "near", "192.168.1.2").listen(5000)
    near.say((PUBLIC[0], STUN[0]))
    usual = hub.last().source
    early.say(usual, port=STUN[0])
    assert near.last() is None
    near.say((PUBLIC[1], STUN[0]))
    assert early.last().source != usual, "the usual port belongs to the router, towards that one"
    near.say((PUBLIC[0], STUN[0]))
    assert hub.last().source == usual
    network.run(31)
    near.say((PUBLIC[1], STUN[0]))
    assert early.last().source == usual, "it has forgotten"
