"""Shards of a peer that lies about k, m, index, length and group, among honest ones, repeated, shuffled and damaged."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.groups import MOST_BYTES, REMEMBERED
from ltunnel.data.fec.layout import FEC_DATA, FEC_PARITY, PARITY, SHARD
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.session import Drop
from ltunnel.testing import packets
from ltunnel.wire.types import FrameType
from ltunnel_fec_rs import ReedSolomon
from ltunnel_fec_xor import XorParity

SHARDS = 1_000_000
"""In all, half of them for each plugin."""
BURST = 64
PLUGINS = {"rs": ReedSolomon, "xor": XorParity}
PAIRS = ((2, 1), (2, 1), (10, 3), (1, 2), (254, 1), (1, 254), (0, 0), (255, 255), (200, 55))


def peer_of(end):
    (peer,) = set(end.fib._hosts.values())
    return peer


def frames(chance: np.random.Generator) -> list[bytes]:
    """Frames, some as they should be, some not."""
    good = [
        bytes(10) + packets.udp("10.0.0.1", "10.0.0.2", 1, 2, chance.bytes(size)) + bytes((FrameType.BUNDLE,))
        for size in (0, 1, 50, 50, 200)
    ]
    stranger = bytes(10) + packets.udp("10.0.0.9", "10.0.0.2", 1, 2, b"not mine") + bytes((FrameType.BUNDLE,))
    header = packets.tcp("10.0.0.1", "10.0.0.2", 1, 2)
    rows = [chance.bytes(100) + header + bytes((1, 40, 20, 3, 100, 0, place, FrameType.ROW)) for place in range(3)]
    shorter = rows[1][:-60] + rows[1][-50:]
    return [*good, *rows, stranger, shorter, chance.bytes(80), bytes((FrameType.ROW,)), b"\x03", b"\x04"]


def honest_groups(make, chance: np.random.Generator) -> list[tuple[int, int, list[tuple[bytes, int]]]]:
    """Groups as they should be, as (k, m, bodies of shards with their `used`): data, then parity."""
    stock, groups = frames(chance), []
    for k, m, used in ((1, 1, 1), (2, 1, 2), (4, 2, 3), (4, 2, 4), (10, 3, 10)):
        for same in (False, True):  # equal frames arrive and are delivered in runs
            members = [stock[5 + i % 3] for i in range(used)] if same else chance.choice(np.array(stock, object), used)
            length = max(map(len, members)) + 2
            coded = [(frame + len(frame).to_bytes(2, "big")).rjust(length, b"\0") for frame in members]
            parity = np.empty((m, length), np.uint8)
            make(k, m).encode(np.frombuffer(b"".join(coded), np.uint8).reshape(used, length), parity)
            shards = [(frame, 0) for frame in members] + [(row.tobytes(), used) for row in parity]
            groups.append((k, m, shards))
    return groups


def lies(groups, count: int, chance: np.random.Generator) -> Iterator[bytes]:
    """Make up plaintexts of shards, two thirds of them honest."""
    draw = chance.integers
    stock = frames(chance)
    base = 0
    while count > 0:
        count -= BURST
        base += int(draw(8)) if draw(50) else int(draw(-3000, 30_000))  # far ahead, or back by more than is known
        drawn = draw((12, 256, 24, 256, 4), size=(BURST, 5)).tolist()
        for offset, place, lie, value, other in drawn:
            number = base + offset
            k, m, shards = groups[number % len(groups)]
            place %= len(shards)
            body, used = shards[place]
            is_data = place < len(shards) - m
            group, index, kk, mm = number, place if is_data else place - (len(shards) - m), k, m
            length = len(body)
            if lie == 0:
                index = value
            elif lie == 1:
                kk, mm = PAIRS[value % len(PAIRS)]
            elif lie == 2:
                used = (value, 0, 1, k)[other]
            elif lie == 3:
                length = (0, 65_535, value, length + 1)[other]
            elif lie == 4:
                group += other - 2
            elif lie == 5:
                is_data = not is_data
            elif lie == 6:
                body = stock[value % len(stock)]
                length = len(body)
            elif lie == 7:
                body = body[value % (len(body) + 1) :]
            head = used << 24 | group & 0xFFFFFF
            if is_data:
                yield body + SHARD.pack(length, head, index & 255, kk, mm, FEC_DATA)
            else:
                yield body + PARITY.pack(head, index & 255, kk, mm, FEC_PARITY)


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_lies_cost_neither_memory_nor_an_exception(net, plugin):
    chance = np.random.default_rng(4)
    left, right = net.pair(fec=(Codes(plugin, PLUGINS[plugin]), FecSettings(mode=FecMode.FIXED)))
    epoch, peer, tun = peer_of(left).epoch, peer_of(right), right.tun
    bodies = lies(honest_groups(PLUGINS[plugin], chance), SHARDS // 2, chance)
    delivered = damaged = 0
    for burst, how in enumerate(chance.integers(16, size=SHARDS // 2 // BURST).tolist()):
        datagrams = [epoch.seal_frame(body[-1], body[:-1]) for body in islice(bodies, BURST)]
        if how == 0:
            datagrams += datagrams[:8]  # replayed
        if how == 1:
            broken = bytearray(datagrams[0])
            broken[burst % (len(broken) - 12) + 12] ^= 1 << burst % 8
            datagrams[0] = bytes(broken)
            damaged += 1
        if how < 8:
            chance.shuffle(datagrams)
        else:
            datagrams.sort(key=len)  # so that some are opened and placed together
        right.port.gro = how % 2 == 0
        right.now += (0, 0.001, 0.2)[how % 3]
        right.take(left, datagrams)
        if burst % 16 == 0:
            right.shards.handle_timeout(right.now)
            epoch.created = peer.epoch.created = right.now  # no new keys meanwhile
        delivered += len(tun.packets)
        assert tun.refused == []
        for packet in tun.packets:
            assert packet[12:20] == bytes((10, 0, 0, 1, 10, 0, 0, 2)), "a packet of somebody else"
        tun.clear()
        if burst % 256 == 0:
            (groups,) = right.shards._groups.values()
            assert len(groups._groups) <= REMEMBERED
            assert groups._size <= MOST_BYTES
            assert groups._size == sum(group.size for group in groups._waiting.values())
    right.shards.handle_timeout(right.now + 1)
    assert (groups._size, groups._waiting) == (0, {})
    stats = peer.fec
    print(f"{plugin}: {delivered} packets, {stats}")
    assert stats.data_received + stats.parity_received > 0.9 * SHARDS / 2
    assert min(stats.refused, stats.recovered, stats.lost, stats.late, stats.wasted) > SHARDS / 1000
    assert delivered > SHARDS / 100
    assert peer.stats.drops[Drop.REPLAYED] > 8 * 400
    assert peer.stats.drops[Drop.FORGED] == damaged > 400


def test_large_shards_push_out_old_groups(net):
    left, right = net.pair(mtu=9000, fec=(Codes("rs", ReedSolomon), FecSettings(mode=FecMode.FIXED)))
    epoch = peer_of(left).epoch
    for serial in range(2000):
        body = bytes(8900) + PARITY.pack(20 << 24 | serial, 0, 20, 10, FEC_PARITY)
        right.take(left, [epoch.seal_frame(body[-1], body[:-1])])
    (groups,) = right.shards._groups.values()
    assert groups._size <= MOST_BYTES
    assert peer_of(right).fec.lost > 0
