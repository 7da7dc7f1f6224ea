"""A UDP socket that answers from the address at which it was asked, for hubs with several.

A socket bound to a wildcard lets the kernel choose the source of each datagram, by the route. On a machine with several
addresses that may be another than the one that a node sent to, and the node's NAT drops the answer. So here an endpoint
holds the local address, too: ``(host, port, ..., local)``, packed, as IP_PKTINFO and IPV6_PKTINFO tell and take it. It
costs some 0.3 µs a call, so it is used only where there is a choice (`has_choice`).
"""

from __future__ import annotations

import array
import fcntl
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from struct import Struct

from ltunnel.plugin import Buffer, Endpoint
from ltunnel.runtime.udp import GRO_SIZE, SOL_UDP, UDP_GRO, Ancillary, UdpPort

_IP_PKTINFO = 8
_SIOCGIFCONF = 0x8912
_PKTINFO4 = Struct("=i4s4s")  # interface, local address, destination of the header (ip(7))
_PKTINFO6 = Struct("=16si")  # address, interface (ipv6(7))
_INTERFACE_ADDRESS = 40  # struct ifreq: name 16, sockaddr_in: family 2, port 2, address 4, ...
_MOST_ADDRESSES = 1024
_CACHED = 4096
_IF_INET6 = Path("/proc/net/if_inet6")
_GLOBAL = "00"


class SourcedPort(UdpPort):
    """See `UdpPort`; endpoints end in the packed local address."""

    __slots__ = ("_info", "_level", "_origins", "_space")

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        if sock.family == socket.AF_INET:
            self._level, option, self._info = socket.IPPROTO_IP, _IP_PKTINFO, slice(4, 8)
        else:
            self._level, option, self._info = socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, slice(0, 16)
        sock.setsockopt(self._level, option, 1)
        size = _PKTINFO4.size if sock.family == socket.AF_INET else _PKTINFO6.size
        self._space = socket.CMSG_SPACE(size) + socket.CMSG_SPACE(GRO_SIZE.size)
        self._origins: dict[Endpoint, tuple[Endpoint, Ancillary]] = {}

    def send(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:
        """Send a batch from the address that `to` ends in; see `ltunnel.plugin.Port`."""
        address, ancillary = self._origins.get(to) or self._origin(to)
        try:
            if end - start <= seg:
                self._sendmsg((buf[start:end],), ancillary, 0, address)
            elif self._segmentation:
                self._sendmsg((buf[start:end],), ancillary + self._segments[seg], 0, address)
            else:
                return self._send_each(buf, start, end, seg, to)
        except OSError as error:
            return self._refused(error, buf, start, end, seg, to)
        return True

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Receive what the kernel coalesced of one sender; see `ltunnel.plugin.Port`."""
        try:
            size, ancillary, _, source = self._recvmsg_into((buf[pos:],), self._space)
        except BlockingIOError:
            raise
        except OSError as error:
            raise self._nothing(error) from None
        seg = size
        for level, kind, data in ancillary:
            if level == self._level:
                source = (*source, data[self._info])
            elif level == SOL_UDP and kind == UDP_GRO:
                seg = GRO_SIZE.unpack(data)[0]
        return pos, pos + size, seg, source

    def _origin(self, to: Endpoint) -> tuple[Endpoint, Ancillary]:
        """Return the far end's address, and what tells the kernel the local one."""
        if len(self._origins) >= _CACHED:
            self._origins.clear()
        if not isinstance(to[-1], bytes):
            return to, []
        if self._level == socket.IPPROTO_IP:
            told = (self._level, _IP_PKTINFO, _PKTINFO4.pack(0, to[-1], bytes(4)))
        else:
            told = (self._level, socket.IPV6_PKTINFO, _PKTINFO6.pack(to[-1], 0))
        origin = self._origins[to] = to[:-1], [told]
        return origin


def has_choice(host: str, *, dual_stack: bool) -> bool:
    """Whether a socket bound to `host` may be asked at several addresses of one IP version, now."""
    if host == "0.0.0.0":  # noqa: S104
        return len(set(_addresses4())) > 1
    if host == "::":
        return len(set(_addresses6())) > 1 or (dual_stack and len(set(_addresses4())) > 1)
    return False


def _addresses4() -> Iterator[IPv4Address]:
    """Give the IPv4 addresses of interfaces that are up, without loopback."""
    table = array.array("B", bytes(_INTERFACE_ADDRESS * _MOST_ADDRESSES))
    place, length = table.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFCONF, Struct("@iP").pack(length, place))
    (size,) = Struct("@i").unpack_from(answer)
    for at in range(0, size, _INTERFACE_ADDRESS):
        address = IPv4Address(bytes(table[at + 20 : at + 24]))
        if not address.is_loopback:
            yield address


def _addresses6() -> Iterator[IPv6Address]:
    """Give the global IPv6 addresses of this machine."""
    try:
        lines = _IF_INET6.read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:  # address index prefix scope flags name
        columns = line.split()
        if columns[3] == _GLOBAL:
            yield IPv6Address(bytes.fromhex(columns[0]))
