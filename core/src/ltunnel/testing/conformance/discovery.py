"""Conformance of discovery agents: `ltunnel.plugin.DiscoveryAgent`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ltunnel.plugin import (
    Action,
    Address,
    Answer,
    Behaviour,
    Candidate,
    CandidateKind,
    Carrier,
    Dependence,
    DiscoveryAgent,
    DiscoveryDescriptor,
    Limits,
    LocalAddress,
    Prepared,
    Probe,
    Query,
    Request,
    Signal,
    SignalKind,
    read_target,
)
from ltunnel.testing.conformance.base import DescriptorConformance

_PEER = bytes(range(32))
_OTHER = bytes(range(32, 64))
_LAN = b"this lan"
_LOCAL = (
    LocalAddress(address=("192.168.1.10", 4500), network=_LAN),
    LocalAddress(address=("10.9.9.9", 4500)),
    LocalAddress(address=("2001:db8::10", 4500)),
)
_SEEN: Address = ("203.0.113.5", 40_000)


@dataclass
class Watched:
    """What an agent did, with times."""

    probes: list[tuple[float, Probe]] = field(default_factory=list)
    queries: list[tuple[float, Query]] = field(default_factory=list)
    told: list[tuple[float, Request | Prepared]] = field(default_factory=list)
    until: float = 0.0

    @property
    def targets(self) -> set[Address]:
        """Where probes went."""
        return {probe.to for _, probe in self.probes}


class DiscoveryConformance(DescriptorConformance):
    """``class TestMine(DiscoveryConformance): descriptor = ltunnel_discovery()``."""

    descriptor: ClassVar[DiscoveryDescriptor]
    patience: ClassVar[float] = 60.0
    """Seconds for which an agent is watched after it was told something."""

    def make_agent(self, *, hub_answers: bool = True, changes_ports: bool = False) -> tuple[DiscoveryAgent, Hub]:
        """Return an agent that knows its own addresses and has had time to ask, and the hub that it asked."""
        agent = self.descriptor.create(self.make_options())
        hub = Hub(answers=hub_answers, changes_ports=changes_ports)
        agent.handle_signal(Signal(kind=SignalKind.INTERFACES, local=_LOCAL), 0.0)
        hub.now = self.watch(agent, hub, 0.0, 10.0).until
        return agent, hub

    def make_candidates(self, count: int = 3) -> tuple[Candidate, ...]:
        """Return public candidates of a peer."""
        return tuple(
            Candidate(kind=CandidateKind.SRFLX, address=(f"198.51.100.{i + 1}", 5000 + i), priority=100 - i)
            for i in range(count)
        )

    def punch(
        self, agent: DiscoveryAgent, hub: Hub, candidates: tuple[Candidate, ...], peer: bytes = _PEER,
        behaviour: Behaviour | None = None,
    ) -> Watched:  # fmt: skip
        """Have a peer ask for a path, let the hub start both sides, and watch."""
        now = hub.now
        agent.handle_signal(Signal(kind=SignalKind.PREPARE, peer=peer, round=0), now)
        ready = self.watch(agent, hub, now, 2.0)
        assert any(isinstance(told, Prepared) and told.peer == peer for _, told in ready.told), "PREPARE has no answer"
        self.start(agent, ready.until, candidates, peer, behaviour)
        seen = self.watch(agent, hub, ready.until, self.patience)
        hub.now = seen.until
        return seen

    def start(
        self, agent: DiscoveryAgent, now: float, candidates: tuple[Candidate, ...], peer: bytes = _PEER,
        behaviour: Behaviour | None = None,
    ) -> None:  # fmt: skip
        """Say START."""
        signal = Signal(
            kind=SignalKind.START, peer=peer, candidates=candidates, delay=0.05, behaviour=behaviour or Behaviour()
        )  # fmt: skip
        agent.handle_signal(signal, now)

    def watch(self, agent: DiscoveryAgent, hub: Hub, now: float, seconds: float) -> Watched:
        """Ask for actions whenever the agent wants to be asked, and answer its questions."""
        seen = Watched()
        end = now + seconds
        for _ in range(20_000):
            for action in agent.actions(now):
                self.note(seen, action, now)
            assert not list(agent.actions(now)), "an action was returned twice"
            for signal in hub.take([query for when, query in seen.queries if when == now]):
                agent.handle_signal(signal, now)
            for action in agent.actions(now):
                self.note(seen, action, now)
            timeout = agent.next_timeout()
            if timeout is None or timeout > end:
                seen.until = end
                return seen
            assert timeout > now, f"next_timeout stays at {timeout}"
            now = timeout
        raise AssertionError("an agent that never rests")

    def note(self, seen: Watched, action: Action, now: float) -> None:
        """Keep an action, and hold it to the limits that are the same for all."""
        match action:
            case Probe():
                seen.probes.append((now, action))
            case Query():
                assert len(action.peer) in (0, 32)
                seen.queries.append((now, action))
            case Request() | Prepared():
                assert len(action.candidates) <= Limits.CANDIDATES
                seen.told.append((now, action))

    # ---------------------------------------------------------------- own addresses

    def test_own_candidates(self) -> None:
        """At most 8, best first, each once, and what was told is among them."""
        agent, hub = self.make_agent()
        own = list(agent.candidates(hub.now))
        assert own
        assert len(own) <= Limits.CANDIDATES
        priorities = [candidate.priority for candidate in own]
        assert priorities == sorted(priorities, reverse=True), "candidates are not in order"
        assert len({candidate.address for candidate in own}) == len(own), "a candidate twice"
        assert _SEEN in {candidate.address for candidate in own}, "what the hub saw is missing"

    def test_the_hub_is_asked_where_it_can_be_asked(self) -> None:
        """Over the other IP version only by carriers that it was told of, and not for ever where nothing answers."""
        for askable in ((), ((Carrier.UDP, 6),)):
            agent, hub = self.descriptor.create(self.make_options()), Hub(answers=False, changes_ports=False)
            agent.handle_signal(Signal(kind=SignalKind.INTERFACES, local=_LOCAL, askable=askable), 0.0)
            seen = self.watch(agent, hub, 0.0, 600.0)
            asked = {(query.carrier, query.version) for _, query in seen.queries if query.version}
            assert asked <= set(askable), f"asked over {asked}"
            assert sum(bool(query.version) for _, query in seen.queries) < 60

    def test_private_addresses_name_their_lan(self) -> None:
        """A private address is told with its LAN or not at all: without it, it would be somebody else elsewhere."""
        agent, hub = self.make_agent()
        lans = {c.network for c in agent.candidates(hub.now) if c.address[0] in ("192.168.1.10", "10.9.9.9")}
        assert lans <= {_LAN}

    def test_many_interfaces(self) -> None:
        """However many addresses a machine has, at most 8 candidates; unusable ones are not among them."""
        agent = self.descriptor.create(self.make_options())
        many = tuple((f"192.168.{i}.1", 4500) for i in range(100))
        bad = (("127.0.0.1", 4500), ("0.0.0.0", 4500), ("::1", 4500), ("224.0.0.1", 4500))  # noqa: S104 (not bound)
        local = tuple(LocalAddress(address=address, network=_LAN) for address in bad + many)
        agent.handle_signal(Signal(kind=SignalKind.INTERFACES, local=local), 0.0)
        own = list(agent.candidates(0.0))
        assert len(own) <= Limits.CANDIDATES
        assert not {candidate.address for candidate in own} & set(bad)

    # ---------------------------------------------------------------- probes

    def test_a_path_is_asked_for(self) -> None:
        """SEEK leads to a Request with own candidates, and not to probes before the hub says START."""
        agent, hub = self.make_agent()
        agent.handle_signal(Signal(kind=SignalKind.SEEK, peer=_PEER), hub.now)
        seen = self.watch(agent, hub, hub.now, 5.0)
        requests = [told for _, told in seen.told if isinstance(told, Request)]
        assert requests, "SEEK leads to nothing"
        assert requests[0].peer == _PEER
        assert requests[0].candidates
        assert not seen.probes, "probes without START"

    def test_probes_stay_in_budget(self) -> None:
        """At most 8 hosts are probed, an address at most 10 times from a port, whatever a peer lists."""
        for count in (1, 3, 8, 200):
            seen = self.punch(*self.make_agent(), self.make_candidates(count))
            assert seen.probes, "nothing was probed"
            per_target = Counter((probe.to, probe.port) for _, probe in seen.probes)
            assert max(per_target.values()) <= Limits.PROBES
            assert len({host for host, _ in seen.targets}) <= Limits.CANDIDATES
            assert {probe.peer for _, probe in seen.probes} == {_PEER}

    def test_guesses_stay_in_budget(self) -> None:
        """However bad the NATs are: 256 ports, 1024 guesses and 1200 probes a minute at most."""
        hard = Behaviour(
            mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, filtering=Dependence.ADDRESS_AND_PORT_DEPENDENT
        )  # fmt: skip
        easy = Behaviour(mapping=Dependence.ENDPOINT_INDEPENDENT, filtering=Dependence.ADDRESS_AND_PORT_DEPENDENT)
        candidates = self.make_candidates(1)
        for changes in (False, True):
            for theirs in (hard, easy):
                agent, hub = self.make_agent(changes_ports=changes)
                probes: list[tuple[float, Probe]] = []
                for _ in range(2):
                    round_ = self.punch(agent, hub, candidates, behaviour=theirs).probes
                    assert len({probe.port for _, probe in round_} - {0}) <= Limits.PORTS
                    probes += round_
                for begin, _ in probes:
                    minute = [probe for when, probe in probes if begin <= when < begin + 60.0]
                    assert len(minute) <= Limits.PER_MINUTE
                    guesses = [probe for probe in minute if probe.to != candidates[0].address]
                    assert len(guesses) <= Limits.BLIND_PROBES

    def test_two_hard_nats_are_no_storm(self) -> None:
        """Where both NATs change ports at random, less than 100 probes a minute are sent."""
        hard = Behaviour(
            mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, filtering=Dependence.ADDRESS_AND_PORT_DEPENDENT
        )  # fmt: skip
        agent, hub = self.make_agent(changes_ports=True)
        seen = self.punch(agent, hub, self.make_candidates(1), behaviour=hard)
        assert len(seen.probes) < 100

    def test_no_third_party_is_probed(self) -> None:
        """Probes go to hosts that the hub named, and to nobody else."""
        candidates = self.make_candidates()
        hosts = {candidate.address[0] for candidate in candidates}
        for host, _ in self.punch(*self.make_agent(), candidates).targets:
            assert host in hosts

    def test_best_candidates_first(self) -> None:
        """The candidate of the highest priority is probed no later than any other."""
        candidates = self.make_candidates()
        for listed in (candidates, candidates[::-1]):
            seen = self.punch(*self.make_agent(), listed)
            first = {to: min(when for when, probe in seen.probes if probe.to == to) for to in seen.targets}
            assert candidates[0].address in first
            assert first[candidates[0].address] == min(first.values())

    def test_nothing_before_the_delay(self) -> None:
        """Both sides begin together: no probe leaves before the delay that START names."""
        agent, hub = self.make_agent()
        self.start(agent, hub.now, self.make_candidates())
        seen = self.watch(agent, hub, hub.now, 5.0)
        assert seen.probes
        assert min(when for when, _ in seen.probes) >= hub.now + 0.05

    def test_equal_private_addresses(self) -> None:
        """A private address on another LAN is not probed, though our LAN has it, too; one on our LAN is."""
        elsewhere, here = (
            Candidate(kind=CandidateKind.HOST, address=("192.168.1.11", 4500), priority=200, network=network)
            for network in (b"another!", _LAN)
        )
        for candidate, probed in ((elsewhere, False), (here, True)):
            seen = self.punch(*self.make_agent(), (candidate, *self.make_candidates(1)))
            assert (candidate.address in seen.targets) is probed

    def test_own_addresses_are_not_probed(self) -> None:
        """A candidate that is an address of this machine is left alone."""
        own = Candidate(kind=CandidateKind.HOST, address=("192.168.1.10", 4500), priority=200, network=_LAN)
        seen = self.punch(*self.make_agent(), (own, *self.make_candidates(1)))
        assert own.address not in seen.targets

    def test_closed_peers_are_left_alone(self) -> None:
        """After CLOSED no probe goes to that peer; others are not affected."""
        agent, hub = self.make_agent()
        for peer in (_PEER, _OTHER):
            agent.handle_signal(Signal(kind=SignalKind.PREPARE, peer=peer), hub.now)
            self.start(agent, hub.now, self.make_candidates(), peer)
        agent.handle_signal(Signal(kind=SignalKind.CLOSED, peer=_PEER), hub.now)
        assert {probe.peer for _, probe in self.watch(agent, hub, hub.now, self.patience).probes} == {_OTHER}

    def test_silence_is_the_default(self) -> None:
        """Without a peer there is nothing to probe, whether the hub answers or not."""
        for answers in (True, False):
            agent, hub = self.make_agent(hub_answers=answers)
            seen = self.watch(agent, hub, hub.now, self.patience)
            assert not seen.probes
            assert len(seen.queries) < 30, "the hub is asked again and again"

    def test_explanations_are_json(self) -> None:
        """`explain` gives what JSON can hold, with the parts that the core shows."""
        agent, hub = self.make_agent()
        self.punch(agent, hub, self.make_candidates())
        shown = json.loads(json.dumps(agent.explain(hub.now)))
        assert isinstance(shown["nat"], str)
        assert all(isinstance(text, str) for text in shown["advice"])
        assert isinstance(shown["mapped"], list)
        assert _PEER.hex() in shown["peers"]

    def test_hostile_signals(self) -> None:
        """Nonsense that a peer sends raises nothing, and brings no probe to an address that is nobody's."""
        random = self.make_random()
        nonsense: list[Address] = [
            ("0.0.0.0", 5000), ("255.255.255.255", 5000), ("224.0.0.251", 5353),  # noqa: S104 (sent, not bound)
            ("127.0.0.1", 22), ("::1", 22),
            ("::", 1), ("ff02::1", 5000), ("198.51.100.9", 0), ("198.51.100.9", 70_000), ("198.51.100.9", -1),
            ("not an address", 5000), ("", 5000), ("198.51.100.9\n", 5000), ("fe80::1%eth0", 5000),
        ]  # fmt: skip
        for _ in range(50):
            agent, hub = self.make_agent()
            picked = tuple(
                Candidate(
                    kind=random.choice(list(CandidateKind)),
                    address=random.choice(nonsense),
                    priority=random.choice((-(2**40), -1, 0, 2**63)),
                    carrier=random.choice(list(Carrier)),
                    network=random.randbytes(random.choice((0, 8, 300))),
                )
                for _ in range(random.randint(0, 30))
            )
            for kind in random.choices(list(SignalKind), k=10):
                peer = random.choice((b"", _PEER, bytes(5)))
                behaviour = Behaviour(mapping=random.choice(list(Dependence)), hairpin=random.choice(list(Answer)))
                if kind in (SignalKind.INTERFACES, SignalKind.OBSERVED):
                    continue  # those come from our own machine and the hub, checked before
                agent.handle_signal(
                    Signal(kind=kind, peer=peer, address=random.choice(nonsense), candidates=picked,
                           round=random.randint(0, 255), delay=random.uniform(0, 65), behaviour=behaviour), hub.now,
                )  # fmt: skip
            for to in self.watch(agent, hub, hub.now, self.patience).targets:
                assert read_target(to) is not None


class Hub:
    """Answers an agent's questions, as a hub with two ports does whose nodes are behind one NAT."""

    def __init__(self, *, answers: bool, changes_ports: bool) -> None:
        self.answers = answers
        self.changes_ports = changes_ports
        self.now = 0.0
        self._ports: dict[tuple[bytes, int, bool], int] = {}

    def take(self, queries: Sequence[Query]) -> list[Signal]:
        """Return the answers; a strict NAT lets in none from the port that was not asked."""
        found: list[Signal] = []
        for query in queries:
            if not self.answers or query.from_other or query.to_self:
                continue
            key = (query.peer, query.port, query.to_other and self.changes_ports)
            number = len(self._ports)
            step = 7919 if self.changes_ports else 1  # far apart: not a counter
            port = self._ports.setdefault(key, 1024 + (_SEEN[1] - 1024 + number * step) % 64_000)
            address = (_SEEN[0], port)
            found.append(Signal(kind=SignalKind.OBSERVED, query=query, address=address, other_port=9001))
        return found
