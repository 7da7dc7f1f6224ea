"""Keeping a node pointed at its hub: names are looked up again, further addresses tried, while the hub is silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from ltunnel.control.events import Event, Level
from ltunnel.plugin import Address
from ltunnel.runtime.log import Log
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.ports import name_address
from ltunnel.runtime.resolve import Answer, Lookup, ResolveError, Resolver, look_up

NEXT_ADDRESS = 10.0
"""Seconds of silence after which the next address of the hub gets its turn."""
NEXT_LOOKUP = 30.0
"""Seconds between lookups while the hub is silent."""

Use = Callable[[Address, float], None]
Tell = Callable[[Sequence[Address], float], None]


class HubAddress:
    """Where the hub is, by name. Numeric hubs need none of this.

    `use(address, now)` points the node at an address; `tell(addresses, now)` tells it all that there are, at first and
    when they have changed. `takes_ipv6` says whether the node's port can reach IPv6; IPv4 it always can.
    """

    def __init__(
        self,
        loop: Loop,
        host: str,
        port: int,
        addresses: Sequence[Address],
        *,
        use: Use,
        tell: Tell,
        log: Log,
        takes_ipv6: bool,
        lookup: Lookup = look_up,
    ) -> None:
        self._host = host
        self._use = use
        self._tell = tell
        self._log = log
        self._takes_ipv6 = takes_ipv6
        self._resolver = Resolver(loop, host, port, self._answered, lookup)
        self._addresses = self._usable(addresses)
        self._current = self._addresses[0]
        self._rotate_at: float | None = None
        self._lookup_at: float | None = None

    def close(self) -> None:
        """Stop looking."""
        self._resolver.close()

    def check(self, now: float, *, connected: bool) -> float | None:
        """Do what is due, and return when to come again (monotonic seconds), or None while all is well."""
        if connected:
            self._rotate_at = self._lookup_at = None
            return None
        if self._rotate_at is None or self._lookup_at is None:
            self._rotate_at = self._lookup_at = now + NEXT_ADDRESS
        if now >= self._lookup_at:
            self._lookup_at = now + NEXT_LOOKUP
            self._resolver.start()
        if now >= self._rotate_at:
            self._rotate_at = now + NEXT_ADDRESS
            self._rotate(now)
        return min(self._rotate_at, self._lookup_at)

    def _usable(self, addresses: Sequence[Address]) -> list[Address]:
        return [address for address in addresses if self._takes_ipv6 or ip_address(address[0]).version == 4]

    def _rotate(self, now: float) -> None:
        if len(self._addresses) > 1:
            place = self._addresses.index(self._current)
            self._move(self._addresses[(place + 1) % len(self._addresses)], now)

    def _answered(self, answer: Answer, now: float) -> None:
        if self._lookup_at is None:  # connected meanwhile: what works is left alone
            return
        if isinstance(answer, ResolveError):
            self._log(Event(name="hub-lookup", text=str(answer), level=Level.WARNING))
            return
        usable = self._usable(answer)
        if not usable:
            text = f"{self._host} has no IPv4 address any more: restart ltunnel to reach it by IPv6"
            self._log(Event(name="hub-lookup", text=text, level=Level.WARNING))
            return
        if usable != self._addresses:
            self._tell(usable, now)
        self._addresses = usable
        if self._current not in usable:
            self._move(usable[0], now)

    def _move(self, address: Address, now: float) -> None:
        self._current = address
        text = f"trying {self._host} at {name_address(address)}"
        self._log(Event(name="hub-address", text=text, fields={"address": name_address(address)}))
        self._use(address, now)


def wait_for_address(loop: Loop, host: str, port: int, *, log: Log, lookup: Lookup = look_up) -> list[Address] | None:
    """Run the loop until a name has addresses; None when the loop was stopped first (a signal).

    A machine that boots may have a tunnel before it has a network, so this waits. `ResolveError` for a name that does
    not exist.
    """
    found: list[Address] | None = None
    failure: ResolveError | None = None
    again: float | None = None

    def deliver(answer: Answer, now: float) -> None:
        nonlocal found, failure, again
        if not isinstance(answer, ResolveError):
            found = answer
            loop.stop()
        elif answer.final:
            failure = answer
            loop.stop()
        else:
            again = now + NEXT_ADDRESS
            log(Event(name="hub-lookup", text=f"{answer}; trying again", level=Level.WARNING))

    def tick(now: float) -> float | None:
        nonlocal again
        if again is not None and now >= again:
            again = None
            resolver.start()
        return again

    resolver = Resolver(loop, host, port, deliver, lookup)
    resolver.start()
    try:
        loop.run(tick)
    finally:
        resolver.close()
    if failure is not None:
        raise failure
    return found
