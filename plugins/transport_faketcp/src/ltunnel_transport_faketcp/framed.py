"""UDP datagrams that begin with a TCP header, for firewalls that look no further than at bytes.

Layout of a datagram (RFC 9293, section 3.1, without options)::

    ports 2 + 2   own and far UDP port
    seq 4         goes on by the length of each datagram's payload
    ack 4         end of the last payload that came
    0x50 0x18     header of 20 bytes, PSH | ACK
    window 2      65,535
    checksum 2    over this header and a pseudo-header of protocol 6 and length, without addresses: NATs change those
    urgent 2      0
    payload

There is no handshake, and numbers mean nothing to the receiver. The checksum tells such datagrams from plain ones that
come to the same port (`is_framed`): of random bytes, one in 2^48 is taken for a header.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2s
from ipaddress import IPv6Address, ip_address
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from ltunnel.plugin import Address, Buffer, Endpoint, Port

HEADER = 20
MAX_FLOWS = 4096

_MASK = 0xFFFFFFFF
_FORM = 0x5018  # data offset 5, PSH | ACK
_WINDOW = 65_535
_PROTOCOL = 6
_FIXED_SUM = _FORM + _WINDOW + _PROTOCOL
_LAYOUT = Struct("!HHIIHHHH")
_WORDS = Struct("!10H")
_FORM_AT, _URGENT_AT = 6, 9  # in words


def is_framed(view: Buffer | bytes) -> bool:
    """Whether a UDP payload begins with such a header; False for everything else, of any length."""
    size = len(view)
    if size <= HEADER:
        return False
    words: tuple[int, ...] = _WORDS.unpack_from(view)
    if words[_FORM_AT] != _FORM or words[_URGENT_AT]:
        return False
    return (sum(words) + _PROTOCOL + size) % 0xFFFF == 0


class _Numbers:
    """The numbers of one flow, as they go on."""

    __slots__ = ("ack", "seq")

    def __init__(self, seq: int, ack: int) -> None:
        self.seq = seq
        self.ack = ack


class FramedTransport:
    """A flow is the far end's socket address."""

    def __init__(self, port: Port) -> None:
        self.ports: Sequence[Port] = (port,)
        self.prefix = HEADER
        self.drops: dict[str, int] = {}
        """Datagrams dropped, by reason."""
        self._port_send = port.send
        self._port_recv = port.recv
        self._number = int(port.local[1])
        self._dual_stack = len(port.local) == 4
        self._flows: dict[Endpoint, _Numbers] = {}

    def connect(self, remote: Address, now: float) -> Endpoint:  # noqa: ARG002
        """Return the socket address for `remote`; an IPv6 port reaches IPv4 by its mapped address (RFC 4291)."""
        host, port = remote
        if not self._dual_stack:
            return (host, port)
        if ip_address(host).version == 4:
            host = f"::ffff:{host}"
        return (host, port, 0, 0)

    def send(self, flow: Endpoint, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:
        """Send a batch; see `ltunnel.plugin.Transport`."""
        numbers = self._flows.get(flow) or self._begin(flow, now)
        number, far = self._number, int(flow[1])
        count, rest = divmod(end - start, seg)
        seq, ack = numbers.seq, numbers.ack
        fixed = _FIXED_SUM + number + far + (ack >> 16) + (ack & 0xFFFF)
        if count > 1:
            rows = np.frombuffer(buf, np.uint8, count * seg, start).reshape(count, seg)
            seq = _write_headers(rows, number, far, seq, ack, fixed + seg)
        elif count:
            seq = _write_header(buf, start, number, far, seq, ack, fixed, seg)
        if rest:
            seq = _write_header(buf, end - rest, number, far, seq, ack, fixed, rest)
        numbers.seq = seq
        return self._port_send(buf, start, end, seg, flow)

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[Endpoint, int, int, int]:  # noqa: ARG002
        """Receive a batch; see `ltunnel.plugin.Transport`. Datagrams without a header are dropped from it."""
        start, end, seg, source = self._port_recv(buf, pos)
        if end - start > seg:
            end = self._sift(buf, start, end, seg)
        elif not is_framed(buf[start:end]):
            self._drop_plain(1)
            return source, start, start, 0
        numbers = self._flows.get(source)
        if numbers is not None and end > start:
            last = end - 1 - (end - 1 - start) % seg
            numbers.ack = int.from_bytes(buf[last + 4 : last + 8], "big") + end - last - HEADER & _MASK
        return source, start, end, seg

    def describe(self, flow: Endpoint) -> str:
        """Name a flow as ``host:port``, mapped addresses as what they map."""
        host, port = str(flow[0]), flow[1]
        if ":" not in host:
            return f"{host}:{port}"
        mapped = IPv6Address(host).ipv4_mapped
        return f"{mapped}:{port}" if mapped else f"[{host}]:{port}"

    def close(self, flow: Endpoint, now: float) -> None:  # noqa: ARG002
        """Forget where a flow's numbers are."""
        self._flows.pop(flow, None)

    def next_timeout(self) -> float | None:
        """Return None: there is no timer."""
        return None

    def handle_timeout(self, now: float) -> None:
        """Do nothing."""

    def _begin(self, flow: Endpoint, now: float) -> _Numbers:
        """Make up numbers for a flow that we send on; of those there are as many as the core has peers."""
        if len(self._flows) >= MAX_FLOWS:
            self._flows.clear()
        digest = blake2s(repr((flow, self._number, now)).encode(), digest_size=8).digest()
        numbers = self._flows[flow] = _Numbers(int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big"))
        return numbers

    def _drop_plain(self, count: int) -> None:
        self.drops["no header"] = self.drops.get("no header", 0) + count

    def _sift(self, buf: Buffer, start: int, end: int, seg: int) -> int:
        """Move the datagrams that have a header to the front; return where they end."""
        count, rest = divmod(end - start, seg)
        full = end - rest
        good = np.zeros(count, bool)
        if seg > HEADER:
            rows = np.frombuffer(buf, np.uint8, count * seg, start).reshape(count, seg)
            good = _have_headers(rows)
        keeps_rest = rest > 0 and is_framed(buf[full:end])
        missing = count - int(good.sum()) + (rest > 0 and not keeps_rest)
        if not missing:
            return end
        self._drop_plain(missing)
        at = start
        for i in np.flatnonzero(good).tolist():
            where = start + i * seg
            buf[at : at + seg] = bytes(buf[where : where + seg])
            at += seg
        if keeps_rest:
            buf[at : at + rest] = bytes(buf[full:end])
            at += rest
        return at


def _write_header(buf: Buffer, at: int, own: int, far: int, seq: int, ack: int, fixed: int, size: int) -> int:
    """Write the header of a datagram of `size` bytes; return the next sequence number."""
    checksum = -(fixed + size + (seq >> 16) + (seq & 0xFFFF)) % 0xFFFF
    _LAYOUT.pack_into(buf, at, own, far, seq, ack, _FORM, _WINDOW, checksum, 0)
    return seq + size - HEADER & _MASK


def _write_headers(rows: NDArray[np.uint8], own: int, far: int, seq: int, ack: int, fixed: int) -> int:
    """Write the headers of equal datagrams, one a row; `fixed` is the sum of all but seq. Return the next seq."""
    count, size = len(rows), rows.shape[1]
    step = size - HEADER
    seqs = (np.arange(count, dtype=np.uint32) * np.uint32(step)) + np.uint32(seq)
    headers = np.empty((count, HEADER // 2), ">u2")
    headers[:] = _WORDS.unpack(_LAYOUT.pack(own, far, 0, ack, _FORM, _WINDOW, 0, 0))
    headers[:, 2] = high = seqs >> np.uint32(16)
    headers[:, 3] = low = seqs & np.uint32(0xFFFF)
    headers[:, 8] = -(high.astype(np.int64) + low + fixed) % 0xFFFF
    rows[:, :HEADER] = headers.view(np.uint8)
    return int(seq + count * step & _MASK)


def _have_headers(rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return for each row whether it begins with a header; `is_framed` for many."""
    words = np.ascontiguousarray(rows[:, :HEADER]).view(">u2").astype(np.int64)
    good: NDArray[np.bool_] = (words.sum(axis=1) + _PROTOCOL + rows.shape[1]) % 0xFFFF == 0
    good &= words[:, _FORM_AT] == _FORM
    good &= words[:, _URGENT_AT] == 0
    return good
