"""How much parity a path gets."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.delays import Delays
from ltunnel.data.fec.flows import BURST, LIMIT, RATE, SlowFlows
from ltunnel.data.fec.losses import Loss
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.data.fec.steering import Steering, choose
from ltunnel.testing import packets
from ltunnel.wire.frames import Report
from ltunnel_fec_rs import ReedSolomon
from ltunnel_fec_xor import XorParity, residual

RS = Codes("fec_rs", ReedSolomon)
XOR = Codes("fec_xor", XorParity, residual=residual)


class Path:
    """Reports about a path, twice a second."""

    def __init__(self, **more: object) -> None:
        self.steering = Steering(FecSettings(**more), RS)
        self.now = 0.0
        self.sent = self.lost = self.gaps = 0

    def run(
        self, seconds: float, lost: int = 0, gaps: int | None = None, rate: int = 500, *, queue: float = 0.0,
        trip: float = 0.04, jitter: Callable[[], float] = float,
    ) -> None:  # fmt: skip
        """Send `rate` datagrams each half second, of which `lost` are.

        Round trips take `trip`, `queue` and what `jitter` returns, in seconds.
        """
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            step = (trip + queue + jitter()) / 10
            delays = self.steering.losses.delays
            for part in range(20, -1, -1):  # what is sent in the last two round trips before the report
                delays.begin(self.sent + rate * (20 - part) // 21, self.now - part * step)
                delays.end(self.sent + rate * (21 - part) // 21)
            self.sent += rate
            self.lost += lost
            self.gaps += lost if gaps is None else gaps
            top = self.sent - rate * 10 // 21  # the rest is still on its way
            self.steering.report(7, Report(top, top - self.lost, self.gaps), self.now)

    @property
    def pair(self) -> tuple[int, int]:
        return self.steering.choice.k, self.steering.choice.m


def test_a_clean_path_gets_none_and_a_lossy_one_at_once():
    path = Path()
    assert path.pair == (0, 0)
    path.run(20)
    assert path.pair == (0, 0)
    path.run(1, lost=25)
    assert path.pair == (0, 0)
    path.run(0.5, lost=25)
    assert path.pair[1] >= 1
    path.run(8.5, lost=25)
    k, m = path.pair
    assert 0.2 <= m / k <= 0.35
    assert path.steering.choice.why.startswith("5.00% lost; ")


def test_parity_goes_with_the_losses_but_not_at_once():
    path = Path()
    path.run(20, lost=50)
    high = path.pair
    path.run(8)
    assert path.pair == high
    path.run(22)
    assert path.pair == (0, 0)


def test_now_and_then_a_loss_is_not_worth_it():
    path = Path()
    for _ in range(20):
        path.run(5)
        path.run(0.5, lost=1)
    assert path.pair == (0, 0)


def test_a_queue_that_overflows_now_and_then_is_not_repaired():
    path = Path()
    for _ in range(20):
        path.run(0.5, lost=20, gaps=8)
        path.run(2)
    assert path.pair == (0, 0)


@pytest.mark.parametrize(("rate", "loss"), [(16, 0.05), (50, 0.02), (500, 0.01), (5000, 0.006)])
def test_losses_by_chance_are_seen_at_any_rate(rate, loss):
    chance = random.Random(f"{rate}{loss}")
    path = Path()
    for _ in range(40):
        path.run(0.5, lost=sum(chance.random() < loss for _ in range(rate)), rate=rate)
    assert path.pair[1] > 0


def test_a_new_epoch_counts_from_zero():
    path = Path()
    path.run(5)
    path.steering.report(8, Report(100, 100, 0), path.now)
    path.steering.report(8, Report(600, 600, 0), path.now + 0.5)
    assert path.pair == (0, 0)
    path.steering.report(8, Report(100, 100, 0), path.now + 1)  # an old report that comes late
    assert path.pair == (0, 0)


def test_so_little_that_tcp_makes_it_begins_nothing_but_ends_nothing_either():
    path = Path()
    path.run(30, lost=20, rate=5000)
    assert path.pair == (0, 0)
    assert path.steering.choice.why == "0.40% lost, parity begins at 0.50%"
    path.run(15, lost=100, rate=5000)
    assert path.pair[1] > 0
    path.run(40, lost=20, rate=5000)
    assert path.pair[1] > 0


def test_what_is_lost_while_a_queue_stands_begins_nothing():
    path = Path()
    path.run(5)
    path.run(60, lost=8, queue=0.03)
    assert path.pair == (0, 0)
    path.run(3, lost=8)  # without the queue it is the line
    assert path.pair[1] > 0


def jittery(seed: int, most: float) -> Callable[[], float]:
    """Return what makes round trips up to so many seconds longer, each way by itself."""
    chance = random.Random(seed)
    return lambda: chance.uniform(0, most) + chance.uniform(0, most)


@pytest.mark.parametrize("most", [0.002, 0.01, 0.03])
def test_jitter_is_no_queue(most):
    for seed in range(20):
        path, jitter = Path(), jittery(seed, most)
        path.run(10, jitter=jitter)
        assert path.pair == (0, 0)
        path.run(4, lost=10, jitter=jitter)  # less than what counts in spite of a queue
        assert path.pair[1] > 0, f"seed {seed}"


@pytest.mark.parametrize("most", [0.002, 0.005])
def test_a_queue_is_seen_in_spite_of_jitter(most):
    for seed in range(20):
        path, jitter = Path(), jittery(seed, most)
        path.run(10, jitter=jitter)
        path.run(60, lost=8, queue=0.05, jitter=jitter)
        assert path.pair == (0, 0), f"seed {seed}"


def test_a_queue_that_fills_and_drains_is_no_jitter():
    """As TCP makes it that takes seven tenths of its window at each loss: 50 ms of it, 20 when it has."""
    path = Path()
    path.run(5)
    for _ in range(12):
        for step in range(10):
            path.run(0.5, lost=8 if step == 9 else 0, queue=0.02 + 0.003 * step)
    assert path.pair == (0, 0)


@pytest.mark.parametrize(("rate", "size"), [(50, 10), (400, 10), (650, 14), (820, 18), (5000, 24)])
def test_groups_are_as_large_as_they_fill_in_time(rate, size):
    path = Path()
    for _ in range(20):
        k, m = path.pair
        path.run(0.5, lost=rate // 10, rate=rate * (k + m) // k if m else rate)
    k, m = path.pair
    assert m > 0
    assert k <= size
    assert size == 10 or k >= size - 4


def test_large_groups_need_less_parity():
    shares = [choose(RS, Loss(0.1, 1.0), 1e-3, 1e-3, 0.6, fits) for fits in (0, 12, 14, 18, 30)]
    costs = [choice.m / choice.k for choice in shares]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] == 0.5
    assert costs[-1] < 0.35


def test_losses_of_the_line_are_still_known_when_its_repair_lets_a_queue_grow():
    path = Path()
    path.run(10, lost=5)
    pair = path.pair
    assert pair[1] > 0
    path.run(60, lost=7, queue=0.03)
    assert path.pair == pair


def test_when_the_line_loses_no_more_the_losses_of_the_queue_do_not_keep_parity():
    path = Path()
    path.run(10, lost=25)
    path.run(10, lost=25, queue=0.03)
    assert path.pair[1] > 0
    path.run(25, lost=1, queue=0.03)
    assert path.pair == (0, 0)


def test_more_than_tcp_lets_a_queue_lose_is_the_line():
    path = Path()
    path.run(5)
    path.run(5, lost=50, queue=0.03)
    assert path.pair[1] > 0


def test_on_a_full_line_parity_is_given_up():
    """Something sends without regard, and a line of 500 datagrams in half a second loses what is more."""
    path = Path()
    path.run(5)
    tried = 0
    for _ in range(240):
        k, m = path.pair
        sent = 600 * (k + m) // k if m else 600
        path.run(0.5, lost=sent - 500, rate=sent, queue=0.05)
        tried += m > 0
    assert 3 <= tried <= 30
    assert "the line is full" in path.steering.choice.why


def test_losses_that_go_on_as_they_were_are_no_sign_of_a_full_line():
    path = Path()
    path.run(60, lost=50)
    assert path.pair[1] > 0


def test_another_path_starts_anew():
    path = Path()
    path.run(10, lost=50)
    assert path.pair[1] > 0
    path.steering.moved()
    path.run(20, lost=0)
    assert path.pair == (0, 0)


def test_round_trips_tell_of_a_queue():
    delays = Delays()

    def report(number: int, took: float, held: float = 0.0) -> bool:
        now = float(number)
        for part in range(10):
            delays.begin(number * 10 + part, now + part * 0.002)
            delays.end(number * 10 + part + 1)
        return delays.heard(number * 10, held, now + took)

    assert not report(1, 0.05)
    assert delays.shortest == pytest.approx(0.05)
    assert not report(2, 0.06)
    assert report(3, 0.07)
    assert not report(4, 0.07, held=0.02)
    assert not report(5, 0.05)
    assert not delays.heard(1000, 0.0, 9.0), "it was not sent by the data path: when is not known"
    delays.restart()
    assert not delays.heard(5, 0.0, 9.0)
    assert delays.shortest == pytest.approx(0.05, rel=0.01)


def test_what_others_send_than_the_data_path_is_timed_as_far_as_that_is_known():
    delays = Delays()
    delays.took(0.04)

    def sent(first: int, count: int, now: float) -> None:
        delays.begin(first, now)
        delays.end(first + count)

    sent(0, 10, 1.0)
    sent(11, 10, 1.002)
    assert delays.heard(10, 0.0, 1.09), "sent between 1.000 and 1.002"
    sent(22, 10, 5.0)
    assert delays.heard(21, 0.0, 5.01), "no telling when: as before"
    assert not delays.heard(31, 0.0, 5.04)


def test_reports_in_quick_succession_count_as_one():
    path = Path()
    path.run(5)
    for _ in range(10):
        path.now += 0.03
        path.sent += 50
        path.lost += 3
        path.steering.report(7, Report(path.sent, path.sent - path.lost, path.lost), path.now)
    assert path.pair == (0, 0)


def test_what_comes_late_is_not_lost():
    """On a path that reorders each report misses some, and the next tells that they have come."""
    path = Path()
    for number in range(60):
        path.now += 0.5
        path.sent += 100
        missing = 5 * (number % 2)
        path.steering.report(7, Report(path.sent, path.sent - missing, missing), path.now)
    assert path.pair == (0, 0)


@pytest.mark.parametrize("codes", [RS, XOR])
@pytest.mark.parametrize("loss", [0.002, 0.01, 0.05, 0.1, 0.2, 0.4, 0.9])
@pytest.mark.parametrize("burst", [1.0, 3.0, 20.0])
def test_the_overhead_is_capped(codes, loss, burst):
    choice = choose(codes, Loss(loss, burst), 1e-3, 1e-3, 0.6)
    assert 0 < choice.m <= 0.6 * choice.k
    assert 1 <= choice.depth <= 4
    assert codes.get(choice.k, choice.m) is not None
    if loss <= 0.1 and burst == 1 and codes is RS:
        assert "limit" not in choice.why
    if loss >= 0.4:
        assert "limit" in choice.why


def test_more_loss_never_means_less_parity():
    costs = [choose(RS, Loss(loss / 1000, 1.0), 1e-3, 1e-3, 0.6) for loss in range(1, 200)]
    shares = [choice.m / choice.k if choice.m else 0 for choice in costs]
    assert shares == sorted(shares)
    assert shares[0] == 0


def test_bursts_are_spread():
    choice = choose(RS, Loss(0.05, 4.0), 1e-3, 1e-3, 0.6)
    assert choice.depth == 4
    assert "bursts of 4.0" in choice.why


@pytest.mark.parametrize(("mode", "depth"), [(FecMode.FIXED, 1), (FecMode.SPREAD, 4)])
def test_what_is_fixed_stays(mode, depth):
    path = Path(mode=mode, data=20, parity=2)
    path.run(20, lost=50)
    assert (path.pair, path.steering.choice.depth) == ((20, 2), depth)


def test_off_is_off():
    for path in (Path(mode=FecMode.OFF), Path(parity=0), Path(mode=FecMode.FIXED, parity=0)):
        path.run(20, lost=50)
        assert path.pair == (0, 0)


def flow(port: int = 5, size: int = 60) -> bytearray:
    return bytearray(packets.udp("10.0.0.1", "10.0.0.2", port, 6, bytes(size)))


def test_flows_are_told_apart_by_size_and_rate():
    flows = SlowFlows()
    small, large, busy = flow(1), flow(2, 1000), flow(3)
    taken = {1: 0, 2: 0, 3: 0}
    for tick in range(1000):  # ten seconds
        now = tick / 100
        if tick % 5 == 0:
            taken[1] += flows.has(small, 0, len(small), now)
            taken[2] += flows.has(large, 0, len(large), now)
        for _ in range(10):
            taken[3] += flows.has(busy, 0, len(busy), now)
    assert taken[1] == 200
    assert taken[2] == 0
    assert taken[3] == pytest.approx(BURST + 10 * RATE, rel=0.01)


def test_behind_a_large_packet_a_small_one_of_its_flow_waits_its_turn():
    flows = SlowFlows()
    small, large, other = flow(1), flow(1, 1000), flow(2)
    flows.begin()
    verdicts = [flows.has(packet, 0, len(packet), 1.0) for packet in (small, large, small, other)]
    assert verdicts == [True, False, False, True]
    flows.begin()
    assert flows.has(small, 0, len(small), 1.0)


def test_flows_are_bounded():
    flows = SlowFlows()
    for port in range(3 * LIMIT):
        assert flows.has(flow(port), 0, 88, 1.0)
    assert len(flows._flows) == LIMIT
