"""Messages of PCP (RFC 6887) and of NAT-PMP, from which it comes (RFC 6886). Pure; numbers are big-endian.

::

    NAT-PMP address   version 1 = 0 | opcode 1 = 0
            answer    version 1 | opcode 1 = 128 | result 2 | epoch 4 | outside address 4
    NAT-PMP map       version 1 = 0 | opcode 1 (1 UDP, 2 TCP) | reserved 2 | inside port 2 | outside port 2 | lifetime 4
            answer    version 1 | opcode 1 + 128 | result 2 | epoch 4 | inside port 2 | outside port 2 | lifetime 4
    PCP map           version 1 = 2 | opcode 1 = 1 | reserved 2 | lifetime 4 | own address 16
                      | nonce 12 | protocol 1 | reserved 3 | inside port 2 | outside port 2 | outside address 16
            answer    version 1 | opcode 1 = 129 | reserved 1 | result 1 | lifetime 4 | epoch 4 | reserved 12
                      | nonce 12 | protocol 1 | reserved 3 | inside port 2 | outside port 2 | outside address 16

There is no kept library for either. Readers return None for whatever is not the answer that is waited for.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import NamedTuple

from ltunnel.plugin import Address, Carrier

PORT = 5351
"""Where gateways answer."""
NONCE = 12

_PMP_MAP = Struct(">BBxxHHI")
_PMP_ADDRESS_ANSWER = Struct(">BBHI4s")
_PMP_MAP_ANSWER = Struct(">BBHIHHI")
_PCP_MAP = Struct(">BBxxI16s12sBxxxHH16s")
_PCP_ANSWER = Struct(">BBxBII12x12sBxxxHH16s")

_PMP_CODES = {Carrier.UDP: 1, Carrier.TCP: 2}
_ANSWER = 0x80
_PCP_VERSION, _PCP_OP_MAP = 2, 1
_ANY = b"\0" * 10 + b"\xff\xff" + b"\0" * 4


class Lease(NamedTuple):
    """A mapping: the outside address and for how many seconds it holds."""

    address: Address
    lifetime: float


def ask_address() -> bytes:
    """Return the NAT-PMP question for the outside address."""
    return bytes(2)


def read_address(data: bytes) -> str | None:
    """Return the outside address of a NAT-PMP answer."""
    if len(data) != _PMP_ADDRESS_ANSWER.size:
        return None
    version, code, result, _epoch, packed = _PMP_ADDRESS_ANSWER.unpack(data)
    return str(IPv4Address(packed)) if (version, code, result) == (0, _ANSWER, 0) else None


def pmp_map(carrier: Carrier, port: int, lifetime: float) -> bytes:
    """Return the NAT-PMP request to map a port, if it can be to the same one; a lifetime of 0 ends the mapping."""
    return _PMP_MAP.pack(0, _PMP_CODES[carrier], port, port if lifetime else 0, int(lifetime))


def read_pmp_map(data: bytes, carrier: Carrier, port: int) -> tuple[int, float] | None:
    """Return outside port and lifetime of a NAT-PMP answer."""
    if len(data) != _PMP_MAP_ANSWER.size:
        return None
    version, code, result, _epoch, inside, outside, lifetime = _PMP_MAP_ANSWER.unpack(data)
    if (version, code, result, inside) != (0, _PMP_CODES[carrier] | _ANSWER, 0, port) or not outside:
        return None
    return outside, float(lifetime)


def pcp_map(carrier: Carrier, port: int, lifetime: float, own: str, nonce: bytes) -> bytes:
    """Return the PCP request to map a port; `own` is the address that it is sent from."""
    return _PCP_MAP.pack(
        _PCP_VERSION, _PCP_OP_MAP, int(lifetime), _pack(own), nonce, int(carrier), port, port, _ANY
    )  # fmt: skip


def read_pcp_map(data: bytes, carrier: Carrier, port: int, nonce: bytes) -> Lease | None:
    """Return what a PCP answer grants."""
    if len(data) < _PCP_ANSWER.size:
        return None
    version, code, result, lifetime, _epoch, echoed, protocol, inside, outside, packed = _PCP_ANSWER.unpack_from(data)
    wanted = (_PCP_VERSION, _PCP_OP_MAP | _ANSWER, 0, nonce, int(carrier), port)
    if (version, code, result, echoed, protocol, inside) != wanted or not outside:
        return None
    address = IPv6Address(packed)
    return Lease((str(address.ipv4_mapped or address), outside), float(lifetime))


def _pack(host: str) -> bytes:
    address = ip_address(host)
    return address.packed if isinstance(address, IPv6Address) else _ANY[:12] + address.packed
