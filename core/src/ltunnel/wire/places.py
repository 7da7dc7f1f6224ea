"""PLACE: where a hub can be asked from outside, in an entry of WELCOME.

::

    PLACE   carrier 1 | port 2 | address 4 or 16

The carrier is its IP protocol, as in CANDIDATE. A node that joined over one IP version learns here where to ask the hub
over the other (OBSERVE, `ltunnel.wire.observe`).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import NamedTuple

from ltunnel.errors import WireError
from ltunnel.plugin import Address, Carrier
from ltunnel.wire.tlv import Bounds

PLACE_LIMIT = 4
"""One for each carrier and IP version."""

_PLACE = Struct(">BH")
PLACES = Bounds(0, PLACE_LIMIT, _PLACE.size + 4, _PLACE.size + 16)


class HubPlace(NamedTuple):
    """A public address of a hub, and what it listens to there."""

    carrier: Carrier
    address: Address

    def pack(self) -> bytes:
        """Return the 7 or 19 bytes. ValueError for an address that is not numeric, or a port of 0."""
        host, port = self.address
        if not 0 < port < 1 << 16:
            raise ValueError(f"port {port}")
        return _PLACE.pack(self.carrier, port) + ip_address(host).packed

    @classmethod
    def parse(cls, value: bytes) -> HubPlace:
        """Read the 7 or 19 bytes."""
        carrier, port = _PLACE.unpack_from(value)
        packed = value[_PLACE.size :]
        if len(packed) not in (4, 16) or not port:
            raise WireError("PLACE without a port, or with an address of another length")
        address = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            raise WireError("PLACE with an IPv4 address written as IPv6")
        try:
            return cls(Carrier(carrier), (str(address), port))
        except ValueError:
            raise WireError("PLACE with a carrier that is none of ours") from None
