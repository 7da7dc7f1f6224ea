"""Authentic shards of a peer that lies about k, m, index, length and group."""

from __future__ import annotations

import random

from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.groups import MOST_BYTES, REMEMBERED
from ltunnel.data.fec.layout import PARITY, SHARD
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.testing import packets
from ltunnel.wire.types import FrameType
from ltunnel_fec_rs import ReedSolomon
from ltunnel_fec_xor import XorParity

SHARDS = 100_000


def peer_of(end):
    (peer,) = set(end.fib._hosts.values())
    return peer


def frames(chance: random.Random) -> list[bytes]:
    """Frames, some as they should be, some not."""
    good = [
        bytes(10) + packets.udp("10.0.0.1", "10.0.0.2", 1, 2, chance.randbytes(size)) + bytes((FrameType.BUNDLE,))
        for size in (0, 1, 50, 50, 200)
    ]
    stranger = bytes(10) + packets.udp("10.0.0.9", "10.0.0.2", 1, 2, b"not mine") + bytes((FrameType.BUNDLE,))
    row = chance.randbytes(100) + packets.tcp("10.0.0.1", "10.0.0.2", 1, 2) + bytes((1, 40, 20, 3, 100, 0, 1, 1))
    return [
        *good,
        stranger,
        row,
        row[:-60] + row[-50:],
        chance.randbytes(80),
        bytes((FrameType.ROW,)),
        b"\x03",
        b"\x04",
    ]


def test_lies_cost_neither_memory_nor_an_exception(net):
    chance = random.Random(4)
    for codes in (Codes("rs", ReedSolomon), Codes("xor", XorParity)):
        left, right = net.pair(fec=(codes, FecSettings(mode=FecMode.FIXED)))
        stock = frames(chance)
        epoch = peer_of(left).epoch
        group = 0
        datagrams: list[bytes] = []
        for serial in range(SHARDS // 2):
            group = chance.choice((group, group, group, group + 1, group - 1, chance.randrange(1 << 24))) % (1 << 24)
            frame = chance.choice(stock)
            k, m = chance.choice(((2, 1), (2, 1), (10, 3), (1, 2), (254, 1), (1, 254), (0, 0), (255, 255), (200, 55)))
            index = chance.choice((0, 1, chance.randrange(256)))
            used = chance.choice((0, 0, 1, 2, k, chance.randrange(256)))
            if chance.random() < 0.5:
                length = chance.choice((len(frame), len(frame), 0, 65_535, chance.randrange(200)))
                body = frame + SHARD.pack(length, used << 24 | group, index, k, m, FrameType.FEC_DATA)
            else:
                body = frame + PARITY.pack(used << 24 | group, index, k, m, FrameType.FEC_PARITY)
            body = body[chance.choice((0, 0, 0, 0, chance.randrange(len(body)))) :]
            datagrams.append(epoch.seal_frame(body[-1], body[:-1]))
            if len(datagrams) == 64:
                chance.shuffle(datagrams)
                right.port.gro = chance.random() < 0.5
                right.now += chance.choice((0, 0.001, 0.2))
                right.take(left, datagrams)
                datagrams.clear()
                if serial % 1000 == 0:
                    right.shards.handle_timeout(right.now)
        (groups,) = right.shards._groups.values()
        assert len(groups._groups) <= REMEMBERED
        assert groups._size <= MOST_BYTES
        assert groups._size == sum(g.size for g in groups._waiting.values())
        right.shards.handle_timeout(right.now + 1)
        assert (groups._size, groups._waiting) == (0, {})
        stats = peer_of(right).fec
        assert min(stats.refused, stats.recovered, stats.lost, stats.late, stats.wasted) > 0
        for packet in right.tun.packets:
            assert packet[12:16] == bytes((10, 0, 0, 1)), "a packet of somebody else"


def test_large_shards_push_out_old_groups(net):
    left, right = net.pair(mtu=9000, fec=(Codes("rs", ReedSolomon), FecSettings(mode=FecMode.FIXED)))
    epoch = peer_of(left).epoch
    for serial in range(2000):
        body = bytes(8900) + PARITY.pack(20 << 24 | serial, 0, 20, 10, FrameType.FEC_PARITY)
        right.take(left, [epoch.seal_frame(body[-1], body[:-1])])
    (groups,) = right.shards._groups.values()
    assert groups._size <= MOST_BYTES
    assert peer_of(right).fec.lost > 0
