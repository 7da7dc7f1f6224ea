"""Who owns a namespace or a folder: its name carries the pid and the start time of the process that made it.

That way a lab knows its own things without any record, and a later lab can tell leftovers of the dead from things
that a living process still uses.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

NETNS_DIR = Path("/run/netns")
_NAME = re.compile(r"ltlab\.(?P<pid>\d+)\.(?P<start>\d+)\..+")


def start_time(pid: int) -> str | None:
    """When a process began, in clock ticks after boot (field 22 of /proc/pid/stat, proc(5)); None: no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def own_prefix() -> str:
    """Return what the names of all things of this process begin with."""
    return f"ltlab.{os.getpid()}.{start_time(os.getpid())}."


def namespaces(prefix: str) -> list[str]:
    """Return the names of the namespaces that begin with a prefix."""
    return [name for name in _listing(NETNS_DIR) if name.startswith(prefix)]


def sweep() -> list[str]:
    """Take away what dead labs left behind. Returns the names of what was removed."""
    removed = []
    for name in _listing(NETNS_DIR):
        if _is_orphan(name):
            destroy_namespace(name)
            removed.append(name)
    folder = Path(tempfile.gettempdir())
    for name in _listing(folder):
        if _is_orphan(name):
            shutil.rmtree(folder / name, ignore_errors=True)
            removed.append(name)
    return removed


def create_namespace(name: str) -> None:
    """Make a named network namespace, as `ip netns add` does."""
    # A session of its own: Ctrl-C must not stop it half way.
    subprocess.run(["ip", "netns", "add", name], check=True, start_new_session=True)


def destroy_namespace(name: str) -> None:
    """End every process in a namespace and remove it; its links, routes and rules go with it."""
    deadline = time.monotonic() + 5
    while pids := processes_in(name):
        for pid in pids:
            _kill(pid)
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    subprocess.run(["ip", "netns", "delete", name], check=False, start_new_session=True, stderr=subprocess.DEVNULL)


def processes_in(name: str) -> list[int]:
    """Return the pids of the processes inside a named namespace, zombies aside."""
    try:
        inode = (NETNS_DIR / name).stat().st_ino
    except OSError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            inside = (entry / "ns/net").stat().st_ino == inode
        except OSError:
            continue  # it has just ended, or is a zombie
        if inside and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _is_orphan(name: str) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and start_time(int(match["pid"])) != match["start"]


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return []
