"""Types of single fields: how the text of an address or a name is read, and which are refused.

Readers raise ValueError; pydantic turns it into an error that names the field.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_interface, ip_network
from itertools import combinations
from typing import NamedTuple

from ltunnel.control.subnets import NOBODYS
from ltunnel.plugin import write_address
from ltunnel.registry.stack import LABEL
from ltunnel.session.peer import Network
from ltunnel.wire.fields import NETWORK_LIMIT
from ltunnel.wire.text import NAME_LIMIT, valid_name

TunnelAddress = IPv4Interface | IPv6Interface

_DEVICE_NAME_BYTES = 15  # IFNAMSIZ without its final zero
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_HOSTNAME_LIMIT = 253


class HostPort(NamedTuple):
    """A host (numeric address or name) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return write_address((self.host, self.port))


def read_listen(value: object) -> HostPort:
    """Read where to listen: ``0.0.0.0:9000``, ``[::]:9000``, or ``:9000`` for all addresses, IPv4 and IPv6."""
    host, port = _split(value)
    if not host:
        return HostPort("::", port)
    if not _is_address(host):
        raise ValueError("should be a numeric address of this machine and a port, such as 0.0.0.0:9000")
    return HostPort(host, port)


def read_remote(value: object) -> HostPort | None:
    """Read where the hub is: ``192.0.2.1:9000``, ``[2001:db8::1]:9000``, ``hub.example:9000``. Empty text is None."""
    if value is None or value == "":
        return None
    host, port = _split(value)
    if not _is_address(host) and not _is_hostname(host):
        raise ValueError("should be a host and a port, such as hub.example:9000")
    return HostPort(host, port)


def _split(value: object) -> tuple[str, int]:
    if isinstance(value, HostPort):
        return value
    if not isinstance(value, str):
        raise ValueError("should be text: a host and a port, such as 192.0.2.1:9000")
    host, colon, port = value.strip().rpartition(":")
    if not colon or host.count("[") != host.count("]"):
        raise ValueError("should end in a port, such as 192.0.2.1:9000")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ValueError("has brackets, which only go around IPv6 addresses")
    elif ":" in host:
        raise ValueError("should have brackets around the IPv6 address, such as [2001:db8::1]:9000")
    if "%" in host:
        raise ValueError("should be an address without a zone")
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= 0xFFFF):
        raise ValueError("should end in a port between 1 and 65535")
    return host, int(port)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_hostname(host: str) -> bool:
    """Tell whether it has the form of a host name (RFC 1123, underscores allowed), and not of a mistyped address."""
    labels = host.removesuffix(".").split(".")
    if len(host) > _HOSTNAME_LIMIT or all(label.isdecimal() for label in labels):
        return False
    return all(_LABEL.fullmatch(label) for label in labels)


def read_tunnel_addresses(value: object) -> tuple[TunnelAddress, ...]:
    """Read addresses with prefix lengths: text separated by commas, or a list; at most one IPv4 and one IPv6."""
    if isinstance(value, IPv4Interface | IPv6Interface):
        parts: list[object] = [value]
    elif isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
    elif isinstance(value, Iterable):
        parts = list(value)
    else:
        raise ValueError("should be an address with a prefix length, such as 10.0.0.2/24")
    addresses = tuple(_tunnel_address(part) for part in parts)
    if len({address.version for address in addresses}) < len(addresses):
        raise ValueError("should hold at most one IPv4 and one IPv6 address")
    return addresses


def _tunnel_address(value: object) -> TunnelAddress:
    if isinstance(value, IPv4Interface | IPv6Interface):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("should be an address with a prefix length, such as 10.0.0.2/24")
    if "/" not in value:
        raise ValueError(f"should have a prefix length: {value}/{64 if ':' in value else 24}")
    try:
        address = ip_interface(value)
    except ValueError:
        raise ValueError("should be an address with a prefix length, such as 10.0.0.2/24") from None
    reason = _unusable(address)
    if reason:
        raise ValueError(f"should be the address of one machine, and {address.ip} is {reason}")
    return address


def _unusable(address: TunnelAddress) -> str | None:
    network, host = address.network, address.ip
    if host.is_unspecified:
        return "no address"
    if host.is_multicast:
        return "a multicast address"
    if host.is_loopback:
        return "a loopback address"
    if address.version == 6 and (host.is_link_local or getattr(host, "scope_id", None)):
        return "a link-local address"
    if network.num_addresses > 2 and host == network.network_address:
        return f"the network {network} itself"
    if address.version == 4 and network.num_addresses > 2 and host == network.broadcast_address:
        return f"the broadcast address of {network}"
    return None


NONE = "none"
"""What is written to go without a plugin of a kind, or without any network."""
ALL = "all"
"""What is written to accept any network that is offered."""
_EVERYTHING: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def read_routes(value: object) -> tuple[Network, ...]:
    """Read the networks behind this machine: text separated by commas, a list, or ``none``; no two overlap."""
    networks = () if value == NONE else _networks(value)
    for network in networks:
        reason = _unroutable(network)
        if reason:
            raise ValueError(f"should be networks with machines in them, and {network} {reason}")
    for one, other in combinations(networks, 2):
        if one.version == other.version and one.overlaps(other):
            raise ValueError(f"should not overlap, and {one} and {other} do")
    if len(networks) > NETWORK_LIMIT:
        raise ValueError(f"should hold at most {NETWORK_LIMIT} networks")
    return networks


def read_accepted(value: object) -> tuple[Network, ...]:
    """Read within which networks offers are accepted: as `read_routes` does, ``none``, or ``all``."""
    if value == ALL:
        return _EVERYTHING
    if not isinstance(value, str | list | tuple):
        raise ValueError("should be all, none, or networks such as 192.168.7.0/24")
    if isinstance(value, list | tuple) and ALL in value:
        raise ValueError(f'should be "{ALL}" without a list, or networks')
    return () if value == NONE else _networks(value)


def _networks(value: object) -> tuple[Network, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple):
        raise ValueError("should be networks, such as 192.168.7.0/24")
    return tuple(map(_network, value))


def _network(value: object) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        interface = ip_interface(value if isinstance(value, str) and "%" not in value else "")
    except ValueError:
        raise ValueError("should be networks, such as 192.168.7.0/24") from None
    if "/" not in str(value):
        raise ValueError(f"should have a prefix length: {value}/{64 if interface.version == 6 else 24}")
    if interface.ip != interface.network.network_address:
        raise ValueError(f"should have no bits behind the prefix: {interface.network}")
    return interface.network


def _unroutable(network: Network) -> str | None:
    if network.prefixlen == 0:
        return "is everything"
    for reserved in map(ip_network, NOBODYS):
        if network.version == reserved.version and network.overlaps(reserved):
            return f"overlaps {reserved}, which is behind no machine"
    return None


def read_name(value: object) -> str:
    """Read a name for people, by the rules that peers hold each other to."""
    if not isinstance(value, str):
        raise ValueError("should be text")
    if not valid_name(value):
        raise ValueError(f"should be 1 to {NAME_LIMIT} bytes of printable text, without a blank at either end")
    return value


def read_device_name(value: object) -> str:
    """Read the name of a network device, by the kernel's rules (dev_valid_name) and those of its sysctl files."""
    if not isinstance(value, str):
        raise ValueError("should be text")
    bad = not value.isascii() or not value.isprintable() or any(char in value for char in "/: %\"'\\")
    if bad or value in {"", ".", "..", "all", "default", "lo"} or len(value) > _DEVICE_NAME_BYTES:
        raise ValueError(f"should be the name of a device: 1 to {_DEVICE_NAME_BYTES} letters, digits, '-', '_' or '.'")
    return value


def read_plugin_names(value: object) -> tuple[str, ...]:
    """Read names of plugins: text separated by commas, or a list; none twice."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple):
        raise ValueError("should be the name of a plugin, or a list of names")
    names = tuple(read_plugin_name(name) for name in value)
    if len(set(names)) < len(names):
        raise ValueError("should not name a plugin twice")
    return names


def read_transports(value: object) -> tuple[str, ...]:
    """Read names of transports: as `read_plugin_names` does, each with a label behind a colon or without."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple):
        raise ValueError("should be the name of a transport, or a list of names")
    names = tuple(map(_transport, value))
    if len(set(names)) < len(names):
        raise ValueError("should not name a transport twice; give one a label: transport_faketcp:udp")
    return names


def _transport(value: object) -> str:
    name, colon, label = value.partition(LABEL) if isinstance(value, str) else (value, "", "")
    if colon and not re.fullmatch(r"[a-z0-9_-]{1,32}", label):
        raise ValueError("should have a label of small letters and digits behind the colon")
    return f"{read_plugin_name(name)}{colon}{label}"


def read_plugin_name(value: object) -> str:
    """Read the name of a plugin: an identifier in small letters."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", value):
        raise ValueError("should be the name of a plugin, such as transport_udp")
    return value


def refuse_bool(value: object) -> object:
    """Refuse true and false where a number is meant; pydantic would take them for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")
    return value


def read_optional_plugin(value: object) -> str:
    """Read the name of a plugin, or that there is to be none."""
    return NONE if value == NONE else read_plugin_name(value)
