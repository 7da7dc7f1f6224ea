"""Keepalive, dead hubs, restarts, roaming, BYE."""

import pytest

from ltunnel.control.timers import Timer


def joined(net, **changes):
    hub = net.hub(**changes)
    node = net.node("a", "10.0.0.2/24")
    net.run(1)
    assert node.state == "up"
    return hub, node, hub.peers[node.settings.identity.public]


def data_since(net, when, source):
    return [data for at, host, _, kind, data in net.log if at >= when and host == source and kind == "DATA"]


# -------------------------------------------------------------------- keepalive and silence


def test_an_idle_node_pings_and_both_sides_know_the_round_trip_time(net):
    hub, node, peer = joined(net, keepalive=10.0)
    start = net.now
    net.run(100)
    assert 9 <= len(data_since(net, start, "a")) - 4 <= 13, "a PING each 9 to 10 s, and PONGs for the hub"
    assert node.hub.rtt == pytest.approx(0.04, abs=0.001)
    assert peer.rtt == pytest.approx(0.04, abs=0.001)
    assert (node.state, hub.peer_state(peer)) == ("up", "established")


def test_a_busy_node_does_not_ping_much(net):
    hub, node, _ = joined(net)
    net.run(20)
    start = net.now
    for _ in range(200):
        node.send("10.0.0.1", b"x")
        hub.send("10.0.0.2", b"y")
        net.run(0.1)
    assert len(data_since(net, start, "a")) - 200 <= 4 + 4, "PINGs; a round for the MTU from either side"


def test_a_node_that_vanishes_is_expired_and_its_binding_stays(net):
    hub, node, peer = joined(net)
    net.kill(node)
    net.run(29)
    assert hub.peer_state(peer) == "established"
    net.run(12)
    assert hub.peer_state(peer) == "expired"
    assert "not heard for 30 s" in hub.texts("node-expired")[0]
    assert hub.fib.lookup(bytes((10, 0, 0, 2))) is None
    assert not hub.sessions
    assert len(hub.bindings) == 1
    again = net.node("a", "10.0.0.2/24", flow=("203.0.113.77", 7))
    net.run(1)
    assert again.state == "up"
    assert hub.peers[again.settings.identity.public] is peer, "counters go on"


def test_a_hub_that_vanishes(net):
    hub, node, _ = joined(net)
    net.kill(hub)
    net.run(25)
    assert node.state == "up", "until the timeout it may be a hole in the line"
    assert node.texts("unreachable"), "but the owner is told earlier"
    assert "hub is down or was moved" in node.texts("unreachable")[0]
    net.run(16)
    assert node.state == "connecting"
    assert "not heard for 30 s" in node.texts("disconnected")[0]
    assert node.hub.epoch is None
    inits = [when for when, source, _, kind, _ in net.log if kind == "INIT" and when > net.now - 10]
    assert 2 <= len(inits) <= 5, "every three seconds"


@pytest.mark.parametrize("down", [0.1, 2.0, 20.0, 100.0])
@pytest.mark.parametrize("busy", [True, False])
def test_nodes_are_back_within_15_seconds_of_a_restarted_hub(make_net, down, busy):
    for seed in range(5):
        net = make_net(seed)
        hub, node, _ = joined(net)
        net.run(10 * net.random.random())
        bindings = hub.bindings
        net.kill(hub)
        net.run(down)
        hub = net.hub(bindings=bindings)
        start = net.now
        back = lambda hub=hub: any(hub.peer_state(peer) == "established" for peer in hub.peers.values())  # noqa: E731
        while net.now < start + 15 and not back():
            if busy:
                node.send("10.0.0.1", b"anybody?")
            net.run(0.1, back)
        assert back(), (seed, busy)
        net.run(0.2)
        assert node.state == "up"
        assert node.send("10.0.0.1", b"hello again")
        net.run(0.2)
        assert hub.got[-1] == b"hello again"


def test_a_one_way_stream_is_not_taken_for_a_dead_hub(net):
    hub, node, _ = joined(net)
    for _ in range(600):
        node.send("10.0.0.1", b"no answer wanted")
        net.run(0.05)
    assert net.kinds().count("a>INIT") == 1
    assert node.hub.unanswered_since is None or net.now - node.hub.unanswered_since < 4
    for _ in range(600):
        hub.send("10.0.0.2", b"no answer wanted")
        net.run(0.05)
    assert net.kinds().count("a>INIT") == 1
    assert "node-expired" not in [event.name for event in hub.events]


def test_a_hole_in_the_line_is_survived(net):
    hub, node, _ = joined(net)
    net.cut = lambda *_: True
    net.run(12)
    net.cut = None
    net.run(4)
    assert node.state == "up"
    assert not node.texts("disconnected")
    assert not hub.texts("node-expired")
    assert node.send("10.0.0.1", b"x")
    net.run(1)
    assert hub.got == [b"x"]


# -------------------------------------------------------------------- BYE


def test_bye_of_a_node_ends_the_session_at_once(net):
    hub, node, peer = joined(net)
    node.stop(net.now)
    net.drain(node)
    net.run(0.1)
    assert hub.peer_state(peer) == "expired"
    assert hub.texts("node-left") == ["a left"]
    assert not hub.sessions
    assert node.next_timeout() is None


def test_bye_of_the_hub_makes_nodes_reconnect(net):
    hub, node, _ = joined(net)
    hub.stop(net.now)
    net.drain(hub)
    net.run(0.1)
    assert node.state == "connecting"
    assert node.reason == "the hub ended the session (stopped)"
    assert not node.sessions
    net.kill(hub)
    hub = net.hub()
    assert net.run(2, lambda: node.state == "up")


def test_a_hub_that_says_bye_again_and_again_is_asked_less_often(net):
    hub, node, peer = joined(net)
    gaps = []
    for _ in range(4):
        net.run(0.3, lambda: hub.peer_state(peer) == "established" and node.state == "up")
        hub.control._ctx.send_bye(hub.control.session_with(peer.key), 1, net.now)
        net.drain(hub)
        net.run(0.1)
        assert node.state == "connecting"
        start = net.now
        assert net.run(20, lambda: node.state == "up")
        gaps.append(net.now - start)
    assert gaps[0] < 1.5 < gaps[-1]


def test_a_late_bye_of_a_replaced_session_ends_only_that(net):
    hub, node, peer = joined(net)
    old = node.hub.epoch
    bye = old.seal_frame(0x24, b"\x0a\x00\x01\x01")
    net.kill(node)
    again = net.node("a", "10.0.0.2/24", flow=node.flow)
    net.run(0.5)
    assert again.state == "up"
    net.inject(hub, node.flow, bye)
    assert hub.peer_state(peer) == "established"
    assert again.send("10.0.0.1", b"x")
    net.run(0.1)
    assert hub.got == [b"x"]


# -------------------------------------------------------------------- roaming


def test_a_node_that_moves_is_followed_within_a_round_trip(net):
    hub, node, peer = joined(net)
    node.flow = ("192.0.2.200", 1234)
    node.send("10.0.0.1", b"from here")
    net.run(0.03)
    assert peer.path.flow == node.flow
    assert peer.path.budget is not None
    net.run(0.1)
    assert peer.path.budget is None, "a PONG came from there"
    hub.send("10.0.0.2", b"found you")
    net.run(0.1)
    assert node.got == [b"found you"]
    assert "203.0.113.2:40000 to 192.0.2.200:1234" in hub.texts("roamed")[0]


def test_an_idle_node_that_moves_is_found_by_its_keepalive(net):
    hub, node, peer = joined(net)
    node.flow = ("192.0.2.200", 1234)
    net.run(11)
    assert peer.path.flow == node.flow
    hub.send("10.0.0.2", b"found you")
    net.run(0.1)
    assert node.got == [b"found you"]


def test_a_spoofed_source_gets_at_most_three_times_what_it_sent(net):
    """Somebody on the path sends a node's own datagram first, in the name of a victim."""
    hub, node, peer = joined(net)
    victim = ("192.0.2.66", 53)
    captured = node.hub.epoch.seal_frame(2, b"p" * 100)
    start = net.now
    net.inject(hub, victim, captured)
    assert peer.path.flow == victim
    for _ in range(100):
        hub.send("10.0.0.2", b"q" * 500)
        net.run(0.1)
        if net.now > start + 5:
            break
    to_victim = sum(len(data) for when, source, target, _, data in net.log if when >= start and target == "nobody")
    assert 0 < to_victim <= 3 * len(captured)
    assert peer.path.budget is not None
    node.send("10.0.0.1", b"the real one")
    net.run(0.2)
    assert peer.path.flow == node.flow
    assert peer.path.budget is None


def test_an_older_datagram_does_not_move_the_path(net):
    hub, node, peer = joined(net)
    early = node.hub.epoch.seal_frame(2, b"early")
    node.send("10.0.0.1", b"later")
    net.run(0.1)
    net.inject(hub, ("192.0.2.66", 53), early)
    assert hub.got == [b"later", b"early"]
    assert peer.path.flow == node.flow


def test_a_datagram_of_the_old_epoch_does_not_move_the_path(net):
    hub, node, peer = joined(net)
    old = node.hub.epoch
    node.control._rekey(node.control._node_side.session, net.now)
    net.drain(node)
    net.run(1)
    node.send("10.0.0.1", b"new")
    net.run(0.1)
    net.inject(hub, ("192.0.2.66", 53), old.seal_frame(2, b"old"))
    assert hub.got == [b"new", b"old"], "it is good, but not news"
    assert peer.path.flow == node.flow


def test_a_pong_counts_only_from_where_the_ping_went(net):
    hub, node, peer = joined(net)
    net.cut = lambda _source, target, _data: target.name == "a"  # PINGs to the node's new place do not arrive
    elsewhere = ("192.0.2.66", 53)
    net.inject(hub, elsewhere, node.hub.epoch.seal_frame(2, b"p" * 100))
    session = hub.control.session_with(peer.key)
    (token, sent), *_ = [item for item in session.pings.items() if item[1].flow == elsewhere]
    net.inject(hub, node.flow, node.hub.epoch.seal_frame(0x11, token))
    assert peer.path.flow == elsewhere, "an answer says nothing about which path is in use"
    assert peer.path.budget is not None, "and this one proves nothing about any path"
    net.inject(hub, elsewhere, node.hub.epoch.seal_frame(0x11, bytes(8)))
    assert peer.path.budget is not None, "nor does a token that nobody sent"
    assert token in session.pings
    net.inject(hub, elsewhere, node.hub.epoch.seal_frame(0x11, token))
    assert peer.path.budget is None
    assert sent.flow == elsewhere


def test_roaming_while_rekeying(make_net):
    for seed in range(30):
        net = make_net(seed)
        hub, node, peer = joined(net)
        net.jitter = 0.02
        node.control._rekey(node.control._node_side.session, net.now)
        net.drain(node)
        net.run(0.15 * net.random.random())
        node.flow = ("192.0.2.200", 1234)
        for _ in range(20):
            assert node.send("10.0.0.1", b"x")
            net.run(0.05)
        net.run(0.5)
        assert peer.path.flow == node.flow, seed
        assert peer.path.budget is None
        assert len(hub.got) == 20


def test_a_bye_on_an_epoch_that_was_replaced_ends_nothing(net):
    _, node, peer = joined(net)
    bye = peer.epoch.seal_frame(0x24, b"\x0a\x00\x01\x02")
    node.control._rekey(node.control._node_side.session, net.now)
    net.drain(node)
    net.run(1)
    net.inject(node, ("198.51.100.1", 9000), bye)
    assert node.state == "up"
    assert len(node.sessions) == 1


def test_the_same_address_of_the_hub_again_changes_nothing(net):
    _, node, _ = joined(net)
    before = len(net.log)
    node.set_hub_paths([(0, ("198.51.100.1", 9000))], net.now)
    net.drain(node)
    assert len(net.log) == before


def test_a_new_address_of_the_hub_takes_the_session_along(net):
    hub, node, _ = joined(net)
    hub.flow = ("198.51.100.9", 9000)
    node.set_hub_paths([(0, hub.flow)], net.now)
    net.drain(node)
    net.run(0.2)
    assert node.send("10.0.0.1", b"over there")
    net.run(0.1)
    assert hub.got == [b"over there"]
    assert net.kinds().count("a>INIT") == 1


def test_timers_of_a_node_that_is_denied_or_gone_do_not_pile_up(net):
    hub, node, _ = joined(net)
    for _ in range(30):
        hub.stop(net.now)
        net.drain(hub)
        net.kill(hub)
        hub = net.hub()
        assert net.run(20, lambda: node.state == "up")
    queue = node.control._ctx.timers
    assert len(queue._deadlines) <= len(Timer)
    assert len(queue._heap) <= 64 + 4 * len(Timer)
    assert len(node.sessions) == 1
    assert not node.control._ctx.attempts
