"""``ltunnel status``: what a running ltunnel says of itself, over its control socket."""

import contextlib
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import rich_click as click

from ltunnel.cli.output import console
from ltunnel.errors import HostError

if TYPE_CHECKING:
    from rich.console import RenderableType

_INTERVAL = 1.0  # seconds between two looks of --watch

Look = Callable[[], dict[str, Any]]


@click.command
@click.option("--json", "as_json", is_flag=True, help="print JSON; with --watch a line each second")
@click.option("--watch", is_flag=True, help="look again every second, until interrupted")
@click.option("--tun-name", metavar="NAME", help="which ltunnel, if several run here: the name of its TUN device")
def status(as_json: bool, watch: bool, tun_name: str | None) -> None:
    """Show what a running ltunnel does: its role, its stack, and every peer with its path and counters."""
    from ltunnel.runtime.client import request

    def look() -> dict[str, Any]:
        return request("status", tun_name)

    if not watch:
        _print(look(), as_json=as_json)
        return
    with contextlib.suppress(KeyboardInterrupt):
        if as_json or not console().is_terminal:
            _watch_lines(look, as_json=as_json)
        else:
            _watch_screen(look)


def _print(answer: dict[str, Any], *, as_json: bool) -> None:
    from ltunnel.cli.status_view import view

    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        console().print(view(answer))


def _watch_lines(look: Look, *, as_json: bool) -> None:
    """Print one answer after the other: JSON on a line each, or the whole view."""
    while True:
        answer = look()
        if as_json:
            click.echo(json.dumps(answer))
        else:
            _print(answer, as_json=False)
        time.sleep(_INTERVAL)


def _watch_screen(look: Look) -> None:
    """Keep one view up to date; once there was an answer, an ltunnel that stops is waited for."""
    from rich.live import Live
    from rich.text import Text

    from ltunnel.cli.status_view import view

    shown: RenderableType = view(look())
    with Live(shown, console=console(), auto_refresh=False) as live:
        while True:
            time.sleep(_INTERVAL)
            try:
                shown = view(look())
            except HostError as error:
                shown = Text(str(error), style="red")
            live.update(shown, refresh=True)
