"""Packets that come before there is a session: kept in order, a few of each peer, for a short time."""

from __future__ import annotations

import pytest

from ltunnel.data.waiting import BYTES, PACKETS, PATIENCE, TOTAL_BYTES, Waiting
from ltunnel.session import Drop, Peer
from ltunnel.testing import packets
from ltunnel.wire.relay import node_name


def without_session(net):
    hub, one, other = net.relayed()
    peer = one.fib.names[node_name(other.key)]
    epoch, peer.epoch = peer.epoch, None
    return hub, one, other, peer, epoch


def test_packets_wait_for_a_session(net):
    hub, one, other, peer, epoch = without_session(net)
    one.tun.inject(packets.udp("10.0.0.2", "10.0.0.3", 1, 2, b"hello"))
    one.tun.inject(packets.tcp("10.0.0.2", "10.0.0.3", 1, 2, bytes(5000)), gso_size=1300)
    assert one.pump() == []
    assert list(one.waiting.wanted) == [peer]
    assert one.waiting.release(lambda peer: peer.epoch is not None) == []
    peer.epoch = epoch
    for ready, waiting in one.waiting.release(lambda peer: peer.epoch is not None):
        for packet in waiting:
            one.outbound.forward((packet,), ready, one.now)
    one.outbound.flush(one.now)
    assert not one.waiting
    sent, one.port.sent = one.port.sent, []
    relayed = hub.take(one, [datagram for _, datagram in sent])
    other.take(hub, [datagram for _, datagram in relayed])
    assert other.tun.parsed()[0].payload == b"hello"
    assert sum(len(packet) - 40 for packet in other.tun.packets[1:]) == 5000


def test_nothing_waits_for_the_hub(net):
    _, one, _ = net.relayed()
    one.hub.epoch = None
    one.tun.inject(packets.udp("10.0.0.2", "10.0.0.1", 1, 2, b"x"))
    assert one.pump() == []
    assert not one.waiting
    assert one.hub.stats.drops == {Drop.NO_SESSION: 1}


@pytest.mark.parametrize(("size", "kept"), [(100, PACKETS), (BYTES // 2, 2), (BYTES, 1)])
def test_a_peer_has_a_queue_of_so_much(size, kept):
    waiting, peer = Waiting(), Peer(bytes(32))
    for _ in range(PACKETS + 1):
        waiting.put(peer, bytes(size), 0.0)
    ((_, packets),) = waiting.release(lambda _: True)
    assert len(packets) == kept
    assert peer.stats.drops == {Drop.NO_SESSION: PACKETS + 1 - kept}


def test_all_queues_together_are_bounded():
    waiting, peers = Waiting(), [Peer(bytes((number,)) * 32) for number in range(64)]
    for peer in peers:
        waiting.put(peer, bytes(BYTES), 0.0)
    kept = waiting.release(lambda _: True)
    assert sum(len(packet) for _, packets in kept for packet in packets) == TOTAL_BYTES
    assert sum(peer.stats.drops.get(Drop.NO_SESSION, 0) for peer in peers) == 64 - TOTAL_BYTES // BYTES
    waiting.put(peers[-1], b"x", 0.0)
    assert waiting


def test_nobody_waits_for_ever():
    waiting, peer = Waiting(), Peer(bytes(32))
    assert waiting.next_timeout() is None
    waiting.put(peer, b"first", 1.0)
    waiting.put(peer, b"second", 2.0)
    assert waiting.next_timeout() == 1.0 + PATIENCE
    waiting.handle_timeout(1.0 + PATIENCE)
    assert peer.stats.drops == {Drop.NO_SESSION: 1}
    assert waiting.release(lambda _: True) == [(peer, [b"second"])]
    waiting.handle_timeout(100.0)
    assert peer.stats.drops == {Drop.NO_SESSION: 1}
