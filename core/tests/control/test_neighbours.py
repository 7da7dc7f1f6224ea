"""Sessions between nodes: introduced by the hub, made through the relay, ended by silence, BYE or idleness."""

from itertools import permutations

import pytest

from ltunnel.control.neighbours import IDLE_TIME, WANTED_TIME
from ltunnel.control.pins import pin_name
from ltunnel.keys.mac import seal_time
from ltunnel.wire.messages import Time, parse
from ltunnel.wire.types import MessageType

WALL = 1_700_000_000.0


def key(host) -> bytes:
    return host.settings.identity.public


def state(host, other) -> str:
    peer = host.peers.get(key(other))
    return "unknown" if peer is None else host.control.peer_state(peer)


@pytest.fixture
def trio(net):
    """A hub and two nodes that it has introduced to each other."""
    hub = net.hub()
    a = net.node("a", "10.0.0.2/24", relay=True)
    b = net.node("b", "10.0.0.3/24", relay=True)
    net.run(0.5)
    return hub, a, b


def talk(net, a, b, seconds: float = 1.0) -> bool:
    """Whether a packet from one node reaches the other and one comes back, asked again as an application would."""
    done = len(b.got), len(a.got)

    def both() -> bool:
        if len(b.got) == done[0]:
            a.send(str(b.settings.addresses[0].ip), b"there")
        elif len(a.got) == done[1]:
            b.send(str(a.settings.addresses[0].ip), b"back")
        return len(b.got) > done[0] and len(a.got) > done[1]

    end = net.now + seconds
    while net.now < end and not both():
        net.run(0.01)
    return both()


def test_nodes_are_introduced_and_talk_end_to_end(net, trio):
    hub, a, b = trio
    assert (state(a, b), state(b, a)) == ("idle", "idle")
    assert a.peers[key(b)].name == "b"
    assert talk(net, a, b)
    assert (state(a, b), state(b, a)) == ("established", "established")
    assert a.peers[key(b)].epoch.remote_index in b.sessions
    assert a.peers[key(b)].mtu == 1400 - 46, "what RELAY adds does not fit"
    assert len(a.texts("neighbour-joined")) == len(b.texts("neighbour-joined")) == 1
    assert not hub.got, "the hub has opened none of it"


def test_the_first_packet_is_there_in_a_second(net, trio):
    _, a, b = trio
    net.delay = 0.08  # 160 ms through the relay, one way
    began = net.now
    assert talk(net, a, b)
    assert net.now - began < 1.0


def test_nodes_that_come_and_go_are_told_of(net, trio):
    _, a, b = trio
    c = net.node("c", "10.0.0.4/24", relay=True)
    net.run(0.5)
    assert {(one.name, other.name) for one, other in permutations((a, b, c), 2) if state(one, other) == "idle"} == {
        (one.name, other.name) for one, other in permutations((a, b, c), 2)
    }
    c.control.stop(net.now)
    net.drain(c)
    net.kill(c)
    net.run(1)
    assert (state(a, c), state(b, c)) == ("unknown", "unknown")
    assert a.fib.lookup(c.settings.addresses[0].ip.packed) is None


def test_lost_introductions_are_repeated(net):
    hub = net.hub()
    a = net.node("a", "10.0.0.2/24", relay=True)
    net.run(0.5)
    net.cut = lambda source, target, data: source is hub and data[0] == MessageType.DATA and net.now < 1000.9
    b = net.node("b", "10.0.0.3/24", relay=True)
    net.run(8)
    assert (state(a, b), state(b, a)) == ("idle", "idle")


def test_isolated_nodes_are_not_introduced(net):
    net.hub(client_isolation=True)
    a = net.node("a", "10.0.0.2/24", relay=True)
    b = net.node("b", "10.0.0.3/24", relay=True)
    net.run(10)
    assert (state(a, b), state(b, a)) == ("unknown", "unknown")


def test_both_at_once(net, trio):
    """Two handshakes cross; both sides end up with keys that the other has, and the same ones after a while."""
    _, a, b = trio
    for _ in range(20):
        a.send("10.0.0.3", b"1")
        b.send("10.0.0.2", b"2")
        net.run(0.05)
    assert a.got
    assert b.got
    ours, theirs = a.peers[key(b)].epoch, b.peers[key(a)].epoch
    assert ours.remote_index == theirs.local_index
    assert ours.local_index == theirs.remote_index
    assert len(a.texts("neighbour-joined")) == 1


@pytest.mark.parametrize("seed", range(10))
def test_handshakes_under_loss(make_net, seed):
    net = make_net(seed)
    net.hub()
    a = net.node("a", "10.0.0.2/24", relay=True)
    b = net.node("b", "10.0.0.3/24", relay=True)
    net.run(1)
    net.loss = 0.3
    assert talk(net, a, b, 15)


def test_new_keys_in_use_every_two_minutes(net, trio):
    _, a, b = trio
    assert talk(net, a, b)
    first = a.peers[key(b)].epoch
    for _ in range(260):
        a.send("10.0.0.3", b"x")
        b.send("10.0.0.2", b"y")
        net.run(1)
    assert a.peers[key(b)].epoch is not first
    assert len(b.got) >= 260
    assert len(a.got) >= 260
    assert len(a.texts("neighbour-joined")) == 1
    assert not a.texts("neighbour-left")


def test_a_session_that_nobody_uses_is_ended_and_made_again(net, trio):
    _, a, b = trio
    assert talk(net, a, b)
    assert net.run(IDLE_TIME + 120, until=lambda: (state(a, b), state(b, a)) == ("idle", "idle"))
    assert a.texts("neighbour-left")
    assert b.texts("neighbour-left")
    assert talk(net, a, b)


def test_a_neighbour_that_stops_says_so(net, trio):
    _, a, b = trio
    assert talk(net, a, b)
    b.control.stop(net.now)
    net.drain(b)
    net.run(0.2)
    assert a.texts("neighbour-left") == ["not talking to b any more: it said goodbye"]
    assert state(a, b) == "unknown", "the hub has told that it is gone"


def test_a_neighbour_that_vanishes_is_given_up(net, trio):
    _, a, b = trio
    assert talk(net, a, b)
    net.kill(b)

    def gone() -> bool:
        a.send("10.0.0.3", b"anybody?")
        return state(a, b) != "established"

    end = net.now + 40
    while net.now < end and not gone():
        net.run(0.5)
    assert gone()
    net.run(60)
    assert state(a, b) == "unknown", "the hub does not hear it any more either"


def test_a_neighbour_that_restarts_is_met_again(net, trio):
    """Same key, nothing else left: its first packet, or ours, makes a session anew."""
    _, a, b = trio
    assert talk(net, a, b)
    old = a.peers[key(b)].epoch
    net.kill(b)
    again = net.node("b", "10.0.0.3/24", relay=True, flow=b.flow)
    net.run(1)
    assert talk(net, again, a), "it begins"
    assert a.peers[key(b)].epoch is not old
    net.kill(again)
    third = net.node("b", "10.0.0.3/24", relay=True, flow=b.flow)
    net.run(1)
    assert talk(net, a, third, 10), "we begin, once we have noticed"


def test_nobody_answers(net, trio):
    """The handshake is given up when nothing more is to be sent, and nothing is left of it."""
    _, a, b = trio
    b.alive = False
    a.send("10.0.0.3", b"x")
    net.run(WANTED_TIME + 5)
    assert state(a, b) == "idle"
    assert not a.control._ctx.attempts
    before = len(net.log)
    net.run(5)
    assert not [entry for entry in net.log[before:] if entry[1] == "a" and "relay" in entry[2]]


def test_sessions_outlive_the_session_with_the_hub(net, trio):
    """The hub is killed and comes back: the same keys between the nodes, before, and after."""
    hub, a, b = trio
    assert talk(net, a, b)
    epoch = a.peers[key(b)].epoch
    bindings = hub.control.bindings
    net.kill(hub)
    net.run(10)
    net.hub(bindings=bindings)
    assert net.run(60, until=lambda: a.state == b.state == "up" and net.now > 1012)
    net.run(1)
    assert talk(net, a, b)
    assert epoch in (a.peers[key(b)].epoch, *a.control.session_with(key(b)).epochs)


def test_who_left_while_the_hub_was_away_is_forgotten(net, trio):
    hub, a, b = trio
    bindings = hub.control.bindings
    net.kill(hub)
    net.kill(b)
    net.run(1)
    net.hub(bindings=bindings)
    assert net.run(60, until=lambda: a.state == "up" and a.control.hub.last_handshake > 1001)
    assert state(a, b) == "idle"
    net.run(35)
    assert state(a, b) == "unknown"


def test_another_key_under_a_pinned_name_is_refused(net):
    """Nothing is sent to it, and it gets no answer, until the operator forgets the pin."""
    net.hub()
    pin = pin_name("hub.example:9000", "test", "b")
    a = net.node("a", "10.0.0.2/24", relay=True, pins={pin: bytes(range(32))})
    b = net.node("b", "10.0.0.3/24", relay=True)
    net.run(0.5)
    (text,) = a.texts("neighbour-refused")
    assert f"ltunnel pins forget {pin}" in text
    assert state(a, b) == "refused"
    a.send("10.0.0.3", b"x")
    b.send("10.0.0.2", b"x")
    net.run(5)
    assert not [entry for entry in net.log if entry[1] == "a" and "relay" in entry[2]]
    assert a.control.forget_pin(pin, net.now)
    assert talk(net, a, b)
    assert a.control.pins[pin] == key(b)


def test_the_key_is_pinned_when_it_is_proved(net, trio):
    _, a, b = trio
    pin = pin_name("hub.example:9000", "test", "b")
    assert pin not in a.control.pins, "introduced is not yet proved"
    assert talk(net, a, b)
    assert a.control.pins[pin] == key(b)
    assert [text for text in a.texts("pins") if "key of b is" in text]


def test_a_neighbour_that_takes_a_pinned_name_is_left(net, trio):
    """b comes back as c, which this node knows under another key: the session ends, nothing more is taken from b."""
    _, a, b = trio
    a.control._node_side.pins.add(pin_name("hub.example:9000", "test", "c"), bytes(range(32)))
    assert talk(net, a, b)
    net.kill(b)  # and is back before anybody has noticed
    b = net.node("c", "10.0.0.3/24", relay=True, identity=b.settings.identity, flow=b.flow)
    net.run(1)
    assert state(a, b) == "refused"
    assert a.texts("neighbour-left")
    assert not talk(net, a, b, 3)
    assert len(a.texts("neighbour-refused")) == 1


def test_a_node_that_changes_its_address_is_introduced_anew(net, trio):
    _, a, b = trio
    assert talk(net, a, b)
    net.kill(b)
    b = net.node("b", "10.0.0.77/24", relay=True, identity=b.settings.identity, flow=b.flow)
    net.run(1)
    assert a.fib.lookup(b.settings.addresses[0].packed) is a.peers[key(b)]
    assert a.fib.lookup(bytes((10, 0, 0, 3))) is None
    assert talk(net, b, a)


def test_a_repeated_confirm_is_greeted_now_and_then_where_the_session_is(net, trio):
    _, a, b = trio
    assert talk(net, a, b)
    confirm = next(data for _, _, to, kind, data in net.log if kind == "CONFIRM" and to == "b by relay")
    net.run(1)
    before = len(net.log)
    for _ in range(100):
        net.inject(b, ("203.0.113.77", 7), confirm)
    assert [(who, to) for _, who, to, _, _ in net.log[before:]] == [("b", "a by relay")]


# -------------------------------------------------------------------- clocks


def test_nodes_whose_clocks_are_far_apart_find_together(net):
    """Either is near enough to the hub's clock, so that neither was told; they are too far from each other."""
    net.hub()
    a = net.node("a", "10.0.0.2/24", relay=True, wall=WALL - 170)
    b = net.node("b", "10.0.0.3/24", relay=True, wall=WALL + 170)
    net.run(0.5)
    assert talk(net, a, b, 2)
    assert [kind for _, who, _, kind, _ in net.log if who == "b" and kind == "TIME"]
    assert not a.texts("clock"), "nothing is said about this machine's clock on the word of a node"
    assert a.control._ctx.wall(net.now) == pytest.approx(WALL - 170 - 1000 + net.now)


def test_a_node_cannot_set_the_hubs_clock(net, trio):
    """It answers an INIT of its hub with a TIME: that counts for INITs to this node."""
    hub, a, b = trio
    session = hub.control.session_with(key(a))
    net.cut = lambda source, target, data: data[0] == MessageType.INIT
    hub.control._rekey(session, net.now)
    net.drain(hub)
    init = parse(next(data for _, who, _, kind, data in reversed(net.log) if (who, kind) == ("hub", "INIT")))
    settings, salt = hub.settings, bytes(16)
    sealed = seal_time(settings.keys.time, salt, int((WALL + 1e6) * 1e9), init.mac1, settings.new_aead)
    net.inject(hub, a.flow, Time(init.sender, salt, sealed).pack())
    assert session.clock_error == pytest.approx(1e6, rel=0.01)
    assert hub.control._ctx.clock_error == 0.0
    net.cut = None
    net.run(130)
    assert (a.state, b.state) == ("up", "up")
