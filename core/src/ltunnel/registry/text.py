"""Texts of others, made safe to print in one line."""

_LIMIT = 300


def printable(text: str, limit: int = _LIMIT) -> str:
    """Collapse whitespace, escape what does not print, cut what is longer than `limit` characters."""
    line = " ".join(text.split())
    line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    return line if len(line) <= limit else line[: limit - 3] + "..."


def one_line(error: BaseException) -> str:
    """Return an exception as one line: ``ImportError: No module named 'galois'``."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a plugin's exception class may be as broken as the plugin
        text = ""
    name = type(error).__name__
    return printable(f"{name}: {text}" if text else name)
