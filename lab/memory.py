"""What is in the memory of a running program, as a core dump would have it."""

import re
from collections.abc import Iterator
from pathlib import Path

from lab.program import Program

_MAP = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (r\S+)")
_PIECE = 1 << 24
_OVERLAP = 256


def holds(program: Program, marker: bytes) -> bool:
    """Whether a marker of at most 256 bytes is anywhere in its readable memory. Needs the right to trace it."""
    return any(marker in piece for piece in _pieces(program))


def _pieces(program: Program) -> Iterator[bytes]:
    """Return its memory piece by piece; neighbours overlap, so that nothing falls between them."""
    maps = Path(f"/proc/{program.pid}/maps").read_text().splitlines()
    with Path(f"/proc/{program.pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            match = _MAP.match(line)
            if match is None or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = int(match[1], 16), int(match[2], 16)
            for at in range(start, end, _PIECE):
                memory.seek(at)
                try:
                    yield memory.read(min(end, at + _PIECE + _OVERLAP) - at)
                except OSError:
                    continue  # mapped, but nothing behind it, as beyond the end of a file
