"""The few things that a node needs of rtnetlink(7): routes, neighbours and links, own addresses.

The first three are for sending packets below the kernel's IP layer, addresses are for direct paths. It makes routes,
too, into the tunnel.

Own code over a plain socket: *measured*, pyroute2 would stay in memory with 9 MB, more than a tenth of what a node may
take, and asks for a route in 250 µs instead of 6; a hub asks once for each address that sends it a SYN.

    header: length 4, type 2, flags 2, sequence 4, sender 4 | body of the type | attributes: length 2, type 2, value
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
_ROUTE = Struct("=BBBBBBBBI")  # family, bits of destination and of source, tos, table, protocol, scope, type, flags
_NEIGHBOUR = Struct("=BxxxiHBB")  # family, interface, state, flags, type
_LINK = Struct("=BxHiII")  # family, type of hardware, index, flags, mask of flags
_WORD = Struct("=I")
_ERROR = Struct("=i")
_VIA = Struct("=H")

_ADDRESS = Struct("=BBBBI")  # family, bits of the prefix, flags, scope, interface

_REQUEST, _ACKNOWLEDGE, _CREATE, _DUMP = 0x1, 0x4, 0x400, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NEW_LINK, _DEL_LINK, _GET_LINK = 16, 17, 18
_NEW_ADDRESS, _GET_ADDRESS = 20, 22
_NEW_ROUTE, _DEL_ROUTE, _GET_ROUTE = 24, 25, 26
_NEW_NEIGHBOUR, _DEL_NEIGHBOUR, _GET_NEIGHBOUR = 28, 29, 30
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_METRICS = 1, 2, 4, 5, 6, 7, 8
_RTA_VIA, _RTA_PROTOCOL = 18, 27
_RTAX_MTU = 2
_NDA_DST, _NDA_LLADDR = 1, 2
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_DUPLICATE = 0x08
_UNFIT = _DUPLICATE | 0x20 | 0x40
"""Flags of addresses that are no good (any more): duplicate, deprecated, tentative."""
_UNIVERSE, _ON_LINK = 0, 253
"""Scopes of addresses and routes."""
_MAIN = 254
"""The table that routes are in unless somebody says otherwise."""
_IFLA_ADDRESS, _IFLA_NAME, _IFLA_MTU, _IFLA_MASK = 1, 3, 4, 29
_SKIP_STATISTICS = 8
_NTF_USE = 1
_TCP = bytes((socket.IPPROTO_TCP,))

UNICAST, LOCAL = 1, 2
"""Kinds of route that packets can take: to another machine, to ourselves."""

INCOMPLETE, STALE, FAILED = 0x01, 0x04, 0x20
_KNOWN = 0x02 | STALE | 0x08 | 0x10 | 0x40 | 0x80  # reachable, stale, delay, probe, no arp, permanent
"""States of a neighbour, as in linux/neighbour.h."""

_RECEIVE = 32_768
_MESSAGE_BUFFER = 1 << 20

# RTNLGRP_LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE,
# IPV4_NETCONF, IPV6_NETCONF (forwarding is switched), NEXTHOP
_GROUPS = sum(1 << (group - 1) for group in (1, 3, 5, 7, 8, 9, 11, 19, 24, 25, 32))


class Route(NamedTuple):
    """The way to a destination, as the kernel would choose it."""

    kind: int
    device: int
    """Index of the interface."""
    gateway: bytes | None
    """Packed address of the next hop, of either family; None: the destination is a neighbour itself."""
    source: bytes | None
    """Packed address that the kernel would send from."""
    mtu: int
    """What the route says; 0: as the interface."""


class Link(NamedTuple):
    """An interface."""

    device: int
    """Index of the interface."""
    name: str
    hardware: int
    """ARPHRD_*, linux/if_arp.h."""
    flags: int
    mtu: int
    address: bytes


class Neighbour(NamedTuple):
    """What is known of a neighbour's link-layer address."""

    device: int
    """Index of the interface."""
    host: bytes
    state: int
    address: bytes

    @property
    def is_known(self) -> bool:
        """Whether the kernel would send to that address."""
        return bool(self.state & _KNOWN) and bool(self.address or self.state & 0x40)


class OwnAddress(NamedTuple):
    """An address of this machine."""

    device: int
    """Index of the interface."""
    host: bytes
    prefix: int
    """Bits of the prefix."""


class LinkRoute(NamedTuple):
    """A network whose addresses are reached by a device, without a gateway."""

    device: int
    """Index of the interface."""
    host: bytes
    """Packed address of the network."""
    prefix: int
    """Bits of the prefix."""
    metric: int
    """Of several routes to one network the kernel takes the one with the least."""
    protocol: int
    """Who made it; 5 to 255, see linux/rtnetlink.h."""


class Netlink:
    """Questions and their answers. The kernel answers while it is asked, so nothing here waits."""

    def __init__(self) -> None:
        self._socket = _open()
        self._serial = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def route(self, destination: bytes, source: bytes | None = None) -> Route | None:
        """Look up the route of TCP to a packed address, from `source` if given. None: there is no way."""
        family = _family(destination)
        bits = 8 * len(destination)
        body = _ROUTE.pack(family, bits, 0 if source is None else bits, 0, 0, 0, 0, 0, 0)
        body += _attribute(_RTA_DST, destination) + _attribute(_RTA_PROTOCOL, _TCP)
        if source is not None:
            body += _attribute(_RTA_SRC, source)
        answer = self._ask(_GET_ROUTE, body)
        if answer is None or answer[0] != _NEW_ROUTE:
            return None
        kind = _ROUTE.unpack_from(answer[1])[7]
        attributes = _attributes(answer[1], _ROUTE.size)
        if _RTA_OIF not in attributes:
            return None
        gateway = attributes.get(_RTA_GATEWAY)
        if gateway is None and _RTA_VIA in attributes:
            gateway = attributes[_RTA_VIA][_VIA.size :]
        metrics = attributes.get(_RTA_METRICS)
        mtu = 0 if metrics is None else _word(_attributes(metrics, 0).get(_RTAX_MTU))
        return Route(kind, _word(attributes[_RTA_OIF]), gateway, attributes.get(_RTA_PREFSRC), mtu)

    def add_route(self, route: LinkRoute) -> int:
        """Have the kernel route a network; returns 0, or the number of an error. It may be there already."""
        error = self._change_route(_NEW_ROUTE, route, _CREATE)
        return 0 if error == errno.EEXIST else error  # without NLM_F_EXCL, only this very route is in its own way

    def delete_route(self, route: LinkRoute) -> int:
        """Take back a route; returns 0, or the number of an error. It may be gone already, with its device too."""
        error = self._change_route(_DEL_ROUTE, route, 0)
        return 0 if error in (errno.ESRCH, errno.ENODEV) else error

    def link(self, device: int) -> Link | None:
        """Describe an interface; None if it is gone."""
        body = _LINK.pack(0, 0, device, 0, 0) + _attribute(_IFLA_MASK, _WORD.pack(_SKIP_STATISTICS))
        answer = self._ask(_GET_LINK, body)
        return None if answer is None or answer[0] != _NEW_LINK else _read_link(answer[1])

    def neighbour(self, device: int, host: bytes) -> Neighbour | None:
        """Look up a neighbour; None if nobody has asked for it."""
        body = _NEIGHBOUR.pack(_family(host), device, 0, 0, 0) + _attribute(_NDA_DST, host)
        answer = self._ask(_GET_NEIGHBOUR, body)
        return None if answer is None or answer[0] != _NEW_NEIGHBOUR else _read_neighbour(answer[1])

    def use_neighbour(self, device: int, host: bytes) -> None:
        """Let the kernel do what it does when it sends to a neighbour: ask for its address, or whether it still holds.

        For permanent entries it must not be called: since Linux 5.16 that would make them ordinary ones.
        """
        body = _NEIGHBOUR.pack(_family(host), device, 0, _NTF_USE, 0) + _attribute(_NDA_DST, host)
        self._ask(_NEW_NEIGHBOUR, body, _CREATE, acknowledge=True)

    def addresses(self, *, fit: bool) -> list[OwnAddress] | None:
        """Return all own addresses but duplicate ones; None if the kernel does not tell all.

        `fit`: only those that others may be able to reach; of global scope, settled and not deprecated.
        """
        self._serial = serial = self._serial + 1 & 0xFFFFFFFF
        body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), _GET_ADDRESS, _REQUEST | _DUMP, serial, 0) + body)
        found: list[OwnAddress] = []
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except OSError:
                return None
            for kind, number, content in _messages(data):
                if number == serial and kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    return found if kind == _NLMSG_DONE else None
                address = _read_address(content, fit=fit) if number == serial and kind == _NEW_ADDRESS else None
                if address is not None:
                    found.append(address)

    def _change_route(self, kind: int, route: LinkRoute, flags: int) -> int:
        body = _ROUTE.pack(
            _family(route.host), route.prefix, 0, 0, _MAIN, route.protocol, _ON_LINK, UNICAST, 0
        ) + _attribute(_RTA_DST, route.host)  # fmt: skip
        for attribute, number in ((_RTA_OIF, route.device), (_RTA_PRIORITY, route.metric)):
            body += _attribute(attribute, _WORD.pack(number))
        answer = self._ask(kind, body, flags, acknowledge=True)
        return errno.EIO if answer is None else -int(_ERROR.unpack_from(answer[1])[0])

    def _ask(self, kind: int, body: bytes, flags: int = 0, *, acknowledge: bool = False) -> tuple[int, bytes] | None:
        """Send a request; return (type, body) of the answer, which may be an error. None: there is no answer."""
        self._serial = serial = self._serial + 1 & 0xFFFFFFFF
        flags |= _REQUEST | (_ACKNOWLEDGE if acknowledge else 0)
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, serial, 0) + body)
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except OSError:
                return None
            for answers, number, content in _messages(data):
                if number == serial:
                    return answers, content


class Watch:
    """What changes, as the kernel tells it."""

    def __init__(self) -> None:
        self._socket = _open()
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, 33, _MESSAGE_BUFFER)  # SO_RCVBUFFORCE
        self._socket.bind((0, _GROUPS))

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def read(self) -> tuple[bool, list[Neighbour]]:
        """Return since the last call: (whether anything but neighbours changed, neighbours that changed)."""
        changed = False
        neighbours: list[Neighbour] = []
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return changed, neighbours
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more changed than it could keep for us
                    raise
                changed = True
                continue
            for kind, _, body in _messages(data):
                if kind in (_NEW_NEIGHBOUR, _DEL_NEIGHBOUR):
                    neighbour = _read_neighbour(body)
                    if neighbour is not None:
                        gone = kind == _DEL_NEIGHBOUR
                        neighbours.append(neighbour._replace(state=FAILED) if gone else neighbour)
                else:
                    changed = True


def _open() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)


def _family(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def _word(value: bytes | None) -> int:
    return 0 if value is None or len(value) < _WORD.size else int(_WORD.unpack_from(value)[0])


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def _attributes(data: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind] = data[at + _ATTRIBUTE.size : at + size]
        at += size + 3 & ~3
    return found


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Take messages apart: (type, sequence number, body)."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _, number, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield kind, number, data[at + _HEADER.size : at + size]
        at += size + 3 & ~3


def _read_link(body: bytes) -> Link:
    _, hardware, device, flags, _ = _LINK.unpack_from(body)
    attributes = _attributes(body, _LINK.size)
    name = os.fsdecode(attributes.get(_IFLA_NAME, b"").rstrip(b"\0"))
    return Link(device, name, hardware, flags, _word(attributes.get(_IFLA_MTU)), attributes.get(_IFLA_ADDRESS, b""))


def _read_address(body: bytes, *, fit: bool) -> OwnAddress | None:
    """Read an own address; None for one that does not count."""
    family, bits, flags, scope, device = _ADDRESS.unpack_from(body)
    attributes = _attributes(body, _ADDRESS.size)
    host = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if family not in (socket.AF_INET, socket.AF_INET6) or host is None or (fit and scope != _UNIVERSE):
        return None
    flags |= _word(attributes.get(_IFA_FLAGS))
    return None if flags & (_UNFIT if fit else _DUPLICATE) else OwnAddress(device, host, bits)


def _read_neighbour(body: bytes) -> Neighbour | None:
    """Read a neighbour; None for one of another kind than IPv4 and IPv6, as a bridge has them."""
    family, device, state, _, _ = _NEIGHBOUR.unpack_from(body)
    attributes = _attributes(body, _NEIGHBOUR.size)
    if family not in (socket.AF_INET, socket.AF_INET6) or _NDA_DST not in attributes:
        return None
    return Neighbour(device, attributes[_NDA_DST], state, attributes.get(_NDA_LLADDR, b""))
