"""Programs for packet sockets (classic BPF, kernel documentation networking/filter.rst): whose segments we want.

We take whole TCP packets to one of our port numbers that were sent to this machine. One program looks at each packet,
from its IP header on, and says which socket is to have it: by the kind of link header in front, and whether it asks for
a connection (SYN without ACK), which anybody may do in any number. Which addresses are ours changes while it runs, so
that is not asked here.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Sequence
from struct import pack

SOL_PACKET = 263
"""Level of the options of packet sockets (linux/socket.h)."""

_SO_ATTACH_FILTER, _PACKET_FANOUT_DATA = 26, 22

# Instructions, linux/bpf_common.h.
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_LOAD_HALF_AT_X, _LOAD_BYTE_AT_X = 0x48, 0x50
_AND = 0x54
_HEADER_LENGTH_TO_X = 0xB1  # X = 4 * (byte & 0xF)
_JUMP, _JUMP_EQUAL, _JUMP_ANY_BIT = 0x05, 0x15, 0x45
_RETURN = 0x06

_ANCILLARY = -0x1000 & 0xFFFFFFFF
_PACKET_KIND = _ANCILLARY + 4
_HARDWARE = _ANCILLARY + 28
_TO_US = 0  # PACKET_HOST
_WHOLE = 0x40000
_FRAGMENT = 0x3FFF  # more fragments, or an offset
_SYN, _ACK = 0x02, 0x10

_LIMIT = 4096
"""Instructions that a filter may have (BPF_MAXINSNS)."""

Program = list[tuple[int, int, int, int]]
"""(code, instructions to skip if true, if false, operand)."""

NOTHING: Program = [(_RETURN, 0, 0, 0)]
"""As a filter: for sockets that only send."""
EVERYTHING: Program = [(_RETURN, 0, 0, _WHOLE)]

MAX_NUMBERS = (_LIMIT - 40) // 2

NOBODY = 0
"""Whose a packet is that is not ours."""


def whose(version: int, numbers: Sequence[int], links: Sequence[Sequence[int]]) -> Program:
    """Make the program for one IP version, which returns whose a packet is.

    `links` are kinds of link header, each the types of hardware that have it. What is ours is 1 + 2 * i for the kind
    ``links[i]``, and one more if it asks for a connection.
    """
    program: Program = []
    _require(program, _LOAD_WORD, _PACKET_KIND, _TO_US)
    if version == 4:
        _require(program, _LOAD_BYTE, 9, socket.IPPROTO_TCP)
        program += [(_LOAD_HALF, 0, 0, 6), (_JUMP_ANY_BIT, 0, 1, _FRAGMENT), (_RETURN, 0, 0, NOBODY)]
        program += [(_HEADER_LENGTH_TO_X, 0, 0, 0), (_LOAD_HALF_AT_X, 0, 0, 2)]
        flags = (_LOAD_BYTE_AT_X, 0, 0, 13)
    else:  # a fragment has a header of its own in that place
        _require(program, _LOAD_BYTE, 6, socket.IPPROTO_TCP)
        program += [(_LOAD_HALF, 0, 0, 42)]
        flags = (_LOAD_BYTE, 0, 0, 53)
    for index, number in enumerate(numbers, 1):
        program += [(_JUMP_EQUAL, 0, 1, number), (_JUMP, 0, 0, 2 * (len(numbers) - index) + 1)]
    program += [(_RETURN, 0, 0, NOBODY), flags, (_AND, 0, 0, _SYN | _ACK)]
    openings, others = _by_link(links, 2), _by_link(links, 1)
    program += [(_JUMP_EQUAL, 0, len(openings), _SYN), *openings, *others]
    return program


def attach(sock: socket.socket, program: Program) -> None:
    """Give a socket its filter; packets that wait already are not asked."""
    _set(sock, socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def attach_to_all(sock: socket.socket, program: Program) -> None:
    """Give all sockets of a group (packet(7), PACKET_FANOUT_CBPF) the program that says whose a packet is."""
    _set(sock, SOL_PACKET, _PACKET_FANOUT_DATA, program)


def _set(sock: socket.socket, level: int, option: int, program: Program) -> None:
    code = ctypes.create_string_buffer(b"".join(pack("HBBI", *instruction) for instruction in program))
    sock.setsockopt(level, option, pack("HP", len(program), ctypes.addressof(code)))


def _require(program: Program, load: int, at: int, value: int) -> None:
    program += [(load, 0, 0, at), (_JUMP_EQUAL, 1, 0, value), (_RETURN, 0, 0, NOBODY)]


def _by_link(links: Sequence[Sequence[int]], first: int) -> Program:
    """Return `first` for the first kind of link header, two more for each further one."""
    program: Program = [(_LOAD_WORD, 0, 0, _HARDWARE)]
    for index, kinds in enumerate(links):
        for kind in kinds:
            program += [(_JUMP_EQUAL, 0, 1, kind), (_RETURN, 0, 0, first + 2 * index)]
    program.append((_RETURN, 0, 0, NOBODY))
    return program
