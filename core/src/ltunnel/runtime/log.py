"""Events to lines on stderr: text for people with logfmt fields behind it, or JSON. Control characters are escaped.

Written out here, as the logging libraries that render such lines bring asyncio, rich and pygments with them: 6 MB in
every node, for one line format.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

from ltunnel.control.events import Event, Level
from ltunnel.wire.text import escape

Log = Callable[[Event], None]
"""What the runtime logs with."""

_ORDER = tuple(Level)  # from chatty to grave
_LINE = 4000  # characters of a text or a value
_RESERVED = frozenset(("event", "text", "time", "level"))


def make_log(level: Level, *, as_json: bool = False, stream: TextIO | None = None) -> Log:
    """Return a function that writes an event of at least `level` as one line.

    A stream that is full or closed loses the line; it never stops the tunnel.
    """
    out = _Lossy(stream or sys.stderr)
    render = _as_json if as_json else _as_text
    shown = frozenset(_ORDER[_ORDER.index(level) :])

    def log(event: Event) -> None:
        if event.level in shown:
            now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            fields = {(f"_{key}" if key in _RESERVED else key): _plain(value) for key, value in event.fields.items()}
            out.write(render(event, now, fields) + "\n")
            out.flush()

    return log


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return value.hex()
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(str(_plain(item)) for item in value)
    return value


def _as_json(event: Event, now: str, fields: Mapping[str, object]) -> str:
    """One object: ``time``, ``level``, ``event``, ``text`` and the event's fields."""
    head = {"time": now, "level": event.level.value, "event": event.name, "text": event.text}
    return json.dumps({**head, **fields}, default=str)


def _as_text(event: Event, now: str, fields: Mapping[str, object]) -> str:
    """``2025-01-31T12:00:00.123456Z info     peer alice is up  event=peer-up endpoint=192.0.2.7:4000``."""
    pairs = " ".join(_pair(key, value) for key, value in {"event": event.name, **fields}.items())
    return f"{now} {event.level.value:<8} {escape(event.text, _LINE)}  {pairs}"


def _pair(key: str, value: object) -> str:
    """Return a pair as logfmt has it: a value with a blank, a quote or an equals sign stands in quotes."""
    if value is None or isinstance(value, bool):
        return f"{key}={'' if value is None else str(value).lower()}"
    shown = escape(str(value), _LINE)
    if any(character in shown for character in ' ="'):
        return f'{key}="' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{key}={shown}"


class _Lossy:
    """A stream whose failures are ignored: a log nobody reads is no reason to end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
