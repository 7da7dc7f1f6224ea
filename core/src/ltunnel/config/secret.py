"""Where the network's key comes from: flags before the file, the file before the environment."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ltunnel.config.read import read_bytes
from ltunnel.errors import ConfigError

VARIABLE = "LTUNNEL_KEY"
_LIMIT = 4096
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Secret(NamedTuple):
    """The key that counts, and what there is to say about where it was found."""

    key: str | None
    remarks: tuple[str, ...] = ()


def find_secret(
    written: Mapping[str, Any], path: Path | None, overrides: Mapping[str, Any], environ: Mapping[str, str]
) -> Secret:
    """Find the key among flags (`overrides`), file (`written`, read from `path`) and environment.

    Raises `ConfigError` for a key given twice in one place, and for a key file that others can read.
    """
    in_environ = environ.get(VARIABLE)
    sources = (
        (overrides, "the flags", Path()),
        (written, str(path), path.parent if path else Path()),
    )
    for fields, source, folder in sources:
        if "key" in fields and "key_file" in fields:
            raise ConfigError(f"{source}: key and key_file are both given; give one")
        if "key" not in fields and "key_file" not in fields:
            continue
        remarks = (f"{VARIABLE} is ignored, since the key comes from {source}",) if in_environ else ()
        if "key" in fields:
            return Secret(fields["key"], remarks)
        return Secret(read_key_file(fields["key_file"], folder), remarks)
    if in_environ == "":
        raise ConfigError(f"{VARIABLE}: is empty; unset it to run without encryption")
    return Secret(in_environ)


def read_key_file(name: object, folder: Path) -> str:
    """Read a key file; a relative name counts from `folder`. Raises `ConfigError`."""
    if not isinstance(name, str) or not name:
        raise ConfigError("key_file: should be the name of a file")
    path = folder / Path(name).expanduser()
    data = read_bytes(path, f"key_file {path}", _LIMIT)
    others = path.stat().st_mode & _OTHERS
    if others:
        raise ConfigError(f"key_file {path}: can be read or changed by others; run: chmod 600 {path}")
    try:
        key = data.decode().strip()
    except UnicodeDecodeError:
        raise ConfigError(f"key_file {path}: is not text") from None
    if not key or "\n" in key:
        raise ConfigError(f"key_file {path}: should hold one line, the key")
    return key


def exposure(path: Path) -> str | None:
    """Say that a configuration file with a key in it can be read by others, or return None."""
    if path.stat().st_mode & _OTHERS:
        return f"{path} holds the key and can be read by others; run: chmod 600 {path}"
    return None
