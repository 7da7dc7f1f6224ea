"""Pings that run beside other things, and how long they were without an answer."""

import re
import signal
from itertools import pairwise

from lab.host import Host, LabError

INTERVAL = 0.05


class Pings:
    """Pings an address 20 times a second until it is asked what came of it."""

    def __init__(self, host: Host, address: str) -> None:
        self._program = host.start("pings", ["ping", "-n", "-D", "-i", str(INTERVAL), address])

    def output(self) -> str:
        """Return what ping has printed; it says DUP! of an answer that came twice."""
        return self._program.output()

    def answers(self) -> list[float]:
        """Return when answers came so far (Unix time)."""
        found = re.findall(r"^\[(\d+\.\d+)\] \d+ bytes", self._program.output(), re.MULTILINE)
        return [float(moment) for moment in found]

    def longest_silence(self, since: float) -> float:
        """End it; returns the longest time without an answer after a moment (Unix time), in seconds.

        Raises `LabError` if there were hardly any, or none in the last second.
        """
        self._program.signal(signal.SIGINT)
        self._program.wait()
        ended = self._program.log.stat().st_mtime
        times = [since, *(moment for moment in self.answers() if moment > since)]
        if len(times) < 10 or ended - times[-1] > 1:
            raise LabError(f"{self._program.name}: {len(times) - 1} answers\n{self._program.last_lines()}")
        return max(later - earlier for earlier, later in pairwise(times))
