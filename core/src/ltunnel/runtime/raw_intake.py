"""Packet sockets that receive: for one IP version, one length of link header, and SYNs or all the rest."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from struct import Struct
from typing import NamedTuple

from ltunnel.plugin import Buffer
from ltunnel.runtime.raw_filter import NOTHING, Program, attach, wanted
from ltunnel.runtime.raw_gate import ROOM
from ltunnel.runtime.udp import set_buffers

ETHER_TYPE = {4: 0x0800, 6: 0x86DD}
ETHERNET = 14
"""Bytes of an Ethernet header."""
VNET_SIZE = 10
GSO_SIZE_AT = 4
"""Where in the virtio-net header."""
# linux/if_arp.h: Ethernet and loopback have the same header; tunnels and modems without one carry bare IP packets.
WITH_HEADER = (1, 772)
WITHOUT_HEADER = (0xFFFE, 519)

_LINKS = ((ETHERNET, WITH_HEADER), (0, WITHOUT_HEADER))
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15


class Intake(NamedTuple):
    """A socket that receives, and where what the port looks at is in what it brings."""

    receive: Callable[[Buffer], int]
    link: int
    """Bytes of the link header."""
    look: Callable[[Buffer, int], tuple[int, bytes, int]]
    """(gso_size, packed source and destination, TCP's flags if there are no IP options) of a packet at a position."""
    fd: int
    openings: bool
    """Whether it brings what asks for a connection, and nothing else."""


def open_intakes(
    stack: contextlib.ExitStack, versions: Sequence[int], numbers: Sequence[int], receive_buffer: int
) -> Iterator[Intake]:
    """Open all that is needed for some IP versions and port numbers; `stack` closes them. Raises OSError."""
    for version, (link, hardware), openings in product(versions, _LINKS, (False, True)):
        program = wanted(version, link, hardware, numbers, openings=openings)
        sock = stack.enter_context(_listen(ETHER_TYPE[version], program, ROOM if openings else receive_buffer))
        ends = "12x8s" if version == 4 else "8x32s"
        look = Struct(f"<{GSO_SIZE_AT}xH4x{link}x{ends}13xB").unpack_from
        yield Intake(sock.recv_into, link, look, sock.fileno(), openings)


def open_packet(protocol: int) -> socket.socket:
    """Open a packet socket; with protocol 0 it receives nothing. Raises OSError."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_PACKET, kind, socket.htons(protocol))
    try:
        attach(sock, NOTHING)
        sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    except OSError:
        sock.close()
        raise
    return sock


def _listen(ether_type: int, program: Program, receive_buffer: int) -> socket.socket:
    """Open a packet socket that receives from all interfaces."""
    sock = open_packet(ether_type)
    try:
        with contextlib.suppress(BlockingIOError):
            while True:  # what came before there was a filter
                sock.recv(1)
        set_buffers(sock, receive_buffer)
        attach(sock, program)
    except OSError:
        sock.close()
        raise
    return sock
