"""Two nodes, each behind a NAT and a strict firewall, open a connection to one another at the same time."""

from __future__ import annotations

import pytest

from ltunnel.testing import Link, Nat, Packet, Quality, SimRawPort, StrictFirewall
from ltunnel.testing.conformance.lab import End, Lab
from ltunnel.testing.conntrack import TrackState
from ltunnel.testing.nat import Dependence
from ltunnel.testing.packets import ACK, FIN, RST, SYN
from ltunnel.testing.segments import Segment, fields_of, make_payload
from ltunnel_transport_faketcp import FakeTcpOptions, ltunnel_transport
from ltunnel_transport_faketcp.flow import Flow
from ltunnel_transport_faketcp.states import State


class Site:
    """host - firewall - NAT - internet. What passes between host and firewall is in `seen`: (when, outward, flags)."""

    def __init__(self, lab: Lab, end: End, number: int, mapping: Dependence) -> None:
        self.lab, self.end = lab, end
        self.nat = Nat(lab.network, f"nat{number}", f"198.51.100.{100 + number}", mapping=mapping)
        self.nat.attach(lab.internet, Quality(delay=0.01))
        self.firewall = StrictFirewall(lab.network, f"firewall{number}")
        self.firewall.attach(self.nat, Quality(delay=0.001))
        self.link = end.host.move(self.firewall, f"192.168.{number}.2", quality=Quality(delay=0.001))
        self.seen: list[tuple[float, bool, int]] = []
        self.lose: set[tuple[bool, int]] = set()
        """(outward, flags) of segments between the two nodes that are lost, once each."""
        judge, self.firewall.receive = self.firewall.receive, self._look  # type: ignore[method-assign]
        self._judge = judge
        self.to_hub, self.from_hub = lab.open_flow(end)

    @property
    def outside(self) -> tuple[str, int]:
        """Where the hub sees the node."""
        return self.from_hub.remote

    def _look(self, packet: Packet, link: Link) -> None:
        outward = link is not self.firewall.uplink
        far = packet.destination if outward else packet.source
        if far[0] != self.lab.hub_address[0]:
            flags = fields_of(packet).flags
            self.seen.append((self.lab.now, outward, flags))
            if (outward, flags) in self.lose:
                self.lose.remove((outward, flags))
                return
        self._judge(packet, link)


class Two:
    """Both sites, and a hub that both are connected to."""

    def __init__(self, mapping: Dependence = Dependence.ENDPOINT_INDEPENDENT) -> None:
        self.lab = Lab(ltunnel_transport(), FakeTcpOptions(), lambda host, spec: SimRawPort(host, spec, gro=True))
        self.lab.network.trace = None
        other = self.lab.add_node()
        self.a, self.b = Site(self.lab, self.lab.node, 1, mapping), Site(self.lab, other, 2, mapping)

    def meet(self, site: Site) -> Flow:
        """Let a node open the connection to the other."""
        other = self.b if site is self.a else self.a
        return site.end.transport.meet(other.outside, site.to_hub, self.lab.now)

    def talk(self, there: Flow, back: Flow) -> None:
        """See that datagrams pass both ways, and still to and from the hub."""
        a, b, hub = self.a.end, self.b.end, self.lab.hub
        for end in (a, b, hub):
            end.inbox.clear()
        now = self.lab.now
        assert a.send(there, [b"a" * 1300] * 40 + [b"z"], now)
        assert b.send(back, [b"b" * 1300] * 40 + [b"z"], now)
        assert a.send(self.a.to_hub, [b"to the hub"], now)
        assert hub.send(self.b.from_hub, [b"from the hub"], now)
        self.lab.run(0.2)
        assert [data for flow, data in b.inbox if flow is back] == [b"a" * 1300] * 40 + [b"z"]
        assert [data for flow, data in a.inbox if flow is there] == [b"b" * 1300] * 40 + [b"z"]
        assert b"to the hub" in hub.datagrams
        assert b"from the hub" in b.datagrams

    @property
    def invalid(self) -> int:
        """Segments that the firewalls found invalid."""
        return sum((self.a.firewall.invalid + self.b.firewall.invalid).values())


@pytest.fixture
def two() -> Two:
    return Two()


def test_at_the_same_moment(two):
    """RFC 9293, figure 7: SYN and SYN-ACK cross; two connections at each firewall, everything valid."""
    there, back = two.meet(two.a), two.meet(two.b)
    assert two.lab.run(0.5, lambda: there.is_up and back.is_up)
    for site in (two.a, two.b):
        assert {(outward, flags) for _, outward, flags in site.seen} >= {
            (outward, flags) for outward in (True, False) for flags in (SYN, SYN | ACK)
        }
    two.talk(there, back)
    for site in (two.a, two.b):
        assert site.firewall.in_state(TrackState.ESTABLISHED) == 2
        assert {port for _, port in site.nat._by_port} == {site.outside[1]}, "one mapping for hub and other node"
    assert two.invalid == 0
    assert (there.remote, back.remote) == (two.b.outside, two.a.outside)


@pytest.mark.parametrize("late", [0.005, 0.02, 0.3, 1.7, 4.0, 12.0])
def test_one_comes_later(two, late):
    """Its SYN finds nobody, or is answered at once; SYNs that come too early are lost at its NAT."""
    there = two.meet(two.a)
    two.lab.run(late)
    assert there.state is State.OPENING
    back = two.meet(two.b)
    assert two.lab.run(1.1, lambda: there.is_up and back.is_up)
    two.talk(there, back)
    assert two.invalid == 0


@pytest.mark.parametrize("lost", [{(True, SYN)}, {(False, SYN)}, {(True, SYN | ACK)}, {(False, SYN | ACK)},
                                  {(True, SYN), (False, SYN | ACK)}, {(True, ACK), (False, ACK)}])  # fmt: skip
def test_something_is_lost(two, lost):
    two.a.lose |= lost
    there, back = two.meet(two.a), two.meet(two.b)
    two.lab.run(3.0)
    two.talk(there, back)
    assert not two.a.lose, "it was sent"
    assert two.invalid == 0


def test_the_first_segment_carries_data(two):
    """The SYN-ACK and the ACK to a node get lost; what opens its end is data."""
    two.a.lose |= {(False, SYN | ACK), (False, ACK)}
    there, back = two.meet(two.a), two.meet(two.b)
    assert two.lab.run(0.2, lambda: back.is_up)
    two.lab.run(0.06)
    assert there.state is State.MEETING
    two.b.end.send(back, [b"data"], two.lab.now)
    assert two.lab.run(0.06, lambda: there.is_up)
    two.lab.run(0.1)
    assert two.a.end.datagrams == [b"data"]
    two.talk(there, back)


def test_nobody_comes(two):
    """A SYN a second, always the same one, from the same port, until the core no longer wants it."""
    there = two.meet(two.a)
    for _ in range(30):
        two.a.end.send(there, [b"?"], two.lab.now)
        two.lab.run(1.0)
    assert there.state is State.OPENING
    assert 28 <= len(two.a.seen) <= 32
    assert {flags for _, _, flags in two.a.seen} == {SYN}
    two.lab.run(150.0)
    assert there.state is State.IDLE


def test_one_of_them_starts_anew(two):
    """It has forgotten everything, and has the same port: the other notices, and both meet again."""
    there, back = two.meet(two.a), two.meet(two.b)
    two.lab.run(0.5)
    two.talk(there, back)
    two.b.end.transport.close(back, two.lab.now)
    two.lab.run(0.5)
    again = two.meet(two.b)
    assert again is not back
    for _ in range(40):
        two.a.end.send(there, [b"x"], two.lab.now)
        if two.lab.run(0.25, lambda: there.is_up and again.is_up):
            break
    two.lab.run(1.0)
    two.talk(there, again)


def test_a_firewall_forgets(two):
    there, back = two.meet(two.a), two.meet(two.b)
    two.lab.run(0.5)
    two.talk(there, back)
    two.a.firewall.flush()
    for _ in range(60):
        two.a.end.send(there, [b"x"], two.lab.now)
        two.b.end.send(back, [b"x"], two.lab.now)
        two.a.end.send(two.a.to_hub, [b"x"], two.lab.now)
        two.lab.run(0.25)
    two.talk(there, back)


def test_a_forged_syn_is_a_hint(two):
    """Whoever names another number asks for an answer of the far end, nothing more."""
    there, back = two.meet(two.a), two.meet(two.b)
    two.lab.run(0.5)
    packet = Segment(two.b.outside, (two.a.end.host.addresses[0], there.number), make_payload(77, 0, SYN, 65_535))
    assert two.a.end.ports[0].deliver(packet)
    assert two.lab.run(0.1, lambda: there.state is State.DOUBTED)
    two.lab.run(0.3)
    assert there.state is State.OPEN
    two.talk(there, back)


@pytest.mark.parametrize("flags", [SYN, SYN | ACK, ACK, RST, RST | ACK, FIN | ACK])
def test_a_stranger_opens_nothing(two, flags):
    """Of those who do not see our SYN nobody can acknowledge it; and who has not called is not answered."""
    there = two.meet(two.a)
    sent = len(two.a.seen)
    for source in (("203.0.113.99", 9000), two.b.outside):
        packet = Segment(source, (two.a.end.host.addresses[0], there.number), make_payload(5, 6, flags, 65_535))
        assert two.a.end.ports[0].deliver(packet)
        two.lab.run(0.01)
        assert not there.is_up
    answers = [flags for _, outward, flags in two.a.seen[sent:] if outward]
    assert set(answers) <= {SYN, SYN | ACK}
    back = two.meet(two.b)
    two.lab.run(6.0)
    two.talk(there, back)


def test_a_nat_that_maps_each_far_end_elsewhere(two):
    """Nobody knows where to call, and nothing opens: that is the business of whoever predicts ports."""
    hard = Two(Dependence.ADDRESS_AND_PORT_DEPENDENT)
    there, back = hard.meet(hard.a), hard.meet(hard.b)
    assert not hard.lab.run(5.0, lambda: there.is_up or back.is_up)
    assert hard.a.to_hub.is_up


def test_a_hub_meets_nobody(two):
    flow = two.lab.hub.transport.meet(two.a.outside, two.a.from_hub, two.lab.now)
    assert flow.state is State.CLOSED
    assert not two.lab.hub.send(flow, [b"x"], two.lab.now)
