"""µs per packet that forward error correction costs, beside plain `reedsolo` and `zfec`.

    .venv/bin/python -m bench.fec [--length 1400] [--rounds 5] [--pairs 10+3,20+10]

Figures are of whole groups, divided by the number of data packets: the shortest call of all rounds, in each of which
the codes take turns. Every result is compared with the data before it is timed. `reedsolo` gets its columns ready made;
turning rows into columns would come on top. `zfec` is written in C and makes another code, with the same properties.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import reedsolo
from rich.console import Console
from rich.table import Table

from ltunnel.plugin import FecCode
from ltunnel_fec_rs import ReedSolomon
from ltunnel_fec_xor import XorParity

try:
    import zfec
except ImportError:
    zfec = None

PAIRS = ((10, 1), (10, 3), (20, 2), (10, 5), (20, 10), (64, 16))
SLICE = 0.02
"""Seconds for which a job is repeated in a round; one that takes longer runs once."""

Job = Callable[[], object]
Jobs = dict[str, Job]
"""What is done to a group, and how."""
Maker = Callable[[Any, int, int], Jobs]
"""(data rows (k, L), m, number of losses) -> encode and decode."""


def _check(name: str, right: bool) -> None:
    if not right:
        raise SystemExit(f"{name} gave a wrong result")


def _of_plugin(name: str, make: Callable[[int, int], FecCode]) -> Maker:
    def jobs(rows: Any, m: int, losses: int) -> Jobs:
        k = len(rows)
        code = make(k, m)
        group = np.zeros((k + m, rows.shape[1] + 16), np.uint8)[:, : rows.shape[1]]  # apart, as in the data path
        group[:k] = rows
        data, parity = group[:k], group[k:]
        present = [row >= losses for row in range(k + m)]
        code.encode(data, parity)
        data[:losses] = 0
        code.recover(group, present.copy())
        _check(name, np.array_equal(data, rows))
        return {"encode": lambda: code.encode(data, parity), "decode": lambda: code.recover(group, present.copy())}

    return jobs


def _of_reedsolo(rows: Any, m: int, losses: int) -> Jobs:
    codec = reedsolo.RSCodec(m)
    columns = [column.tobytes() for column in rows.T]
    whole = [codec.encode(column) for column in columns]
    lost = [*range(losses)]
    damaged = [bytes(losses) + column[losses:] for column in whole]

    def decode() -> list[Any]:
        return [codec.decode(column, erase_pos=lost, only_erasures=True)[0] for column in damaged]

    _check("reedsolo", decode() == columns)
    return {"encode": lambda: [codec.encode(column) for column in columns], "decode": decode}


def _of_zfec(rows: Any, m: int, losses: int) -> Jobs:
    k = len(rows)
    encoder, decoder = zfec.Encoder(k, k + m), zfec.Decoder(k, k + m)
    data, numbers = [row.tobytes() for row in rows], [*range(k, k + m)]
    parity = encoder.encode(data, numbers)
    blocks, places = data[losses:] + parity[:losses], [*range(losses, k), *range(k, k + losses)]
    _check("zfec", decoder.decode(blocks, places) == data)
    return {"encode": lambda: encoder.encode(data, numbers), "decode": lambda: decoder.decode(blocks, places)}


def makers() -> dict[str, Maker]:
    """Return the codes that can be measured here, by name."""
    found: dict[str, Maker] = {
        "fec_xor": _of_plugin("fec_xor", XorParity),
        "fec_rs": _of_plugin("fec_rs", ReedSolomon),
        "reedsolo": _of_reedsolo,
    }
    if zfec is not None:
        found["zfec"] = _of_zfec
    return found


def _time(job: Job) -> float:
    """Return the shortest time of a call, in seconds."""
    shortest, end = float("inf"), time.perf_counter() + SLICE
    while True:
        begin = time.perf_counter()
        job()
        now = time.perf_counter()
        shortest = min(shortest, now - begin)
        if now > end:
            return shortest


def measure(k: int, m: int, length: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return µs per data packet: by what is done, then by code."""
    rows = np.random.default_rng(1).integers(0, 256, (k, length), np.uint8)
    jobs: dict[str, dict[str, Job]] = {}
    for name, make in makers().items():
        for losses in sorted({1, m}):
            for what, job in make(rows, m, losses).items():
                title = what if what == "encode" else f"decode, {losses} lost"
                jobs.setdefault(title, {})[name] = job
    shortest: dict[str, dict[str, float]] = {title: dict.fromkeys(group, float("inf")) for title, group in jobs.items()}
    for _ in range(rounds):
        for title, group in jobs.items():
            for name, job in group.items():
                shortest[title][name] = min(shortest[title][name], _time(job) * 1e6 / k)
    return shortest


def table(pairs: Sequence[tuple[int, int]], length: int, rounds: int) -> Table:
    """Measure all pairs and lay the figures out."""
    names = [*makers()]
    grid = Table(title=f"µs per data packet of {length} B", title_justify="left")
    grid.add_column("k+m", no_wrap=True)
    grid.add_column("what", no_wrap=True)
    for name in names:
        grid.add_column(name, justify="right")
    grid.add_column("reedsolo / fec_rs", justify="right")
    for k, m in pairs:
        for title, figures in measure(k, m, length, rounds).items():
            cells = [f"{figures[name]:,.2f}" for name in names]
            ratio = f"{figures['reedsolo'] / figures['fec_rs']:,.0f}"
            grid.add_row(f"{k}+{m}", title, *cells, ratio, end_section=title.startswith(f"decode, {m} "))
    return grid


def _pair(text: str) -> tuple[int, int]:
    k, m = map(int, text.split("+"))
    return k, m


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.fec", description="Measure erasure codes beside reedsolo and zfec.")
    parser.add_argument("--length", type=int, default=1400, help="bytes of a packet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=lambda text: [_pair(part) for part in text.split(",")], default=PAIRS)
    options = parser.parse_args()
    console = Console()
    if zfec is None:
        console.print("zfec is left out: it is not installed", style="yellow")
    console.print(table(options.pairs, options.length, options.rounds))


if __name__ == "__main__":
    main()
