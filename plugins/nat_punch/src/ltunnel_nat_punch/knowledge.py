"""What is known of this machine: its addresses, its NAT, the ports that routers map to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ltunnel.plugin import (
    Address,
    Behaviour,
    Candidate,
    CandidateKind,
    Carrier,
    Dependence,
    LocalAddress,
    Query,
    Signal,
    read_target,
)
from ltunnel_nat_punch import addresses
from ltunnel_nat_punch.survey import Survey

CLOSE = 64
"""Ports of two mappings that are this close may come from a counter."""
STEP = 8
"""A counter moves by no more than this from one mapping to the next."""
PREDICTED = 5
"""So many ports are named ahead of a counter."""

HARD = frozenset({Dependence.ADDRESS_DEPENDENT, Dependence.ADDRESS_AND_PORT_DEPENDENT})
"""Mappings that are different for each destination."""


class Knowledge:
    """Written by the agent as signals come in."""

    def __init__(self) -> None:
        self.local: tuple[LocalAddress, ...] = ()
        self.surveys = {carrier: Survey(carrier) for carrier in Carrier}
        """Over the IP version that leads to the hub."""
        self.others: dict[Carrier, Survey] = {}
        """Over the other one, as far as the hub can be asked there."""
        self.mapped: dict[Carrier, tuple[Address, float]] = {}
        """Outside address, and until when it is promised (monotonic seconds)."""

    @property
    def udp(self) -> Survey:
        """The survey that matters most."""
        return self.surveys[Carrier.UDP]

    @property
    def tcp(self) -> Survey:
        """The one about fake TCP; it knows an address if a connection to the hub can be had."""
        return self.surveys[Carrier.TCP]

    @property
    def nat(self) -> Survey:
        """The survey about the NAT that is punched: over UDP and IPv4, unless only IPv6 is there."""
        known = [survey for survey in self.of(Carrier.UDP) if survey.family]
        return min(known, key=lambda survey: survey.family, default=self.udp)

    def of(self, carrier: Carrier) -> list[Survey]:
        """Return the surveys about a carrier, that over the version which leads to the hub first."""
        other = self.others.get(carrier)
        return [self.surveys[carrier]] if other is None else [self.surveys[carrier], other]

    def all(self) -> list[Survey]:
        """Return all surveys."""
        return [*self.surveys.values(), *self.others.values()]

    def answering(self, query: Query) -> Survey:
        """Return the survey that a question belongs to."""
        other = self.others.get(query.carrier)
        return other if other is not None and other.version == query.version else self.surveys[query.carrier]

    def seen(self, carrier: Carrier, version: int) -> Address | None:
        """Return as whom the hub saw the shared port of a carrier over an IP version."""
        return next((survey.address for survey in self.of(carrier) if survey.family == version), None)

    def may_pass(self, candidate: Candidate) -> bool:
        """Whether UDP gets through to the world over a candidate's IP version, for all that is known."""
        if self.udp.address is None and not self.udp.blocked:
            return True
        return self.seen(Carrier.UDP, addresses.version_of(candidate)) is not None

    @property
    def hard(self) -> bool:
        """Whether this machine's NAT takes another port for each destination."""
        return self.behaviour().mapping in HARD

    @property
    def counts(self) -> bool:
        """Whether a hard NAT seems to count its ports up or down."""
        return 0 < abs(self.nat.apart) <= CLOSE

    @property
    def reachable(self) -> bool:
        """Whether a mapped UDP port is at the host that the hub sees; that of a router behind another NAT is not."""
        held, seen = self.mapped.get(Carrier.UDP), self.nat.address
        return held is not None and seen is not None and held[0][0] == seen[0]

    def forget(self) -> None:
        """Begin anew in another network."""
        self.mapped.clear()
        self.surveys = {carrier: Survey(carrier) for carrier in Carrier}
        self.others.clear()

    def ask_besides(self, askable: Iterable[tuple[Carrier, int]]) -> bool:
        """Take by which carriers the hub can be asked over the other version; return whether that is new."""
        wanted = dict(askable)
        if wanted == {carrier: other.version for carrier, other in self.others.items()}:
            return False
        self.others = {carrier: Survey(carrier, version) for carrier, version in wanted.items()}
        return True

    def survey(self, now: float, *, lacking: bool = False) -> None:
        """Begin to ask about all carriers there are; with `lacking` only about those that nothing is known of."""
        for carrier in sorted({own.carrier for own in self.local} | {Carrier.UDP}):
            if not (lacking and self.surveys[carrier].address):
                self.surveys[carrier].start(now)
        for other in self.others.values():
            if not lacking:
                other.start(now)

    def note_mapping(self, signal: Signal, now: float) -> None:
        """Take note that a router maps a port, or does so no longer."""
        if signal.address is None or signal.lifetime <= 0:
            self.mapped.pop(signal.carrier, None)
        elif read_target(signal.address) is not None:
            self.mapped[signal.carrier] = signal.address, now + signal.lifetime

    def behaviour(self) -> Behaviour:
        """Return what is known of the NAT; a mapped port that can be reached makes it as good as none."""
        port = next((own.address[1] for own in self.local if own.carrier is Carrier.UDP), 0)
        known = self.nat.behaviour(port)
        if not self.reachable:
            return known
        free = Dependence.ENDPOINT_INDEPENDENT
        return Behaviour(mapping=free, filtering=free, hairpin=known.hairpin, preserves_port=known.preserves_port)

    def candidates(self, now: float, observed: Address | None, predicted: Sequence[Candidate] = ()
                   ) -> tuple[Candidate, ...]:  # fmt: skip
        """Return the own candidates: what always holds, and as whom the hub saw the port in question.

        What a NAT will take next stands in place of what it took for the hub, which nobody else can use.
        """
        found = [*self._standing(now), *predicted]
        if observed is not None and not predicted:
            found.append(Candidate(kind=CandidateKind.SRFLX, address=observed, priority=addresses.OBSERVED))
        for survey in self.of(Carrier.UDP):
            if survey is not self.nat and survey.address is not None:
                direct = Candidate(kind=CandidateKind.SRFLX, address=survey.address, priority=addresses.UNTRANSLATED)
                found.append(direct)
        return addresses.pick(found)

    def _standing(self, now: float) -> Iterator[Candidate]:
        """Give the candidates that hold for the shared ports, whatever the round.

        Where UDP is blocked, none outside the LAN is for UDP: that is how the peer knows. The only one for TCP is the
        address that the hub saw: a connection to another node leaves from the port of that to the hub.
        """
        seen = {survey.address[0] for survey in self.of(Carrier.UDP) if survey.address is not None}
        for candidate in addresses.host_candidates(self.local, seen):
            if candidate.network or self.may_pass(candidate):
                yield candidate
        self.mapped = {carrier: held for carrier, held in self.mapped.items() if held[1] > now}
        if Carrier.UDP in self.mapped and not self.nat.blocked:
            address = self.mapped[Carrier.UDP][0]
            yield Candidate(kind=CandidateKind.SRFLX, address=address, priority=addresses.MAPPED)
        for survey in self.of(Carrier.TCP):
            if survey.address is not None:
                yield Candidate(
                    kind=CandidateKind.SRFLX, address=survey.address, priority=addresses.BY_TCP, carrier=Carrier.TCP
                )  # fmt: skip


def predict(one: Address | None, other: Address | None) -> tuple[Candidate, ...]:
    """Return the ports that a counting NAT will take next, from the last two that it took; empty if it does not count.

    Both sides probe in order of priority, so that between two such NATs the first meets the first.
    """
    if one is None or other is None or one[0] != other[0]:
        return ()
    host, last = other
    step = last - one[1]
    if not 0 < abs(step) <= STEP:
        return ()
    ports = (last + step * place for place in range(1, PREDICTED + 1))
    return tuple(
        Candidate(kind=CandidateKind.PRFLX, address=(host, port), priority=addresses.PREDICTED - place)
        for place, port in enumerate(ports)
        if 0 < port < 65_536
    )
