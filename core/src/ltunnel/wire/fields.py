"""Types of TLV entries, one numbering for all payloads and frames, and how the common ones are read and written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

from ltunnel.constants import MIN_MTU_IPV4
from ltunnel.errors import WireError
from ltunnel.wire import tlv
from ltunnel.wire.text import NAME_LIMIT, valid_name
from ltunnel.wire.tlv import Bounds, Entry, Interface, Network


class Field(IntEnum):
    """Type of an entry."""

    NAME = 0x01  # UTF-8, 1 to 63 bytes, see `valid_name`
    ADDRESS = 0x02  # prefix length 1, address 4 or 16
    NETWORK = 0x03  # prefix length 1, address 4 or 16, host bits zero
    MTU = 0x04  # 2 bytes, at least 576
    STACK = 0x05  # ASCII, 1 to 32 bytes: "cipher=AESGCM"
    HUB_ADDRESS = 0x06  # as ADDRESS
    FLAGS = 0x07  # 1 byte, bits that are not known are ignored
    KEY = 0x08  # static public key, 32 bytes
    PEER = 0x09  # entries
    CODE = 0x0A  # 1 byte
    TEXT = 0x0B  # UTF-8
    ROUND = 0x0C  # 1 byte
    DELAY = 0x0D  # 2 bytes, milliseconds
    BEHAVIOUR = 0x0E  # 4 bytes, see `ltunnel.wire.punch`
    CANDIDATE = 0x0F  # 20 or 32 bytes, see `ltunnel.wire.punch`
    HOLD = 0x10  # 4 bytes, milliseconds
    ROUTE = 0x11  # 15 bytes, see `ltunnel.wire.advert`
    WANT = 0x12  # 11 bytes, see `ltunnel.wire.advert`
    PLACE = 0x80  # 7 or 19 bytes, see `ltunnel.wire.places`
    BEHIND = 0x81  # as NETWORK: one behind a machine, that others may reach through it


TOKEN_SIZE = 8
KEY_SIZE = 32
ADDRESS_LIMIT = 8
NETWORK_LIMIT = 24
STACK_LIMIT = 8
TEXT_LIMIT = 200

ONE_NAME = Bounds(1, 1, 1, NAME_LIMIT)
ADDRESSES = Bounds(0, ADDRESS_LIMIT, 5, 17)
NETWORKS = Bounds(0, NETWORK_LIMIT, 5, 17)
ONE_KEY = Bounds(1, 1, KEY_SIZE, KEY_SIZE)
ONE_MTU = Bounds(1, 1, 2, 2)
STACK = Bounds(0, STACK_LIMIT, 1, 32)


def name_entry(name: str) -> Entry:
    """Write a name. ValueError unless `valid_name`."""
    if not valid_name(name):
        raise ValueError(f"not a name for a node: {name!r}")
    return Field.NAME, name.encode()


def read_name(values: Sequence[bytes]) -> str:
    """Read the one name."""
    name = tlv.read_text(values[0])
    if not valid_name(name):
        raise WireError("name that is not printable")
    return name


def mtu_entry(mtu: int) -> Entry:
    """Write an MTU. ValueError below 576 and above 65535."""
    if not MIN_MTU_IPV4 <= mtu <= 0xFFFF:
        raise ValueError(f"MTU {mtu}")
    return Field.MTU, mtu.to_bytes(2, "big")


def read_mtu(values: Sequence[bytes]) -> int:
    """Read the one MTU."""
    mtu = int.from_bytes(values[0], "big")
    if mtu < MIN_MTU_IPV4:
        raise WireError(f"MTU {mtu}")
    return mtu


def interface_entries(kind: Field, interfaces: Iterable[Interface]) -> list[Entry]:
    """Write addresses with prefix lengths."""
    return [(kind, tlv.write_interface(interface)) for interface in interfaces]


def read_interfaces(values: Sequence[bytes]) -> tuple[Interface, ...]:
    """Read addresses with prefix lengths."""
    return tuple(tlv.read_interface(value) for value in values)


def network_entries(networks: Iterable[Network], kind: Field = Field.NETWORK) -> list[Entry]:
    """Write prefixes."""
    return [(kind, tlv.write_network(network)) for network in networks]


def read_networks(values: Sequence[bytes]) -> tuple[Network, ...]:
    """Read prefixes."""
    return tuple(tlv.read_network(value) for value in values)


def stack_entries(stack: Iterable[str]) -> list[Entry]:
    """Write the names of a stack. ValueError unless they are printable ASCII."""
    if not all(part.isascii() and part.isprintable() for part in stack):
        raise ValueError(f"stack names must be printable ASCII: {stack!r}")
    return [(Field.STACK, part.encode()) for part in stack]


def read_stack(values: Sequence[bytes]) -> tuple[str, ...]:
    """Read the names of a stack."""
    if not all(value.isascii() and value.decode().isprintable() for value in values):
        raise WireError("stack name that is not printable ASCII")
    return tuple(value.decode() for value in values)


def text_entry(text: str) -> Entry:
    """Write text for people, cut to 200 bytes between two characters."""
    return Field.TEXT, text.encode(errors="replace")[:TEXT_LIMIT].decode(errors="ignore").encode()
