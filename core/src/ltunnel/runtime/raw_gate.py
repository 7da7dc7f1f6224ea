"""A bound on the SYNs that are taken: many nodes may come at once, and a flood leaves those that are there in peace.

Whoever floods needs no connection and no address of his own, so nothing tells his SYNs from a node's. They wait in
sockets of their own, with little room. What does not fit is dropped by the kernel, which costs next to nothing; taking
one and answering it costs 30 µs. A node asks again every second.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
from struct import Struct

OPENINGS = 40
"""SYNs that are taken in one `PERIOD`: 8000 a second, a quarter of a CPU at most, and less where others want it."""
PERIOD = 0.005
ROOM = 128 << 10
"""Bytes that may wait in a socket for SYNs, some 100 packets."""

_CLOCK_MONOTONIC = 1
_TIMES = Struct("@llll")  # struct itimerspec: interval and first time, in seconds and nanoseconds
_PERIOD = _TIMES.pack(0, 0, 0, int(PERIOD * 1e9))


class Gate:
    """Lets descriptors that are `add`-ed wake an epoll until `left` is used up, and again in the next period."""

    def __init__(self, epoll: select.epoll) -> None:
        self.left = OPENINGS
        """What may still be taken in this period."""
        self._epoll = epoll
        self._watched: list[int] = []
        self._timer = _Timer()
        self.fd = self._timer.fd
        """Readable when a period is over."""
        epoll.register(self.fd, select.EPOLLIN)

    def close(self) -> None:
        """Close the timer."""
        os.close(self.fd)

    def add(self, fd: int) -> None:
        """Watch one more descriptor."""
        self._watched.append(fd)
        self._epoll.register(fd, select.EPOLLIN)

    def take(self, count: int) -> None:
        """Take note that `count` were taken."""
        if self.left == OPENINGS:
            self._timer.start()
        self.left -= count
        if self.left <= 0:
            self._watch(0)

    def begin(self) -> None:
        """Begin a new period, after `fd` has become readable."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)
        if self.left <= 0:
            self._watch(select.EPOLLIN)
        self.left = OPENINGS

    def _watch(self, events: int) -> None:
        for fd in self._watched:
            self._epoll.modify(fd, events)


class _Timer:
    """A timerfd_create(2) descriptor, which the standard library has since Python 3.13 only."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def start(self) -> None:
        """Become readable after one period."""
        self._library.timerfd_settime(self.fd, 0, _PERIOD, None)
