"""Packets of all kinds for the data path, and how they should come out again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from ltunnel.data.records import HEADER
from ltunnel.session import Drop, Peer
from ltunnel.testing import packets
from ltunnel.testing.offload import complete, offload
from ltunnel.wire.relay import node_name
from ltunnel.wire.types import MessageType


def to_peer(end, other) -> Peer:
    return end.fib.names[node_name(other.key)]


def peer_of(end) -> Peer:
    """Return the peer of an end that has one only."""
    (peer,) = set(end.fib._hosts.values())
    return peer


def stream(number: int, size: int) -> bytes:
    """Return a TCP super-packet to port `number`."""
    return packets.tcp("10.0.0.1", "10.0.0.2", 1, number, random.Random(number).randbytes(size), seq=number)


def arrived(right) -> dict[int, bytes]:
    """Return what has come, by destination port."""
    out: dict[int, bytes] = {}
    for packet in right.tun.parsed():
        out[packet.dport] = out.get(packet.dport, b"") + packet.payload
    return out


def inject(end, rng: random.Random) -> tuple[list[bytes], list[bytes]]:
    """Send packets of all kinds and sizes; return the datagrams, and the packets as they should arrive."""
    expected: list[bytes] = []
    for serial in range(rng.randrange(1, 12)):
        version = rng.choice((4, 6))
        ends = ("10.0.0.2", "10.0.0.3") if version == 4 else ("fd00::2", "fd00::3")
        seg = None
        match rng.choice(("super", "uso", "udp", "udp", "echo")):
            case "super":
                seg = rng.randrange(1, 1280)
                packet = packets.tcp(*ends, 1, 2, rng.randbytes(rng.randrange(1, min(60_000, 250 * seg))), seq=serial)
            case "uso":
                seg = rng.randrange(1, 1280)
                packet = packets.udp(*ends, 3, 4, rng.randbytes(rng.randrange(1, min(40_000, 60 * seg))))
            case "udp":
                packet = packets.udp(*ends, 5, 6, rng.randbytes(rng.randrange(1300)))
            case _:
                packet = packets.echo(*ends, 7, serial, rng.randbytes(rng.randrange(1300)))
        end.tun.inject(packet, gso_size=seg)
        expected += complete(*offload(packet, seg))
    return [datagram for _, datagram in end.pump()], expected


def unordered(pieces: list[bytes]) -> Counter[bytes]:
    """Packets but for what joining UDP datagrams changes: the identification, and with it the header checksum."""
    return Counter(
        piece[:4] + bytes(2) + piece[6:10] + bytes(2) + piece[12:] if piece[0] == 0x45 and piece[9] == 17 else piece
        for piece in pieces
    )


def refuses(end, take: Callable[[bytes], None], *lies: tuple[int, int, int, int, Drop]) -> None:
    """Give `take` headers of records, (parts, part, size, counter), of which each is dropped for the reason named.

    Nothing is delivered. What is dropped for an unknown index has one.
    """
    (epoch,) = end.control.sessions.values()
    for *header, reason in lies:
        known = reason != Drop.UNKNOWN_INDEX
        stats = peer_of(end).stats if known else end.stats
        before = stats.drops.get(reason, 0)
        take(HEADER.pack((MessageType.RECORD << 24 | epoch.local_index) ^ (0 if known else 0xFF), *header))
        assert stats.drops.get(reason, 0) == before + 1, header
    assert set(end.stats.drops) == {Drop.UNKNOWN_INDEX}
    assert end.tun.writes == []
