"""The way from a packet socket to the next machine: what stands in front of an IP packet there, and what waits."""

from __future__ import annotations

import errno
from collections.abc import Callable
from struct import Struct

from ltunnel.plugin import Buffer

_VNET = Struct("<BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset


class Hop:
    """A way to the next machine: a socket, and what stands in front of packets."""

    __slots__ = ("header", "mtu", "send", "size", "waiting")

    def __init__(self, send: Callable[[Buffer | bytes], int], mtu: int, size: int) -> None:
        self.send = send
        self.mtu = mtu
        self.size = size
        """Bytes of the link header."""
        self.header: bytes | None = None
        """None while the next machine's link-layer address is not known."""
        self.waiting: list[bytes] = []

    def head(self, vnet: bytes) -> bytes:
        """Return what stands in front of the IP header, by the virtio-net header that the transport has written there.

        Raises OSError.
        """
        assert self.header is not None  # noqa: S101  # the caller has looked
        flags, kind, length, size, start, offset = _VNET.unpack(vnet)
        if kind and length + size > self.mtu:  # the kernel looks only at packets that it does not cut
            raise OSError(errno.EMSGSIZE, "segments larger than the MTU")
        more = self.size
        return _VNET.pack(flags, kind, length + more if length else 0, size, start + more, offset) + self.header
