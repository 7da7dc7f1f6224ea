"""Finding a wrong key: what a node says that gets no answer, and what a hub says about handshakes that do not verify.

A hub never answers what does not verify, so each side has to tell its own owner; the key check (four characters of the
key's digest) is what the two compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ltunnel.control.events import Event, Level
from ltunnel.control.flows import limit_group
from ltunnel.keys.psk import NetworkKeys
from ltunnel.session import Drop

UNANSWERED_INITS = 3
"""After so many the node says what may be wrong: about two seconds after the start."""
REPEAT = 60.0
"""Seconds until it says so again."""
ADDRESS_LIMIT = 1024
"""Addresses counted at a time; the rest are counted together."""
REPORT_LIMIT = 8
"""Addresses named at a time, those with most failures."""


def unanswered(
    hub: str, flow: str, transports: Sequence[str], tries: int, keys: NetworkKeys, cipher: str, *, met: bool
) -> Event:
    """Say why a hub may not answer, the likeliest causes first. `met`: it did earlier, so the key is right."""
    at = hub if not hub or flow in hub else f"{hub} ({flow})"
    if met:
        causes = "the hub is down or was moved, or a firewall drops the packets; trying on"
    else:
        key = (
            f"the key is another (ours has the check {keys.check})"
            if keys.keyed
            else "the hub has a key and we have none"
        )
        causes = (
            f"the hub is down or at another address, a firewall drops the packets (is {' or '.join(transports)} "
            f"blocked?), {key}, or the hub uses another cipher than {cipher}. Compare the key check that the hub "
            "logged at its start; trying on"
        )
    return Event(
        name="unreachable",
        level=Level.WARNING,
        text=f"no answer from {at} to {tries} tries: {causes}",
        fields={"hub": hub, "flow": flow, "tries": tries, "key_check": keys.check, "cipher": cipher},
    )


class _Failures(NamedTuple):
    wrong_key: int = 0
    other_cipher: int = 0


class FailureReport:
    """Counts handshakes that do not verify by address, and turns the counts into lines, each address once a minute."""

    __slots__ = ("_addresses", "_others")

    def __init__(self) -> None:
        self._addresses: dict[str, _Failures] = {}
        self._others = 0

    def __bool__(self) -> bool:
        return bool(self._addresses)

    def __len__(self) -> int:
        return len(self._addresses)

    def count(self, source: str, reason: Drop) -> None:
        """Count a failure (`Drop.MAC` or `Drop.STACK`) of a flow named `source`."""
        address = limit_group(source)
        seen = self._addresses.get(address)
        if seen is None:
            if len(self._addresses) >= ADDRESS_LIMIT:
                self._others += 1
                return
            seen = _Failures()
        if reason is Drop.STACK:
            self._addresses[address] = seen._replace(other_cipher=seen.other_cipher + 1)
        else:
            self._addresses[address] = seen._replace(wrong_key=seen.wrong_key + 1)

    def take(self, keys: NetworkKeys, cipher: str) -> list[Event]:
        """Return a line for each of the worst addresses and one for the rest, and start counting anew."""
        worst = sorted(self._addresses.items(), key=lambda item: -sum(item[1]))
        events: list[Event] = []
        for address, failures in worst[:REPORT_LIMIT]:
            if failures.wrong_key:
                has = f"ours has the check {keys.check}" if keys.keyed else "we have none"
                text = f"{failures.wrong_key} handshakes from {address} do not verify: wrong key? ({has})"
                events.append(_line("wrong-key", text, address, failures.wrong_key, keys))
            if failures.other_cipher:
                text = (
                    f"{failures.other_cipher} handshakes from {address} have our key but another cipher than {cipher}"
                )
                events.append(_line("other-cipher", text, address, failures.other_cipher, keys))
        rest = sum(sum(failures) for _, failures in worst[REPORT_LIMIT:]) + self._others
        if rest:
            text = f"{rest} more handshakes from other addresses do not verify"
            events.append(_line("wrong-key", text, "others", rest, keys))
        self._addresses.clear()
        self._others = 0
        return events


def _line(name: str, text: str, address: str, count: int, keys: NetworkKeys) -> Event:
    fields = {"address": address, "count": count, "key_check": keys.check}
    return Event(name=name, level=Level.WARNING, text=text, fields=fields)
