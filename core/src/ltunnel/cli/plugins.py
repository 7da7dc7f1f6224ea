"""``ltunnel plugins list`` and ``ltunnel plugins info``."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import rich_click as click

from ltunnel.cli.output import console, table
from ltunnel.config import load, selection
from ltunnel.errors import PluginError
from ltunnel.registry import Selection, Status, read_entries
from ltunnel.registry.stack import absence
from ltunnel.registry.survey import Finding, survey

if TYPE_CHECKING:
    from ltunnel.registry.describe import Option

_COLOURS = {
    Status.AVAILABLE: "cyan",
    Status.SELECTED: "green",
    Status.DISABLED: "yellow",
    Status.CONFLICT: "red",
    Status.BROKEN: "red",
    Status.INCOMPATIBLE: "red",
}


@click.group
def plugins() -> None:
    """List plugins, and show what one takes."""


@plugins.command("list")
@click.option("-c", "--config", metavar="FILE", help="configuration whose selection is shown and checked")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def list_(config: str | None, as_json: bool) -> int:
    """List the installed plugins. Exit code 1 if one that the configuration selects cannot be used."""
    entries = read_entries()
    chosen = Selection() if config is None else selection(load(config, {}, os.environ, entries=entries), entries)
    findings = survey(entries, chosen)
    if as_json:
        click.echo(json.dumps([_row(finding) for finding in findings], indent=2))
    else:
        _print_list(findings)
    return int(any(finding.selected and finding.status is not Status.SELECTED for finding in findings))


@plugins.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def info(name: str, as_json: bool) -> int:
    """Show what a plugin is and which options it takes in its section of the configuration."""
    entries = read_entries()
    findings = survey(entries, Selection(), only=name)
    if not findings:
        raise PluginError(f"plugin {name}: {absence(name, entries)}")
    if as_json:
        rows = [{**_row(finding), "options": [asdict(option) for option in finding.options]} for finding in findings]
        click.echo(json.dumps(rows[0] if len(rows) == 1 else rows, indent=2))
    else:
        for finding in findings:
            _print_info(finding)
    return int(any(finding.status is not Status.AVAILABLE for finding in findings))


def _row(finding: Finding) -> dict[str, Any]:
    row = asdict(finding)
    row["status"] = finding.status.value
    del row["options"]
    return row


def _print_list(findings: Sequence[Finding]) -> None:
    from rich.text import Text

    if not findings:
        click.echo("no plugins are installed; pip install 'ltunnel[standard]' brings the usual ones")
        return
    rows = table("name", "kind", "version", "API", "distribution", "status", "reason")
    for finding in findings:
        status = Text(finding.status.value, style=_COLOURS[finding.status])
        if finding.selected and finding.status is not Status.SELECTED:
            status.append(" (selected)")
        cells = (finding.name, ", ".join(finding.kinds), finding.version, finding.api, finding.distribution)
        rows.add_row(*map(Text, cells), status, Text(finding.reason or finding.summary))
    console().print(rows)


def _print_info(finding: Finding) -> None:
    from rich.text import Text

    out = console()
    out.print(Text(finding.name, style="bold"), Text(finding.summary))
    out.print(f"{finding.distribution} {finding.version}, plugin API {finding.api or 'unknown'}", soft_wrap=True)
    out.print(Text(" ".join(finding.kinds)), Text(finding.status.value, style=_COLOURS[finding.status]))
    if finding.reason:
        out.print(Text(finding.reason), soft_wrap=True)
    if finding.options:
        rows = table("option", "type", "default", "bounds", "meaning")
        for option in finding.options:
            cells = (option.name, option.type, _default(option), option.bounds, option.meaning)
            rows.add_row(*map(Text, cells))
        out.print(rows)
    elif not finding.reason:
        out.print("takes no options")


def _default(option: "Option") -> str:
    return "required" if option.required else json.dumps(option.default)
