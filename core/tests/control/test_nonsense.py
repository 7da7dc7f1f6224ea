"""Authentic nonsense: frames that mean nothing, replies without end. No exception, no storm."""

from random import Random

import pytest

from ltunnel.keys.mac import seal_cookie, seal_time
from ltunnel.session import Drop
from ltunnel.wire.messages import parse
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
