"""Which inner addresses are this machine's own, and which belong to the tunnel's network."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv6Interface
from struct import Struct

from ltunnel.session.peer import contains

_IPV4 = Struct("4s").unpack_from
_IPV6 = Struct("16s").unpack_from


class Local:
    """The tunnel addresses of this machine."""

    __slots__ = ("_networks", "_own", "_sources")

    def __init__(self, addresses: Sequence[IPv4Interface | IPv6Interface]) -> None:
        self._own = frozenset(address.packed for address in addresses)
        self._sources: dict[int, bytes] = {address.version: address.packed for address in reversed(addresses)}
        self._networks = tuple(address.network for address in addresses)

    def source(self, version: int) -> bytes | None:
        """Address (packed) to send ICMP errors of an IP version from, if there is one."""
        return self._sources.get(version)

    def is_own(self, address: bytes) -> bool:
        """Whether a packed address is this machine's."""
        return address in self._own

    def owns(self, data: bytearray | bytes, ip: int) -> bool:
        """Whether the packet at ``data[ip:]`` is for this machine."""
        return destination(data, ip) in self._own

    def inside(self, data: bytearray | bytes, ip: int) -> bool:
        """Whether the packet at ``data[ip:]`` is for an address of the tunnel's network."""
        address = destination(data, ip)
        return any(contains(network, address) for network in self._networks)


def destination(data: bytearray | bytes, ip: int) -> bytes:
    """Destination address (packed) of the packet at ``data[ip:]``, which has a whole IP header."""
    (address,) = _IPV4(data, ip + 16) if data[ip] >> 4 == 4 else _IPV6(data, ip + 24)
    return address  # type: ignore[no-any-return]


def source(data: bytearray | bytes, ip: int) -> bytes:
    """Source address (packed) of the packet at ``data[ip:]``, which has a whole IP header."""
    (address,) = _IPV4(data, ip + 12) if data[ip] >> 4 == 4 else _IPV6(data, ip + 8)
    return address  # type: ignore[no-any-return]
