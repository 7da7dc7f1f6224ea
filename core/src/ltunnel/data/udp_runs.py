"""Datagrams of one UDP flow joined into one super-packet for the TUN device: one system call instead of dozens.

Joined are neighbours with equal addresses, ports, lengths and type of service, whose checksum the receiving kernel
shall take from the pseudo-header (NEEDS_CSUM); the last may be shorter. The kernel cuts them again at the socket (or
hands them over whole to one that asked for UDP_GRO).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from ltunnel.data.inet import UDP, fold, seal_ipv4
from ltunnel.data.virtio import GSO_UDP_L4, NEEDS_CSUM, VNET, VNET_SIZE
from ltunnel.plugin import Buffer

_LIMIT = 64  # UDP_MAX_SEGMENTS of older kernels
_HEADERS = 28
_H = Struct(">H")


def run_length(data: bytearray, spans: Sequence[tuple[int, int]], at: int) -> int:
    """How many packets from `at` on can be joined; 1 when none."""
    start, stop = spans[at]
    size = stop - start
    if not _joinable(data, start, size):
        return 1
    service, key = data[start + 11], data[start + 22 : start + 34]
    total = size - VNET_SIZE
    count = 1
    for begin, end in spans[at + 1 : at + _LIMIT]:
        length = end - begin
        total += length - VNET_SIZE - _HEADERS
        if (
            length > size
            or total > 65_000
            or data[begin + 22 : begin + 34] != key
            or data[begin + 11] != service
            or not _joinable(data, begin, length)
        ):
            break
        count += 1
        if length < size:
            break
    return count


def _joinable(data: bytearray, start: int, size: int) -> bool:
    """IPv4 without options or fragments, UDP, checksum left to the kernel, UDP length right, not empty."""
    ip = start + VNET_SIZE
    length = size - VNET_SIZE - 20
    return (
        data[start] == NEEDS_CSUM
        and data[ip] == 0x45
        and data[ip + 9] == UDP
        and not data[ip + 6] & 0x3F
        and not data[ip + 7]
        and length > 8
        and data[ip + 24] << 8 | data[ip + 25] == length
    )


def join(view: Buffer, spans: Sequence[tuple[int, int]], at: int, count: int) -> list[Buffer | bytes | bytearray]:
    """Return the parts of the super-packet that stands for `count` packets from `at` on."""
    start, stop = spans[at]
    header = bytearray(view[start + VNET_SIZE : start + VNET_SIZE + _HEADERS])
    payloads = [view[begin + VNET_SIZE + _HEADERS : end] for begin, end in spans[at : at + count]]
    total = 8 + sum(map(len, payloads))
    header[2:4] = _H.pack(20 + total)
    seal_ipv4(header)
    header[24:26] = _H.pack(total)
    addresses = Struct(">4H").unpack_from(header, 12)
    header[26:28] = _H.pack(fold(sum(addresses) + UDP + total))
    virtio = VNET.pack(NEEDS_CSUM, GSO_UDP_L4, _HEADERS, stop - start - VNET_SIZE - _HEADERS, 20, 6)
    return [virtio, header, *payloads]
