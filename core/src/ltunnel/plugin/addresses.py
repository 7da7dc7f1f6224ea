"""How addresses are written, and which of them probes may go to: agents choose by that, and the core enforces it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from ltunnel.plugin.ports import Address

IPAddress = IPv4Address | IPv6Address

_CARRIER_GRADE = IPv4Network("100.64.0.0/10")  # RFC 6598
_EXAMPLES: tuple[IPv4Network | IPv6Network, ...] = tuple(
    map(ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32"))
)
"""Addresses of examples and test networks (RFC 5737, RFC 2544, RFC 3849). They stand for public ones."""


def write_address(address: Address) -> str:
    """Write an address as ``host:port``, IPv6 in brackets: ``192.0.2.7:4500``, ``[2001:db8::7]:4500``."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_target(address: Address) -> IPAddress | None:
    """Return the IP address if a probe may go there; None for what is malformed, or not one machine's."""
    host, port = address
    if not 0 < port < 65_536:
        return None
    try:
        ip = ip_address(host)
    except ValueError:
        return None
    if ip.is_multicast or ip.is_unspecified or ip.is_loopback or ip.is_reserved:
        return None
    if isinstance(ip, IPv6Address) and (ip.scope_id is not None or ip.ipv4_mapped is not None):
        return None
    return ip


def is_private(ip: IPAddress) -> bool:
    """Whether an address means something only on its own LAN or behind its own NAT, the carrier's included."""
    if any(ip in network for network in _EXAMPLES):
        return False
    return ip.is_private or ip.is_link_local or ip in _CARRIER_GRADE
