"""The virtio-net header that precedes every packet of a TUN device opened with IFF_VNET_HDR.

10 bytes, little-endian (virtio 1.2, section 5.1.6): flags 1, gso_type 1, hdr_len 2, gso_size 2, csum_start 2,
csum_offset 2. A GSO super-packet is one TCP or UDP packet of up to 64 KB that stands for many; a set NEEDS_CSUM flag
says that the checksum field holds the sum of the pseudo-header alone and the rest is left to whoever sends it out.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Protocol

from ltunnel.plugin import Buffer

VNET = Struct("<BBHHHH")
VNET_SIZE = VNET.size

NEEDS_CSUM = 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80

NO_OFFLOAD = bytes(VNET_SIZE)
"""Header of a packet that is complete as it stands."""


class TunPort(Protocol):
    """A TUN device (or its double in a simulation). Never blocks."""

    uso: bool
    """Whether `write` takes GSO_UDP_L4 super-packets."""

    def read(self, buf: Buffer, pos: int) -> int:
        """Read one packet with its virtio-net header into ``buf[pos:]`` and return its length.

        Raises `BlockingIOError` when nothing waits. `buf` has at least 65,600 bytes after `pos`.
        """
        ...

    def write(self, parts: Sequence[Buffer | bytes | bytearray]) -> bool:
        """Write one packet, given in parts, the first of which begins with the virtio-net header.

        False when the device refuses it.
        """
        ...
