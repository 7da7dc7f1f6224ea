"""Host names to addresses without blocking the loop: a thread for each lookup, its answer through an eventfd."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address

from ltunnel.plugin import Address
from ltunnel.runtime.loop import Loop, make_event


class ResolveError(Exception):
    """A name that has no address now. `final` when the name itself does not exist."""

    def __init__(self, text: str, *, final: bool) -> None:
        super().__init__(text)
        self.final = final


Answer = list[Address] | ResolveError
Lookup = Callable[[str, int], list[Address]]


def is_numeric(host: str) -> bool:
    """Whether `host` is an IP address and so needs no lookup."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def look_up(host: str, port: int) -> list[Address]:
    """Ask the system's resolver: addresses in its order of preference (RFC 6724). Blocks. Raises `ResolveError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, proto=socket.IPPROTO_UDP)
    except (OSError, UnicodeError) as error:
        final = isinstance(error, UnicodeError) or error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        text = error.strerror if isinstance(error, OSError) else "it is not a host name"
        raise ResolveError(f"cannot resolve {host}: {text}", final=final) from None
    return list(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in found))


class Resolver:
    """Looks one host name up whenever asked, one lookup at a time, and delivers answers on the loop."""

    def __init__(
        self, loop: Loop, host: str, port: int, deliver: Callable[[Answer, float], None], lookup: Lookup = look_up
    ) -> None:
        self._loop = loop
        self._host = host
        self._port = port
        self._deliver = deliver
        self._lookup = lookup
        self._answers: deque[Answer] = deque()
        self._event = make_event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._guard = threading.Lock()  # between the last lookup and the closing of the descriptor
        loop.watch(self._event, self._collect)

    def start(self) -> None:
        """Start a lookup; nothing happens if one is under way."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="resolver", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop. A lookup under way ends by itself and is heard by nobody."""
        self._loop.unwatch(self._event)
        with self._guard:
            self._closed = True
            os.close(self._event)

    def _run(self) -> None:
        try:
            answer: Answer = self._lookup(self._host, self._port)
        except ResolveError as error:
            answer = error
        self._answers.append(answer)
        with self._guard:
            if not self._closed:
                os.eventfd_write(self._event, 1)

    def _collect(self, now: float) -> None:
        os.eventfd_read(self._event)
        self._thread = None
        while self._answers:
            self._deliver(self._answers.popleft(), now)
