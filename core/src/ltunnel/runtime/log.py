"""Events to lines on stderr: text for people with logfmt fields behind it, or JSON. Control characters are escaped."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from ltunnel.control.events import Event, Level
from ltunnel.wire.text import escape

Log = Callable[[Event], None]
"""What the runtime logs with."""

_NUMBERS = {
    Level.DEBUG: logging.DEBUG,
    Level.INFO: logging.INFO,
    Level.WARNING: logging.WARNING,
    Level.ERROR: logging.ERROR,
}
_LINE = 4000  # characters of a text or a value
_RESERVED = frozenset(("event", "text", "time", "level"))
_PAIRS = structlog.processors.LogfmtRenderer(key_order=["event"])


def make_log(level: Level, *, as_json: bool = False, stream: TextIO | None = None) -> Log:
    """Return a function that writes an event of at least `level` as one line.

    A stream that is full or closed loses the line; it never stops the tunnel.
    """
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.JSONRenderer(default=str) if as_json else _render_text,
    ]
    logger = structlog.wrap_logger(
        structlog.WriteLogger(file=_Lossy(stream or sys.stderr)),  # type: ignore[arg-type]
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_NUMBERS[level]),
        cache_logger_on_first_use=True,
    )

    def log(event: Event) -> None:
        fields = {(f"_{key}" if key in _RESERVED else key): _plain(value) for key, value in event.fields.items()}
        logger.log(_NUMBERS[event.level], event.name, text=event.text, **fields)

    return log


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return value.hex()
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(str(_plain(item)) for item in value)
    return value


def _render_text(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> str:
    """``2025-01-31T12:00:00.123456Z info     peer alice is up  event=peer-up endpoint=192.0.2.7:4000``."""
    time, level, text = entry.pop("time"), entry.pop("level"), entry.pop("text")
    pairs: Mapping[str, Any] = {key: escape(v, _LINE) if isinstance(v, str) else v for key, v in entry.items()}
    return f"{time} {level:<8} {escape(text, _LINE)}  {_PAIRS(None, '', dict(pairs))}"


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
