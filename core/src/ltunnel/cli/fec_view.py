"""What forward error correction does, for people: a table of the peers."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ltunnel.cli.output import Fitting
from ltunnel.registry.text import printable

_COLUMNS = (
    "loss repair", "sends", "because", ">data sent", ">parity", ">data received", ">lost", ">repaired", ">still lost",
    ">parity unused", ">repair took",
)  # fmt: skip
_SPARE = (9, 10, 5, 4, 3, 6, 7)  # columns a narrow terminal goes without, the first first


def fec_view(fec: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return what was chosen and why, and what came of it, from the answer's ``fec`` and ``peers``."""
    rows = Fitting(_COLUMNS, list(map(_row, peers)), _SPARE)
    return Group(Text(f"loss repair by {printable(str(fec.get('plugin', '')))}, mode {fec.get('mode', '')}"), rows)


def _row(peer: Mapping[str, Any]) -> tuple[str, ...]:
    at = peer.get("fec") or {}
    number = {name: str(value) for name, value in at.items() if isinstance(value, int)}
    return (
        printable(str(peer.get("name") or str(peer.get("key", ""))[:8])),
        _sends(at),
        str(at.get("why", "")),
        number.get("data_sent", ""),
        number.get("parity_sent", ""),
        number.get("data_received", ""),
        number.get("lost_before", ""),
        number.get("recovered", ""),
        number.get("lost_after", ""),
        number.get("parity_wasted", ""),
        f"{at['delay_ms']:.1f} ms" if at.get("recovered") else "",
    )


def _sends(at: Mapping[str, Any]) -> str:
    if not at.get("parity"):
        return "copies of small packets" if at.get("mode") == "latency" else "no parity"
    group = f"{at['data']}+{at['parity']}"
    return f"{group}, {at['groups']} groups in turn" if at.get("groups", 1) > 1 else group
