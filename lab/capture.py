"""Captures of what passes a device, read by Wireshark's dissectors."""

import functools
import subprocess
from collections import Counter
from pathlib import Path

from lab.host import Host, LabError

_FLAGS = "tcp.analysis."
_TCP = ("frame.time_epoch", "tcp.srcport", "tcp.flags", "tcp.checksum.status", "ip.checksum.status", "_ws.malformed")
_CHECKS = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")


class Capture:
    """A capture under way: of one device, as a filter says (pcap-filter(7))."""

    def __init__(self, host: Host, device: str, condition: str) -> None:
        self.file = host.folder / f"{device}.{len(host.programs)}.pcap"
        words: list[str | Path] = ["dumpcap", "-q", "-P", "-B", "64", "-i", device, "-f", condition, "-w", self.file]
        self._program = host.start("dumpcap", words)
        self._program.wait_for("^File:")

    def stop(self) -> "Segments":
        """End it, and read it. Raises `LabError` if anything is missing from it."""
        self._program.stop()
        if "/0 (" not in self._program.output():
            raise LabError(f"{self._program.name}: {self._program.last_lines(3)}")
        return Segments(self.file)


class Segments:
    """The TCP segments of a capture, as tshark sees them."""

    def __init__(self, file: Path) -> None:
        flags = _analysis_flags()
        names = [*_TCP, *flags]
        fields = [word for name in names for word in ("-e", name)]
        words = ["tshark", "-r", str(file), *_CHECKS, "-T", "fields", *fields]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise LabError(f"tshark: {done.stderr.strip()}")
        self.rows = [dict(zip(names, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]
        self.flags = Counter(name.removeprefix(_FLAGS) for row in self.rows for name in flags if row[name])
        """How often Wireshark's analysis says what."""

    @property
    def kinds(self) -> list[int]:
        """The TCP flags of each segment: 2 is SYN, 18 SYN and ACK, 16 ACK."""
        return [int(row["tcp.flags"], 16) for row in self.rows]

    @property
    def unsound(self) -> list[dict[str, str]]:
        """The segments that are malformed or have a wrong checksum."""
        return [
            row
            for row in self.rows
            if row["_ws.malformed"] or row["tcp.checksum.status"] != "1" or row["ip.checksum.status"] != "1"
        ]


@functools.cache
def _analysis_flags() -> list[str]:
    """Return the names of the fields that are there or not, of all that tshark's TCP analysis knows."""
    listing = subprocess.run(["tshark", "-G", "fields"], capture_output=True, text=True, check=True, timeout=60).stdout
    columns = [line.split("\t") for line in listing.splitlines()]
    return [words[2] for words in columns if words[0] == "F" and words[2].startswith(_FLAGS) and words[3] == "FT_NONE"]
