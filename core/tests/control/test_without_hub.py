"""Two nodes with a direct path while their hub is away, comes back, or was restarted: they do not need it."""

import pytest

from ltunnel.plugin import NextHop, PathClass
from ltunnel.wire.types import MessageType


class Smallest:
    """The smallest class of path."""

    def decide(self, paths, now):
        best = {path.peer: path for path in sorted(paths, key=lambda path: -path.path_class)}
        return {
            peer: NextHop(number=path.number, via=path.via, path_class=path.path_class, reason="smallest")
            for peer, path in best.items()
        }


def key(host) -> bytes:
    return host.settings.identity.public


def state(host, other) -> str:
    peer = host.peers.get(key(other))
    return "unknown" if peer is None else host.control.peer_state(peer)


def is_direct(host, other) -> bool:
    return host.peers[key(other)].path.transport != host.relay


def talk(net, a, b, seconds: float) -> None:
    """Each sends the other ten packets a second."""
    end = net.now + seconds
    while net.now < end:
        a.send(str(b.settings.addresses[0].ip), b"there")
        b.send(str(a.settings.addresses[0].ip), b"back")
        net.run(0.1)


@pytest.fixture
def direct(net):
    """A hub, and two nodes that talk directly."""
    hub = net.hub()
    a = net.node("a", "10.0.0.2/24", relay=True, routing=Smallest())
    b = net.node("b", "10.0.0.3/24", relay=True, routing=Smallest())
    net.run(0.5)
    talk(net, a, b, 1)
    for host, other in ((a, b), (b, a)):
        session = host.control.session_with(key(other))
        host.control._ways.probe(session, 0, other.flow, PathClass.PUBLIC, net.now)
        net.drain(host)
    talk(net, a, b, 2)
    assert is_direct(a, b)
    assert is_direct(b, a)
    return hub, a, b


def test_new_keys_are_made_over_the_path_in_use(net, direct):
    _, a, b = direct
    before, epoch = len(net.log), a.peers[key(b)].epoch
    talk(net, a, b, 130)
    assert a.peers[key(b)].epoch is not epoch
    handshakes = {MessageType.INIT.name, MessageType.RESP.name, MessageType.CONFIRM.name}
    relayed = [kind for _, _, to, kind, _ in net.log[before:] if "relay" in to and kind in handshakes]
    directly = [kind for _, who, to, kind, _ in net.log[before:] if {who, to} == {"a", "b"} and kind in handshakes]
    assert not relayed
    assert sorted(directly) == ["CONFIRM", "INIT", "RESP"]
    assert is_direct(a, b)


def test_a_session_goes_on_without_the_hub(net, direct):
    """For ten minutes: new keys are made, all packets arrive, and nobody forgets anybody."""
    hub, a, b = direct
    net.kill(hub)
    sent = len(a.got), len(b.got)
    talk(net, a, b, 600)
    assert (a.state, b.state) == ("connecting", "connecting")
    assert min(len(a.got) - sent[0], len(b.got) - sent[1]) >= 5999
    assert not a.texts("neighbour-left")
    assert a.peers[key(b)].last_handshake > net.now - 180


def test_a_hub_that_was_restarted_finds_them_as_they_are(net, direct):
    hub, a, b = direct
    bindings, epochs = hub.control.bindings, [a.peers[key(b)].epoch, b.peers[key(a)].epoch]
    net.kill(hub)
    talk(net, a, b, 20)
    net.hub(bindings=bindings)
    talk(net, a, b, 40)
    assert a.state == b.state == "up"
    assert len(a.texts("connected")) == len(b.texts("connected")) == 2
    assert [a.peers[key(b)].epoch, b.peers[key(a)].epoch] == epochs
    assert len(a.texts("neighbour-joined")) == 1
    assert is_direct(a, b)


def test_a_neighbour_that_the_hub_loses_stays_while_it_talks(net, direct):
    """The hub does not hear b any more and says that it is gone; a hears it well, and forgets it when it does not."""
    hub, a, b = direct
    net.cut = lambda source, target, _: {source, target} == {hub, b}
    talk(net, a, b, 60)
    assert state(hub, b) == "expired"
    assert state(a, b) == "established"
    net.kill(b)
    net.run(60)
    assert state(a, b) == "unknown"


def test_a_neighbour_that_was_restarted_takes_the_relay_first(net, direct):
    """It knows of no other way, and its old port may be gone."""
    _, a, b = direct
    net.kill(b)
    b = net.node("b", "10.0.0.3/24", relay=True, routing=Smallest(), flow=("203.0.113.99", 40000))
    net.run(1)
    b.send("10.0.0.2", b"I am back")
    net.run(0.5)
    b.send("10.0.0.2", b"I am back")
    net.run(0.2)
    assert a.got[-1] == b"I am back"
    a.send("10.0.0.3", b"I see")
    net.run(0.2)
    assert b.got == [b"I see"]
    assert not is_direct(a, b)


def test_another_hub_is_another_network(net, direct):
    """A hub with another key, after its pin was forgotten: whoever the old one introduced is forgotten."""
    hub, a, b = direct
    net.kill(hub)
    net.hub(identity=b.settings.identity.from_private(bytes(range(32))))
    assert net.run(60, until=lambda: a.state == "denied")
    assert a.control.forget_pin("hub.example:9000/test", net.now)
    assert net.run(60, until=lambda: a.state == "up")
    assert state(a, b) == "unknown"
    assert not a.control.session_with(key(b))
