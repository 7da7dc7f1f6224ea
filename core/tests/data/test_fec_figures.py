"""What stays lost, measured over 10^5 packets, beside what probability theory says."""

from __future__ import annotations

import random
from math import sqrt

import pytest

from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.residual import bursty, independent, stays_lost
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.testing import packets
from ltunnel.testing.links import GilbertElliott
from ltunnel.testing.offload import offload
from ltunnel_fec_rs import ReedSolomon
from ltunnel_fec_xor import XorParity
from ltunnel_fec_xor import residual as xor_residual

PACKETS = 100_000
ROWS = 60
"""Packets in a super-packet."""
ENDS = ("10.0.0.1", "10.0.0.2")


class Swallow:
    """A TUN device that counts (the data path does) and keeps nothing."""

    uso = True

    def read(self, buf: memoryview, pos: int) -> int:
        raise BlockingIOError

    def write(self, parts: object) -> bool:
        return True


def peer_of(end):
    (peer,) = set(end.fib._hosts.values())
    return peer


def residuals(net, codes: Codes, settings: FecSettings, paths, *, single: bool = False, count: int = PACKETS):
    """Send packets over paths that lose datagrams where they say so; return for each the share that does not arrive.

    The same datagrams for all: every pair of ends has the same keys.
    """
    pairs = [net.pair(fec=(codes, settings), tun=Swallow()) for _ in paths]
    left = pairs[0][0]
    header, packet = offload(packets.udp(*ENDS, 1, 2, bytes(1300 if single else 100 * ROWS)), None if single else 100)
    read = header.pack() + packet
    sent = 0

    def arrive(datagrams: list[bytes]) -> None:
        for (_, right), lost in zip(pairs, paths, strict=True):
            right.take(left, [datagram for datagram in datagrams if not lost()])

    while sent < count:
        for _ in range(ROWS if single else 1):
            left.tun.inject_raw(read)
        sent += ROWS
        arrive([datagram for _, datagram in left.pump()])
    arrive(left.close_groups())
    return [1 - peer_of(right).stats.rx_packets / sent for _, right in pairs]


def chance(seed: str, loss: float):
    draw = random.Random(seed).random
    return lambda: draw() < loss


@pytest.mark.parametrize(
    ("plugin", "k", "m"), [("rs", 10, 3), ("rs", 20, 10), ("rs", 10, 5), ("xor", 10, 1), ("xor", 10, 5)]
)
def test_what_stays_lost_is_what_theory_says(net, plugin, k, m):
    codes = Codes("rs", ReedSolomon) if plugin == "rs" else Codes("xor", XorParity, residual=xor_residual)
    settings = FecSettings(mode=FecMode.FIXED, data=k, parity=m)
    losses = (0.01, 0.05, 0.1, 0.2)
    found = residuals(net, codes, settings, [chance(f"{plugin}{k}{m}{loss}", loss) for loss in losses])
    for loss, measured in zip(losses, found, strict=True):
        expected = independent(k, m, loss) if plugin == "rs" else xor_residual(k, m, loss)
        print(f"fec_{plugin} {k}+{m} at {loss:.0%}: {measured:.4%} stays lost, binomial {expected:.4%}")
        # A group that cannot be repaired loses several packets at once: hence the factor in the deviation.
        deviation = sqrt(expected * (m + 1 + k * loss) / PACKETS)
        assert abs(measured - expected) <= 4 * deviation + 2 / PACKETS, loss


def bursts(seed: str, model: GilbertElliott):
    chance, bad = random.Random(seed), False

    def lost() -> bool:
        nonlocal bad
        if chance.random() < (model.to_good if bad else model.to_bad):
            bad = not bad
        return bad

    return lost


@pytest.mark.parametrize("single", [True, False])
def test_against_bursts_spread_beats_no_spread(net, single):
    model = GilbertElliott(to_bad=0.02, to_good=0.3)
    found = {}
    for mode in (FecMode.FIXED, FecMode.SPREAD):
        settings = FecSettings(mode=mode, data=10, parity=3)
        (found[mode],) = residuals(
            net, Codes("rs", ReedSolomon), settings, [bursts("b", model)], single=single, count=30_000
        )
    print(f"bursts of {1 / model.to_good:.1f}, single packets {single}: {found}")
    if single:
        assert found[FecMode.SPREAD] < 0.5 * found[FecMode.FIXED]
    else:  # rows of super-packets are always spread over as many groups as there are
        assert found[FecMode.SPREAD] < 0.02


def test_the_figures_agree_with_each_other():
    assert independent(10, 3, 0.05) == pytest.approx(0.00098, rel=0.01)
    for k, m, loss in ((10, 3, 0.05), (20, 10, 0.2), (1, 2, 0.1)):
        distribution = dict(bursty(k + m, loss, 1.0))[k + m]
        assert sum(distribution) == pytest.approx(1)
        assert stays_lost(distribution, m) == pytest.approx(independent(k, m, loss))
    assert xor_residual(10, 1, 0.05) == pytest.approx(independent(10, 1, 0.05))
    distribution = dict(bursty(13, 0.05, 5.0))[13]
    assert stays_lost(distribution, 3) > 10 * independent(10, 3, 0.05)
