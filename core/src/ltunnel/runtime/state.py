"""The state folder: this machine's identity, the hub's bindings, the pinned keys of hubs and nodes.

Every file is replaced whole (written beside, synced, renamed), so a crash leaves the old or the new one. A damaged file
is reported and never overwritten. A lock on the folder orders writers; a hub holds its identity locked while it runs,
since two hubs with one file of bindings would undo each other's.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ltunnel.control.directory import Binding
from ltunnel.errors import HostError
from ltunnel.keys.identity import KEY_SIZE, Identity
from ltunnel.runtime.folders import make_folder

_FORMAT = 1
_IDENTITY = "identity.key"
_BINDINGS = "bindings.json"
_PINS = "pins.json"

T = TypeVar("T")


class State:
    """One state folder. Reading raises `HostError`; saving raises OSError, since a running node goes on without it."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)

    def load_identity(self, random: Callable[[int], bytes] = os.urandom) -> Identity:
        """Return this machine's identity; the first time it is made."""
        path = self.folder / _IDENTITY
        with _reported(path), self._locked():
            text = _read(path)
            if text is None:
                text = base64.b64encode(random(KEY_SIZE)).decode()
                _replace(path, text.encode() + b"\n")
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)  # however it was copied here, it is for its owner alone
            return Identity.from_private(base64.b64decode(text.strip(), validate=True))

    @contextmanager
    def held_by_hub(self) -> Iterator[None]:
        """Keep other hubs away from this folder. `load_identity` comes before it."""
        fd = os.open(self.folder / _IDENTITY, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise HostError(
                f"another server uses the state folder {self.folder}: give this one its own with LTUNNEL_STATE_DIR"
            ) from None
        try:
            yield
        finally:
            os.close(fd)

    def load_bindings(self) -> tuple[Binding, ...]:
        """Return what the hub remembered: node key, addresses, name."""
        return self._load(_BINDINGS, (), lambda data: tuple(Binding.from_dict(entry) for entry in data["bindings"]))

    def save_bindings(self, bindings: Sequence[Binding]) -> None:
        """Store all bindings. Raises OSError."""
        with self._locked():
            self._save(_BINDINGS, {"bindings": [binding.to_dict() for binding in bindings]})

    def load_pins(self) -> dict[str, bytes]:
        """Return the keys of hubs and nodes that this machine has met, by `ltunnel.control.pins.pin_name`."""
        return self._load(_PINS, {}, lambda data: {name: _key(pin) for name, pin in data["pins"].items()})

    def save_pin(self, name: str, key: bytes | None) -> None:
        """Store one pin, or forget it (None). Raises OSError, `HostError` for a damaged file."""
        self.update_pins({name: key})

    def update_pins(self, changes: Mapping[str, bytes | None]) -> None:
        """Store and forget pins; those of other nodes with this folder stay as they are. Raises as `save_pin`."""
        with self._locked():
            pins = self.load_pins()
            for name, key in changes.items():
                if key is None:
                    pins.pop(name, None)
                else:
                    pins[name] = key
            self._save(_PINS, {"pins": {name: pin.hex() for name, pin in pins.items()}})

    def _load(self, name: str, default: T, parse: Callable[[Mapping[str, Any]], T]) -> T:
        path = self.folder / name
        with _reported(path):
            text = _read(path)
            if text is None:
                return default
            data = json.loads(text)
            if data["format"] != _FORMAT:
                raise ValueError(f"its format is {data['format']}, not {_FORMAT}")
            return parse(data)

    def _save(self, name: str, data: Mapping[str, Any]) -> None:
        _replace(self.folder / name, json.dumps({"format": _FORMAT, **data}, indent=1).encode() + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn what is wrong with a file into one line for its owner."""
    try:
        yield
    except OSError as error:
        raise HostError(f"cannot read or create {path}: {error.strerror}") from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HostError(
            f"{path} is damaged ({reason}): restore it from a backup, or move it away to start anew"
        ) from None


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != KEY_SIZE:
        raise ValueError(f"a key has {KEY_SIZE} bytes, not {len(key)}")
    return key


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole, under the folder's lock. Raises OSError; the file is then as it was."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        _write(temporary, data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)  # of a process that crashed while it wrote
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
