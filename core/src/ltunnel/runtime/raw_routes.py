"""What the kernel knows about the way to an address, kept until the kernel says that something has changed."""

from __future__ import annotations

import contextlib
import socket
from typing import NamedTuple

from ltunnel.plugin import Route
from ltunnel.runtime.raw_netlink import LOCAL, STALE, UNICAST, Link, Neighbour, Netlink, Watch

_KEPT = 4096
_LARGEST_MTU = 65_535


class Way(NamedTuple):
    """Where packets to an address go."""

    link: Link
    next: bytes
    """Packed address of the next machine."""


class Routes:
    """Routes, links and own addresses. `bound` is the packed address that all packets leave with, None for any.

    Only addresses of the IP `versions` are served.
    """

    def __init__(self, versions: tuple[int, ...], bound: bytes | None) -> None:
        self._versions = versions
        self._bound = bound
        self._found: dict[str, Route | None] = {}
        self._ours: dict[bytes, bool] = {}
        self._links: dict[int, Link | None] = {}
        with contextlib.ExitStack() as stack:
            self._netlink = stack.enter_context(contextlib.closing(Netlink()))
            self._watch = stack.enter_context(contextlib.closing(Watch()))
            self._all = stack.pop_all()

    def fileno(self) -> int:
        """Return the descriptor to poll for news."""
        return self._watch.fileno()

    def close(self) -> None:
        """Close the sockets."""
        self._all.close()

    def take_news(self) -> tuple[bool, list[Neighbour]]:
        """Forget what may no longer hold: (whether that was everything, neighbours that changed)."""
        changed, neighbours = self._watch.read()
        if changed:
            self._found.clear()
            self._ours.clear()
            self._links.clear()
        return changed, neighbours

    def find(self, host: str) -> Route | None:
        """Return how packets get to `host`, None without a route."""
        try:
            return self._found[host]
        except KeyError:
            if len(self._found) >= _KEPT:
                self._found.clear()
            found = self._found[host] = self._look_up(host)
            return found

    def way(self, host: str, source: bytes) -> Way | None:
        """Return where packets to `host` from a packed own address go, None if there is no way."""
        destination = self._pack(host)
        if destination is None or len(source) != len(destination) or not self.is_ours(source):
            return None
        route = self._netlink.route(destination, source)
        if route is None or route.kind not in (UNICAST, LOCAL):
            return None
        link = self.link(route.device)
        return None if link is None else Way(link, route.gateway or destination)

    def is_ours(self, address: bytes) -> bool:
        """Whether a packed address is this machine's (and the one that was asked for)."""
        known = self._ours.get(address)
        if known is None:
            if len(self._ours) >= _KEPT:
                self._ours.clear()
            known = self._ours[address] = self._is_local(address)
        return known

    def link(self, device: int) -> Link | None:
        """Describe an interface; None if it is gone."""
        if device not in self._links:
            self._links[device] = self._netlink.link(device)
        return self._links[device]

    def neighbour(self, device: int, host: bytes) -> bytes | None:
        """Return the link-layer address of a neighbour.

        None while it is not known: the kernel then asks for it, and so it does when it has not heard of it for long.
        """
        neighbour = self._netlink.neighbour(device, host)
        known = neighbour is not None and neighbour.is_known
        if neighbour is None or not known or neighbour.state & STALE:
            self._netlink.use_neighbour(device, host)
        return neighbour.address if neighbour is not None and known else None

    def _look_up(self, host: str) -> Route | None:
        destination = self._pack(host)
        if destination is None:
            return None
        route = self._netlink.route(destination, self._bound)
        if route is None or route.kind not in (UNICAST, LOCAL):
            return None
        source, link = self._bound or route.source, self.link(route.device)
        if source is None or link is None or not self.is_ours(source):
            return None
        return Route(source, min(route.mtu or link.mtu, _LARGEST_MTU), source)

    def _is_local(self, address: bytes) -> bool:
        if self._bound is not None and address != self._bound:
            return False
        route = self._netlink.route(address)
        return route is not None and route.kind == LOCAL

    def _pack(self, host: str) -> bytes | None:
        """Pack an address; None if it is none that we serve, as one that means something on one link only."""
        family, version = (socket.AF_INET6, 6) if ":" in host else (socket.AF_INET, 4)
        if version not in self._versions:
            return None
        try:
            return socket.inet_pton(family, host)
        except OSError:
            return None
