"""The lab's line does what it is told to: delay, rate, queue, loss, each measured."""

import re

import pytest

from lab import Lab, traffic
from lab.delay import DelayLine

pytestmark = [pytest.mark.netns, pytest.mark.alone]

LEFT, RIGHT = "192.0.2.1", "192.0.2.2"


def joined(lab: Lab, **settings: float) -> DelayLine:
    left, right = lab.host("left"), lab.host("right")
    line = DelayLine(lab, left, right, **settings)
    left.add_address("eth0", f"{LEFT}/24")
    right.add_address("eth0", f"{RIGHT}/24")
    traffic.ping(left, RIGHT, count=2)  # neighbours know each other
    return line


def times(lab: Lab, count: int, interval: float) -> list[float]:
    """Ping through the line; return the milliseconds of the answers, sorted."""
    options = ["-n", "-c", str(count), "-i", str(interval), "-W", "1"]
    text = lab.hosts["left"].run("ping", *options, RIGHT, check=False).stdout
    return sorted(float(found) for found in re.findall(r"time=([\d.]+) ms", text))


def test_delay_and_jitter(lab: Lab) -> None:
    line = joined(lab, delay=0.02)
    plain = times(lab, 50, 0.02)
    assert plain[0] >= 40
    assert plain[25] < 42
    line.change("there", jitter=0.02)
    spread = times(lab, 100, 0.02)
    assert spread[0] >= 40
    assert spread[90] < 65
    assert 4 < spread[75] - spread[25] < 16  # ms; evenly spread over 20


def test_rate_and_queue(lab: Lab) -> None:
    line = joined(lab, rate=20e6, delay=0.02, queue=0.05)
    left, right = lab.hosts["left"], lab.hosts["right"]
    before, _ = line.counts()
    stream = traffic.udp(left, right, RIGHT, size=1472, packets_s=2500, seconds=3)  # 30 Mbit/s
    there, _ = line.counts()
    assert (there.missed, there.lost) == (0, 0)
    assert 0.04 < there.longest_wait <= 0.05
    assert there.overflowed > 2000
    carried = (there.delivered_bytes - before.delivered_bytes) * 8
    # The queue is full at the end. Never more than the rate; less when the sender did not get its turn for 50 ms.
    assert 0.93 < carried / (stream.seconds + 0.05) / 20e6 < 1.01


def test_both_ways_at_once_at_twice_the_rate(lab: Lab) -> None:
    line = joined(lab, rate=40e6, delay=0.02, queue=0.05)
    left, right = lab.hosts["left"], lab.hosts["right"]
    servers = [traffic.serve(right, 5201), traffic.serve(left, 5202)]
    options = ["--udp", "--length", "1472", "--bitrate", "36M", "--time", "4"]
    clients = [
        left.start("iperf3", ["iperf3", "--client", RIGHT, "--port", "5201", *options]),
        right.start("iperf3", ["iperf3", "--client", LEFT, "--port", "5202", *options]),
    ]
    for program in (*clients, *servers):
        program.wait(20)
    for counts in line.counts():
        assert counts.frames > 12_000
        assert (counts.missed, counts.lost) == (0, 0)
        assert counts.delivered >= 0.99 * counts.frames


def test_losses_are_as_many_as_asked_for_and_can_differ(lab: Lab) -> None:
    line = joined(lab, loss=0.05, seed=7)
    left, right = lab.hosts["left"], lab.hosts["right"]
    before, _ = line.counts()
    stream = traffic.udp(left, right, RIGHT, size=500, packets_s=4000, seconds=4)
    there, _ = line.counts()
    lost = (there.lost - before.lost) / (there.frames - before.frames)
    assert lost == pytest.approx(0.05, abs=0.006)
    assert 1 - stream.share == pytest.approx(lost, abs=0.003)
    line.change("back", loss=0.0)
    line.change("there", loss=1.0)
    assert times(lab, 3, 0.05) == []
    line.change(loss=0.0)
    assert len(times(lab, 20, 0.02)) == 20
    assert line.counts()[1].lost < 30
