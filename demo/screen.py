"""How the demo shows itself: a line per step, with what is going on below it while it goes on."""

import contextlib
import time
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.status import Status
from rich.table import Table
from rich.text import Text

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 100  # where stdout is no terminal


class Step:
    """A step that is being shown. What it found is added with `say`."""

    def __init__(self, title: str, spinner: Status) -> None:
        self.title = title
        self.findings: list[str] = []
        self._spinner = spinner

    def say(self, finding: str) -> None:
        """Add a line to what is shown of the step when it is done."""
        self.findings.append(finding)

    def going_on(self, text: str) -> None:
        """Show what is going on; a terminal replaces it as it changes, a file never sees it."""
        self._spinner.update(Text.assemble(self.title, "\n    ", (text, "cyan")))


class Screen:
    """The demo's output: lively on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        self.console = console if console.is_terminal else Console(highlight=False, width=_WIDTH)

    def title(self, text: str, picture: str) -> None:
        """Begin."""
        self.console.print(Panel(Text(picture), title=text, title_align="left", border_style="cyan", expand=False))

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step while it runs, then that it is done, how long it took and what it found."""
        began = time.monotonic()
        with self.console.status(title) as spinner:
            step = Step(title, spinner)
            try:
                yield step
            except BaseException:
                self.console.print(Text.assemble(("✗ ", "bold red"), title))
                raise
        self.console.print(Text.assemble(("✓ ", "bold green"), title, (f"  {time.monotonic() - began:.1f} s", "dim")))
        for finding in step.findings:
            self.console.print(Padding(Text(finding, style="cyan"), (0, 0, 0, 4), expand=False))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table; columns that begin with ``>`` stand to the right."""
        grid = Table(box=SIMPLE_HEAD)
        for column in columns:
            grid.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
        for row in rows:
            grid.add_row(*(Text(cell) for cell in row))
        self.console.print(grid)

    def success(self, text: str) -> None:
        """End well."""
        self.console.print(Panel(Text(text), title="it works", title_align="left", border_style="green", expand=False))

    def failure(self, text: str, logs: Sequence[tuple[str, str]]) -> None:
        """Say what failed, with the last lines of the programs."""
        self.console.print(Text(f"\nfailed: {text}", style="bold red"))
        for name, lines in logs:
            self.console.print(Text.assemble((f"\nlast lines of {name}\n", "bold"), lines or "(none)"), soft_wrap=True)


def curve(rates: Sequence[float], width: int = 30) -> str:
    """Draw the newest rates as a row of bars."""
    top = max(rates, default=0.0) or 1.0
    return "".join(_BARS[round(rate / top * (len(_BARS) - 1))] for rate in rates[-width:])


def amount(count: float) -> str:
    """Say a number of bytes."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
