"""The beginning of a round: which candidates are worth a probe, by which method, and when each probe is due."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ltunnel.plugin import Candidate, Carrier, Signal
from ltunnel_nat_punch import addresses, plan
from ltunnel_nat_punch.campaign import Campaign, Phase, Round
from ltunnel_nat_punch.knowledge import Knowledge
from ltunnel_nat_punch.options import PunchOptions
from ltunnel_nat_punch.plan import Method, Timed


def start(campaign: Campaign, signal: Signal, known: Knowledge, options: PunchOptions, now: float) -> None:
    """Plan the probes of the round that a START begins."""
    campaign.overtake()
    goals, met = _goals(campaign, signal, known)
    goal = plan.public(goals)
    own = plan.side(known.behaviour(), campaign.own)
    theirs = plan.side(signal.behaviour, signal.candidates)
    enough = campaign.room(now) > options.guesses and not campaign.direct
    birthday = options.birthday and goal is not None and enough
    method = plan.choose(own, theirs, birthday=birthday)
    begin = now + max(0.0, signal.delay)
    lag = plan.LAG * (1 if signal.first else 2) if signal.round else 0.0
    times = plan.FEW if method is Method.HOPELESS else plan.PLAIN
    port = campaign.port
    round_ = Round(signal.round, now, method, signal.first)
    end = begin + lag + times[-1]
    named = goals
    timed: list[Timed] = []
    if goal is not None and method is Method.OPEN:
        named = [candidate for candidate in goals if candidate.network]
        ports = campaign.fresh(options.ports)
        round_.opened = len(ports)
        timed += plan.opening(signal.peer, goal, start=begin + options.guesses / options.rate + plan.LAG, ports=ports)
    elif goal is not None and method is Method.GUESS:
        timed += plan.guesses(
            signal.peer, goal, start=begin, count=options.guesses, rate=options.rate, port=port,
            salt=round(now),
        )  # fmt: skip
    if method in (Method.OPEN, Method.GUESS):
        end = begin + options.guesses / options.rate + plan.LAG + plan.OPENING * options.ports
    if signal.round and method is Method.PLAIN:
        hops = plan.HOPS[(signal.round - 1) % len(plan.HOPS)]
        timed += plan.hints(signal.peer, named, start=begin, port=port, hops=hops)
    timed += plan.plain(signal.peer, named, times=times, start=begin, lag=lag, port=port)
    if met:
        later = begin + (0.0 if goal is None else plan.TCP_LATER)
        timed += plan.meeting(signal.peer, met, start=later)
        end = max(end, later + plan.MEETING[-1])
    timed.sort(key=lambda timed: timed.at)
    campaign.history.append(round_)
    campaign.phase, campaign.round = Phase.PUNCHING, signal.round
    campaign.named = frozenset(candidate.address for candidate in (*goals, *met))
    campaign.near = frozenset(candidate.address for candidate in goals if candidate.network)
    campaign.probes = deque(timed)
    campaign.deadline = end + plan.GRACE


def _goals(
    campaign: Campaign, signal: Signal, known: Knowledge
) -> tuple[Sequence[Candidate], Sequence[Candidate]]:  # fmt: skip
    """Return the candidates that are worth a probe, best first: by UDP, and by fake TCP.

    Fake TCP is for sites where UDP is blocked. Such a site names no address outside for UDP, so both sides know.
    """
    goals = addresses.targets(signal.candidates, known.local)
    if campaign.improves:
        return [goal for goal in goals if goal.network], ()
    by_udp = [goal for goal in goals if goal.carrier is Carrier.UDP and (goal.network or not known.udp.blocked)]
    may_work = known.udp.address is not None and plan.public(by_udp) is not None
    if known.tcp.address is None or (may_work and signal.round < plan.TCP_ROUND):
        return by_udp, ()
    return by_udp, [goal for goal in goals if goal.carrier is Carrier.TCP and not goal.network]
