"""Socket filters for packet sockets (classic BPF, kernel documentation networking/filter.rst): whose segments we want.

The filter takes whole TCP packets to one of our port numbers, sent to this machine, on devices with one kind of header:
either those that ask for a connection (SYN without ACK), which anybody may send in any number, or all others.
Which addresses are ours changes while it runs, so that is not asked here.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Sequence
from struct import pack

_SO_ATTACH_FILTER = 26

# Instructions, linux/bpf_common.h.
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_LOAD_HALF_AT_X, _LOAD_BYTE_AT_X = 0x48, 0x50
_AND = 0x54
_HEADER_LENGTH_TO_X = 0xB1  # X = 4 * (byte & 0xF)
_JUMP_EQUAL, _JUMP_ANY_BIT = 0x15, 0x45
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
"""For sockets that only send."""

MAX_NUMBERS = (_LIMIT - 20) // 2


def wanted(version: int, link: int, hardware: Sequence[int], numbers: Sequence[int], *, openings: bool) -> Program:
    """Make the filter for one IP version, on devices of these kinds of hardware, whose header has `link` bytes.

    It takes only what asks for a connection, or, without `openings`, everything else.
    """
    program: Program = []
    _accept_one_of(program, _HARDWARE, _LOAD_WORD, hardware)
    _require(program, _LOAD_WORD, _PACKET_KIND, _TO_US)
    if version == 4:
        _require(program, _LOAD_BYTE, link + 9, socket.IPPROTO_TCP)
        program += [(_LOAD_HALF, 0, 0, link + 6), (_JUMP_ANY_BIT, 0, 1, _FRAGMENT), (_RETURN, 0, 0, 0)]
        program += [(_HEADER_LENGTH_TO_X, 0, 0, link), (_LOAD_BYTE_AT_X, 0, 0, link + 13)]
        port = (_LOAD_HALF_AT_X, 0, 0, link + 2)
    else:  # a fragment has a header of its own in that place
        _require(program, _LOAD_BYTE, link + 6, socket.IPPROTO_TCP)
        program += [(_LOAD_BYTE, 0, 0, link + 53)]
        port = (_LOAD_HALF, 0, 0, link + 42)
    program += [(_AND, 0, 0, _SYN | _ACK), (_JUMP_EQUAL, int(openings), int(not openings), _SYN), (_RETURN, 0, 0, 0)]
    program += [port]
    for number in numbers:
        program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _WHOLE)]
    program += NOTHING
    return program


def attach(sock: socket.socket, program: Program) -> None:
    """Give a socket its filter; packets that wait already are not asked."""
    code = ctypes.create_string_buffer(b"".join(pack("HBBI", *instruction) for instruction in program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pack("HP", len(program), ctypes.addressof(code)))


def _require(program: Program, load: int, at: int, value: int) -> None:
    program += [(load, 0, 0, at), (_JUMP_EQUAL, 1, 0, value), (_RETURN, 0, 0, 0)]


def _accept_one_of(program: Program, at: int, load: int, values: Sequence[int]) -> None:
    """Go on behind this if one of a few values is there."""
    program.append((load, 0, 0, at))
    program += [(_JUMP_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    program.append((_RETURN, 0, 0, 0))
