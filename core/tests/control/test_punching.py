"""The hub arranges rounds: who is told what, when both begin, which addresses are passed on, and when it refuses."""

from types import SimpleNamespace

import pytest

from ltunnel.control.flows import describe_endpoint
from ltunnel.control.punching import HOST_TIME, MARGIN, PAIR_BURST, ROUND_TIME, OtherPort, Punching
from ltunnel.control.session import Session
from ltunnel.control.states import State
from ltunnel.plugin import Behaviour, Candidate, CandidateKind, Dependence
from ltunnel.session import Path, Peer
from ltunnel.wire.observe import Observe
from ltunnel.wire.punch import Punch, PunchStage

A, B = b"a" * 32, b"b" * 32
LAN = b"this lan"
HARD = Behaviour(mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT)


def candidate(host: str, port: int = 4000, network: bytes = b"") -> Candidate:
    return Candidate(kind=CandidateKind.SRFLX, address=(host, port), priority=1, network=network)


class Hub:
    """A hub's part, with sessions to A (192.0.2.1) and B (192.0.2.2), and what it sends."""

    def __init__(self, *, isolated: bool = False, hosts: tuple[str, str] = ("192.0.2.1", "192.0.2.2")) -> None:
        self.sent: list[tuple[bytes, tuple[int, object], object]] = []
        self.challenged: list[object] = []
        self.sessions = {key: self.session(key, host) for key, host in zip((A, B), hosts, strict=True)}
        ctx = SimpleNamespace(
            sessions=self.sessions, describe=describe_endpoint, send_frame=self.send,
            settings=SimpleNamespace(client_isolation=isolated),
        )  # fmt: skip
        paths = SimpleNamespace(probed=lambda session, epoch, path, now: self.challenged.append(path.flow))
        self.punching = Punching(ctx, paths)

    def session(self, key: bytes, host: str) -> Session:
        peer = Peer(key)
        peer.path = Path(0, (host, 5000))
        peer.epoch = SimpleNamespace(peer=peer)
        peer.rtt = 0.1 if key == A else 0.3
        session = Session(peer)
        session.state = State.ESTABLISHED
        return session

    def send(self, epoch, path, frame, now) -> bool:
        self.sent.append((epoch.peer.key, (path.transport, path.flow), frame))
        return True

    def say(self, who: bytes, stage: PunchStage, *candidates: Candidate, number: int = 0, now: float = 0.0,
            behaviour: Behaviour | None = None) -> None:  # fmt: skip
        frame = Punch(
            stage=stage, key=B if who == A else A, round=number, candidates=candidates,
            behaviour=behaviour or Behaviour(),
        )  # fmt: skip
        self.punching.handle(self.sessions[who], frame, now)

    def told(self, who: bytes) -> list[Punch]:
        found = [frame for key, _, frame in self.sent if key == who]
        self.sent = [entry for entry in self.sent if entry[0] != who]
        return found

    def observe(self, flow, transport: int = 0, *, from_other: bool = False, now: float = 0.0) -> list:
        session = self.sessions[A]
        self.punching.observe(session, session.peer.epoch, Observe(b"token123", from_other), transport, flow, now)
        return [(path, frame) for _, path, frame in self.sent]


def meet(hub: Hub, number: int = 0, now: float = 0.0, *, own=(), others=()) -> tuple[Punch, Punch]:
    """Go through a round; return what START says to A and to B."""
    hub.say(A, PunchStage.REQUEST, *own, number=number, now=now)
    (prepare,) = hub.told(B)
    assert (prepare.stage, prepare.key, prepare.round) == (PunchStage.PREPARE, A, number)
    hub.say(B, PunchStage.READY, *others, number=number, now=now, behaviour=HARD)
    (to_a,), (to_b,) = hub.told(A), hub.told(B)
    return to_a, to_b


def test_both_begin_at_the_same_moment_and_are_told_of_each_other():
    to_a, to_b = meet(Hub(), own=(candidate("192.0.2.1"),), others=(candidate("192.0.2.2"),))
    assert (to_a.key, to_b.key) == (B, A)
    assert [c.address for c in to_a.candidates] == [("192.0.2.2", 4000)]
    assert [c.address for c in to_b.candidates] == [("192.0.2.1", 4000)]
    assert (to_a.behaviour, to_b.behaviour) == (HARD, Behaviour())
    assert to_a.delay + 0.1 / 2 == pytest.approx(to_b.delay + 0.3 / 2), "they arrive at different times"
    assert to_b.delay == pytest.approx(MARGIN)


def test_who_sends_first_alternates():
    hub = Hub()
    firsts = [[punch.first for punch in meet(hub, number)] for number in range(4)]
    assert firsts == [[False, True], [True, False], [False, True], [True, False]]


def test_two_requests_meet():
    hub = Hub()
    hub.say(A, PunchStage.REQUEST, number=1)
    assert [punch.stage for punch in hub.told(B)] == [PunchStage.PREPARE]
    hub.say(B, PunchStage.REQUEST, number=0, now=0.1)
    for who in (A, B):
        (start,) = hub.told(who)
        assert (start.stage, start.round) == (PunchStage.START, 1)


def test_a_repeated_request_is_passed_on_again_and_a_late_ready_is_nothing():
    hub = Hub()
    hub.say(A, PunchStage.REQUEST)
    hub.say(A, PunchStage.REQUEST, now=1.5)
    assert len(hub.told(B)) == 2
    hub.say(B, PunchStage.READY, now=1.5 + ROUND_TIME + 0.1)
    hub.say(B, PunchStage.READY, now=10.0)
    assert not hub.sent


@pytest.mark.parametrize(("named", "passed"), [
    ("192.0.2.1", True), ("192.0.2.9", False), ("192.168.1.7", False), ("127.0.0.1", False), ("224.0.0.1", False),
])  # fmt: skip
def test_only_proved_hosts_are_passed_on(named, passed):
    _, to_b = meet(Hub(), own=(candidate(named),))
    assert bool(to_b.candidates) is passed


def test_a_host_is_proved_by_an_answer_for_a_while():
    hub = Hub()
    hub.sessions[A].proved[1, ("192.0.2.9", 7777)] = 100.0
    for now, passed in ((100.0, True), (100.0 + HOST_TIME, False)):
        _, to_b = meet(hub, now=now, own=(candidate("192.0.2.9"),))
        assert bool(to_b.candidates) is passed


def test_a_path_that_has_not_proved_itself_proves_no_host():
    hub = Hub()
    hub.sessions[A].peer.path.budget = 100
    _, to_b = meet(hub, own=(candidate("192.0.2.1"),))
    assert not to_b.candidates


@pytest.mark.parametrize(("hosts", "other_lan", "passed"), [
    (("192.0.2.1", "192.0.2.1"), LAN, True), (("192.0.2.1", "192.0.2.1"), b"another!", False),
    (("192.0.2.1", "192.0.2.2"), LAN, False), (("2001:db8::1", "2001:db8::2"), LAN, True),
    (("2001:db8::1", "2001:db8:1::2"), LAN, False),
])  # fmt: skip
def test_private_addresses_stay_on_their_lan(hosts, other_lan, passed):
    own, other = candidate("192.168.1.7", network=LAN), candidate("192.168.1.8", network=other_lan)
    _, to_b = meet(Hub(hosts=hosts), own=(own,), others=(other,))
    assert to_b.candidates == ((own,) if passed else ())


def test_in_the_hubs_own_private_network_addresses_are_passed_without_a_lan():
    hub = Hub(hosts=("10.1.0.1", "10.2.0.2"))
    _, to_b = meet(hub, own=(candidate("10.1.0.1", network=LAN),))
    assert to_b.candidates == (candidate("10.1.0.1"),)
    _, to_b = meet(Hub(hosts=("10.1.0.1", "192.0.2.2")), own=(candidate("10.1.0.1"),))
    assert not to_b.candidates, "to somebody outside it would be another machine"


def test_refusals_say_why():
    hub = Hub()
    hub.sessions[B].state = State.IDLE
    hub.say(A, PunchStage.REQUEST)
    assert hub.told(A)[0].reason == "the hub has no session with that node"
    isolated = Hub(isolated=True)
    isolated.say(A, PunchStage.REQUEST)
    assert "isolates" in isolated.told(A)[0].reason
    assert not isolated.told(B)
    unwilling = Hub()
    unwilling.say(A, PunchStage.REQUEST)
    unwilling.told(B)
    unwilling.say(B, PunchStage.REFUSED)
    (refusal,) = unwilling.told(A)
    assert (refusal.stage, refusal.key, refusal.reason) == (PunchStage.REFUSED, B, "that node takes no direct paths")
    unwilling.say(B, PunchStage.REFUSED)
    assert not unwilling.sent, "there is no round any more"


def test_a_pair_gets_so_many_rounds():
    hub = Hub()
    for number in range(int(PAIR_BURST) + 1):
        hub.say(A, PunchStage.REQUEST, number=number)
    assert [punch.stage for punch in hub.told(A)] == [PunchStage.REFUSED]
    assert len(hub.told(B)) == PAIR_BURST


def test_nodes_are_told_where_they_are_seen_from_either_port():
    hub = Hub()
    hub.punching.other = OtherPort(0, 3, 9001)
    flow = ("192.0.2.1", 6000)
    for transport, from_other, back in ((0, False, 0), (0, True, 3), (3, False, 3), (3, True, 0)):
        hub.sent.clear()
        ((path, observed),) = hub.observe(flow, transport, from_other=from_other)
        assert path == (back, flow)
        assert (observed.address, observed.other_port, observed.from_other) == (flow, 9001, from_other)
    assert not hub.challenged, "the host is known to be A's"


def test_without_another_port_none_is_promised_and_none_answers():
    hub = Hub()
    assert not hub.observe(("192.0.2.1", 6000), from_other=True)
    ((_, observed),) = hub.observe(("192.0.2.1", 6000))
    assert observed.other_port == 0


def test_a_new_host_has_to_prove_itself():
    hub = Hub()
    hub.observe(("192.0.2.77", 6000))
    assert hub.challenged == [("192.0.2.77", 6000)]
