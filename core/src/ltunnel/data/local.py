"""Which inner addresses are this machine's own or behind it, and which belong to the tunnel's network."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv6Interface
from struct import Struct

from ltunnel.session.peer import Network, contains

_IPV4 = Struct("4s").unpack_from
_IPV6 = Struct("16s").unpack_from
_ENDS4 = Struct("4s4s").unpack_from
_ENDS6 = Struct("16s16s").unpack_from
_CACHE_LIMIT = 4096


class Local:
    """The tunnel addresses of this machine, and the networks behind it that it offers to others."""

    __slots__ = ("_networks", "_own", "_routes", "_sources", "taken")

    def __init__(self, addresses: Sequence[IPv4Interface | IPv6Interface], routes: Sequence[Network] = ()) -> None:
        self._own = frozenset(address.packed for address in addresses)
        self._sources: dict[int, bytes] = {address.version: address.packed for address in reversed(addresses)}
        self._networks = tuple(address.network for address in addresses)
        self._routes = tuple(routes)
        self.taken = set(self._own)
        """Read-only for the data path: packed addresses that `takes` has said yes to."""

    def source(self, version: int) -> bytes | None:
        """Address (packed) to send ICMP errors of an IP version from, if there is one."""
        return self._sources.get(version)

    def owns(self, data: bytearray | bytes, ip: int) -> bool:
        """Whether the packet at ``data[ip:]`` is for this machine."""
        return destination(data, ip) in self._own

    def takes(self, address: bytes) -> bool:
        """Whether the kernel may have what others send to a packed address: an own one, or one behind this machine."""
        if address in self._own:
            return True
        if not any(contains(network, address) for network in self._routes):
            return False
        if len(self.taken) >= _CACHE_LIMIT:  # an address scan must not cost memory
            self.taken.intersection_update(self._own)
        self.taken.add(address)
        return True

    def inside(self, address: bytes) -> bool:
        """Whether a packed address belongs to the tunnel's network."""
        return any(contains(network, address) for network in self._networks)


def destination(data: bytearray | bytes, ip: int) -> bytes:
    """Destination address (packed) of the packet at ``data[ip:]``, which has a whole IP header."""
    (address,) = _IPV4(data, ip + 16) if data[ip] >> 4 == 4 else _IPV6(data, ip + 24)
    return address  # type: ignore[no-any-return]


def source(data: bytearray | bytes, ip: int) -> bytes:
    """Source address (packed) of the packet at ``data[ip:]``, which has a whole IP header."""
    (address,) = _IPV4(data, ip + 12) if data[ip] >> 4 == 4 else _IPV6(data, ip + 8)
    return address  # type: ignore[no-any-return]


def ends(data: bytearray | bytes, ip: int) -> tuple[bytes, bytes]:
    """Source and destination address (packed) of the packet at ``data[ip:]``, which has a whole IP header."""
    return _ENDS4(data, ip + 12) if data[ip] >> 4 == 4 else _ENDS6(data, ip + 8)
