"""The kernel's routes into the tunnel: for each network behind another machine, one to the TUN device.

They are kept equal to what the node has accepted, and put back when they have gone: with the device down, the kernel
forgets them, and other programs clear away what is not theirs. Whatever ends this process, they go with the device.

In turn the node is told which networks this machine is in itself, and when that changes: it accepts none of those.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from ipaddress import ip_network

from ltunnel.node import Node
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.network_watch import NetworkWatch
from ltunnel.runtime.raw_netlink import LinkRoute, Netlink
from ltunnel.session.peer import Network

TRY_AGAIN = 10.0
"""Seconds after which one tries again what has failed."""

METRIC = 40_000
"""Above what others give (NetworkManager up to about 21,000): a route that exists already goes first."""

PROTOCOL = 76
"""Marks the routes as ours, ``proto 76`` in `ip route`. Nobody has it in iproute2's rt_protos; 76 is an ASCII "L"."""

_LOOPBACK = 0x8  # IFF_LOOPBACK


class TunnelRoutes:
    """Keeps the routes of one node's device. `complain` hears, once for each reason, what the kernel refuses."""

    def __init__(self, loop: Loop, node: Node, device: str, complain: Callable[[str], None], now: float) -> None:
        self._node = node
        self._device = device
        self._index = socket.if_nametoindex(device)
        self._complain = complain
        self._wanted: Sequence[Network] = ()
        self._there: set[Network] = set()
        self._failed: set[tuple[str, str]] = set()
        self._in_doubt = False
        self._links_told = True
        self._again: float | None = None
        with ExitStack() as stack:
            self._netlink = stack.enter_context(closing(Netlink()))
            self._watch = stack.enter_context(closing(NetworkWatch(loop, self._look, self._moved)))
            self._moved(now)
            self._all = stack.pop_all()

    def close(self) -> None:
        """Stop watching. The routes go with the device."""
        self._all.close()

    def check(self, now: float) -> float | None:
        """Do what is due, and return when to come again (monotonic seconds), or None."""
        due = self._watch.check(now)
        again = self._again is not None and now >= self._again
        if again and not self._links_told:
            self._moved(now)
        wanted = self._node.networks
        changed = wanted is not self._wanted and wanted != self._wanted  # mostly the very same, and it may be long
        self._wanted = wanted
        if changed or self._in_doubt or again:
            self._in_doubt = False
            self._again = None if self._settle(wanted) and self._links_told else now + TRY_AGAIN
        return min((when for when in (due, self._again) if when is not None), default=None)

    def _look(self) -> tuple[Network, ...] | None:
        """Look for what is worth telling. The kernel has said that something changed, perhaps about our routes."""
        self._in_doubt = True
        links = self._own_links()
        self._links_told &= links is not None
        return links

    def _moved(self, now: float) -> None:
        links = self._own_links()
        self._links_told = links is not None
        if links is not None:
            self._node.set_links(links, now)

    def _own_links(self) -> tuple[Network, ...] | None:
        """Return the prefixes of this machine's links, but for the device and loopback; None if they are not known."""
        addresses = self._netlink.addresses(fit=False)
        if addresses is None:
            return None
        found: set[Network] = set()
        for own in addresses:
            link = None if own.device == self._index else self._netlink.link(own.device)
            if link is not None and not link.flags & _LOOPBACK:
                found.add(ip_network((own.host, own.prefix), strict=False))
        return tuple(sorted(found, key=lambda network: (network.version, network)))

    def _settle(self, wanted: Sequence[Network]) -> bool:
        """Bring the kernel's routes in line; False if some of it has failed."""
        failed: dict[tuple[str, str], list[Network]] = {}
        for network in self._there.difference(wanted):
            if error := self._netlink.delete_route(self._route(network)):
                failed.setdefault(("take back the route of", f": {os.strerror(error)}"), []).append(network)
            else:
                self._there.discard(network)
        for network in wanted:
            if error := self._netlink.add_route(self._route(network)):
                failed.setdefault(("route", f" into {self._device}: {os.strerror(error)}"), []).append(network)
            else:
                self._there.add(network)
        for (what, why), networks in failed.items():
            if (what, why) not in self._failed:
                self._complain(f"cannot {what} {_name(networks)}{why}; trying again every {TRY_AGAIN:.0f} s")
        self._failed = set(failed)
        return not failed

    def _route(self, network: Network) -> LinkRoute:
        return LinkRoute(self._index, network.network_address.packed, network.prefixlen, METRIC, PROTOCOL)


def _name(networks: Sequence[Network]) -> str:
    """Name the first of them, and how many more there are."""
    more = len(networks) - 1
    return f"{networks[0]}" + (f" and {more} other{'s' if more > 1 else ''}" if more else "")
