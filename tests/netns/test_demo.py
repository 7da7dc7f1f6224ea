"""`make demo` as a newcomer runs it: it shows everything, and leaves nothing behind whenever it is stopped."""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lab import owner

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[2]


def start() -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "demo"]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def bytes_of(said: str, pattern: str) -> float:
    """Return the number of bytes that stands where `pattern` has its group: "3 kB"."""
    found = re.search(pattern, said)
    assert found, said
    count, unit = found[1].split()
    return float(count) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]


def left_behind(pid: int, born: str) -> list[str]:
    """Return what a demo with this pid and start time has left: namespaces, folders, processes."""
    mark = f"ltlab.{pid}.{born}."
    folders = [str(path) for path in Path(tempfile.gettempdir()).glob(f"{mark}*")]
    processes = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in entry.read_bytes():
                processes.append(entry.parent.name)
        except OSError:
            continue
    return owner.namespaces(mark) + folders + processes


def test_the_demo_shows_it_all() -> None:
    began = time.monotonic()
    demo = start()
    born = owner.start_time(demo.pid) or ""
    said, _ = demo.communicate(timeout=150)

    assert demo.returncode == 0, said
    assert time.monotonic() - began < 100
    for word in ("handshake with hub", "alice → 10.0.0.3", "bob   → fd00::2", "it works"):
        assert word in said, said
    assert "(transport_faketcp, key" in said  # she who has no UDP at all
    assert "goes on over transport_faketcp (transport_udp went dead)" in said
    without, repaired, learnt = map(float, re.findall(r"([\d.]+) Mbit/s, .* lost", said))
    assert repaired > 3 * without
    assert learnt > without
    lost, residual = re.findall(r"([\d.]+)% lost, ([\d.]+)% after repair", said)[0]
    assert float(lost) > 2.5
    assert float(residual) < float(lost) / 2
    assert_two_meet(said)
    assert re.search(r"frank's kernel: 192\.168\.1\.0/24 dev tun0 ", said), said
    assert re.search(r"5 of 5 answers, [\d.]+ ms; direct to 198\.18\.1\.2:\d+", said), said
    assert "printer saw 192.168.1.2 (erin) ask" in said
    assert "\x1b" not in said  # no terminal, no control characters
    assert left_behind(demo.pid, born) == []


def assert_two_meet(said: str) -> None:
    """Check what is said of node to node: direct where both can, through the hub before that and while it is cut."""
    assert re.search(r"Gbit/s, \S+ [GM]B; direct to 192\.0\.2\.2:\d+ over transport_udp", said), said
    assert bytes_of(said, r"the hub forwarded (\S+ \w?B) of it") < 1e6
    assert bytes_of(said, r"for that the hub forwarded (\S+ \w?B)") > 100
    assert "erin goes direct to 198.18.2.2:" in said
    assert "frank goes direct to 198.18.1.2:" in said
    assert "NAT: a NAT" in said  # of `ltunnel nat`
    moments = re.findall(r"([\d.]+) s  (cut|on the hub|healed|direct again) +", said)
    times = {what: float(when) for when, what in moments}
    assert list(times) == ["cut", "on the hub", "healed", "direct again"]
    assert times["on the hub"] - times["cut"] < 10
    assert times["direct again"] - times["healed"] < 60
    assert re.search(r"█+[ ▄█]*▄{4}[ ▄█]*█", said), said
    assert float(re.findall(r"at most ([\d.]+) s between two answers; the hub", said)[0]) < 7.5
    assert "SHA-256" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(number: signal.Signals) -> None:
    for latest in (3, 8, 25):
        demo = start()
        born = owner.start_time(demo.pid) or ""
        time.sleep(random.uniform(0.3, latest))
        demo.send_signal(number)
        if random.random() < 0.5:
            time.sleep(0.05)
            demo.send_signal(number)  # the impatient press twice
        said, _ = demo.communicate(timeout=30)

        assert demo.returncode == 130, said
        assert "Traceback" not in said
        assert left_behind(demo.pid, born) == []


def test_a_killed_demo_takes_its_programs_along_and_the_next_one_sweeps() -> None:
    demo = start()
    born = owner.start_time(demo.pid) or ""
    time.sleep(4)
    os.kill(demo.pid, signal.SIGKILL)
    demo.communicate(timeout=10)
    namespaces = owner.namespaces(f"ltlab.{demo.pid}.{born}.")
    assert namespaces
    deadline = time.monotonic() + 5  # a ping under way ends by itself
    while any(owner.processes_in(name) for name in namespaces):
        assert time.monotonic() < deadline

    owner.sweep()

    assert left_behind(demo.pid, born) == []
