"""Texts of others, made safe to print in one line."""

from ltunnel.wire.text import escape

_LIMIT = 300


def printable(text: str, limit: int = _LIMIT) -> str:
    """Return text on one line, with what does not print escaped, cut to about `limit` characters."""
    return escape(" ".join(text.split()), limit)


def one_line(error: BaseException) -> str:
    """Return an exception as one line: ``ImportError: No module named 'galois'``."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a plugin's exception class may be as broken as the plugin
        text = ""
    name = type(error).__name__
    return printable(f"{name}: {text}" if text else name)
