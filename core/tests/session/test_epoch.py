"""Epochs: the header is the nonce, counters only grow, and everything in a datagram is bound."""

from __future__ import annotations

import pytest

from ltunnel.constants import REJECT_AFTER_PACKETS, REJECT_AFTER_TIME
from ltunnel.session import Epoch, Peer
from ltunnel.wire.types import FrameType
from ltunnel_crypto_aesgcm import AesGcm

KEYS = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
def ends():
    return tuple(
        Epoch(
            Peer(bytes((number,)) * 32), local_index=number, remote_index=3 - number,
            sealer=AesGcm(KEYS[number - 1]), opener=AesGcm(KEYS[2 - number]), created=100.0, initiator=number == 1,
        )
        for number in (1, 2)
    )  # fmt: skip


def test_a_frame_arrives_once(ends):
    left, right = ends
    datagram = left.seal_frame(FrameType.PING, b"hello")
    assert datagram[:12] == bytes.fromhex("06000002 0000000000000000".replace(" ", ""))
    assert right.open_frame(datagram) == (FrameType.PING, b"hello")
    assert right.open_frame(datagram) is None
    assert right.confirmed


def test_every_bit_is_bound(ends):
    left, right = ends
    datagram = left.seal_frame(FrameType.PING, b"hello")
    for bit in range(8 * len(datagram)):
        broken = bytearray(datagram)
        broken[bit // 8] ^= 1 << bit % 8
        assert right.open_frame(bytes(broken)) is None
    for length in range(len(datagram)):
        assert right.open_frame(datagram[:length]) is None
    assert right.window.top == -1
    assert right.open_frame(datagram) is not None


def test_no_nonce_twice(ends):
    left, _ = ends
    first = left.take(5)
    assert left.take(1) == first + 5
    headers = {left.seal_frame(FrameType.PING, b"")[:12] for _ in range(100)}
    assert len(headers) == 100


def test_ends_of_use(ends):
    left, _ = ends
    assert left.usable(100.0)
    assert not left.usable(100.0 + REJECT_AFTER_TIME)
    left.counter = REJECT_AFTER_PACKETS
    assert not left.usable(100.0)
