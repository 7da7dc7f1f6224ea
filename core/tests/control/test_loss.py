"""Lines that lose, delay, reorder and duplicate: handshakes come through, and rekeying loses nothing."""

import pytest

from ltunnel.constants import REKEY_AFTER_PACKETS
from ltunnel.control.timers import Timer

SEEDS = range(200)


def bad_line(net, loss):
    net.loss = loss
    net.duplicate = 0.05
    net.delay, net.jitter = 0.02, 0.08  # jitter above the gap between messages: reordering


def test_at_30_percent_loss_every_handshake_completes_and_p99_is_below_10_seconds(make_net):
    times = []
    for seed in SEEDS:
        net = make_net(seed)
        bad_line(net, 0.3)
        hub = net.hub()
        node = net.node("a", "10.0.0.2/24")
        start = net.now
        assert net.run(60, lambda net=net, node=node: node.state == "up"), seed
        times.append(net.now - start)
        assert hub.fib.lookup(bytes((10, 0, 0, 2))) is not None
        assert node.hub.epoch.remote_index == hub.peers[node.settings.identity.public].epoch.local_index
    times.sort()
    print(f"median {times[100]:.2f} s, p90 {times[180]:.2f} s, p99 {times[198]:.2f} s, worst {times[199]:.2f} s")
    assert times[198] <= 10
    assert times[100] <= 2


def test_each_side_may_lose_everything_once(make_net):
    """Lose the n-th datagram of each side, for every n: the handshake still completes in a second."""
    for source in ("a", "hub"):
        for lost in range(6):
            net = make_net(lost)
            seen = {"a": 0, "hub": 0}

            def cut(host, _target, _data, seen=seen, source=source, lost=lost):
                seen[host.name] += 1
                return host.name == source and seen[host.name] == lost + 1

            net.cut = cut
            net.hub()
            node = net.node("a", "10.0.0.2/24")
            assert net.run(1, lambda node=node: node.state == "up"), (source, lost)


def test_data_that_comes_before_welcome_does_not_connect(net):
    """Without WELCOME the node would not know its network."""
    hub = net.hub()
    net.cut = lambda source, _target, data: source is hub and data[0] == 6
    node = net.node("a", "10.0.0.2/24")
    net.run(0.2)
    net.cut = None
    assert hub.send("10.0.0.2", b"early")
    net.run(0.03)
    assert node.state == "connecting"
    assert node.hub.epoch is None
    assert net.run(1, lambda: node.state == "up")


def test_duplicates_make_one_session(net):
    net.duplicate = 1.0
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(5)
    assert node.state == "up"
    assert len(hub.texts("node-joined")) == 1
    assert len(hub.sessions) == 1
    assert len(node.sessions) == 1
    assert net.kinds().count("hub>RESP") == 1, "the same e is answered once"


def test_a_path_slower_than_the_retries(net):
    net.delay = 0.7  # the RESP to the first INIT comes after the third has gone out
    net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(4)
    assert node.state == "up"


def stream(net, source, target, to, seconds, gap=0.02, tag=b"", on_step=lambda: None):
    """Send a numbered packet every `gap` seconds; return the numbers that could not be sent."""
    end, number, unsent = net.now + seconds, 0, []
    while net.now < end:
        if not source.send(to, tag + number.to_bytes(4, "big")):
            unsent.append(number)
        number += 1
        on_step()
        net.run(gap)
    net.run(1)
    return number, unsent


@pytest.mark.parametrize("reorder", [0.0, 0.05])
def test_rekeying_loses_no_packet_of_either_direction(net, reorder):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(1)
    net.jitter = reorder
    first = node.hub.epoch
    sent = 0

    def answer():
        nonlocal sent
        assert hub.send("10.0.0.2", b"h" + sent.to_bytes(4, "big"))
        sent += 1

    number, unsent = stream(net, node, hub, "10.0.0.1", 260, on_step=answer)
    assert unsent == []
    assert len({bytes(item) for item in hub.got}) == len(hub.got) == number
    assert len(set(node.got)) == len(node.got) == sent
    assert node.hub.epoch is not first
    assert net.kinds().count("a>INIT") == 3, "at the start, after 120 s, after 240 s"
    assert "hub>INIT" not in net.kinds(), "the initiator of the session rekeys, its responder waits"
    assert len(node.sessions) <= 2
    assert len(hub.sessions) <= 2


def test_rekeying_on_a_bad_line_loses_only_what_the_line_loses(make_net):
    for seed in range(6):
        net = make_net(seed)
        hub = net.hub()
        node = net.node("a", "10.0.0.2/24")
        net.run(1)
        bad_line(net, 0.3)

        # Data passes, the handshake suffers.
        loss = net.loss
        net.loss = 0.0
        net.cut = lambda _s, _t, data, net=net, loss=loss: data[0] != 6 and net.random.random() < loss
        number, unsent = stream(net, node, hub, "10.0.0.1", 170, gap=0.05)
        assert unsent == []
        assert len(set(hub.got)) == len(hub.got) == number, seed


def test_the_responder_rekeys_a_little_later_when_the_initiator_does_not(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(1)
    node.control._ctx.timers.cancel(Timer.REKEY, node.control._node_side.session)
    number, unsent = stream(net, node, hub, "10.0.0.1", 150, gap=0.1)
    assert "hub>INIT" in net.kinds()
    assert "hub>CONFIRM" in net.kinds()
    assert unsent == []
    assert len(hub.got) == number
    assert node.hub.epoch.initiator is False
    assert hub.peers[node.settings.identity.public].epoch.initiator is True


def test_packets_count_too(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(1)
    first = node.hub.epoch
    first.counter = REKEY_AFTER_PACKETS
    net.run(4)
    assert node.hub.epoch is not first
    hub_peer = hub.peers[node.settings.identity.public]
    hub_peer.epoch.counter = REKEY_AFTER_PACKETS
    second = node.hub.epoch
    net.run(4)
    assert node.hub.epoch is not second


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_both_sides_rekeying_at_once_agree_on_one_epoch(make_net, loss):
    for seed in range(40):
        net = make_net(seed)
        hub = net.hub()
        node = net.node("a", "10.0.0.2/24")
        net.run(1)
        peer = hub.peers[node.settings.identity.public]
        net.loss, net.jitter = loss, 0.05
        node.control._rekey(node.control._node_side.session, net.now)
        net.drain(node)
        net.run(0.1 * net.random.random())
        hub.control._rekey(hub.control.session_with(peer.key), net.now)
        net.drain(hub)
        for _ in range(100):
            assert node.send("10.0.0.1", b"x")
            assert hub.send("10.0.0.2", b"y")
            net.run(0.1)
        net.loss = net.jitter = 0.0
        net.run(2)
        for _ in range(40):  # beyond the life of the epoch that lost
            assert node.send("10.0.0.1", b"x")
            assert hub.send("10.0.0.2", b"y")
            net.run(1)
        net.run(1)
        assert node.hub.epoch.remote_index == peer.epoch.local_index, seed
        assert peer.epoch.remote_index == node.hub.epoch.local_index, seed
        assert len(node.sessions) == len(hub.sessions) == 1
        if loss == 0.0:
            assert (len(node.got), len(hub.got)) == (140, 140), seed


def test_keys_are_refused_after_180_seconds(net):
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24", timeout=1000)
    net.run(1)
    net.cut = lambda _source, _target, data: data[0] != 6  # no handshake comes through, data does
    net.run(170)
    assert node.state == "up"
    assert node.send("10.0.0.1", b"old")
    net.run(12)
    assert node.state == "connecting"
    assert "keys expired" in node.texts("disconnected")[0]
    assert not node.sessions
    net.cut = None
    assert net.run(5, lambda: node.state == "up")
    assert hub.peer_state(hub.peers[node.settings.identity.public]) == "established"
