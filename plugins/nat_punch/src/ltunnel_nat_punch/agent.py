"""The agent: signals in, queries, requests and probes out. Sans-IO; see `ltunnel.plugin.DiscoveryAgent`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ltunnel.plugin import (
    Action,
    Behaviour,
    Candidate,
    Carrier,
    Prepared,
    Query,
    Request,
    Signal,
    SignalKind,
    read_target,
)
from ltunnel_nat_punch import rounds
from ltunnel_nat_punch.campaign import ANSWERS, Campaign, Phase
from ltunnel_nat_punch.knowledge import Knowledge, predict
from ltunnel_nat_punch.options import PunchOptions
from ltunnel_nat_punch.plan import Method
from ltunnel_nat_punch.words import describe_nat, general_advice, peer_advice

STALE = 5.0
"""Seconds for which an observed address is good enough for a round."""
FOLLOWING = 8.0
"""Seconds that the other side has to ask for the next round, before we do."""
REMEMBERED = 1024
"""Peers with which no session is left, of whom it is known what has worked."""
SURVEY_AGAIN = 30.0
"""Seconds after which a survey that met silence is repeated."""
LONGEST_SURVEY = 600.0
"""The same over the other IP version, in the end."""


class Agent:
    """Finds out about the NAT, and leads campaigns towards peers."""

    def __init__(self, options: PunchOptions) -> None:
        self._options = options
        self._known = Knowledge()
        self._online = False
        self._campaigns: dict[bytes, Campaign] = {}
        self._worked: dict[bytes, int] = {}  # of campaigns that are closed, the oldest first
        self._survey_again = self._others_again = float("inf")
        self._answers: list[Action] = []

    # ---------------------------------------------------------------- told

    def handle_signal(self, signal: Signal, now: float) -> None:
        """Take note of a signal."""
        match signal.kind:
            case SignalKind.INTERFACES:
                self._interfaces(signal, now)
            case SignalKind.MOVED:
                self._moved()
            case SignalKind.OBSERVED:
                self._observed(signal, now)
            case SignalKind.MAPPED:
                self._known.note_mapping(signal, now)
            case SignalKind.CLOSED:
                self._close(signal.peer)
            case SignalKind.PORTS:
                pass  # ports are asked for by number; whether they are open already does not matter
            case _ if len(signal.peer) == _KEY:
                self._about_peer(self._campaign(signal.peer), signal, now)

    def _about_peer(self, campaign: Campaign, signal: Signal, now: float) -> None:
        match signal.kind:
            case SignalKind.SEEK:
                campaign.direct = signal.direct
                campaign.wanted = True
            case SignalKind.PREPARE:
                if campaign.phase is Phase.REQUESTED and campaign.round == signal.round:
                    self._answers.append(self._tell(campaign, now, asks=False))
                else:
                    self._begin(campaign, signal.round, now, asks=False)
            case SignalKind.START:
                rounds.start(campaign, signal, self._known, self._options, now)
            case SignalKind.REFUSED:
                campaign.reason = signal.reason
                if campaign.phase is Phase.REQUESTED:
                    campaign.rest(now, "refused")
            case SignalKind.PONG if signal.address is not None:
                campaign.succeed(signal.address, signal.carrier, signal.port, now)

    def _interfaces(self, signal: Signal, now: float) -> None:
        changed = set(signal.local) != set(self._known.local)
        self._known.local = signal.local
        if self._known.ask_besides(signal.askable) or changed or not self._online or self._known.udp.address is None:
            self._online = True
            self._survey(now)
        else:  # the hub may be another one, to which nothing is proved
            for other in self._known.others.values():
                other.again(now)

    def _survey(self, now: float, *, lacking: bool = False) -> None:
        self._survey_again = now + SURVEY_AGAIN
        self._known.survey(now, lacking=lacking)
        if not lacking:
            self._others_again = now + SURVEY_AGAIN

    def _moved(self) -> None:
        self._online = False
        self._known.forget()
        self._worked.clear()
        for campaign in self._campaigns.values():
            campaign.forget()

    def _observed(self, signal: Signal, now: float) -> None:
        query, address = signal.query, signal.address
        if query is None or address is None or read_target(address) is None:
            return
        if not query.peer:
            survey = self._known.answering(query)
            before = survey.address
            survey.answered(query, address, signal.other_port, now)
            if before is not None and survey.address is not None and before[0] != survey.address[0]:
                self._survey(now)  # another NAT, or another line
            elif before is None and query.version:
                self._found_version()
        for campaign in self._campaigns.values():
            for question in campaign.questions:
                if question.query == query:
                    question.answer = address

    def _found_version(self) -> None:
        """Try those again at once that were given up for now: there is another way to reach them."""
        for campaign in self._campaigns.values():
            if campaign.phase is Phase.IDLE and not campaign.direct:
                campaign.retry = _AT_ONCE

    # ---------------------------------------------------------------- asked

    def actions(self, now: float) -> Sequence[Action]:
        """Return what is to be done now."""
        found, self._answers = self._answers, []
        if self._online:
            if self._known.udp.blocked and now >= self._survey_again:
                self._survey(now, lacking=True)
            if now >= self._others_again:
                self._ask_others_again(now)
            for survey in self._known.all():
                found += survey.actions(now)
        for campaign in list(self._campaigns.values()):
            found += self._advance(campaign, now)
        return found

    def next_timeout(self) -> float | None:
        """Return when `actions` has something new without a signal."""
        times = [campaign.next_timeout() for campaign in self._campaigns.values() if not self._held(campaign)]
        if self._online:
            times += [due for survey in self._known.all() if (due := survey.next_timeout()) is not None]
            if self._known.udp.blocked:
                times.append(self._survey_again)
            if any(other.blocked for other in self._known.others.values()):
                times.append(self._others_again)
        if self._answers:
            times.append(_AT_ONCE)
        first = min(times, default=_NEVER)
        return None if first == _NEVER else first

    def behaviour(self) -> Behaviour:
        """Return what is known of the NAT."""
        return self._known.behaviour()

    def candidates(self, now: float) -> Sequence[Candidate]:
        """Return the own candidates with the shared port, best first."""
        return self._known.candidates(now, self._known.nat.address)

    def explain(self, now: float) -> Mapping[str, Any]:
        """Describe what was found out and done; see `ltunnel.plugin.DiscoveryAgent`."""
        known = self._known
        return {
            "nat": describe_nat(known),
            "advice": general_advice(known),
            "mapped": [
                {"carrier": carrier.name.lower(), "address": list(address), "lifetime": round(until - now)}
                for carrier, (address, until) in known.mapped.items()
            ],
            "peers": {
                key.hex(): {**campaign.describe(now), "advice": peer_advice(campaign, known)}
                for key, campaign in self._campaigns.items()
            },
        }

    # ---------------------------------------------------------------- campaigns

    def _campaign(self, peer: bytes) -> Campaign:
        """Return the campaign towards a peer; a new one begins with what worked the last time."""
        campaign = self._campaigns.get(peer)
        if campaign is None:
            campaign = self._campaigns[peer] = Campaign(peer)
            campaign.worked = self._worked.pop(peer, None)
        return campaign

    def _close(self, peer: bytes) -> None:
        """End a campaign, and remember what worked."""
        campaign = self._campaigns.pop(peer, None)
        if campaign is not None and campaign.worked is not None:
            while len(self._worked) >= REMEMBERED:
                del self._worked[next(iter(self._worked))]
            self._worked[peer] = campaign.worked

    def _held(self, campaign: Campaign) -> bool:
        """Whether a campaign waits for the hub, or for the survey."""
        return campaign.phase is Phase.IDLE and (not self._online or self._running())

    def _running(self) -> bool:
        """Whether it is being found out what UDP does."""
        return any(survey.running for survey in self._known.of(Carrier.UDP))

    def _ask_others_again(self, now: float) -> None:
        """Ask once more over the other version where nothing came back, less and less often."""
        silent = [other for other in self._known.others.values() if other.blocked]
        failures = max((other.failures for other in silent), default=0)
        self._others_again = now + min(LONGEST_SURVEY, SURVEY_AGAIN * 2 ** min(failures, 8))
        for other in silent:
            other.start(now)

    def _advance(self, campaign: Campaign, now: float) -> Iterator[Action]:
        if campaign.phase is Phase.IDLE and campaign.wanted and now >= campaign.retry and not self._held(campaign):
            campaign.turns = 0
            self._begin(campaign, campaign.worked or 0, now, asks=True)
        if campaign.phase is Phase.ASKING:
            yield from (question.query for question in campaign.questions if question.due(now))
            if all(question.over(now) for question in campaign.questions):
                yield self._tell(campaign, now, asks=campaign.asks)
        elif campaign.phase is Phase.REQUESTED and now >= campaign.deadline:
            if campaign.repeats or not campaign.asks:
                campaign.rest(now, "the hub did not answer")
            else:
                campaign.repeats, campaign.deadline = 1, now + ANSWERS
                yield Request(peer=campaign.peer, round=campaign.round, candidates=campaign.own)
        elif campaign.phase is Phase.PUNCHING:
            yield from campaign.take_due(now)
            if now >= campaign.deadline:
                self._end(campaign, now)
                yield from self._advance(campaign, now)

    def _begin(self, campaign: Campaign, number: int, now: float, *, asks: bool) -> None:
        """Find out what to tell the peer for a round."""
        campaign.overtake()
        campaign.begin(number, asks=asks)
        known, nat = self._known, self._known.nat
        besides = known.of(Carrier.UDP) if campaign.improves else known.of(Carrier.TCP) + known.of(Carrier.UDP)
        for survey in besides:
            of_use = survey is not nat and survey.address is not None and campaign.lacks(survey.family)
            if of_use and now - survey.seen > STALE:
                campaign.ask(Query(carrier=survey.carrier, version=survey.version), now)
        if nat.blocked or campaign.improves:
            return
        if known.hard:
            *ports, campaign.port = campaign.fresh(3)
            if known.counts:
                for port in ports:
                    campaign.ask(Query(port=port, peer=campaign.peer, version=nat.version), now)
        elif number:
            (campaign.port,) = campaign.fresh(1)
            campaign.ask(Query(port=campaign.port, peer=campaign.peer, version=nat.version), now)
        elif now - nat.seen > STALE:
            campaign.ask(Query(version=nat.version), now)

    def _tell(self, campaign: Campaign, now: float, *, asks: bool) -> Request | Prepared:
        """Tell the hub the own candidates: ask for a round, or say that we are ready for the peer's."""
        if campaign.phase is not Phase.REQUESTED:
            self._miss_others(campaign)
            answers = [question.answer for question in campaign.questions if question.query.port]
            observed, predicted = self._known.nat.address, predict(*answers) if len(answers) == 2 else ()
            if campaign.port and len(answers) == 1:
                observed = answers[0] or observed
                campaign.port = campaign.port if answers[0] else 0
            campaign.own = self._known.candidates(now, observed, predicted)
            campaign.phase, campaign.deadline = Phase.REQUESTED, now + ANSWERS * (1 if asks else 2)
        kind = Request if asks else Prepared
        return kind(peer=campaign.peer, round=campaign.round, candidates=campaign.own)

    def _miss_others(self, campaign: Campaign) -> None:
        """Name no address of the other version any more that was asked about before this round, in vain."""
        for question in campaign.questions:
            survey = self._known.answering(question.query)
            if question.query.version and not question.query.port and question.answer is None and survey.version:
                survey.lose()

    def _end(self, campaign: Campaign, now: float) -> None:
        """Close a round: done, or the next one, or a pause."""
        current = campaign.current
        assert current is not None  # noqa: S101 (a campaign that punches has a round)
        campaign.turns += 1
        if campaign.direct:
            campaign.idle("nothing better")
            campaign.wanted = False
        elif current.method is not Method.PLAIN and not current.untranslated:
            campaign.rest(now, "no answer", hopeless=True)
        elif not campaign.asks:
            campaign.idle("no answer")
            campaign.retry = max(campaign.retry, now + FOLLOWING)
        elif campaign.turns < self._options.rounds:
            current.result = "no answer"
            self._begin(campaign, (campaign.round + 1) % self._options.rounds, now, asks=True)
        else:
            campaign.rest(now, "no answer")


_KEY = 32
_AT_ONCE, _NEVER = float("-inf"), float("inf")
