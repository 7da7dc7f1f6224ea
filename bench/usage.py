"""What processes cost: CPU time and memory, read from /proc (proc(5))."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return a process and all its living descendants."""
    members = [pid]
    for member in members:
        for task in Path(f"/proc/{member}/task").glob("*/children"):
            members += [int(child) for child in task.read_text().split()]
    return members


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return user and system time that processes and their descendants, ended ones too, have used."""
    ticks = 0
    for pid in pids:
        for member in family(pid):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return ticks / _TICKS


def memory_mb(pids: Iterable[int], field: str) -> float:
    """Return resident memory of processes and their descendants in MB: `VmRSS` now, `VmHWM` at its peak."""
    kilobytes = 0
    for pid in pids:
        for member in family(pid):
            status = Path(f"/proc/{member}/status").read_text()
            kilobytes += int(status.split(f"{field}:")[1].split()[0])
    return kilobytes * 1024 / 1e6
