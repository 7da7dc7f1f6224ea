"""Noticing that this machine is in another network: its address towards the hub is another one.

The kernel says by netlink when addresses and routes change (rtnetlink(7)). It says that often, also when lifetimes are
renewed, so what it says is only the occasion to look, after it has been quiet for a moment.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable

from ltunnel.runtime.loop import Loop

QUIET = 0.5
"""Seconds without a word from the kernel before one looks."""
LATEST = 3.0
"""Seconds after which one looks although it goes on."""

_IPV4_ADDRESSES, _IPV4_ROUTES, _IPV6_ADDRESSES, _IPV6_ROUTES = 0x10, 0x40, 0x100, 0x400  # RTMGRP_*
_GROUPS = _IPV4_ADDRESSES | _IPV4_ROUTES | _IPV6_ADDRESSES | _IPV6_ROUTES

Look = Callable[[], object]


class NetworkWatch:
    """Calls `changed(now)` when what `look()` returns has become another; None, no network, is not worth a call."""

    def __init__(self, loop: Loop, look: Look, changed: Callable[[float], None]) -> None:
        self._loop = loop
        self._look = look
        self._changed = changed
        self._seen = look()
        self._first = self._last = 0.0
        self._pending = False
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, _GROUPS))
        loop.watch(self._socket.fileno(), self._heard)

    def close(self) -> None:
        """Stop listening."""
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()

    def check(self, now: float) -> float | None:
        """Look if it is time, and return when to come again (monotonic seconds), or None."""
        if not self._pending:
            return None
        due = min(self._last + QUIET, self._first + LATEST)
        if now < due:
            return due
        self._pending = False
        seen = self._look()
        if seen is not None and seen != self._seen:
            self._seen = seen
            self._changed(now)
        return None

    def _heard(self, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                try:
                    self._socket.recv(65_536)
                except OSError as error:  # ENOBUFS: more was said than was read; it is the occasion all the same
                    if error.errno != errno.ENOBUFS:
                        raise
        if not self._pending:
            self._pending, self._first = True, now
        self._last = now
