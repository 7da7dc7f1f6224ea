"""Printing for people: tables in colour on a terminal, the same tables without it elsewhere."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

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
