"""Where a node can ask its hub: the address that leads there now, and others of the other IP version.

Those come from the hub's name (A and AAAA) and from the hub itself (WELCOME). They are asked (OBSERVE) inside the
session that there is, and get nothing else; only what the hub then answers counts, so one that is wrong does no harm.
Each try goes to the next one until one has answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from ltunnel.control.limits import Bucket
from ltunnel.plugin import Address, Carrier, LocalAddress, is_private, read_target, write_address
from ltunnel.wire.places import HubPlace

ASK_RATE, ASK_BURST = 1.0, 60.0
"""Questions over the other version a second, and at once: all of them, so that a hub which lies has little of it."""
PATIENCE = 8
"""So many questions to an address that has answered go unanswered before another one gets its turn."""

Askable = tuple[tuple[Carrier, int], ...]
"""Carriers and IP versions."""


class HubPlaces:
    """Written by `Discovery`; `seen` is as whom the hub saw the shared port of a carrier, by carrier and version."""

    __slots__ = ("_askable", "_asked", "_bucket", "_good", "_named", "_tells", "main", "seen")

    def __init__(self) -> None:
        self.main: Address | None = None
        self.seen: dict[tuple[Carrier, int], Address] = {}
        self._named: tuple[Address, ...] = ()
        self._tells: tuple[HubPlace, ...] | None = None
        self._good: dict[tuple[Carrier, int], Address] = {}  # what answered last
        self._asked: dict[tuple[Carrier, int], int] = {}  # how often since then
        self._askable: Askable = ()
        self._bucket = Bucket(ASK_RATE, ASK_BURST, 0.0)

    @property
    def version(self) -> int:
        """IP version of the address that leads to the hub now, 0 while there is none."""
        return 0 if self.main is None else version_of(self.main)

    def name(self, addresses: Iterable[Address]) -> None:
        """Take the addresses that the hub's name has."""
        self._named = tuple(address for address in addresses if read_target(address) is not None)

    def tell(self, places: Sequence[HubPlace]) -> None:
        """Take what the hub says of itself; only public addresses count."""
        self._tells = tuple(place for place in places if _is_public(place.address))

    def of(self, carrier: Carrier, version: int) -> Sequence[Address]:
        """Return where the hub can be asked, the likeliest first. A name says nothing of ports but UDP's."""
        named = self._named if carrier is Carrier.UDP else ()
        told = (place.address for place in self._tells or () if place.carrier is carrier)
        found = dict.fromkeys(address for address in (*named, *told) if version_of(address) == version)
        return tuple(found)

    def next(self, carrier: Carrier, version: int, now: float) -> Address | None:
        """Return where to ask now: what has answered until it stops to, else one after the other; None for nowhere."""
        places, key = self.of(carrier, version), (carrier, version)
        if not places or not self._bucket.take(now):
            return None
        asked = self._asked[key] = self._asked.get(key, 0) + 1
        good = self._good.get(key)
        return good if good in places and asked <= PATIENCE else places[asked % len(places)]

    def answered(self, carrier: Carrier, address: Address) -> None:
        """Ask there from now on."""
        key = carrier, version_of(address)
        self._asked[key] = 0
        if address in self.of(*key):
            self._good[key] = address

    def askable(self, local: Iterable[LocalAddress], carriers: Iterable[Carrier]) -> Askable:
        """Return by which carriers the hub can be asked over the other version, from a machine with these addresses."""
        other = 10 - self.version
        if not self.version or not _has(other, local):
            return ()
        return tuple((carrier, other) for carrier in carriers if self.of(carrier, other))

    def keep(self, local: Iterable[LocalAddress]) -> None:
        """Forget what was seen over a version that this machine has no address of any more."""
        own = tuple(local)
        self.seen = {key: seen for key, seen in self.seen.items() if self._reaches(key[1], own)}

    def changed(self, askable: Askable) -> bool:
        """Say whether this is another answer than that to the last call."""
        before, self._askable = self._askable, askable
        return before != askable

    def explain(self, local: Sequence[LocalAddress]) -> list[dict[str, Any]]:
        """Describe for each IP version as whom this machine is seen, or why it is not; JSON types."""
        return [
            {
                "version": version,
                "used": version == self.version,
                "seen": {
                    carrier.name.lower(): write_address(self.seen[carrier, version])
                    for carrier in Carrier
                    if (carrier, version) in self.seen
                },
                "reason": self._lack(version, local),
            }
            for version in (4, 6)
        ]

    def _reaches(self, version: int, local: Iterable[LocalAddress]) -> bool:
        return version == self.version or _has(version, local)

    def _lack(self, version: int, local: Iterable[LocalAddress]) -> str | None:
        """Say why nothing is known of a version, None if something is."""
        if any(seen == version for _, seen in self.seen):
            return None
        if not self._reaches(version, local):
            return "this machine has no address for it" if version == 4 else "this machine has no global address"
        if version != self.version and not any(self.of(carrier, version) for carrier in Carrier):
            return "not known yet" if self._tells is None else "the server does not listen there at a public address"
        return "the server's answers do not arrive"


def version_of(address: Address) -> int:
    """Return 4 or 6 for a numeric address."""
    return ip_address(address[0]).version


def _is_public(address: Address) -> bool:
    ip = read_target(address)
    return ip is not None and not is_private(ip)


def _has(version: int, local: Iterable[LocalAddress]) -> bool:
    """Whether a machine with these addresses can be seen over a version: in IPv6 nobody translates private ones."""
    for own in local:
        ip = read_target(own.address)
        if ip is not None and ip.version == version and not (is_private(ip) if version == 6 else ip.is_link_local):
            return True
    return False
