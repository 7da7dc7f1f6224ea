"""Datagrams of one UDP flow joined into one super-packet: one system call instead of dozens, on a hub one next hop.

Joined are neighbours in a bundle with equal headers (but for the IPv4 identification) and lengths, whose checksum the
receiving kernel shall take from the pseudo-header (NEEDS_CSUM). The kernel cuts them again at the socket, or hands them
over whole to one that asked for UDP_GRO. Neighbours of equal length are a grid, so they are compared all at once.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

import numpy as np

from ltunnel.constants import BUNDLE_ENTRY
from ltunnel.data.grid import Arena
from ltunnel.data.inet import UDP, fold, seal_ipv4
from ltunnel.data.virtio import GSO_UDP_L4, NEEDS_CSUM, VNET, VNET_SIZE
from ltunnel.plugin import Buffer

SHORTEST = 4
"""Fewer packets are cheaper one by one."""

_LIMIT = 64  # UDP_MAX_SEGMENTS of older kernels
_LONGEST = 65_000
_HEADERS = 28
_H = Struct(">H")
_ADDRESSES = Struct(">4H")
# Columns of virtio-net header, IPv4 and UDP header that must agree, and the frame type behind the packet.
_EQUAL = np.array([*range(14), *range(16, 20), *range(22, VNET_SIZE + _HEADERS), -1])


class Run(NamedTuple):
    """A super-packet that stands for `packets` entries, `size` bytes all together."""

    packets: int
    size: int
    header: bytearray
    parts: tuple[bytes, bytearray, Buffer]


def find_run(arena: Arena, at: int, bundle: int, end: int) -> Run | None:
    """Join the entries from `at` on as far as they are alike; None when few are.

    Bundles of `bundle` bytes stand back to back from 0 to `end`; a run goes on into the next where they hold nothing
    but entries of its length.
    """
    data = arena.data
    if end - at < SHORTEST * (_HEADERS + BUNDLE_ENTRY) or data[at] != NEEDS_CSUM or data[at + 1]:
        return None
    ip = at + VNET_SIZE
    if data[ip] != 0x45 or data[ip + 9] != UDP or data[ip + 6] & 0x3F or data[ip + 7]:
        return None
    length = data[ip + 2] << 8 | data[ip + 3]
    slot, payload = length + BUNDLE_ENTRY, length - _HEADERS
    if bundle % slot or at % bundle % slot:
        end = at - at % bundle + bundle
    count = min((end - at) // slot, _LIMIT, _LONGEST // payload) if payload > 0 else 0
    if count < SHORTEST or data[ip + 24] << 8 | data[ip + 25] != payload + 8:
        return None
    grid = arena.array[at : at + count * slot].reshape(count, slot)
    alike = (grid[:, _EQUAL] == grid[0, _EQUAL]).all(axis=1)
    if not alike.all():
        count = int(alike.argmin())
        if count < SHORTEST:
            return None
    total = 8 + count * payload
    header = data[ip : ip + _HEADERS]
    header[2:4] = _H.pack(20 + total)
    seal_ipv4(header)
    header[24:26] = _H.pack(total)
    header[26:28] = _H.pack(fold(sum(_ADDRESSES.unpack_from(header, 12)) + UDP + total))
    virtio = VNET.pack(NEEDS_CSUM, GSO_UDP_L4, _HEADERS, payload, 20, 6)
    payloads = np.ascontiguousarray(grid[:count, VNET_SIZE + _HEADERS : -1]).data.cast("B")
    return Run(count, count * slot, header, (virtio, header, payloads))
