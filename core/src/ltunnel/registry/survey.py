"""A look at every installed plugin, for people: whether it is usable, and what it says of itself.

Each plugin is imported in a forked process of its own that has no output and limited time, so that one which prints,
hangs, exits or crashes does no harm to the others or to the listing.
"""

import multiprocessing
import os
import sys
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from ltunnel.errors import ConfigError, PluginError
from ltunnel.registry.describe import Option, describe
from ltunnel.registry.entries import Entries, Entry
from ltunnel.registry.load import load
from ltunnel.registry.options import read_options
from ltunnel.registry.refusal import PluginRefusedError, Status
from ltunnel.registry.stack import Selection, absence, as_kind, conflict, plugin_of
from ltunnel.registry.text import one_line, printable

_PATIENCE = 20.0  # seconds for one plugin; numpy alone may take one on a slow disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What there is to say of one plugin."""

    name: str
    distribution: str
    version: str
    status: Status
    reason: str = ""
    selected: bool = False
    """The configuration selects it. With a status other than ``selected`` the configuration cannot be started."""
    kinds: tuple[str, ...] = ()
    api: str = ""
    summary: str = ""
    options: tuple[Option, ...] = ()


def survey(entries: Entries, selection: Selection, only: str | None = None) -> list[Finding]:
    """Look at all plugins, or at those of one name; selected ones that are not installed are among the findings."""
    names = sorted({*entries.names(), *(plugin_of(name) for name, _kind in selection.wanted())})
    findings: list[Finding] = []
    for name in names:
        if only is None or name == only:
            findings += _look(name, entries, selection)
    return findings


def _look(name: str, entries: Entries, selection: Selection) -> list[Finding]:
    candidates = entries.named(name)
    selected = bool(selection.kinds(name))
    if not candidates:
        return [Finding(name=name, distribution="", version="", status=Status.BROKEN, selected=selected,
                        reason=absence(name, entries))]  # fmt: skip
    findings = [_blank(entry, selected) for entry in candidates]
    if len(findings) > 1:
        return [replace(finding, status=Status.CONFLICT, reason=conflict(candidates)) for finding in findings]
    (entry,), (finding,) = candidates, findings
    if name in selection.disabled:
        reason = "selected, but listed in disable_plugins" if selected else "listed in disable_plugins"
        return [replace(finding, status=Status.DISABLED, reason=reason)]
    return [_examine_apart(entry, finding, selection)]


def _blank(entry: Entry, selected: bool) -> Finding:
    return Finding(
        name=entry.name,
        distribution=entry.distribution,
        version=entry.version,
        status=Status.SELECTED if selected else Status.AVAILABLE,
        selected=selected,
    )


def _examine_apart(entry: Entry, finding: Finding, selection: Selection) -> Finding:
    """Run `_examine` in a forked process and bring its finding back."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, entry, finding, selection), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(_PATIENCE):
            return replace(finding, status=Status.BROKEN, reason=f"did not finish loading in {_PATIENCE:.0f} s")
        result: Finding = receiver.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        end = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return replace(finding, status=Status.BROKEN, reason=f"the process that loaded it {end}")
    else:
        return result
    finally:
        process.kill()  # also one that lives on in a thread of the plugin
        process.join()
        process.close()
        receiver.close()


def _child(sender: Connection, entry: Entry, finding: Finding, selection: Selection) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    sys.stdout = sys.stderr = os.fdopen(nowhere, "w")  # a buffer of their own, too
    sender.send(_examine(entry, finding, selection))
    os._exit(0)  # no exit handlers: they are the plugin's, or the parent's


def _examine(entry: Entry, finding: Finding, selection: Selection) -> Finding:
    """Load a plugin and see whether it fits what it is selected for."""
    try:
        plugin = load(entry)
    except PluginRefusedError as refused:
        return replace(finding, status=refused.status, reason=refused.reason)
    finding = replace(
        finding,
        kinds=tuple(kind.value for kind in plugin.descriptors),
        api=".".join(map(str, plugin.info.api)),
        summary=printable(str(plugin.info.summary)),
    )
    try:
        finding = replace(finding, options=describe(plugin.options))
        for kind in selection.kinds(entry.name):
            as_kind(plugin, kind)
        for name, section in selection.sections(entry.name).items():
            read_options(plugin, section, name, selection.folder)
    except PluginRefusedError as refused:
        return replace(finding, status=refused.status, reason=refused.reason)
    except (PluginError, ConfigError) as error:
        return replace(finding, status=Status.BROKEN, reason=str(error))
    except Exception as error:  # noqa: BLE001 - the options model is the plugin's code
        return replace(finding, status=Status.BROKEN, reason=f"its options cannot be described: {one_line(error)}")
    return finding
