"""How large a datagram the link outside carries, asked of the kernel without sending anything."""

from __future__ import annotations

import errno
import fcntl
import socket
from ipaddress import ip_address
from struct import Struct

from ltunnel.plugin import Address

ETHERNET_MTU = 1500

_IP_MTU = 14
_IPV6_MTU = 24
_SIOCGIFFLAGS = 0x8913
_SIOCGIFMTU = 0x8921
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFREQ_FLAGS = Struct("16sH22x")
_IFREQ_MTU = Struct("16si20x")

# An address that no machine has (RFC 1112 section 4, RFC 9637): the way to it is the default route.
ELSEWHERE = {4: ("240.0.0.1", 9), 6: ("3fff:fff:ffff::1", 9)}


def link_mtu(*, remote: Address | None = None, listen: Address | None = None) -> int:
    """Return the MTU of the link towards `remote`, or of the one that `listen` is reached by.

    Without a route there, the smallest of all links that are up; without those, what Ethernet has.
    """
    host = (remote or listen or ELSEWHERE[4])[0]
    version = ip_address(host).version
    source = host if remote is None and listen is not None and not ip_address(host).is_unspecified else None
    found = _route_mtu(remote or ELSEWHERE[version], source)
    return found or min(_up_links(), default=ETHERNET_MTU)


def source_address(to: Address) -> str | None:
    """Return the own address that packets to an address leave with; None without a route."""
    family = socket.AF_INET6 if ip_address(to[0]).version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(to)  # of a UDP socket: looks the route up, sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _route_mtu(to: Address, source: str | None) -> int | None:
    """Return the MTU of the route to an address; None if there is none."""
    six = ip_address(to[0]).version == 6
    try:
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            if source is not None:
                probe.bind((source, 0))
            probe.connect(to)  # of a UDP socket: looks the route up, sends nothing
            return probe.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU) if six else probe.getsockopt(socket.SOL_IP, _IP_MTU)
    except OSError:
        return None


def _up_links() -> list[int]:
    """Return the MTUs of all links that are up, loopback aside."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                raw = name.encode()
                _, flags = _IFREQ_FLAGS.unpack(fcntl.ioctl(probe, _SIOCGIFFLAGS, _IFREQ_FLAGS.pack(raw, 0)))
                if flags & _IFF_UP and not flags & _IFF_LOOPBACK:
                    found.append(_IFREQ_MTU.unpack(fcntl.ioctl(probe, _SIOCGIFMTU, _IFREQ_MTU.pack(raw, 0)))[1])
            except OSError as error:
                if error.errno != errno.ENODEV:  # it has just gone
                    raise
    return found
