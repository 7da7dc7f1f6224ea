"""Conformance of discovery agents: `ltunnel.plugin.DiscoveryAgent`."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from typing import ClassVar

from ltunnel.plugin import (
    Address,
    Candidate,
    CandidateKind,
    DiscoveryAgent,
    DiscoveryDescriptor,
    Probe,
    Signal,
    SignalKind,
)
from ltunnel.testing.conformance.base import DescriptorConformance

MAX_CANDIDATES = 8
MAX_PROBES = 10
"""For one candidate."""

_PEER = bytes(range(32))
_OTHER = bytes(range(32, 64))


class DiscoveryConformance(DescriptorConformance):
    """``class TestMine(DiscoveryConformance): descriptor = ltunnel_discovery()``."""

    descriptor: ClassVar[DiscoveryDescriptor]
    patience: ClassVar[float] = 30.0
    """Seconds for which an agent is watched after a PUNCH."""

    def make_agent(self) -> DiscoveryAgent:
        """Return an agent that knows its own addresses."""
        agent = self.descriptor.create(self.make_options())
        addresses = (("192.168.1.10", 4500), ("10.9.9.9", 4500), ("2001:db8::10", 4500))
        agent.handle_signal(Signal(kind=SignalKind.INTERFACES, addresses=addresses), 0.0)
        agent.handle_signal(Signal(kind=SignalKind.OBSERVED, addresses=(("203.0.113.5", 40_000),)), 0.0)
        return agent

    def make_candidates(self, count: int = 3) -> tuple[Candidate, ...]:
        """Return public candidates of a peer."""
        return tuple(
            Candidate(kind=CandidateKind.SRFLX, address=(f"198.51.100.{i + 1}", 5000 + i), priority=100 - i)
            for i in range(count)
        )

    def punch(self, agent: DiscoveryAgent, candidates: tuple[Candidate, ...], peer: bytes = _PEER) -> list[Probe]:
        """Tell an agent of a peer's candidates, let the hub start both sides, and collect its probes."""
        agent.handle_signal(Signal(kind=SignalKind.CANDIDATES, peer=peer, candidates=candidates), 0.0)
        agent.handle_signal(Signal(kind=SignalKind.PUNCH, peer=peer, candidates=candidates), 0.0)
        return self.watch(agent, 0.0, self.patience)

    def watch(self, agent: DiscoveryAgent, now: float, seconds: float) -> list[Probe]:
        """Ask for probes whenever the agent wants to be asked; check their times."""
        probes: list[Probe] = []
        end = now + seconds
        for _ in range(10_000):
            due = list(agent.probes(now))
            assert all(probe.at <= now for probe in due), "a probe was returned before it is due"
            probes += due
            assert not list(agent.probes(now)), "a probe was returned twice"
            timeout = agent.next_timeout()
            if timeout is None or timeout > end:
                return probes
            assert timeout > now, f"next_timeout stays at {timeout}"
            now = timeout
        raise AssertionError("an agent that never rests")

    def test_own_candidates(self) -> None:
        """At most 8, best first, each once, and what was told is among them."""
        own = list(self.make_agent().candidates(0.0))
        assert own
        assert len(own) <= MAX_CANDIDATES
        priorities = [candidate.priority for candidate in own]
        assert priorities == sorted(priorities, reverse=True), "candidates are not in order"
        assert len({candidate.address for candidate in own}) == len(own), "a candidate twice"
        assert ("203.0.113.5", 40_000) in {candidate.address for candidate in own}, "what the hub saw is missing"

    def test_many_interfaces(self) -> None:
        """However many addresses a machine has, at most 8 candidates; unusable ones are not among them."""
        agent = self.descriptor.create(self.make_options())
        many = tuple((f"192.168.{i}.1", 4500) for i in range(100))
        bad = (("127.0.0.1", 4500), ("0.0.0.0", 4500), ("::1", 4500), ("224.0.0.1", 4500))  # noqa: S104 (not bound)
        agent.handle_signal(Signal(kind=SignalKind.INTERFACES, addresses=bad + many), 0.0)
        own = list(agent.candidates(0.0))
        assert len(own) <= MAX_CANDIDATES
        assert not {candidate.address for candidate in own} & set(bad)

    def test_probes_stay_in_budget(self) -> None:
        """At most 8 candidates are probed, each at most 10 times, whatever a peer lists."""
        for count in (1, 3, 8, 200):
            probes = self.punch(self.make_agent(), self.make_candidates(count))
            assert probes, "nothing was probed"
            per_target = Counter(probe.to for probe in probes)
            assert max(per_target.values()) <= MAX_PROBES
            assert len({host for host, _ in per_target}) <= MAX_CANDIDATES
            assert {probe.peer for probe in probes} == {_PEER}

    def test_no_third_party_is_probed(self) -> None:
        """Probes go to hosts that the peer named, and to nobody else."""
        candidates = self.make_candidates()
        hosts = {candidate.address[0] for candidate in candidates}
        for probe in self.punch(self.make_agent(), candidates):
            assert probe.to[0] in hosts

    def test_best_candidates_first(self) -> None:
        """The candidate of the highest priority is probed no later than any other."""
        candidates = self.make_candidates()
        for listed in (candidates, candidates[::-1]):
            probes = self.punch(self.make_agent(), listed)
            first = {address: min(p.at for p in probes if p.to == address) for address in {p.to for p in probes}}
            assert candidates[0].address in first
            assert first[candidates[0].address] == min(first.values())

    def test_equal_private_addresses(self) -> None:
        """A private address that is ours too, but on another LAN, is not probed."""
        agent = self.make_agent()
        elsewhere = Candidate(kind=CandidateKind.HOST, address=("192.168.1.10", 4500), priority=200, network=b"other")
        probes = self.punch(agent, (elsewhere, *self.make_candidates(1)))
        assert ("192.168.1.10", 4500) not in {probe.to for probe in probes}

    def test_closed_peers_are_left_alone(self) -> None:
        """After CLOSED no probe goes to that peer; others are not affected."""
        agent = self.make_agent()
        candidates = self.make_candidates()
        for peer in (_PEER, _OTHER):
            agent.handle_signal(Signal(kind=SignalKind.CANDIDATES, peer=peer, candidates=candidates), 0.0)
            agent.handle_signal(Signal(kind=SignalKind.PUNCH, peer=peer, candidates=candidates), 0.0)
        agent.handle_signal(Signal(kind=SignalKind.CLOSED, peer=_PEER), 0.0)
        assert {probe.peer for probe in self.watch(agent, 0.0, self.patience)} == {_OTHER}

    def test_silence_is_the_default(self) -> None:
        """Without a peer there is nothing to probe."""
        agent = self.make_agent()
        assert not self.watch(agent, 0.0, self.patience)

    def test_hostile_signals(self) -> None:
        """Nonsense that a peer sends raises nothing, and brings no probe to an address that is nobody's."""
        random = self.make_random()
        nonsense: list[Address] = [
            ("0.0.0.0", 5000), ("255.255.255.255", 5000), ("224.0.0.251", 5353),  # noqa: S104 (sent, not bound)
            ("127.0.0.1", 22), ("::1", 22),
            ("::", 1), ("ff02::1", 5000), ("198.51.100.9", 0), ("198.51.100.9", 70_000), ("198.51.100.9", -1),
            ("not an address", 5000), ("", 5000), ("198.51.100.9\n", 5000), ("fe80::1", 5000),
        ]  # fmt: skip
        for _ in range(50):
            agent = self.make_agent()
            picked = tuple(
                Candidate(
                    kind=random.choice(list(CandidateKind)),
                    address=random.choice(nonsense),
                    priority=random.choice((-(2**40), -1, 0, 2**63)),
                    network=random.randbytes(random.choice((0, 8, 300))),
                )
                for _ in range(random.randint(0, 30))
            )
            for kind in random.choices(list(SignalKind), k=10):
                addresses = tuple(random.choices(nonsense, k=random.randint(0, 3)))
                peer = random.choice((b"", _PEER, bytes(5)))
                if kind in (SignalKind.INTERFACES, SignalKind.OBSERVED):
                    continue  # those come from our own machine and the hub, checked before
                agent.handle_signal(Signal(kind=kind, peer=peer, addresses=addresses, candidates=picked), 0.0)
            for probe in self.watch(agent, 0.0, self.patience):
                assert 0 < probe.to[1] < 65_536
                target = ip_address(probe.to[0])
                assert not target.is_multicast
                assert not target.is_unspecified
                assert not target.is_loopback
                assert str(target) != "255.255.255.255"
