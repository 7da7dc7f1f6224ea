"""What the handshake agrees on, and numbers that nobody can guess.

A SYN carries the options that Linux sends, in its order: MSS, SACK permitted, timestamps, window scale. A hub answers
without keeping anything, as with SYN cookies (D. J. Bernstein, 1996): its sequence number is a keyed hash of the
connection's addresses and ports plus the index of the largest known MSS that the SYN allows, and the low six bits of
its timestamp tell the other options. Whoever acknowledges that number has received at that address, and it says
again what was agreed. The hash has no time in it: what an old cookie gains is a place in a bounded table, and a SYN
that is sent twice must be answered with the same number, or a firewall between takes the second for a forgery.
"""

from __future__ import annotations

from bisect import bisect_right
from hashlib import blake2s
from struct import Struct
from typing import NamedTuple

from ltunnel_transport_faketcp.segment import MASK, TIMESTAMPS_SIZE

SCALE = 10
"""Our window scale: 65,535 << 10 is what may be under way, 640 MB/s at a round trip of 100 ms."""
SYN_WINDOW = 64_240
SYN_ACK_WINDOW = 65_160
"""What Linux offers before its windows are scaled, with Ethernet's MSS."""

_MSS, _SCALE, _SACK, _TIMES = 2, 3, 4, 8
_LARGEST_SCALE = 14  # RFC 7323, section 2.3
_DEFAULT_MSS = {4: 536, 6: 1220}  # RFC 9293, section 3.7.1
_KNOWN_MSS = (0, 536, 1000, 1220, 1300, 1340, 1360, 1380, 1400, 1412, 1432, 1440, 1452, 1460, 8940, 65_475)
_NO_SCALE = 15
_SACK_BIT = 16
_TELLING = 63  # low bits of a hub's first timestamp
_LINUX = Struct("!2sH4sII3sB")  # MSS, SACK permitted and timestamps, NOP and window scale
_LINUX_START, _LINUX_MIDDLE, _LINUX_END = b"\x02\x04", b"\x04\x02\x08\x0a", b"\x01\x03\x03"
_TICK = 250_000  # RFC 6528: initial sequence numbers go on by one every 4 µs


class Agreed(NamedTuple):
    """Options of a connection, as one end offers them or as both have them."""

    mss: int = 0
    """Largest payload that the far end takes, options counted with it; 0: nothing was said."""
    scale: int | None = None
    """Shift of the far end's windows."""
    sack: bool = False
    clock: int | None = None
    """The far end's timestamp; None without."""


class Numbers(NamedTuple):
    """Where the numbers of a connection begin."""

    seq: int
    clock: int
    ident: int
    label: int


def numbers(secret: bytes, key: bytes) -> Numbers:
    """Derive the numbers of a connection from a secret and its `key` (RFC 6528 for seq, RFC 7323 5.4 for the clock)."""
    digest = int.from_bytes(blake2s(key, key=secret, digest_size=13).digest(), "big")
    return Numbers(digest & MASK, digest >> 32 & MASK, digest >> 64 & 0xFFFF, digest >> 80 & 0xFFFFF)


def first_number(own: Numbers, now: float) -> int:
    """Return the sequence number of a SYN sent now: later connections of the same ends begin later (RFC 6528)."""
    return own.seq + int(now * _TICK) & MASK


def clock(own: Numbers, now: float) -> int:
    """Return the timestamp of a segment sent now: milliseconds, from a number of its own for each connection."""
    return own.clock + int(now * 1000) & MASK


def read_options(buf: bytes) -> Agreed:
    """Read the options of a SYN; those that are damaged, and all after them, count as not sent."""
    if len(buf) == _LINUX.size:
        start, mss, middle, time, _, end, scale = _LINUX.unpack(buf)
        if (start, middle, end) == (_LINUX_START, _LINUX_MIDDLE, _LINUX_END):
            return Agreed(mss, min(scale, _LARGEST_SCALE), True, time)
    return _read_any_options(buf)


def _read_any_options(buf: bytes) -> Agreed:
    mss, scale, sack, time = 0, None, False, None
    at = 0
    while at < len(buf) and buf[at]:
        kind = buf[at]
        if kind == 1:
            at += 1
            continue
        length = buf[at + 1] if at + 1 < len(buf) else 0
        end = at + length
        if length < 2 or end > len(buf):
            break
        if (kind, length) == (_MSS, 4):
            mss = int.from_bytes(buf[at + 2 : end], "big")
        elif (kind, length) == (_SCALE, 3):
            scale = min(buf[at + 2], _LARGEST_SCALE)
        elif (kind, length) == (_SACK, 2):
            sack = True
        elif (kind, length) == (_TIMES, 10):
            time = int.from_bytes(buf[at + 2 : at + 6], "big")
        at = end
    return Agreed(mss, scale, sack, time)


def write_options(mss: int, own_clock: int, offered: Agreed | None = None) -> bytes:
    """Return the options of a SYN, or those of a SYN-ACK to a SYN that `offered` its own; a multiple of four bytes.

    An answer has no option that the SYN had not, so it is never larger.
    """
    options = bytes((_MSS, 4)) + mss.to_bytes(2, "big") if offered is None or offered.mss else b""
    if offered is None or offered.clock is not None:
        echo = 0 if offered is None else offered.clock or 0
        options += bytes((_SACK, 2)) if offered is None or offered.sack else b"\x01\x01"
        options += bytes((_TIMES, 10)) + own_clock.to_bytes(4, "big") + echo.to_bytes(4, "big")
    elif offered.sack:
        options += bytes((1, 1, _SACK, 2))
    if offered is None or offered.scale is not None:
        options += bytes((1, _SCALE, 3, SCALE))
    return options


def payload_limit(agreed: Agreed, version: int) -> int:
    """Return how many bytes of payload a segment to the far end may carry."""
    options = 0 if agreed.clock is None else TIMESTAMPS_SIZE
    return max(agreed.mss or _DEFAULT_MSS[version], _KNOWN_MSS[1]) - options


def largest_mss(mtu: int, version: int) -> int:
    """Return the MSS to announce on a link of `mtu`."""
    return max(min(mtu - (40 if version == 4 else 60), 65_495), _KNOWN_MSS[1])


def make_cookie(own: Numbers, offered: Agreed, now: float) -> tuple[int, int]:
    """Return (sequence number, timestamp) of a SYN-ACK; `open_cookie` reads from its answer what was offered."""
    index = bisect_right(_KNOWN_MSS, offered.mss) - 1
    scale = _NO_SCALE if offered.scale is None else offered.scale
    now_is = clock(own, now)
    told = now_is & ~_TELLING & MASK | scale | _SACK_BIT * offered.sack
    if told > now_is:  # never ahead of what follows
        told = told - _TELLING - 1 & MASK
    return own.seq + index & MASK, told


def open_cookie(own: Numbers, ack: int, echo: int | None, far_clock: int | None) -> Agreed | None:
    """Return what was agreed with whoever acknowledges a cookie and echoes its timestamp; None if it is no cookie."""
    index = ack - 1 - own.seq & MASK
    if index >= len(_KNOWN_MSS):
        return None
    if echo is None:
        return Agreed(mss=_KNOWN_MSS[index])
    scale = echo & _NO_SCALE
    return Agreed(_KNOWN_MSS[index], None if scale == _NO_SCALE else min(scale, _LARGEST_SCALE),
                  bool(echo & _SACK_BIT), far_clock)  # fmt: skip
