"""Bulk TCP over a long, narrow line that loses packets: 20 Mbit/s, 40 ms there and back, a queue of 50 ms."""

from collections.abc import Callable

import pytest

from lab import Lab, traffic
from lab.delay import DelayLine
from lab.network import Network
from lab.traffic import Tcp
from lab.tunnel import Tunnel

pytestmark = pytest.mark.netns

ETHERNET = 14
TRIES = 3
SECONDS = 10


class Line:
    """A hub, a node, and the line between them, which loses the same share both ways."""

    def __init__(self, lab: Lab, loss: float) -> None:
        self.network = Network.build(lab, nodes=0)
        host = lab.host("node0")
        self.line = DelayLine.attach(lab, host, "198.18.0.2/24", rate=20e6, delay=0.02, queue=0.05)
        self.network.add_node(host=host, addresses=("10.0.0.2/24",)).wait_up()
        self.line.change(loss=loss)

    @property
    def ends(self) -> tuple[Tunnel, Tunnel]:
        return self.network.nodes[0], self.network.hub

    def fec(self, **order: str | int) -> None:
        for tunnel in self.ends:
            tunnel.fec(**order)

    def bulk(self, seconds: int = SECONDS, congestion: str = "cubic") -> tuple[Tcp, float]:
        """Send from the node to the hub; return what came of it, and bytes on the line (IP and up) per payload byte."""
        before, _ = self.line.counts()
        host, hub = self.network.host(0), self.network.hub.host
        done = traffic.tcp(host, hub, self.network.hub_inner, seconds=seconds, congestion=congestion)
        after, _ = self.line.counts()
        assert after.missed == 0, "the line itself could not keep up"
        wire = after.bytes - before.bytes - ETHERNET * (after.frames - before.frames)
        return done, wire / (done.gigabytes * 1e9)


def until(measure: Callable[[], float], goal: float) -> list[float]:
    """Measure until the mean reaches a goal, `TRIES` times at most: two lost groups in a row slow TCP for seconds."""
    found: list[float] = []
    while len(found) < TRIES and (not found or sum(found) / len(found) < goal):
        found.append(measure())
    return found


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_fixed_at_five_percent(lab: Lab) -> None:
    line = Line(lab, 0.05)
    line.fec(mode="off")
    without, _ = line.bulk(5)
    line.fec(mode="fixed", data=10, parity=3)
    wires = []

    def rate() -> float:
        done, wire = line.bulk()
        wires.append(wire)
        return done.gbit_s * 1000

    rates = until(rate, 12.5)
    print(f"5 % lost: {without.gbit_s * 1000:.2f} Mbit/s without, with 10+3 {rates}; wire per payload {wires}")
    assert without.gbit_s * 1000 < 3
    assert mean(rates) >= 12.5
    assert mean(wires) <= 1.45


def test_auto_at_ten_percent(lab: Lab) -> None:
    line = Line(lab, 0.10)
    line.fec(mode="off")
    without, _ = line.bulk(5)
    line.fec(mode="auto")
    line.bulk(4)  # what the line loses becomes known
    for tunnel in line.ends:
        tunnel.wait_status(lambda status: status["peers"][0]["fec"]["parity"] > 0, "send parity", 5)
    rates = until(lambda: line.bulk()[0].gbit_s * 1000, 12)
    print(f"10 % lost: {without.gbit_s * 1000:.2f} Mbit/s without, in auto {rates}")
    print(line.ends[0].status()["peers"][0]["fec"])
    assert without.gbit_s * 1000 < 1.5
    assert mean(rates) >= 12


def test_bbr_pays_little_for_what_it_does_not_need(lab: Lab) -> None:
    line = Line(lab, 0.05)
    ratios = []
    for _ in range(TRIES):
        line.fec(mode="off")
        without = line.bulk(5, "bbr")[0].gbit_s
        line.fec(mode="fixed", data=10, parity=3)
        with_fec = line.bulk(5, "bbr")[0].gbit_s
        print(f"5 % lost, BBR: {without * 1000:.2f} Mbit/s without, {with_fec * 1000:.2f} with 10+3")
        ratios.append(with_fec / without)
        if mean(ratios) >= 0.75:
            break
    assert mean(ratios) >= 0.75
