"""Where this machine is: its addresses, the LANs that it is on, and when that changes.

A LAN is known by its prefix and its gateway's link-layer address, of which peers and hub are told 8 bytes of a digest:
equal private addresses behind different routers are then never taken for one LAN.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from ltunnel.node import Node
from ltunnel.plugin import Address, Carrier, LocalAddress
from ltunnel.runtime.link import ELSEWHERE, source_address
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.network_watch import NetworkWatch
from ltunnel.runtime.raw_netlink import Netlink, OwnAddress

DIGEST = 8
LOOK_AGAIN = 0.5
TRIES = 12
"""So often the kernel is asked again for a gateway's link-layer address that it does not know yet."""


class Seen(NamedTuple):
    """What there is."""

    local: tuple[LocalAddress, ...]
    networks: tuple[IPv4Network | IPv6Network, ...]
    """Prefixes of the own links."""
    settled: bool
    """Whether all addresses and gateways are known."""


def look_around(ports: Mapping[Carrier, int], *, network: str, remote: Address, tun: str) -> Seen:
    """Ask the kernel. `ports` are the shared ones; the interface `tun` does not count."""
    local: list[LocalAddress] = []
    networks: list[IPv4Network | IPv6Network] = []
    with contextlib.closing(Netlink()) as netlink:
        addresses = netlink.addresses(fit=True)
        settled = addresses is not None
        for own in addresses or ():
            link = netlink.link(own.device)
            if link is None or link.name == tun:
                continue
            prefix = ip_network((own.host, own.prefix), strict=False)
            gateway = _gateway(netlink, own, remote)
            digest = b""
            if gateway is not None:
                address = _link_address(netlink, own.device, gateway)
                settled = settled and bool(address)
                named = b"|".join((network.encode(), address, str(prefix).encode()))
                digest = sha256(named).digest()[:DIGEST] if address else b""
            networks.append(prefix)
            host = str(ip_address(own.host))
            local += [
                LocalAddress(address=(host, port), carrier=carrier, network=digest) for carrier, port in ports.items()
            ]
    return Seen(tuple(local), tuple(networks), settled)


def _gateway(netlink: Netlink, own: OwnAddress, remote: Address) -> bytes | None:
    """Return the gateway by which an own address reaches the hub, or the rest of the world."""
    version = 4 if len(own.host) == 4 else 6
    for host, _ in (remote, ELSEWHERE[version]):
        to = ip_address(host)
        if to.version != version:
            continue
        route = netlink.route(to.packed, own.host)
        if route is not None and route.device == own.device and route.gateway is not None:
            return route.gateway
    return None


def _link_address(netlink: Netlink, device: int, gateway: bytes) -> bytes:
    """Return a gateway's link-layer address; empty, and have the kernel find it out, if it does not know it."""
    neighbour = netlink.neighbour(device, gateway)
    if neighbour is not None and neighbour.is_known:
        return neighbour.address
    netlink.use_neighbour(device, gateway)
    return b""


class Surroundings:
    """Tells a node where it is, and when that changes; `moved(now)` is called when it is in another network.

    `ports` are its shared ones.
    """

    def __init__(
        self, loop: Loop, node: Node, ports: Mapping[Carrier, int], remote: Address, tun: str, *,
        moved: Callable[[float], None],
    ) -> None:  # fmt: skip
        self._node = node
        self._moved = moved
        self._ports = ports
        self._remote = remote
        self._tun = tun
        self._source: str | None = None
        self._seen: Seen | None = None
        self._tries = 0
        self._again: float | None = 0.0
        self._watch = NetworkWatch(loop, self._look, self._changed)

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()

    def check(self, now: float) -> float | None:
        """Do what is due, and return when to come again (monotonic seconds), or None."""
        if self._again is not None and now >= self._again:
            self._tries += 1
            self._again = None
            self._tell(self._look_around(), now)
        due = self._watch.check(now)
        return min((when for when in (due, self._again) if when is not None), default=None)

    def _look_around(self) -> Seen:
        return look_around(self._ports, network=self._node.settings.network, remote=self._remote, tun=self._tun)

    def _look(self) -> tuple[str, Seen] | None:
        """Look for what is worth telling; nothing without a way to the hub."""
        source = source_address(self._remote)
        if self._source is None:
            self._source = source
        return None if source is None else (source, self._look_around())

    def _changed(self, now: float) -> None:
        source = source_address(self._remote)
        if source is not None and source != self._source:
            self._source = source
            self._moved(now)
        self._tries = 0
        self._tell(self._look_around(), now)

    def _tell(self, seen: Seen, now: float) -> None:
        if self._seen is None or (seen.local, seen.networks) != (self._seen.local, self._seen.networks):
            self._node.set_interfaces(seen.local, seen.networks, now)
        self._seen = seen
        if not seen.settled and self._tries < TRIES:
            self._again = now + LOOK_AGAIN
