"""A bare epoll loop. One clock reading a wake, bounded work a descriptor, so that all of them take turns.

asyncio costs 2-3 µs an event and 18 µs a datagram where the whole of our work on a datagram is about 1 µs.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from types import FrameType

Handler = Callable[[float], bool | None]
"""Called with the time (monotonic seconds) when a descriptor is readable. Does a bounded amount of work: the loop is
level-triggered and comes back for what is left. True when more may wait than the descriptor shows: it is then called
again, whether readable or not, after the others had their turn."""

Tick = Callable[[float], float | None]
"""Called with the time. Does what is due, and returns when it wants to be called next (None: not by itself)."""

_TICK = 0.001
"""Under load, timers are looked at this often (seconds) instead of after every batch."""


class Loop:
    """Descriptors to handlers, one source of timers, and a way out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._running = False

    def close(self) -> None:
        """Close the epoll descriptor; what it watched stays open."""
        self._epoll.close()

    def watch(self, fd: int, handler: Handler) -> None:
        """Call `handler` whenever `fd` is readable or broken."""
        self._epoll.register(fd, select.EPOLLIN)
        self._handlers[fd] = handler

    def watch_output(self, fd: int, *, wanted: bool) -> None:
        """Call the handler of `fd` when it is writable instead of readable, or the other way round again."""
        self._epoll.modify(fd, select.EPOLLOUT if wanted else select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`. To be called before it is closed."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def stop(self) -> None:
        """Make `run` return after the work at hand."""
        self._running = False

    def run(self, tick: Tick, between: Callable[[float], object] | None = None) -> None:
        """Serve until `stop`.

        `tick` is called before every long wait, so it may look at things that handlers change. As long as there is
        work, `between` is called instead, once a millisecond (without it, `tick`). What a packet brings within that
        time, such as its answer, does not wait for either.
        """
        clock, poll, handlers = self._clock, self._epoll.poll, self._handlers
        between = between or tick
        self._running = True
        now = earliest = clock()
        ready: list[tuple[int, int]] = []
        unfinished: set[int] = set()
        while True:
            ready = poll(_TICK if ready and not unfinished else 0)
            if not (ready or unfinished):
                deadline = tick(now)
                if not self._running:
                    return
                ready = poll(-1 if deadline is None else max(deadline - now, 0.0))
                earliest = now + _TICK
            elif now >= earliest:
                between(now)
                if not self._running:
                    return
                earliest = now + _TICK
            now = clock()
            if unfinished:
                shown = {fd for fd, _ in ready}
                ready += [(fd, 0) for fd in unfinished if fd not in shown]
                unfinished.clear()
            for fd, _ in ready:
                handler = handlers.get(fd)
                if handler is not None and handler(now):  # None: unwatched by a handler before it in this very wake
                    unfinished.add(fd)
            if not self._running:
                return


_HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals(loop: Loop, on_signal: Callable[[int], None]) -> Iterator[None]:
    """Within the context, SIGINT, SIGTERM and SIGHUP reach `on_signal(number)` as loop events."""
    receiver, sender = socket.socketpair()
    receiver.setblocking(False)
    sender.setblocking(False)

    def wake(_now: float) -> None:
        for number in receiver.recv(64):
            on_signal(number)

    def note(_number: int, _frame: FrameType | None) -> None:
        """Exist: the number is written to the wake-up descriptor only if Python has a handler."""

    previous = {number: signal.signal(number, note) for number in _HEEDED}
    previous_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    loop.watch(receiver.fileno(), wake)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        loop.unwatch(receiver.fileno())
        receiver.close()
        sender.close()


def make_event() -> int:
    """Return a non-blocking eventfd, with which a thread wakes the loop: ``os.eventfd_write(fd, 1)``."""
    return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
