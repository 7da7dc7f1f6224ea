"""Links: each impairment by itself, with the figures that were asked for."""

from itertools import pairwise

import pytest

from ltunnel.testing import Fate, GilbertElliott, Host, Link, Network, Packet, Quality, Router

COUNT = 20_000


class Lane:
    """Numbered datagrams from one host to another over one link, `interval` apart."""

    def __init__(self, quality: Quality, *, seed: int = 1) -> None:
        self.network = Network(seed)
        internet = Router(self.network, "internet")
        self.left, right = Host(self.network, "left"), Host(self.network, "right")
        self.left.attach(internet, "192.0.2.1")
        self.link: Link = right.attach(internet, "192.0.2.2", quality=quality)
        self.arrivals: list[tuple[float, int]] = []
        right.bind(self, None, 7)

    def deliver(self, packet: Packet) -> bool:
        self.arrivals.append((self.network.clock.now, int.from_bytes(packet.payload[:4], "big")))
        return True

    def send(self, number: int, size: int = 100) -> None:
        self.left.send((None, 9), ("192.0.2.2", 7), number.to_bytes(4, "big") + bytes(size - 4))
        self.network.run_due()

    def stream(self, count: int = COUNT, interval: float = 0.001, size: int = 100) -> list[int]:
        for number in range(count):
            self.send(number, size)
            self.network.run(interval)
        self.network.run(10)
        return [number for _, number in self.arrivals]


def test_a_perfect_link_is_perfect():
    lane = Lane(Quality())
    assert lane.stream(100) == list(range(100))
    assert lane.network.clock.now == pytest.approx(10.1)


def test_independent_loss():
    lane = Lane(Quality(loss=0.3))
    got = set(lane.stream())
    assert len(got) / COUNT == pytest.approx(0.7, abs=0.015)
    lost_after_lost = [n for n in range(1, COUNT) if n not in got and n - 1 not in got]
    assert len(lost_after_lost) / (COUNT - len(got)) == pytest.approx(0.3, abs=0.03)


def test_bursts():
    model = GilbertElliott(to_bad=0.02, to_good=0.2, loss_good=0.001, loss_bad=0.9)
    assert model.mean == pytest.approx(0.02 / 0.22 * 0.9 + 0.2 / 0.22 * 0.001)
    lane = Lane(Quality(loss=model))
    got = set(lane.stream())
    assert 1 - len(got) / COUNT == pytest.approx(model.mean, abs=0.02)
    lost_after_lost = [n for n in range(1, COUNT) if n not in got and n - 1 not in got]
    assert len(lost_after_lost) / (COUNT - len(got)) == pytest.approx(0.8 * 0.9, abs=0.06)


def test_jitter_keeps_the_order():
    lane = Lane(Quality(delay=0.05, jitter=0.03))
    assert lane.stream(2000) == list(range(2000))
    delays = [when - number * 0.001 for when, number in lane.arrivals]
    assert min(delays) > 0.05
    assert max(delays) < 0.0801
    assert max(delays) - min(delays) > 0.01


def test_reordering():
    lane = Lane(Quality(delay=0.05, reorder=0.1, hold=0.02))
    numbers = lane.stream()
    assert sorted(numbers) == list(range(COUNT))
    assert lane.link.down.reordered / COUNT == pytest.approx(0.1, abs=0.01)
    overtaken = sum(a > b for a, b in pairwise(numbers))
    assert 0.05 < overtaken / COUNT < 0.11
    assert max(when - number * 0.001 for when, number in lane.arrivals) < 0.0701


def test_duplication():
    lane = Lane(Quality(duplicate=0.2))
    numbers = lane.stream()
    assert set(numbers) == set(range(COUNT))
    assert (len(numbers) - COUNT) / COUNT == pytest.approx(0.2, abs=0.015)


def test_corruption():
    lane = Lane(Quality(corrupt=0.3))
    payloads: list[bytes] = []
    lane.deliver = lambda packet: payloads.append(packet.payload) is None  # type: ignore[method-assign]
    for number in range(2000):
        lane.send(number)
    flipped = [
        sum((a ^ b).bit_count() for a, b in zip(payload, number.to_bytes(4, "big") + bytes(96), strict=True))
        for number, payload in enumerate(payloads)
    ]
    assert set(flipped) == {0, 1}, "one bit"
    assert sum(flipped) / 2000 == pytest.approx(0.3, abs=0.04)
    assert sum(flipped) == lane.link.down.corrupted


def test_rate_and_queue():
    lane = Lane(Quality(rate=1_000_000, queue=10_000, delay=0.01))
    for number in range(20):  # 1000 B each with headers: 8 ms on the line
        lane.send(number, 972)
    lane.network.run(1)
    numbers = [number for _, number in lane.arrivals]
    assert numbers == list(range(10)), "one on the line and 9 waiting are the 10,000 bytes"
    assert [round(when, 4) for when, _ in lane.arrivals] == [round(0.01 + 0.008 * (i + 1), 4) for i in range(10)]
    assert lane.link.down.fates[Fate.QUEUE_FULL] == 10
    assert lane.link.up.sent == 0


def test_a_fast_stream_gets_the_rate():
    lane = Lane(Quality(rate=1_000_000, queue=20_000))
    lane.stream(2000, interval=0.004, size=972)  # 2 Mbit/s offered for 8 s
    assert len(lane.arrivals) * 8000 / 8 == pytest.approx(1_000_000, rel=0.05)


def test_mtu_is_a_black_hole():
    lane = Lane(Quality(mtu=1300))
    lane.send(1, 1272)
    lane.send(2, 1273)
    lane.network.run(1)
    assert [number for _, number in lane.arrivals] == [1]
    assert lane.link.down.fates[Fate.TOO_BIG] == 1


def test_blocking_spares_what_is_on_its_way_and_the_other_direction():
    lane = Lane(Quality(delay=0.1))
    lane.send(1)
    lane.link.block("down")
    lane.send(2)
    lane.network.run(1)
    assert not lane.link.up.blocked
    lane.link.unblock("down")
    lane.send(3)
    lane.network.run(1)
    assert [number for _, number in lane.arrivals] == [1, 3]
    lane.link.block()
    assert lane.link.up.blocked
    assert lane.link.down.blocked


def test_a_link_that_is_down_loses_what_is_on_its_way():
    lane = Lane(Quality(delay=0.1))
    lane.send(1)
    lane.network.run(0.05)
    lane.link.take_down()
    lane.send(2)
    lane.network.run(0.01)
    lane.link.bring_up()
    lane.send(3)
    lane.network.run(1)
    assert [number for _, number in lane.arrivals] == [3]
    assert lane.link.down.fates[Fate.DOWN] == 2


def test_quality_changes_while_it_runs():
    lane = Lane(Quality(delay=0.5))
    lane.send(1)
    lane.link.change("down", delay=0.001)
    lane.send(2)
    lane.network.run(1)
    assert [(round(when, 3), number) for when, number in lane.arrivals] == [(0.5, 1), (0.5, 2)]
    assert lane.link.up.quality.delay == 0.5


@pytest.mark.parametrize(
    "quality",
    [{"loss": 1.1}, {"reorder": -0.1}, {"duplicate": 2}, {"delay": -1}, {"rate": 0}, {"mtu": 0}, {"hold": -1}],
)
def test_nonsense_is_refused(quality: dict[str, float]):
    with pytest.raises(ValueError, match=r"share|negative|positive"):
        Quality(**quality)


def test_nonsense_bursts_are_refused():
    with pytest.raises(ValueError, match="share"):
        GilbertElliott(to_bad=1.5, to_good=0.1)
    with pytest.raises(ValueError, match="never moves"):
        GilbertElliott(to_bad=0, to_good=0)
