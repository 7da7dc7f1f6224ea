"""What a running node changes on its machine beyond its own devices: an nftables table and kernel settings.

All of it is undone at the end. A note of it in the run folder, written before anything is changed, lets the next start
undo what a crash has left. It holds for one boot: afterwards nothing of it is left.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ltunnel.errors import HostError
from ltunnel.plugin import HostRule
from ltunnel.runtime.folders import make_folder
from ltunnel.runtime.host_rules import Content, Forwarding, Masquerade, delete_table, load_table, table_name
from ltunnel.session.peer import Network

SUFFIX = ".undo"

_SETTINGS = Path("/proc/sys")
_OURS = re.compile(r"net/ipv[46]/conf/[^/]+/(force_)?forwarding")
"""Settings that a note may speak of."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class _Change(NamedTuple):
    """What became of a kernel setting."""

    before: str
    ours: str
    whole: str | None = None
    """What it was before for the whole machine."""


class HostChanges:
    """The changes of the node with one TUN device. `complain` hears what cannot be undone.

    Nothing is touched, and `nft` is not needed, until something is asked for or has been left by a crash. The caller
    sees to it that no two nodes with one device run at a time.
    """

    def __init__(self, folder: Path, device: str, complain: Callable[[str], None]) -> None:
        self._note = make_folder(folder) / f"{device}{SUFFIX}"
        self.device = device
        self._table = table_name(device)
        self.complain = complain
        self._content = Content()
        self._settings: dict[str, _Change] = {}
        self._has_table = False
        self._undo_leftovers()

    def add_rules(self, rules: Sequence[HostRule]) -> None:
        """Put further rules in force. Raises `HostError`; those of before then still hold."""
        if rules:
            self._load(replace(self._content, rules=(*self._content.rules, *rules)))

    def remove_rules(self, rules: Sequence[HostRule]) -> None:
        """Take back rules that `add_rules` put in force. Raises `HostError`; they then still hold."""
        if rules:
            kept = list(self._content.rules)
            for rule in rules:
                kept.remove(rule)
            self._load(replace(self._content, rules=tuple(kept)))

    def drop_rules(self, rules: Sequence[HostRule]) -> None:
        """Do the same for somebody who does not need them after all, and complain if it fails."""
        try:
            self.remove_rules(rules)
        except HostError as error:
            self.complain(f"cannot take back rules: {error}")

    def forward(self, forwarding: Forwarding) -> None:
        """Put forwarding in force, in the place of what was before. Raises `HostError`."""
        self._load(replace(self._content, forwarding=forwarding))

    def stop_forwarding(self) -> None:
        """Undo settings and forwarding; the rest stays."""
        self.put_back("")
        if self._content.forwarding is not None:
            try:
                self._load(replace(self._content, forwarding=None))
            except HostError as error:
                self.complain(f"cannot end forwarding: {error}")

    def masquerade(self, networks: Sequence[Network]) -> None:
        """Let what comes out of the tunnel for these networks leave with this machine's own address there.

        Raises `HostError`; what was before then still holds.
        """
        self._load(replace(self._content, masquerade=Masquerade(device=self.device, networks=networks)))

    def setting(self, name: str) -> str | None:
        """Return the value of a kernel setting (``net/ipv4/conf/eth0/forwarding``), None if there is none."""
        return _read(name)

    def change_setting(self, name: str, value: str) -> None:
        """Change a kernel setting until the end. Raises `HostError`."""
        before = _read(name)
        if before == value:
            return
        if before is None:
            raise HostError(f"this kernel has no setting {name.replace('/', '.')}")
        self._settings.setdefault(name, _Change(before, value, _read(_whole(name))))
        self._write_note(with_table=self._has_table)
        try:
            (_SETTINGS / name).write_text(value, encoding="ascii")
        except OSError as error:
            raise HostError(f"cannot set {name.replace('/', '.')} to {value}: {error.strerror}") from None

    def put_back(self, start: str) -> None:
        """Undo the changes of settings whose names start like this."""
        changes = {name: change for name, change in self._settings.items() if name.startswith(start)}
        self._put_back(changes)
        for name in changes:
            del self._settings[name]

    def close(self) -> None:
        """Undo everything."""
        self._undo(self._settings, with_table=self._has_table)
        self._content = Content()
        self._settings.clear()
        self._has_table = False

    def _load(self, content: Content) -> None:
        self._write_note(with_table=True)
        load_table(self._table, content)
        self._has_table = True
        self._content = content

    def _undo_leftovers(self) -> None:
        """Undo what a crashed node with this device has left."""
        note = self._read_note()
        if note is not None:
            settings, with_table = note
            self._undo(settings, with_table=with_table)

    def _read_note(self) -> tuple[dict[str, _Change], bool] | None:
        """Return (changes of settings, whether there is a table); None if nothing was left."""
        try:
            note = json.loads(self._note.read_text(encoding="ascii"))
            if note["boot"] != _boot():
                return {}, False
            settings = {name: _Change(*change) for name, *change in note["settings"] if _OURS.fullmatch(name)}
            return settings, bool(note["table"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, LookupError):  # damaged: the table has a name that is known
            return {}, True

    def _undo(self, settings: dict[str, _Change], *, with_table: bool) -> None:
        self._put_back(settings)
        if with_table:
            try:
                delete_table(self._table)
            except HostError as error:
                self.complain(f"cannot delete the nftables table {self._table}: {error}")
                return
        with contextlib.suppress(OSError):
            self._note.unlink(missing_ok=True)

    def _put_back(self, settings: dict[str, _Change]) -> None:
        """Put back what is still ours: not gone with its device, nor set by somebody else.

        To set it for the whole machine (sysctl -w net.ipv4.ip_forward=1) sets it for each device.
        """
        for name, (before, ours, whole) in reversed(settings.items()):
            if _read(name) == ours and (whole == ours or _read(_whole(name)) != ours):
                try:
                    (_SETTINGS / name).write_text(before, encoding="ascii")
                except OSError as error:
                    self.complain(f"cannot set {name.replace('/', '.')} back to {before}: {error.strerror}")

    def _write_note(self, *, with_table: bool) -> None:
        settings = [(name, *change) for name, change in self._settings.items()]
        note = {"boot": _boot(), "table": with_table, "settings": settings}
        new = self._note.with_name(f"{self._note.name}.new")
        try:
            new.write_text(json.dumps(note), encoding="ascii")
            new.replace(self._note)
        except OSError as error:
            raise HostError(f"cannot write {self._note}: {error.strerror}") from None


def _whole(name: str) -> str:
    """Name the setting of all devices that belongs to one of a single device."""
    return re.sub(r"/conf/[^/]+/", "/conf/all/", name)


def _read(name: str) -> str | None:
    try:
        return (_SETTINGS / name).read_text(encoding="ascii").strip()
    except OSError:
        return None


def _boot() -> str:
    return _BOOT.read_text(encoding="ascii").strip()
