"""What a flow is called, and which address limits are counted under.

Flows are opaque; their transport names them (`Transport.describe`: ``192.0.2.7:40122``, ``[2001:db8::1]:9000``).
Whatever the control side counts or tells about a stranger goes by that name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from ltunnel.plugin import Address, Flow, is_private, write_address
from ltunnel.session.peer import Network

Describe = Callable[[int, Flow], str]
"""(transport, flow) -> its name, as `Transport.describe` gives it."""


def describe_endpoint(_transport: int, flow: Flow) -> str:
    """Name a flow that is a socket endpoint ``(host, port, ...)``; anything else by its own text."""
    if isinstance(flow, tuple) and len(flow) >= 2:
        return write_address((str(flow[0]), flow[1]))
    return str(flow)


def address_of(name: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address in a flow's name, or what that maps; None for names of another kind."""
    try:
        address: IPv4Address | IPv6Address = ip_address(_host(name).strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_near(name: str, networks: Sequence[Network]) -> bool:
    """Whether a flow leads to a private address in one of the prefixes of this machine's own links."""
    address = address_of(name)
    return address is not None and is_private(address) and any(address in network for network in networks)


def endpoint_of(name: str) -> Address | None:
    """Return address and port of a flow's name, the IPv4 one if it is mapped; None for names of another kind."""
    ip, port = address_of(name), name.rpartition(":")[2]
    if ip is None or not port.isdecimal() or not 0 < int(port[:6]) <= 0xFFFF:
        return None
    return str(ip), int(port)


def limit_group(name: str) -> str:
    """Return what a flow's name counts as in limits: its IPv4 address, or its IPv6 /64 (one site has at least that)."""
    address = address_of(name)
    if address is None:
        return _host(name)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def _host(name: str) -> str:
    host, colon, port = name.rpartition(":")
    return name if not colon or not port.isdigit() or (":" in host and not host.startswith("[")) else host
