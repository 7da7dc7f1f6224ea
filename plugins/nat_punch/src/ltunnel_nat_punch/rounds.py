"""The beginning of a round: which candidates are worth a probe, by which method, and when each probe is due."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ltunnel.plugin import Behaviour, Candidate, Carrier, Signal
from ltunnel_nat_punch import addresses, plan
from ltunnel_nat_punch.addresses import version_of
from ltunnel_nat_punch.campaign import Campaign, Phase, Round
from ltunnel_nat_punch.knowledge import Knowledge
from ltunnel_nat_punch.options import PunchOptions
from ltunnel_nat_punch.plan import Method, Timed


def start(campaign: Campaign, signal: Signal, known: Knowledge, options: PunchOptions, now: float) -> None:
    """Plan the probes of the round that a START begins.

    The method is for the IP version whose NATs are in the way. Over the other one, IPv6, no ports are translated: there
    the shared ports are probed, by both sides together, in every round.
    """
    campaign.overtake()
    goals, met = _goals(campaign, signal, known)
    version = known.nat.family or 4
    behind = [goal for goal in goals if goal.network or version_of(goal) == version]
    apart = [goal for goal in goals if goal not in behind]
    goal = plan.public(behind)
    own = plan.side(known.behaviour(), campaign.own)
    theirs = plan.side(_behaviour(signal, version), signal.candidates)
    enough = campaign.room(now) > options.guesses and not campaign.direct
    birthday = options.birthday and goal is not None and enough
    method = plan.choose(own, theirs, birthday=birthday)
    begin = now + max(0.0, signal.delay)
    lag = plan.LAG * (1 if signal.first else 2) if signal.round else 0.0
    times = plan.FEW if method is Method.HOPELESS else plan.PLAIN
    port = campaign.port
    round_ = Round(signal.round, now, method, signal.first, untranslated=bool(apart))
    end = begin + lag + times[-1]
    named = behind
    timed: list[Timed] = []
    if goal is not None and method is Method.OPEN:
        named = [candidate for candidate in behind if candidate.network]
        ports = campaign.fresh(options.ports)
        round_.opened = len(ports)
        timed += plan.opening(signal.peer, goal, start=begin + options.guesses / options.rate + plan.LAG, ports=ports)
    elif goal is not None and method is Method.GUESS:
        timed += plan.guesses(
            signal.peer, goal, start=begin, count=options.guesses, rate=options.rate, port=port,
            salt=round(now),
        )  # fmt: skip
    if goal is not None and method in (Method.OPEN, Method.GUESS):
        end = begin + options.guesses / options.rate + plan.LAG + plan.OPENING * options.ports
    if signal.round and method is Method.PLAIN:
        hops = plan.HOPS[(signal.round - 1) % len(plan.HOPS)]
        timed += plan.hints(signal.peer, named, start=begin, port=port, hops=hops)
    timed += plan.plain(signal.peer, named, times=times, start=begin, lag=lag, port=port)
    timed += plan.plain(signal.peer, apart, times=plan.PLAIN, start=begin, lag=0.0, port=0)
    if met:
        later = begin + (0.0 if plan.public(goals) is None else plan.TCP_LATER)
        timed += plan.meeting(signal.peer, met, start=later)
        end = max(end, later + plan.MEETING[-1])
    timed.sort(key=lambda timed: timed.at)
    campaign.history.append(round_)
    campaign.phase, campaign.round = Phase.PUNCHING, signal.round
    campaign.named = frozenset(candidate.address for candidate in (*goals, *met))
    campaign.near = frozenset(candidate.address for candidate in goals if candidate.network)
    campaign.apart = frozenset(candidate.address for candidate in (goals if method is Method.PLAIN else apart))
    campaign.probes = deque(timed)
    campaign.deadline = end + plan.GRACE


def _behaviour(signal: Signal, version: int) -> Behaviour:
    """Return what the peer says of its NAT, if that is about this IP version: about IPv4 if it names it outside."""
    outside = [each for each in signal.candidates if not each.network and each.carrier is Carrier.UDP]
    about = min(map(version_of, outside), default=version)
    return signal.behaviour if about == version else Behaviour()


def _goals(
    campaign: Campaign, signal: Signal, known: Knowledge
) -> tuple[Sequence[Candidate], Sequence[Candidate]]:  # fmt: skip
    """Return the candidates that are worth a probe, best first: by UDP, and by fake TCP.

    Fake TCP is for sites where UDP is blocked. Such a site names no address outside for UDP, so both sides know.
    """
    goals = addresses.targets(signal.candidates, known.local)
    by_udp = [goal for goal in goals if goal.carrier is Carrier.UDP and (goal.network or known.may_pass(goal))]
    if campaign.improves:
        there = known.nat.family
        return [
            goal for goal in by_udp
            if goal.network or (version_of(goal) != there and campaign.lacks(version_of(goal)))
        ], ()  # fmt: skip
    may_work = (known.nat.family or known.udp.blocked) and plan.public(by_udp) is not None
    by_tcp = [
        goal for goal in goals
        if goal.carrier is Carrier.TCP and not goal.network and known.seen(Carrier.TCP, version_of(goal)) is not None
    ]  # fmt: skip
    return by_udp, () if may_work and signal.round < plan.TCP_ROUND else by_tcp
