"""The part of the demo on a line that loses packets: the same transfer without repair and with it."""

from collections.abc import Callable

from demo.screen import Screen, Step, amount, curve
from lab import Host, Lab, LabError, ProgramError, Tunnel, traffic
from lab.delay import DelayLine
from lab.tunnel import Status

LOSS = 0.05
SECONDS = 5
"""Length of a transfer."""
GAIN = 3
"""How many times faster it is with repair, at least; mostly more than ten."""

Counts = tuple[int, int]
"""Frames lost, of how many."""


def line_of(lab: Lab, name: str, address: str) -> tuple[Host, DelayLine]:
    """Add a host on a line of 20 Mbit/s that takes 20 ms each way and loses frames at random both ways."""
    host = lab.host(name, ipv6=True)
    return host, DelayLine.attach(lab, host, address, rate=20e6, delay=0.02, queue=0.05, loss=LOSS)


def show_repair(screen: Screen, node: Tunnel, hub: Tunnel, address: str, line: DelayLine) -> tuple[float, float]:
    """Send to the hub without repair, with what was ordered, and with what the program chooses, the default.

    Returns the first two rates in Mbit/s.
    """
    name = node.host.name
    with screen.step(f"{name} → hub, one TCP stream for {SECONDS} s:   ltunnel ctl fec --mode off") as step:
        _order("--mode", "off", ends=(node, hub))
        start = line.counts()[0]

        def lost_on_the_line() -> Counts:
            now = line.counts()[0]
            return now.lost - start.lost, now.frames - start.frames

        without = _transfer(step, node, hub, address, lambda: f"{_share(lost_on_the_line())} lost")
    ordered = _repaired(screen, node, hub, address, "--data", "10", "--parity", "3")
    if ordered < GAIN * without:
        raise LabError(f"repair made {ordered:.1f} Mbit/s out of {without:.1f}")
    _repaired(screen, node, hub, address, "--mode", "auto")
    return without, ordered


def _repaired(screen: Screen, node: Tunnel, hub: Tunnel, address: str, *order: str) -> float:
    name = node.host.name
    with screen.step(f"{name} → hub once more:   ltunnel ctl fec {' '.join(order)}") as step:
        _order(*order, ends=(node, hub))
        first = _repair(hub, name)

        def repaired() -> str:
            now = _repair(hub, name)
            total, before, after = (now[key] - first[key] for key in ("data_received", "lost_before", "lost_after"))
            return f"{_share((before, total + before))} lost, {_share((after, total + before))} after repair"

        rate = _transfer(step, node, hub, address, repaired)
        chosen = _repair(node, "hub")
        if chosen["mode"] == "auto":
            step.say(f"as it has learnt it sends {chosen['data']}+{chosen['parity']} now: {chosen['why']}")
        return rate


def _order(*words: str, ends: tuple[Tunnel, ...]) -> None:
    for tunnel in ends:
        done = tunnel.run("ctl", "fec", *words)
        if done.returncode:
            raise ProgramError(f"ltunnel ctl fec on {tunnel.host.name}: {done.stderr.strip()}")


def _repair(tunnel: Tunnel, name: str) -> Status:
    peer = tunnel.peer(name)
    if peer is None:
        raise LabError(f"{tunnel.host.name} has lost {name}")
    fec: Status = peer["fec"]
    return fec


def _transfer(step: Step, node: Tunnel, hub: Tunnel, address: str, losses: Callable[[], str]) -> float:
    rates: list[float] = []

    def seen(rate: float) -> None:
        rates.append(rate)
        step.going_on(f"{curve(rates)} {rate * 1000:.1f} Mbit/s, {losses()}")

    traffic.serve(hub.host)
    total = traffic.watch(node.host, address, SECONDS, seen)
    step.say(f"{curve(rates)} {total * 1000:.1f} Mbit/s, {amount(total / 8 * 1e9 * SECONDS)}; {losses()}")
    return total * 1000


def _share(counts: Counts) -> str:
    lost, total = counts
    return f"{lost / total:.2%}" if total else "nothing"
