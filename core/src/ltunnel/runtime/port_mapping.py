"""Keeping ports mapped by routers: a thread that asks, renews and gives back, since that waits for answers."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ltunnel.plugin import Address, Carrier, PortMapper
from ltunnel.runtime.loop import Loop, make_event

LIFETIME = 3600.0
"""Seconds that are asked for."""
SHORTEST = 60.0
"""Mappings are not renewed more often than each so many seconds, whatever a router says."""
AGAIN = 600.0
"""Seconds until routers are asked again that have mapped nothing."""
GOODBYE = 2.0
"""Seconds that giving back may take at the end."""


class Mapped(NamedTuple):
    """A port that a router maps, or none any more."""

    carrier: Carrier
    address: Address | None
    lifetime: float
    protocol: str
    error: str = ""
    """What went wrong in the plugin, for the log."""


class PortMapping:
    """Has `mapper` map the shared ports, and delivers what comes of it on the loop."""

    def __init__(
        self, loop: Loop, mapper: PortMapper, ports: Mapping[Carrier, int], deliver: Callable[[Mapped, float], None]
    ) -> None:
        self._loop = loop
        self._mapper = mapper
        self._ports = ports
        self._deliver = deliver
        self._found: deque[Mapped] = deque()
        self._event = make_event()
        self._guard = threading.Lock()  # between the last answer and the closing of the descriptor
        self._closed = False
        self._wake = threading.Event()
        loop.watch(self._event, self._collect)
        self._thread = threading.Thread(target=self._run, name="port mapping", daemon=True)
        self._thread.start()

    def again(self) -> None:
        """Ask at once: this machine is in another network."""
        self._wake.set()

    def close(self) -> None:
        """Give back what is mapped, as far as that is done soon, and stop."""
        with self._guard:
            self._closed = True
        self._wake.set()
        self._thread.join(GOODBYE)
        self._loop.unwatch(self._event)
        os.close(self._event)

    def _run(self) -> None:
        while not self._closed:
            waits = [self._map(carrier, port) for carrier, port in self._ports.items()]
            self._wake.wait(min(waits, default=AGAIN))
            self._wake.clear()
        with contextlib.suppress(Exception):  # a plugin's code, and nobody is left to hear of it
            self._mapper.close()

    def _map(self, carrier: Carrier, port: int) -> float:
        """Map or renew; return in how many seconds to do so again."""
        try:
            found = self._mapper.map(carrier, port, LIFETIME)
            address, lifetime, protocol = (None, 0.0, "") if found is None else found
        except Exception as error:  # noqa: BLE001 - a plugin's code
            self._put(Mapped(carrier, None, 0.0, "", f"{type(error).__name__}: {error}"))
            return AGAIN
        self._put(Mapped(carrier, address, lifetime, protocol))
        return AGAIN if address is None else max(SHORTEST, lifetime / 2)

    def _put(self, found: Mapped) -> None:
        self._found.append(found)
        with self._guard:
            if not self._closed:
                os.eventfd_write(self._event, 1)

    def _collect(self, now: float) -> None:
        os.eventfd_read(self._event)
        while self._found:
            self._deliver(self._found.popleft(), now)
