"""Candidates to the hub, one step at a time: who is asked, when, and what the answers lead to."""

import pytest

from ltunnel.control.candidates import FIRST_PENALTY, LONGEST_PENALTY, Candidate, Dial, HangUp, Standing
from ltunnel.control.limits import Bucket
from ltunnel.control.timers import Timer
from ltunnel.wire.frames import Pong
from ltunnel.wire.messages import parse

UDP, TCP, TLS = 0, 1, 2
WAYS = ("udp", "tcp", "tls")
HUB = ("198.51.100.1", 9000)
ELSEWHERE = ("192.0.2.66", 53)


def joined(net, **changes):
    hub = net.hub(**changes)
    node = net.node("a", "10.0.0.2/24", transports=WAYS)
    assert net.run(3, lambda: node.state == "up")
    net.run(0.2)
    return hub, node, hub.peers[node.settings.identity.public]


def candidates(node):
    return {candidate.name: candidate.standing.value for candidate in node.candidates}


def sent(net, kind, since=0.0, source="a"):
    return [when for when, who, _, what, _ in net.log if who == source and what == kind and when >= since]


def calls(net, kind, since=0.0):
    return [call.transport for when, _, call in net.calls if isinstance(call, kind) and when >= since]


def talk(net, node, hub, seconds, gap=0.1):
    """Send both ways for a while."""
    end = net.now + seconds
    while net.now < end:
        node.send("10.0.0.1", b"x")
        hub.send("10.0.0.2", b"y")
        net.run(gap)


# -------------------------------------------------------------------- connecting


def test_initiations_are_staggered_and_each_is_its_own(net):
    net.hub()
    net.shut = {UDP, TCP, TLS}
    start = net.now
    net.node("a", "10.0.0.2/24", transports=WAYS)
    net.run(0.85)
    assert [when - start for when in sent(net, "INIT")] == pytest.approx([0.0, 0.3, 0.6])
    assert len({parse(data).noise[:32] for *_, kind, data in net.log if kind == "INIT"}) == 3, "fresh ephemeral keys"
    assert calls(net, Dial) == [UDP, TCP, TLS]


def test_rounds_get_slower_but_never_stop(net):
    net.hub()
    net.shut = {UDP, TCP, TLS}
    node = net.node("a", "10.0.0.2/24", transports=WAYS)
    net.run(120)
    start = net.now
    net.run(60)
    assert 3 * 60 / 3.5 <= len(sent(net, "INIT", start)) <= 3 * 60 / 2.5
    assert set(candidates(node).values()) == {"dead"}
    assert len(node.control._node_side.session.attempts) <= 4 * 3
    assert set(calls(net, Dial, start)) == {UDP, TCP, TLS}, "flows that do not work are opened anew"
    assert len(calls(net, Dial, start)) == len(calls(net, HangUp, start)) <= 3 * 60 / 6


def test_what_did_not_leave_is_tried_again_soon_and_counts_for_nothing(net):
    net.hub()
    net.closed = {UDP}
    net.shut = {TCP, TLS}
    node = net.node("a", "10.0.0.2/24", transports=WAYS)
    net.run(0.22)
    assert not sent(net, "INIT")
    assert len(node.control._node_side.session.attempts) == 0
    net.closed = set()
    assert net.run(0.15, lambda: node.state == "up"), "within 50 ms and two round trips"
    assert candidates(node) == {"udp": "working", "tcp": "unknown", "tls": "unknown"}


def test_a_flow_that_stays_shut_is_dead_but_asked_all_the_same(net):
    hub = net.hub()
    net.closed = {UDP}
    node = net.node("a", "10.0.0.2/24", transports=WAYS)
    assert net.run(1, lambda: node.state == "up")
    net.run(0.1)
    assert (candidates(node)["udp"], node.hub.path.transport) == ("dead", TCP)
    net.closed, net.shut = {UDP, TCP, TLS}, {UDP, TCP, TLS}
    net.run(80)
    assert (node.state, set(candidates(node).values())) == ("connecting", {"dead"})
    net.closed, net.shut = {UDP}, set()
    assert net.run(5, lambda: node.state == "up")
    net.run(30)
    assert (candidates(node)["udp"], candidates(node)["tcp"], node.hub.path.transport) == ("dead", "working", TCP)
    net.closed = set()
    talk(net, node, hub, 70)
    assert node.hub.path.transport == UDP


def test_cookies_are_for_the_flow_that_asked(net):
    """Under load each transport needs a cookie of its own, and the answer to one does not start the others again."""
    hub = net.hub()
    hub.control._p.acceptance._admission._load = Bucket(0.0, 0.0, net.now)
    node = net.node("a", "10.0.0.2/24", transports=WAYS)
    assert net.run(2, lambda: node.state == "up")
    assert "hub>COOKIE" in net.kinds()
    assert node.hub.path.transport == UDP
    assert calls(net, Dial) == [UDP]
    assert list(node.control._node_side.session.cookies) == [(UDP, HUB)]


def test_a_wrong_clock_is_worked_around_where_it_was_noticed(net):
    net.hub()
    node = net.node("a", "10.0.0.2/24", wall=1_700_086_400, transports=WAYS)
    assert net.run(1, lambda: node.state == "up")
    assert (node.hub.path.transport, calls(net, Dial)) == (UDP, [UDP])


# -------------------------------------------------------------------- in doubt


def test_a_single_ping_that_is_lost_wakes_nobody(net):
    _, node, _ = joined(net)
    lost = []
    net.cut = lambda source, _target, data: source.name == "a" and not lost and lost.append(data) is None
    net.run(30)
    assert len(lost) == 1
    assert calls(net, Dial) == [UDP]
    assert node.hub.path.transport == UDP


def test_when_it_answers_after_all_the_search_is_over(net):
    """The one in use is late: nothing moves, and the flows that were opened are closed."""
    hub, node, _ = joined(net)
    talk(net, node, hub, 1)
    net.shut = {UDP, TCP, TLS}
    talk(net, node, hub, 4.2)
    assert set(calls(net, Dial)) == {UDP, TCP, TLS}
    net.shut = {TCP, TLS}
    talk(net, node, hub, 1)
    net.shut = set()
    talk(net, node, hub, 20)
    assert node.hub.path.transport == UDP
    assert set(calls(net, HangUp)) == {TCP, TLS}
    assert not node.texts("transport-changed")


def test_a_late_answer_of_a_trial_that_is_over_moves_nothing(net):
    hub, node, _ = joined(net)
    net.shut = {UDP, TCP, TLS}
    talk(net, node, hub, 4.2)
    tcp = node.candidates[1]
    (token, *_) = tcp.trial.sent
    net.shut = {TCP, TLS}
    talk(net, node, hub, 3)
    assert tcp.trial is None
    net.inject(node, HUB, hub.peers[node.settings.identity.public].epoch.seal_frame(Pong.TYPE, token), TCP)
    assert node.hub.path.transport == UDP


def test_a_pong_counts_only_by_the_way_that_was_asked(net):
    hub, node, peer = joined(net)
    net.shut = {UDP, TCP, TLS}
    talk(net, node, hub, 4.2)
    tcp = node.candidates[1]
    (token, *_) = tcp.trial.sent
    for transport, flow in ((TLS, HUB), (TCP, ELSEWHERE), (UDP, HUB)):
        net.inject(node, flow, peer.epoch.seal_frame(Pong.TYPE, token), transport)
        assert node.hub.path.transport == UDP
    net.inject(node, HUB, peer.epoch.seal_frame(Pong.TYPE, bytes(8)), TCP)
    assert node.hub.path.transport == UDP
    net.inject(node, HUB, peer.epoch.seal_frame(Pong.TYPE, token), TCP)
    assert node.hub.path.transport == TCP


def test_the_rest_of_a_handshake_follows_the_session(net):
    """The path dies while new keys are being agreed: the CONFIRM is repeated where the session has gone."""
    hub, node, peer = joined(net)
    net.cut = lambda source, _target, data: source.name == "a" and data[0] == 3  # the CONFIRM
    node.control._rekey(node.control._node_side.session, net.now)
    net.drain(node)
    net.run(0.1)
    net.cut, net.shut = None, {UDP}
    before = node.hub.epoch
    talk(net, node, hub, 5)
    assert (node.hub.path.transport, peer.path.transport) == (TCP, TCP)
    assert node.hub.epoch is not before
    assert node.state == "up"
    assert len(hub.texts("node-joined")) == 1


# -------------------------------------------------------------------- the hub's side


def test_a_probe_is_answered_and_proves_the_address_but_moves_nothing(net):
    hub, node, peer = joined(net)
    net.shut = {UDP}
    talk(net, node, hub, 3)
    assert net.run(1, lambda: peer.path.transport == TCP)
    assert peer.path.budget is None, "when it moves, the way is proved already"
    assert Timer.VALIDATE not in {timer for timer, _ in hub.control._ctx.timers._deadlines}


def test_a_spoofed_probe_gets_twice_its_size_and_no_session(net):
    hub, node, peer = joined(net)
    probe = node.hub.epoch.seal_frame(0x14, bytes(8))
    before = hub.sent
    net.inject(hub, ELSEWHERE, probe, TCP)
    assert hub.sent - before == 2 * len(probe), "the answer, and a question"
    assert (peer.path.transport, peer.path.flow) == (UDP, node.flow)
    net.inject(hub, ELSEWHERE, probe, TCP)
    assert hub.sent - before == 2 * len(probe), "a repetition gets nothing"
    assert node.send("10.0.0.1", b"x")
    net.run(0.1)
    assert not hub.control.session_with(peer.key).proved
    net.inject(hub, ELSEWHERE, node.hub.epoch.seal_frame(2, b"spoofed"), TCP)
    assert peer.path.budget is not None, "who goes there now has to prove the address"


def test_a_hub_remembers_few_addresses_that_were_proved(net):
    hub, node, peer = joined(net)
    session = hub.control.session_with(peer.key)
    for number in range(30):
        there = (f"192.0.2.{number}", 9)
        net.inject(hub, there, node.hub.epoch.seal_frame(0x14, bytes(8)), TCP)
        token = next(token for token, ping in session.pings.items() if ping.flow == there)
        net.inject(hub, there, node.hub.epoch.seal_frame(Pong.TYPE, token), TCP)
    assert len(session.proved) == 8
    assert len(session.pings) <= 16
    assert (peer.path.transport, peer.path.flow) == (UDP, node.flow)
    sent = hub.sent
    probe = node.hub.epoch.seal_frame(0x14, bytes(8))
    net.inject(hub, ("192.0.2.29", 9), probe, TCP)
    assert hub.sent - sent == len(probe), "what has just been proved is not asked again"


def test_the_hub_tells_by_what_a_node_comes(net):
    hub, node, _ = joined(net)
    net.shut = {UDP}
    talk(net, node, hub, 5)
    (event,) = [event for event in hub.events if event.name == "transport-changed"]
    assert (event.fields["from"], event.fields["to"], event.fields["peer"]) == ("udp", "tcp", "a")
    assert event.text == "going by tcp instead of udp with a: a came by it"
    assert not hub.texts("roamed")


# -------------------------------------------------------------------- orders


def test_a_flow_that_nobody_wants_any_more_is_closed(net):
    """An answer to a `Dial` for an address that the hub has left meanwhile."""
    _, node, _ = joined(net)
    control = node.control
    control.dialled(Dial(TCP, ("203.0.113.77", 9000)), "late", net.now)
    assert control.calls == [HangUp(TCP, "late")]
    control.calls.clear()
    control.dialled(Dial(TCP, HUB), "unasked", net.now)
    assert control.calls == [HangUp(TCP, "unasked")]
    control.calls.clear()


def test_candidates_that_stay_keep_what_is_known_of_them(net):
    _, node, _ = joined(net)
    first, second, _ = node.candidates
    node.set_hub_paths([(TCP, HUB), (UDP, HUB)], net.now)
    net.drain(node)
    assert list(node.candidates) == [second, first]
    assert node.hub.path.transport == UDP
    net.run(0.5)
    assert node.hub.path.transport == UDP
    net.run(15)
    assert node.hub.path.transport == TCP, "it is preferred now"


def test_refusals_of_strange_flows_mean_nothing(net):
    hub, node, _ = joined(net)
    for host in (hub, node):
        host.refused(UDP, ELSEWHERE, net.now)
        host.refused(TLS, HUB, net.now)
    hub.network_changed(net.now)
    hub.set_hub_paths([(UDP, HUB)], net.now)
    assert not hub.calls
    assert node.next_timeout() > net.now


def test_after_the_end_there_are_no_orders(net):
    _, node, _ = joined(net)
    node.stop(net.now)
    net.drain(node)
    node.network_changed(net.now)
    node.set_hub_paths([(UDP, ELSEWHERE)], net.now)
    node.refused(UDP, HUB, net.now)
    assert not node.calls
    assert not node.outbox


def test_what_strangers_repeat_and_spoil_moves_nobody(make_net):
    """Everything that was ever sent, again or with flipped bits, by any transport, from anywhere, while it moves."""
    for seed in range(4):
        net = make_net(seed)
        hub, node, peer = joined(net)
        random = net.random
        for turn in range(60):
            net.shut = {way for way in (UDP, TCP, TLS) if turn % 20 > 5 and random.random() < 0.4}
            talk(net, node, hub, 1.0)
            for *_, data in random.choices(net.log, k=10):
                spoiled = bytearray(data)
                if random.random() < 0.7:
                    spoiled[random.randrange(len(spoiled))] ^= 1 << random.randrange(8)
                target, flow = random.choice((hub, node)), random.choice((HUB, node.flow, ELSEWHERE))
                net.inject(target, flow, bytes(spoiled), random.choice((UDP, TCP, TLS)))
        net.shut = set()
        talk(net, node, hub, 20)
        assert node.state == "up"
        assert peer.path.transport == node.hub.path.transport
        assert (peer.path.flow, node.hub.path.flow) == (node.flow, HUB)
        assert len(hub.texts("node-joined")) == 1, seed
        for host in (hub, node):
            assert len(host.control._ctx.timers._deadlines) <= 3 * len(Timer)
            assert len(host.control._ctx.attempts) == 0


# -------------------------------------------------------------------- what a candidate remembers


def test_trust_is_lost_by_dying_soon_after_a_comeback_and_won_by_holding():
    candidate = Candidate(0, "udp", HUB)
    candidate.taken, candidate.returned = 0.0, False
    candidate.blame(10.0)
    assert (candidate.standing, candidate.penalty) == (Standing.DEAD, 0.0), "it was not come back to"
    penalties = []
    now = 0.0
    for _ in range(6):
        candidate.taken, candidate.returned = now, True
        candidate.blame(now + 10)
        penalties.append(candidate.penalty)
        assert candidate.shy_until == now + 10 + candidate.penalty
        now += 1000
    assert penalties == [FIRST_PENALTY, 240, 480, LONGEST_PENALTY, LONGEST_PENALTY, LONGEST_PENALTY]
    candidate.taken = now
    candidate.blame(now + 300)
    assert candidate.penalty == LONGEST_PENALTY, "neither soon nor long"
    candidate.taken = now
    candidate.blame(now + 700)
    assert candidate.penalty == 0.0
