"""What the data path makes of datagrams from a flow that is not the path in use."""

import pytest

from ltunnel.testing import packets
from ltunnel.wire.types import FrameType

ELSEWHERE = ("198.51.100.7", 5)
UDP = packets.udp("10.0.0.1", "10.0.0.2", 1, 2, b"x")


@pytest.mark.parametrize(("frame", "moves"), [("PING", True), ("BYE", True), ("PONG", False), ("PROBE", False)])
def test_probing_frames_are_never_the_newest(net, frame, moves):
    left, right = net.pair()
    (peer,) = left.control.sessions.values()
    datagram = peer.peer.epoch.seal_frame(FrameType[frame], bytes(8))
    left.endpoint = ELSEWHERE
    right.take(left, [datagram])
    assert right.control.notices == [(ELSEWHERE, moves)]
    assert right.control.frames == [(FrameType[frame], bytes(8))]


def test_packets_behind_a_probe_are(net):
    left, right = net.pair()
    (epoch,) = left.control.sessions.values()
    probe = epoch.peer.epoch.seal_frame(FrameType.PROBE, bytes(8))
    left.tun.inject(UDP)
    packet = [datagram for _, datagram in left.pump()]
    left.endpoint = ELSEWHERE
    right.take(left, [probe, *packet])
    assert right.control.notices == [(ELSEWHERE, False), (ELSEWHERE, True)]
    assert right.tun.packets == [UDP]
