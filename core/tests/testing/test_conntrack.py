"""The strict firewall: the rules of Linux's connection tracking, one by one."""

from __future__ import annotations

import pytest

from ltunnel.testing import Host, Network, Quality, Router, Segment, StrictFirewall
from ltunnel.testing.conntrack import TrackState
from ltunnel.testing.datagrams import TCP
from ltunnel.testing.packets import ACK, FIN, PSH, RST, SYN
from ltunnel.testing.segments import make_payload

INSIDE, OUTSIDE = ("192.0.2.1", 40_000), ("203.0.113.1", 443)
SCALE_7 = b"\3\3\7\1"


class Talk:
    """Two hosts that say what they are told to, with the firewall between; numbers are from each SYN on."""

    def __init__(self) -> None:
        self.network = Network(1)
        internet = Router(self.network, "internet")
        self.wall = StrictFirewall(self.network, "wall")
        self.wall.attach(internet)
        self.ends = {"in": Host(self.network, "in"), "out": Host(self.network, "out")}
        self.ends["in"].attach(self.wall, INSIDE[0])
        self.ends["out"].attach(internet, OUTSIDE[0])
        self.heard: dict[str, int] = {"in": 0, "out": 0}
        for name, (_, number) in (("in", INSIDE), ("out", OUTSIDE)):
            self.ends[name].bind(Ear(self.heard, name), None, number, TCP)

    def say(self, who: str, flags: int, seq: int = 0, ack: int = 0, data: int = 0, window: int = 1000,
            options: bytes = b"") -> str | None:  # fmt: skip
        """Send a segment; return None if it passed, else why not."""
        source, target, other = (INSIDE, OUTSIDE, "out") if who == "in" else (OUTSIDE, INSIDE, "in")
        first, second = (1000, 2**32 - 10) if who == "in" else (2**32 - 10, 1000)
        payload = make_payload(first + seq, second + ack if flags & ACK else 0, flags, window, options, bytes(data))
        before, self.wall.invalid = self.heard[other], type(self.wall.invalid)()
        assert self.ends[who].send((None, source[1]), target, payload, TCP, kind=Segment)
        self.network.run_due()
        if self.heard[other] > before:
            return None
        (why,) = self.wall.invalid
        return why

    def open(self, options: bytes = b"", answer: bytes | None = None) -> Talk:
        """Shake hands."""
        assert self.say("in", SYN, options=options) is None
        assert self.say("out", SYN | ACK, ack=1, options=options if answer is None else answer) is None
        assert self.say("in", ACK, 1, 1) is None
        assert self.state is TrackState.ESTABLISHED
        return self

    @property
    def state(self) -> TrackState:
        (tracked,) = self.wall.connections.values()
        return tracked.state


class Ear:
    def __init__(self, heard: dict[str, int], name: str) -> None:
        self.heard, self.name = heard, name

    def deliver(self, packet) -> bool:
        self.heard[self.name] += 1
        return True


def test_udp_is_dropped():
    talk = Talk()
    talk.ends["in"].send((None, 1), OUTSIDE, b"x")
    talk.network.run_due()
    assert talk.heard["out"] == 0
    talk.wall.blocked = frozenset()
    talk.ends["out"].bind(Ear(talk.heard, "out"), None, 443)
    talk.ends["in"].send((None, 1), OUTSIDE, b"x")
    talk.network.run_due()
    assert talk.heard["out"] == 1


def test_only_a_syn_from_inside_begins():
    talk = Talk()
    for flags in (ACK, PSH | ACK, SYN | ACK, RST, FIN | ACK):
        assert talk.say("in", flags, 1, 1) == "no connection"
    for flags in (SYN, ACK, SYN | ACK):
        assert talk.say("out", flags, 1, 1) == "no connection"
    assert not talk.wall.connections
    assert talk.open().state is TrackState.ESTABLISHED


@pytest.mark.parametrize("flags", [0, FIN, SYN | FIN, SYN | RST, PSH, FIN | RST | ACK])
def test_flags_that_mean_nothing(flags):
    assert Talk().open().say("in", flags, 1, 1) == "malformed"


def test_no_data_before_the_answer():
    talk = Talk()
    talk.say("in", SYN)
    assert talk.say("in", PSH | ACK, 1, 1, data=5) == "ack in SYN_SENT"
    assert talk.say("out", SYN | ACK, ack=2) == "III: ack of what was not seen"
    assert talk.say("in", SYN) is None, "again"
    assert talk.say("out", SYN | ACK, ack=1) is None


def test_nothing_over_the_window():
    talk = Talk().open()
    assert talk.say("in", ACK, 1, 1, data=1000) is None
    assert talk.say("in", ACK, 1001, 1, data=1000) is None, "begins at the edge"
    assert talk.say("in", ACK, 1002, 1, data=10) == "I: seq over the upper bound"
    assert talk.say("out", ACK, 1, 1001) is None
    assert talk.say("in", ACK, 2001, 1, data=10) is None


def test_windows_are_scaled_if_both_ends_say_so():
    for answer, far in ((SCALE_7, 128_000), (b"", 1000)):
        talk = Talk().open(SCALE_7, answer)
        talk.say("out", ACK, 1, 1)
        assert talk.say("in", ACK, 1 + far, 1) is None
        assert talk.say("in", ACK, 2 + far, 1) == "I: seq over the upper bound"


def test_nothing_long_past():
    talk = Talk().open()
    for at in range(1, 5000, 1000):
        talk.say("in", ACK, at, 1, data=1000)
        talk.say("out", ACK, 1, at + 1000)
    assert talk.say("in", ACK, 4001, 1, data=100) is None, "sent before, within the window"
    assert talk.say("in", ACK, 3000, 1, data=10) == "II: seq under the lower bound"


def test_nothing_unseen_is_acknowledged():
    talk = Talk().open()
    talk.say("out", ACK, 1, 1, data=500)
    assert talk.say("in", ACK, 1, 501) is None
    assert talk.say("in", ACK, 1, 502) == "III: ack of what was not seen"


def test_acknowledgements_may_lag_but_not_for_ever():
    talk = Talk().open(SCALE_7)
    talk.say("in", ACK, 1, 1, window=60_000)
    for at in range(1, 140_001, 1000):
        assert talk.say("out", ACK, at, 1, data=1000) is None
    assert talk.say("in", ACK, 1, 1) is None, "its own window was larger"
    talk = Talk().open()
    for at in range(1, 80_001, 1000):
        talk.say("out", ACK, at, 1, data=1000)
        if at < 70_000:
            talk.say("in", ACK, 1, at + 1000)
    assert talk.say("in", ACK, 1, 14_000) is None
    assert talk.say("in", ACK, 1, 100) == "IV: ack under the lower bound"


def test_a_keepalive_is_fine():
    talk = Talk().open()
    assert talk.say("in", ACK, 0, 1, data=1) is None
    assert talk.say("out", ACK, 1, 1) is None


def test_the_end_in_order():
    talk = Talk().open()
    for who, flags, seq, ack, state in (
        ("in", FIN | ACK, 1, 1, TrackState.FIN_WAIT), ("out", ACK, 1, 2, TrackState.CLOSE_WAIT),
        ("out", FIN | ACK, 1, 2, TrackState.LAST_ACK), ("in", ACK, 2, 2, TrackState.TIME_WAIT),
    ):  # fmt: skip
        assert talk.say(who, flags, seq, ack) is None
        assert talk.state is state
    assert talk.say("in", SYN, 5) is None, "the same ports again"
    assert talk.state is TrackState.SYN_SENT


def test_a_reset_closes_but_what_follows_passes_for_a_while():
    talk = Talk().open()
    assert talk.say("out", RST | ACK, 1, 1) is None
    assert talk.state is TrackState.CLOSE
    for _ in range(4):
        talk.network.run(9.0)
        assert talk.say("in", ACK, 1, 1) is None
    talk.network.run(10.0)
    assert talk.say("in", ACK, 1, 1) == "no connection"


def test_resets_below_what_was_acknowledged_are_invalid():
    talk = Talk().open()
    talk.say("out", ACK, 1, 1, data=500)
    talk.say("in", ACK, 1, 501)
    assert talk.say("out", RST, 400) == "rst below what was acknowledged"
    assert talk.state is TrackState.ESTABLISHED


def test_a_reset_answers_a_syn():
    talk = Talk()
    talk.say("in", SYN)
    assert talk.say("out", RST | ACK, 0, 1) is None
    assert not talk.wall.connections


def test_a_new_syn_over_a_stale_connection():
    """Both ends have begun anew, the firewall has not: it takes over what they agree on."""
    talk = Talk().open()
    assert talk.say("in", SYN, 50_000, options=SCALE_7) is None
    assert talk.state is TrackState.ESTABLISHED
    assert talk.say("out", SYN | ACK, 70_000, 50_001, options=SCALE_7) is None
    assert talk.state is TrackState.SYN_RECV
    assert talk.say("in", ACK, 50_001, 70_001) is None
    assert talk.say("out", ACK, 70_001, 50_001, data=1000) is None
    assert talk.state is TrackState.ESTABLISHED
    talk = Talk().open()
    talk.say("in", SYN, 50_000)
    assert talk.say("out", SYN | ACK, 70_000, 50_002) is None, "let pass, but to no effect"
    assert talk.state is TrackState.ESTABLISHED


def test_flushing_forgets():
    talk = Talk().open()
    talk.wall.flush()
    assert talk.say("in", ACK, 1, 1) == "no connection"
    assert talk.wall.in_state(TrackState.ESTABLISHED) == 0


def test_packets_of_unknown_layout_pass():
    """The simulator's own TCP connections have another layout."""
    talk = Talk()
    talk.wall.uplink.change(delay=0.0)
    talk.ends["in"].send((None, INSIDE[1]), OUTSIDE, b"anything", TCP)
    talk.network.run_due()
    assert talk.heard["out"] == 1
    assert Quality().loss == 0
