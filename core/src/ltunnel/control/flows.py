"""What a flow is called, and which address limits are counted under.

Flows are opaque; their transport names them (`Transport.describe`: ``192.0.2.7:40122``, ``[2001:db8::1]:9000``).
Whatever the control side counts or tells about a stranger goes by that name.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from ltunnel.plugin import Flow

Describe = Callable[[int, Flow], str]
"""(transport, flow) -> its name, as `Transport.describe` gives it."""


def describe_endpoint(_transport: int, flow: Flow) -> str:
    """Name a flow that is a socket endpoint ``(host, port, ...)``; anything else by its own text."""
    if isinstance(flow, tuple) and len(flow) >= 2:
        host, port = str(flow[0]), flow[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(flow)


def limit_group(name: str) -> str:
    """Return what a flow's name counts as in limits: its IPv4 address, or its IPv6 /64 (one site has at least that)."""
    host, colon, port = name.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.startswith("[")):
        host = name
    try:
        address: IPv4Address | IPv6Address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)
