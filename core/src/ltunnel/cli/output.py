"""Printing for people: tables in colour on a terminal, the same tables without it elsewhere."""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table
    from rich.text import Text

_FILE_WIDTH = 200  # columns where there is no terminal to ask


def console() -> "Console":
    """Return a console for stdout that changes nothing of what it is given but its colours."""
    from rich.console import Console

    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=_FILE_WIDTH if wide else None, markup=False, highlight=False, emoji=False)


def table(*columns: str) -> "Table":
    """Return an empty table; a column that begins with ``>`` is aligned to the right."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return made


class Fitting:
    """A table that leaves out columns where the terminal is too narrow for all of them, instead of breaking cells."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence["str | Text"]], spare: Sequence[int]) -> None:
        """`spare`: indexes of the columns that may be left out, the most dispensable first."""
        self._columns, self._rows, self._spare = columns, rows, spare

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> Iterator["Table"]:
        from rich.measure import Measurement

        unbounded = options.update(width=10_000)
        for count in range(len(self._spare) + 1):
            made = self._table(set(self._spare[:count]))
            if Measurement.get(console, unbounded, made).maximum <= options.max_width:
                break
        yield made

    def _table(self, left_out: set[int]) -> "Table":
        shown = [index for index in range(len(self._columns)) if index not in left_out]
        made = table(*(self._columns[index] for index in shown))
        for row in self._rows:
            made.add_row(*(row[index] for index in shown))
        return made
