"""Reading a configuration file: JSON as documented, TOML by the extension ``.toml``."""

import json
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from ltunnel.errors import ConfigError
from ltunnel.registry.text import printable

_LIMIT = 1 << 20  # bytes; a configuration is a page of text


def read_bytes(path: Path, name: str, limit: int = _LIMIT) -> bytes:
    """Read a small file. Raises `ConfigError` that begins with `name`."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror or error}") from None
    if len(data) > limit:
        raise ConfigError(f"{name}: is larger than {limit} bytes")
    return data


def read_file(path: Path) -> dict[str, Any]:
    """Return the fields of a configuration file. Raises `ConfigError` with the place of a syntax error."""
    data = read_bytes(path, str(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line}: is not UTF-8") from None
    try:
        written = tomllib.loads(text) if path.suffix.lower() == ".toml" else _json(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: line {error.lineno} column {error.colno}: {error.msg}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {printable(str(error))}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(written, dict):
        raise ConfigError(f"{path}: should be an object: {{ ... }}")
    return written


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{printable(name, 60)}: is written twice")
        found[name] = value
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
