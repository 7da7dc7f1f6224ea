"""What transports tell their operator beyond what the core sees: notices, and counts of what they dropped and did.

All of it is optional (`ltunnel.plugin.TellingTransport`), so everything here does without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ltunnel.control.events import Event, Level
from ltunnel.plugin import Transport
from ltunnel.wire.text import escape

MINUTE = 60.0
LIMIT = 8
"""Notices of a transport that are logged in a minute; the rest are counted."""

_TEXT, _WORD = 300, 60


def describe_transports(transports: Sequence[tuple[str, Transport]]) -> list[dict[str, Any]]:
    """Return what each transport has counted, for the status."""
    return [
        {"name": name, "tallies": _numbers(transport, "tallies"), "drops": _numbers(transport, "drops")}
        for name, transport in transports
    ]


def _numbers(transport: Transport, attribute: str) -> dict[str, int]:
    counted: Mapping[str, int] = getattr(transport, attribute, {})
    return {escape(word, _WORD): number for word, number in sorted(counted.items())}


class Notices:
    """Takes the notices of one transport and makes events of them: the same text once a minute, few in all."""

    def __init__(self, name: str, transport: Transport) -> None:
        self._name = name
        self._transport = transport
        self._began = float("-inf")
        self._said: set[str] = set()
        self._kept_back = 0

    def take(self, now: float) -> list[Event]:
        """Return what is to be logged now."""
        notices: list[str] = getattr(self._transport, "notices", [])
        if not notices and not self._kept_back:
            return []
        events = []
        if now >= self._began + MINUTE:
            if self._kept_back:
                events.append(self._event(f"{self._kept_back} more notices in the minute before"))
            self._began, self._kept_back = now, 0
            self._said.clear()
        for text in notices:
            if text in self._said:
                continue
            if len(self._said) >= LIMIT:
                self._kept_back += 1
                continue
            self._said.add(text)
            events.append(self._event(escape(text, _TEXT)))
        notices.clear()
        return events

    def _event(self, text: str) -> Event:
        fields = {"transport": self._name}
        return Event(name="transport-notice", text=f"{self._name}: {text}", level=Level.WARNING, fields=fields)
