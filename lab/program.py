"""Programs that run inside a lab: their output goes to a file, and they die with the lab."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class ProgramError(Exception):
    """A program ended or stayed silent where it should not have; the text ends with its last lines."""


class Program:
    """A running program, its output and its end."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C is not for it
                env={**os.environ, **env},
            )
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """Return everything that it has printed."""
        return self.log.read_text(errors="replace")

    def last_lines(self, count: int = 15) -> str:
        """Return the end of what it has printed."""
        return "\n".join(self.output().splitlines()[-count:])

    def memory_mb(self, *, peak: bool = False) -> float:
        """Return its resident memory in MB, now or at its peak (`VmRSS` and `VmHWM` of proc(5))."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:" if peak else "VmRSS:")[1].split()[0]) * 1024 / 1e6

    def wait_for(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        """Wait until the output has a match of a regular expression."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.returncode is not None
            if match := re.search(pattern, self.output(), re.MULTILINE):
                return match
            if ended:
                raise ProgramError(f"{self.name} ended ({self.returncode}) without {pattern!r}:\n{self.last_lines()}")
            if time.monotonic() > deadline:
                raise ProgramError(f"{self.name} did not print {pattern!r} in {timeout} s:\n{self.last_lines()}")
            time.sleep(0.01)

    def wait(self, timeout: float = 10.0) -> int:
        """Wait for its end; returns the exit status."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProgramError(f"{self.name} still runs after {timeout} s:\n{self.last_lines()}") from None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.returncode is None:
            self._process.send_signal(number)

    def stop(self, timeout: float = 5.0) -> int:
        """Ask it to end (SIGTERM), kill it if it does not; returns the exit status."""
        self.signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it at once (SIGKILL)."""
        self.signal(signal.SIGKILL)
        return self._process.wait(5)
