"""Text that a peer sent: what may be a name, and how anything else is made safe to print."""

import unicodedata

NAME_LIMIT = 63
"""Longest name of a node, in bytes of UTF-8."""

# Controls, format characters (bidi overrides, zero width), lone surrogates, private use, line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def escape(text: str, limit: int = 200) -> str:
    r"""Make text safe for a terminal or a log line: unsafe characters as ``\x1b`` or ``\u202e``, cut at `limit`.

    What is already safe and short stays as it is. `limit` counts characters of the result, but for a closing ``…``.
    """
    parts: list[str] = []
    length = 0
    for character in text:
        part = _escape_one(character) if unicodedata.category(character) in _UNSAFE else character
        length += len(part)
        if length > limit:
            parts.append("…")
            break
        parts.append(part)
    return "".join(parts)


def valid_name(name: str) -> bool:
    """Whether a node may be called so: 1 to 63 bytes of UTF-8, nothing unsafe, no space at either end."""
    return (
        name == name.strip()
        and 0 < len(name.encode(errors="replace")) <= NAME_LIMIT
        and not any(unicodedata.category(character) in _UNSAFE for character in name)
    )


def _escape_one(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
