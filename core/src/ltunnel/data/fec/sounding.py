"""A few small datagrams that show what a line loses, before a TCP connection finds it out the hard way.

A TCP begins with some ten packets, and doubles that with each round trip as long as none is lost. If it opens a
connection over a line of which nothing is known, datagrams of padding follow its SYN. What is lost of them the far end
tells at once (`ltunnel.data.reports`), so that the first of the data can have parity.
"""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.data.inet import SYN, TCP
from ltunnel.data.virtio import VNET_SIZE
from ltunnel.plugin import Buffer
from ltunnel.wire.types import FrameType

SOUNDINGS = 48
"""Datagrams. Where a tenth is lost one of them is in 99 % of all cases, where a twentieth is in 91 %."""
KNOWN = 3.0
"""Seconds for which it is known what a line does with so many."""
PATIENCE = 0.3
"""Seconds that are waited for the answer, besides two round trips."""

_PADDING = memoryview(bytes((FrameType.PADDING,)))


def soundings() -> list[Buffer]:
    """Return their plaintexts."""
    return [_PADDING] * SOUNDINGS


def opens_connection(data: bytearray, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether one of these packets, each behind a virtio-net header, is a SYN of TCP (IPv6: without extensions)."""
    return any(_is_syn(data, start + VNET_SIZE, stop) for start, stop in spans)


def _is_syn(data: bytearray, ip: int, stop: int) -> bool:
    if data[ip] >> 4 == 4:
        protocol, l4 = data[ip + 9], ip + (data[ip] & 15) * 4
    else:
        protocol, l4 = data[ip + 6], ip + 40
    return protocol == TCP and l4 + 13 < stop and bool(data[l4 + 13] & SYN)
