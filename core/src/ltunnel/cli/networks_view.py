"""Networks behind machines, for people: which this one offers, which it accepts of whom, which it refuses and why."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from ltunnel.cli.output import table
from ltunnel.registry.text import printable


def networks_view(answer: Mapping[str, Any]) -> RenderableType | None:
    """Return a table of all networks that a status answer tells of, None if there are none."""
    rows = list(_rows(answer))
    if not rows:
        return None
    made = table("network", "behind", "state")
    for row in rows:
        made.add_row(*row)
    return made


def _rows(answer: Mapping[str, Any]) -> Iterator[tuple[str | Text, ...]]:
    for network in answer.get("routes") or ():
        yield str(network), "this machine", "offered"
    for peer in answer.get("peers") or ():
        name = printable(str(peer.get("name") or str(peer.get("key", ""))[:8]))
        for network in peer.get("networks") or ():
            yield str(network), name, Text("accepted", style="green")
    for offer in answer.get("refused_routes") or ():
        reason = Text(f"refused: {printable(str(offer.get('reason', '')))}", style="yellow")
        yield printable(str(offer.get("network", ""))), printable(str(offer.get("peer", ""))), reason
