"""Where a hub can be asked from outside: its public addresses, as they are now.

A hub that listens at one address has that; one that listens at all has, for each IP version, the address by which this
machine reaches the rest of the world. Behind a router that translates, that is a private one, which nobody is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

from ltunnel.node import Node
from ltunnel.plugin import Address, Carrier, is_private, read_target
from ltunnel.runtime.link import ELSEWHERE, source_address
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.network_watch import NetworkWatch
from ltunnel.wire.places import HubPlace


class Listening(NamedTuple):
    """A port of a hub, for one IP version."""

    carrier: Carrier
    version: int
    local: Address
    """What it is bound to, perhaps a wildcard."""


def public_places(listening: Sequence[Listening]) -> list[HubPlace]:
    """Ask the kernel for the addresses; a port without a public one is left out."""
    found: list[HubPlace] = []
    for port in listening:
        host: str | None = port.local[0]
        if host is not None and ip_address(host).is_unspecified:
            host = source_address(ELSEWHERE[port.version])
        address = None if host is None else read_target((host, port.local[1]))
        if address is not None and not is_private(address):
            found.append(HubPlace(port.carrier, (str(address), port.local[1])))
    return found


class PublicPlaces:
    """Tells a hub's node of them, now and when they change."""

    def __init__(self, loop: Loop, node: Node, listening: Sequence[Listening]) -> None:
        self._node = node
        self._listening = tuple(listening)
        self._watch = NetworkWatch(loop, self._look, self._changed)
        node.set_places(self._look())

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()

    def check(self, now: float) -> float | None:
        """Look if it is time, and return when to come again (monotonic seconds), or None."""
        return self._watch.check(now)

    def _look(self) -> list[HubPlace]:
        return public_places(self._listening)

    def _changed(self, _now: float) -> None:
        self._node.set_places(self._look())
