"""Bounded TLV: ``type 1 | length 2 | value``, repeated until the end, numbers big-endian.

A reader says which types it knows, how often each may come and how long its values may be; anything outside of that is
a `WireError`. Types with the high bit set are skipped where they are not known, so that a newer sender may say more;
other unknown types are errors, so that it can also insist on being understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from struct import Struct
from typing import NamedTuple

from ltunnel.errors import WireError

Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network
Entry = tuple[int, bytes]

MAX_BODY = 1152
"""Longest sequence of entries: with every header around it, it fits IPv6's smallest MTU of 1280."""
OPTIONAL = 0x80

_HEAD = Struct(">BH")


class Bounds(NamedTuple):
    """How often a type may come, and how long its values may be (bytes, both ends included)."""

    least: int
    most: int
    shortest: int
    longest: int


Fields = Mapping[int, Bounds]


def encode(entries: Iterable[Entry], fields: Fields) -> bytes:
    """Write entries in order. ValueError for what a reader with the same `fields` would refuse."""
    data = b"".join(_HEAD.pack(kind, len(value)) + value for kind, value in entries)
    try:
        decode(data, fields)
    except WireError as error:
        raise ValueError(str(error)) from error
    return data


def decode(data: bytes, fields: Fields) -> dict[int, list[bytes]]:
    """Read entries: for each type in `fields` its values in order of appearance."""
    if len(data) > MAX_BODY:
        raise WireError(f"{len(data)} bytes of entries, more than {MAX_BODY}")
    values: dict[int, list[bytes]] = {kind: [] for kind in fields}
    position = 0
    while position < len(data):
        if len(data) - position < _HEAD.size:
            raise WireError("entry cut short")
        kind, length = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        if len(data) - position < length:
            raise WireError("entry cut short")
        bounds = fields.get(kind)
        if bounds is not None:
            if not bounds.shortest <= length <= bounds.longest:
                raise WireError(f"entry of type {kind} with {length} bytes")
            values[kind].append(data[position : position + length])
        elif not kind & OPTIONAL:
            raise WireError(f"unknown entry of type {kind}")
        position += length
    for kind, bounds in fields.items():
        if not bounds.least <= len(values[kind]) <= bounds.most:
            raise WireError(f"{len(values[kind])} entries of type {kind}")
    return values


def read_text(value: bytes) -> str:
    """Read UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise WireError("text is not UTF-8") from None


def write_interface(interface: Interface) -> bytes:
    """Write an address with its prefix length: prefix length 1, address 4 or 16."""
    return bytes((interface.network.prefixlen,)) + interface.ip.packed


def read_interface(value: bytes) -> Interface:
    """Read what `write_interface` wrote."""
    length, address = _prefix(value)
    return IPv4Interface((address, length)) if isinstance(address, IPv4Address) else IPv6Interface((address, length))


def write_network(network: Network) -> bytes:
    """Write a prefix: prefix length 1, address 4 or 16."""
    return bytes((network.prefixlen,)) + network.network_address.packed


def read_network(value: bytes) -> Network:
    """Read what `write_network` wrote; bits behind the prefix must be zero."""
    length, address = _prefix(value)
    try:
        return IPv4Network((address, length)) if isinstance(address, IPv4Address) else IPv6Network((address, length))
    except ValueError:
        raise WireError("prefix with host bits") from None


def _prefix(value: bytes) -> tuple[int, IPv4Address | IPv6Address]:
    if len(value) not in (5, 17) or value[0] > 8 * (len(value) - 1):
        raise WireError("not an address with a prefix length")
    packed = value[1:]
    return value[0], IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
