"""What comes out: a table for people, JSON for programs."""

import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench.goals import GOALS, SELF, TRANSPORTS, Medians
from bench.measures import ROWS

Samples = dict[str, dict[str, list[float]]]
"""Row, then peer, then one figure per round."""

RESULTS = Path(__file__).parent / "results"


def medians(samples: Samples) -> Medians:
    """Return the median over the rounds."""
    return {row: {peer: median(figures) for peer, figures in peers.items()} for row, peers in samples.items()}


def table(samples: Samples, peers: Sequence[str], rounds: int) -> Table:
    """Lay the medians out: a line per row, a column per peer, then ltunnel's ratios and its goals."""
    middle = medians(samples)
    peers = [peer for peer in peers if peer not in TRANSPORTS]
    references = [peer for peer in ("wireguard-go", "veth") if SELF in peers and peer in peers]
    grid = Table(title=f"Medians of {rounds} interleaved rounds", title_justify="left", box=SIMPLE_HEAD)
    grid.add_column("measure")
    for peer in peers:
        grid.add_column(peer, justify="right", style="bold" if peer == SELF else "")
    for reference in references:
        grid.add_column(f"of {reference}", justify="right")
    if SELF in peers:
        grid.add_column("goals")
    for key, row in ROWS.items():
        figures = middle.get(key, {})
        cells = [f"{figures[peer]:.{row.digits}f}" if peer in figures else "" for peer in peers]
        ratios = [_ratio(figures, SELF, reference) for reference in references]
        goals = [_goals(key, middle, SELF)] if SELF in peers else []
        grid.add_row(f"{row.title}, {row.unit}", *cells, *ratios, *goals)
    return grid


def transports(samples: Samples, peers: Sequence[str]) -> Table | None:
    """Lay out the transports side by side: a line per row and transport; None if none was measured."""
    middle = medians(samples)
    shown = [peer for peer in (SELF, *TRANSPORTS) if peer in peers]
    references = [peer for peer in (SELF, "wireguard-go", "veth") if peer in peers]
    if not set(shown) & set(TRANSPORTS):
        return None
    grid = Table(title="Transports side by side", title_justify="left", box=SIMPLE_HEAD)
    for title in ("measure", "transport"):
        grid.add_column(title)
    grid.add_column("figure", justify="right")
    for reference in references:
        grid.add_column("of udp" if reference == SELF else f"of {reference}", justify="right")
    grid.add_column("goals")
    for key, row in ROWS.items():
        figures = middle.get(key, {})
        if not set(figures) & set(TRANSPORTS):
            continue
        for place, peer in enumerate(shown):
            ratios = [_ratio(figures, peer, reference) for reference in references]
            figure = f"{figures[peer]:.{row.digits}f}" if peer in figures else ""
            goals = Text() if peer == SELF else _goals(key, middle, peer)
            title, name = "" if place else f"{row.title}, {row.unit}", "udp" if peer == SELF else peer
            grid.add_row(title, name, figure, *ratios, goals, end_section=peer == shown[-1])
    return grid


def save(samples: Samples, peers: Sequence[str], absent: dict[str, str], rounds: int, seconds: int) -> Path:
    """Write everything that was measured, with the machine that it was measured on. Returns the file."""
    middle = medians(samples)
    content: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": version("ltunnel"),
        "machine": {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "processor": _processor(),
            "cores": os.cpu_count(),
        },
        "rounds": rounds,
        "seconds": seconds,
        "peers": list(peers),
        "absent": absent,
        "rows": {key: {"title": row.title, "unit": row.unit} for key, row in ROWS.items()},
        "medians": middle,
        "samples": samples,
        "goals": [
            {"row": goal.row, "peer": goal.peer, "goal": goal.text(), "reached": goal.reached(middle)} for goal in GOALS
        ],
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(content, indent=1) + "\n")
    return file


def _ratio(figures: Any, peer: str, other: str) -> str:
    if peer not in figures or not figures.get(other) or peer == other:
        return ""
    return f"{figures[peer] / figures[other]:.2f}"


def _goals(row: str, middle: Medians, peer: str) -> Text:
    lines = Text()
    for goal in (goal for goal in GOALS if goal.row == row and goal.peer == peer):
        word, style = {True: ("reached", "green"), False: ("missed", "red"), None: ("not measured", "dim")}[
            goal.reached(middle)
        ]
        lines.append("\n" if lines else "").append(f"{goal.text()}: ").append(word, style)
    return lines


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
