"""Authentic nonsense: frames that mean nothing, replies without end. No exception, no storm."""

from ipaddress import ip_interface
from random import Random

import pytest

from ltunnel.keys.mac import seal_cookie, seal_time
from ltunnel.session import Drop
from ltunnel.wire.frames import PeerEntry, Peers
from ltunnel.wire.messages import parse
from ltunnel.wire.relay import node_name
from ltunnel.wire.types import FrameType


def test_frames_that_mean_nothing_never_raise(net):
    """Somebody who is inside the session, and hostile."""
    hub = net.hub()
    node = net.node("a", "10.0.0.2/24")
    net.run(1)
    random = Random(5)
    for _ in range(3000):
        frame_type = random.choice([*FrameType, random.randrange(0x10, 256)])
        body = random.randbytes(random.randrange(0, 60))
        if frame_type == FrameType.WELCOME and random.random() < 0.5:
            body = bytes((random.randrange(1, 12), 0, random.randrange(0, 8))) + body
        if frame_type in (FrameType.BYE, FrameType.DENY):  # a good one would end the session
            body = body[:2]
        for source, target in ((node, hub), (hub, node)):
            peer = next(iter(source.peers.values()))
            net.inject(target, source.flow, peer.epoch.seal_frame(frame_type, body))
    assert node.state == "up"
    assert hub.peers[node.settings.identity.public].stats.drops.keys() >= {Drop.MALFORMED, Drop.UNKNOWN_TYPE}
    net.run(20)
    assert node.state == "up"


def test_nonsense_from_hub_and_neighbours_never_raises(net):
    """The hub introduces what it likes, a neighbour says what it likes; the two talk on."""
    hub = net.hub()
    a, b = (net.node(name, f"10.0.0.{number}/24", relay=True) for number, name in ((2, "a"), (3, "b")))
    net.run(1)
    b.send("10.0.0.2", b"hello")
    net.run(1)
    keys = [host.settings.identity.public for host in (hub, a, b)]
    sessions = [
        (a, a.relay, node_name(keys[2]), b.peers[keys[1]]),
        (a, 0, hub.flow, next(peer for peer in hub.peers.values() if peer.key == keys[1])),
    ]
    random = Random(6)
    addresses = [ip_interface(text) for text in ("10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", "fd00::9/64")]

    def entry() -> PeerEntry:
        key = random.choice([*keys, random.randbytes(32)])
        return PeerEntry(key, random.choice(("a", "b", "hub", "x")), tuple(random.sample(addresses, 2)))

    real = [Peers(tuple(entry() for _ in range(random.randrange(4)))).pack() for _ in range(50)]
    for turn in range(3000):
        target, transport, flow, peer = sessions[turn % 2]
        frame_type = random.choice([FrameType.PEERS, *range(0x10, 0x30)])
        body = bytearray(random.choice(real)) if frame_type == FrameType.PEERS else bytearray(random.randbytes(40))
        if random.random() < 0.7 and body:
            body[random.randrange(len(body))] ^= 1 << random.randrange(8)
        if frame_type in (FrameType.BYE, FrameType.DENY, FrameType.WELCOME):
            body = body[:2]
        target.receive(flow, peer.epoch.seal_frame(frame_type, bytes(body)), transport)
        net.drain(target)
    hub_peer = a.peers[keys[0]]
    assert hub_peer.hosts == {ip_interface("10.0.0.1/24").packed}, "whatever was introduced"
    assert a.state == "up"
    drops = a.peers[keys[2]].stats.drops if keys[2] in a.peers else {}
    assert not drops or drops[Drop.UNKNOWN_TYPE] > 100
    net.run(5)


@pytest.mark.parametrize("kind", ["COOKIE", "TIME"])
def test_forged_and_repeated_replies_make_no_storm(net, kind):
    node = net.node("a", "10.0.0.2/24")  # nobody answers
    (init,) = [parse(data) for *_, data in net.log]
    number = {"COOKIE": 4, "TIME": 5}[kind]
    for _ in range(100):
        net.inject(
            node, ("198.51.100.1", 9000), bytes((number, 0, 0, 0, 0, *init.sender.to_bytes(3, "big"))) + bytes(48)
        )
    assert len(net.log) == 1
    assert node.stats.drops[Drop.FORGED] == 100
    # A hub gone mad answers every INIT with the right thing, at once, for ever.
    keys, new_aead = node.settings.keys, node.settings.new_aead
    start = len(net.log)
    for _ in range(1000):
        message = parse(net.log[-1][-1])
        salt = net.randbytes(16)
        if kind == "COOKIE":
            sealed = seal_cookie(keys.cookie, salt, bytes(16), message.mac1, new_aead)
        else:
            sealed = seal_time(keys.time, salt, int(1e18), message.mac1, new_aead)
        net.inject(
            node,
            ("198.51.100.1", 9000),
            bytes((number, 0, 0, 0, 0, *message.sender.to_bytes(3, "big"))) + salt + sealed,
        )
        net.run(0.01)
    assert len(net.log) - start <= 10 + 16, "at most one a second out of turn"
