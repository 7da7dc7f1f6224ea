"""TCP segments with their IP and virtio-net headers: written in front of a payload, and read.

What stands in front of the payload of a data segment (RFC 791, 8200, 9293, 7323)::

    virtio-net 10   flags 1 (NEEDS_CSUM), GSO type 1, header length 2, segment size 2, checksum start 2 and offset 2
                    (little-endian)
    IPv4 20         0x45, 0, length 2, ident 2, DF, TTL 64, protocol 6, checksum 2, source 4, destination 4
    or IPv6 40      version and flow label 4, payload length 2, next header 6, hop limit 64, source 16, destination 16
    TCP 32          ports 2 + 2, seq 4, ack 4, offset and flags 2, window 2, checksum 2, urgent 2 (0),
                    NOP, NOP, timestamps 10 (own clock 4, echo 4); 20 where timestamps were not agreed

The checksum field holds the folded sum of the pseudo-header, as NEEDS_CSUM has it. A connection is recognised by its
`key`: the bytes from the source address to the destination port as they arrive, 12 with IPv4 and 36 with IPv6.
"""

from __future__ import annotations

from struct import Struct, unpack

from ltunnel.plugin import Buffer

VNET_SIZE = 10
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
CONTROL = FIN | SYN | RST
MASK = 0xFFFFFFFF

TIMESTAMPS_SIZE = 12
"""Bytes that timestamps take in every segment."""

_PROTOCOL = 6
_NEEDS_CSUM = 1
_GSO = {4: 1, 6: 4}  # VIRTIO_NET_HDR_GSO_TCPV4, TCPV6
_TCP_CHECKSUM_AT = 16
_LARGEST = 65_535
_KEY_V4 = 12
TIMESTAMPS = b"\x01\x01\x08\x0a"
_URGENT_AND_TIMESTAMPS = b"\0\0" + TIMESTAMPS
_NO_URGENT = b"\0\0"
_DF_TTL = b"\x40\x00\x40\x06"
_NEXT_HOPS = b"\x06\x40"

_VNET = Struct("<BBHHHH")
_V4 = Struct("!12sHH4sH12sII4sH2sH")  # virtio-net header and 0x4500, length, ident, ...; the payload's first bytes
_V4_TIMED = Struct("!12sHH4sH12sII4sH6sIIH")
_V6 = Struct("!14sH2s36sII4sH2sH")  # virtio-net header and flow label, payload length, ...
_V6_TIMED = Struct("!14sH2s36sII4sH6sIIH")
_READ_V4 = Struct("!xxHxxHxBxx12sIIBBHxxxx4sII")
_READ_V6 = Struct("!4xHBx36sIIBBHxxxx4sII")


def word(flags: int, window: int, header: int = 32) -> bytes:
    """Return offset, flags and window as they stand in a TCP header of `header` bytes."""
    return bytes((header // 4 << 4, flags)) + window.to_bytes(2, "big")


class Head:
    """Writes the headers of one connection's segments. Addresses are packed, of one family."""

    __slots__ = ("_fixed", "_ip_sum", "_leads", "_start", "_tcp_sum", "ident", "largest", "room", "timed", "version")

    def __init__(
        self, source: bytes, destination: bytes, sport: int, dport: int, *, timed: bool, ident: int = 0, label: int = 0
    ) -> None:
        self.version = 4 if len(source) == 4 else 6
        self.timed = timed
        """Whether segments carry timestamps."""
        self.ident = ident
        """IPv4 identification of the next segment."""
        ip, tcp = (20 if self.version == 4 else 40), 32 if timed else 20
        self.room = VNET_SIZE + ip + tcp
        """Bytes of headers in front of a payload."""
        self.largest = _LARGEST - ip - tcp
        """Bytes of payload that fit one packet."""
        self._fixed = source + destination + sport.to_bytes(2, "big") + dport.to_bytes(2, "big")
        self._start = b"\x45\x00" if self.version == 4 else (0x60000000 | label & 0xFFFFF).to_bytes(4, "big")
        addresses = sum(unpack(f"!{len(source)}H", source + destination))
        self._ip_sum = 0x4500 + 0x4000 + 0x4006 + addresses + ip + tcp
        self._tcp_sum = addresses + _PROTOCOL + tcp
        self._leads: dict[int, bytes] = {}

    def write(
        self, buf: Buffer, at: int, size: int, seg: int, seq: int, ack: int, control: bytes, clock: int, echo: int,
        first: int = 0,
    ) -> int:  # fmt: skip
        """Write headers that end at `at`, in front of `size` bytes to be cut into segments of `seg`; return the start.

        The two bytes at `at` become `first`. `control` is a `word`. Numbers and times are taken modulo 2^32.
        """
        start = at - self.room
        cut = seg if size > seg else 0
        lead = self._leads.get(cut) or self._lead(cut)
        checksum = (self._tcp_sum + size) % 0xFFFF
        seq &= MASK
        ack &= MASK
        if self.version == 4:
            ident = self.ident
            self.ident = ident + (-(-size // seg) if cut else 1) & 0xFFFF
            ip_checksum = -(self._ip_sum + size + ident) % 0xFFFF
            if self.timed:
                _V4_TIMED.pack_into(
                    buf, start, lead, size + 52, ident, _DF_TTL, ip_checksum, self._fixed, seq, ack, control, checksum,
                    _URGENT_AND_TIMESTAMPS, clock & MASK, echo, first,
                )  # fmt: skip
            else:
                _V4.pack_into(buf, start, lead, size + 40, ident, _DF_TTL, ip_checksum, self._fixed, seq, ack, control,
                              checksum, _NO_URGENT, first)  # fmt: skip
        elif self.timed:
            _V6_TIMED.pack_into(buf, start, lead, size + 32, _NEXT_HOPS, self._fixed, seq, ack, control, checksum,
                                _URGENT_AND_TIMESTAMPS, clock & MASK, echo, first)  # fmt: skip
        else:
            _V6.pack_into(buf, start, lead, size + 20, _NEXT_HOPS, self._fixed, seq, ack, control, checksum,
                          _NO_URGENT, first)  # fmt: skip
        return start

    def write_syn(self, buf: Buffer, at: int, seq: int, ack: int, control: bytes, options: bytes) -> int:
        """Write `options` at `at`, and headers of a segment without data that end there; return the start.

        The `Head` must be one without timestamps, and `control` name a header of 20 bytes and the options.
        """
        size = len(options)
        start = self.write(buf, at, size, size, seq, ack, control, 0, 0)
        buf[at : at + size] = options
        return start

    def _lead(self, seg: int) -> bytes:
        """Return virtio-net header and first bytes of the IP header for segments of `seg` bytes; 0: not to be cut."""
        ip = 20 if self.version == 4 else 40
        gso, length = (_GSO[self.version], self.room - VNET_SIZE) if seg else (0, 0)
        lead = _VNET.pack(_NEEDS_CSUM, gso, length, seg, ip, _TCP_CHECKSUM_AT) + self._start
        if len(self._leads) >= 64:  # the core has few sizes, bundles of small packets many
            self._leads.clear()
        self._leads[seg] = lead
        return lead


Segment = tuple[bytes, int, int, int, int, int, int, int, int]
"""(key, seq, ack, flags, window, data, end, clock, echo): ``buf[data:end]`` is the payload, `clock` the far end's
timestamp or -1 without."""


USUAL_SIZE = VNET_SIZE + 20 + 32
USUAL_IP = 0x45000000 + 20 + 32
USUAL_FLAGS = 0x8000 | PSH | ACK
look = Struct("!10xI8x12sIIHH4x4sI4xH").unpack_from
"""See a packet at one glance, if it has the headers that most data has, `USUAL_SIZE` bytes: IPv4 without options, TCP
with timestamps. Returns (first word of the IP header, key, seq, ack, offset and flags, window, the option,
the far end's timestamp, first two bytes of the payload).

It is so if the first word, without the type of service, is `USUAL_IP` + size of the payload, offset and flags are
`USUAL_FLAGS`, where PSH may be missing, and the option is `TIMESTAMPS`."""


def read(buf: Buffer, ip: int, end: int) -> Segment | None:
    """Read the IP packet ``buf[ip:end]``; None when it is not a whole TCP segment. Checksums are not looked at.

    `buf` must reach at least 84 bytes beyond `ip`.
    """
    if end - ip < 40:
        return None
    if buf[ip] == 0x45:
        length, fragment, protocol, key, seq, ack, offset, flags, window, options, clock, echo = _READ_V4.unpack_from(
            buf, ip
        )
        data = ip + 20 + (offset >> 4) * 4
        stop = ip + length
        if fragment & 0x3FFF:
            return None
    elif buf[ip] >> 4 == 6:
        length, protocol, key, seq, ack, offset, flags, window, options, clock, echo = _READ_V6.unpack_from(buf, ip)
        data = ip + 40 + (offset >> 4) * 4
        stop = ip + 40 + length
    else:
        return None
    if protocol != _PROTOCOL or offset < 0x50 or not data <= stop <= end:
        return None
    if offset < 0x80 or options != TIMESTAMPS:
        clock = -1
    return key, seq, ack, flags, window, data, stop, clock, echo


def ends(key: bytes) -> tuple[bytes, bytes, int, int]:
    """Take a key apart: (far address, own address, far port, own port)."""
    size = 4 if len(key) == _KEY_V4 else 16
    far, own = key[:size], key[size : 2 * size]
    return far, own, int.from_bytes(key[-4:-2], "big"), int.from_bytes(key[-2:], "big")


def make_key(far: bytes, own: bytes, far_port: int, own_port: int) -> bytes:
    """Return the key of what arrives from (far, far_port)."""
    return far + own + far_port.to_bytes(2, "big") + own_port.to_bytes(2, "big")
