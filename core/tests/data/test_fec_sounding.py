"""Before a connection begins the line is sounded, and what is sent until the answer comes may get parity later."""

from __future__ import annotations

from typing import Any

import pytest

from ltunnel.constants import DATA_OVERHEAD
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.data.fec.sounding import KNOWN, PATIENCE, SOUNDINGS
from ltunnel.session import Drop
from ltunnel.testing import packets
from ltunnel.testing.packets import ACK, SYN
from ltunnel.wire.frames import Report
from ltunnel.wire.types import FrameType
from ltunnel_fec_rs import ReedSolomon

TRIP = 0.04


class Line:
    """Two ends; what the left one sends."""

    def __init__(self, net: Any, mode: FecMode = FecMode.AUTO, **more: Any) -> None:
        self.left, self.right = net.pair(fec=(Codes("rs", ReedSolomon), FecSettings(mode=mode, **more)))
        (self.peer,) = set(self.left.fib._hosts.values())
        self.peer.rtt = TRIP

    def send(self, packet: bytes) -> list[bytes]:
        self.left.tun.inject(packet)
        return [datagram for _, datagram in self.left.pump()]

    def syn(self, version: int = 4, flags: int = SYN) -> int:
        """Send a packet of TCP; return how many soundings follow."""
        ends = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
        return len([one for one in self.send(packets.tcp(*ends, 1, 2, flags=flags)) if len(one) == DATA_OVERHEAD + 1])

    def data(self, count: int) -> list[bytes]:
        return [
            datagram
            for number in range(count)
            for datagram in self.send(packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, bytes(1000), seq=number))
        ]

    def close(self) -> int:
        """Let the deadlines of groups come; return how much parity is sent."""
        before = self.peer.fec.parity_sent
        self.left.close_groups()
        return int(self.peer.fec.parity_sent - before)

    def answer(self, lost: int, *, after: float = TRIP) -> int:
        """Let the far end tell what it got of all that has been sent; return how much parity is sent at once."""
        before = self.peer.fec.parity_sent
        self.left.now += after
        counter = self.peer.epoch.counter
        self.left.sender.report(self.peer, self.peer.epoch, Report(counter, counter - lost, lost), self.left.now)
        return int(self.peer.fec.parity_sent - before)

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.left.sender.describe(self.peer))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("flags", [SYN, SYN | ACK])
def test_a_connection_that_opens_has_the_line_sounded(net, version, flags):
    assert Line(net).syn(version, flags) == SOUNDINGS


def test_soundings_are_padding_that_the_far_end_counts_and_ignores(net):
    line = Line(net)
    datagrams = line.send(packets.tcp("10.0.0.1", "10.0.0.2", 1, 2, flags=SYN))
    line.right.take(line.left, datagrams)
    (epoch,) = line.right.control.sessions.values()
    assert (epoch.window.accepted, len(line.right.tun.packets)) == (1 + SOUNDINGS, 1)
    assert Drop.UNKNOWN_TYPE not in epoch.peer.stats.drops
    assert FrameType.PADDING == 0


def test_nothing_else_has(net):
    line = Line(net)
    assert line.syn(flags=ACK) == 0
    assert len(line.send(packets.udp("10.0.0.1", "10.0.0.2", 1, 2, bytes(40)))) == 1
    assert len(line.send(packets.echo("10.0.0.1", "10.0.0.2", 1, 1, bytes(40)))) == 1


@pytest.mark.parametrize("mode", [FecMode.OFF, FecMode.FIXED, FecMode.SPREAD])
def test_nor_where_losses_make_no_difference(net, mode):
    assert Line(net, mode).syn() == 0


def test_nor_where_no_parity_may_be_sent(net):
    assert Line(net, FecMode.AUTO, parity=0).syn() == 0


def test_nor_to_an_address_that_has_not_proved_itself(net):
    line = Line(net)
    line.peer.path.budget = 100_000
    assert line.syn() == 0


def test_in_latency_mode_too(net):
    assert Line(net, FecMode.LATENCY).syn() == SOUNDINGS


def test_not_again_as_long_as_it_is_known(net):
    line = Line(net)
    assert line.syn() == SOUNDINGS
    assert line.syn() == 0
    line.answer(lost=0)
    line.left.now += KNOWN / 2
    assert line.syn() == 0
    line.left.now += KNOWN
    assert line.syn() == SOUNDINGS


def test_on_a_clean_line_nothing_is_added(net):
    line = Line(net)
    line.syn()
    line.data(30)
    assert line.status == {"mode": "auto", "data": 0, "parity": 0, "groups": 1, "why": "the line is sounded"}
    assert line.answer(lost=0) == 0
    assert line.close() == 0
    assert line.status["why"] == "no loss to repair"
    line.data(30)
    assert (line.close(), line.peer.fec.data_sent) == (0, 30)


def test_what_was_sent_in_the_meantime_gets_parity_when_soundings_were_lost(net):
    line = Line(net)
    line.syn()
    line.data(10)
    assert 5 <= line.answer(lost=4) <= 8
    assert line.status["parity"] > 0
    assert line.data(30)
    assert line.peer.fec.parity_sent >= 15


def test_full_groups_wait_for_the_answer_no_longer_than_others(net):
    line = Line(net)
    line.syn()
    line.data(100)
    assert line.close() == 0
    line.answer(lost=12)
    assert line.status["parity"] > 0


def test_an_answer_that_does_not_come_is_not_waited_for(net):
    line = Line(net)
    line.syn()
    line.left.now += PATIENCE + 2 * TRIP
    line.data(10)
    assert (line.close(), line.peer.fec.data_sent) == (0, 0)
    assert line.status["why"] == "no loss to repair"


def test_copies_of_small_packets_are_not_held_back(net):
    line = Line(net, FecMode.LATENCY)
    line.syn()
    line.send(packets.udp("10.0.0.1", "10.0.0.2", 1, 2, bytes(40)))
    assert line.close() == 4, "two of the SYN, two of the datagram"


def test_soundings_that_stood_in_a_queue_say_nothing(net):
    line = Line(net)
    line.syn()
    line.answer(lost=4, after=2 * TRIP)
    assert line.status["parity"] == 0


def test_nor_do_many_lost_in_a_row(net):
    line = Line(net)
    line.syn()
    line.left.now += TRIP
    counter = line.peer.epoch.counter
    line.left.sender.report(line.peer, line.peer.epoch, Report(counter, counter - 12, 1), line.left.now)
    assert line.status["parity"] == 0


def test_a_line_that_lost_soundings_and_nothing_more_gets_no_more_parity(net):
    line = Line(net)
    line.syn()
    line.answer(lost=2)
    assert line.status["parity"] > 0
    for _ in range(3):
        line.data(100)
        line.answer(lost=2, after=0.5)
    assert line.status["parity"] == 0


def test_the_first_guess_is_high_and_soon_better(net):
    line = Line(net)
    line.syn()
    line.answer(lost=5)
    first = line.status["parity"] / line.status["data"]
    lost = 5
    for _ in range(8):
        line.data(200)
        lost += 10
        line.answer(lost, after=0.25)
    k, m = line.status["data"], line.status["parity"]
    assert 0.2 <= m / k < first
    assert line.status["why"].startswith(("3.", "4.", "5."))
