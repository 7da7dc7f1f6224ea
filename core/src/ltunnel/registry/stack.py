"""The stack: the plugins that carry this node's packets, chosen by name in the configuration."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from ltunnel.plugin import (
    CipherDescriptor,
    DiscoveryDescriptor,
    FecDescriptor,
    Options,
    RoutingDescriptor,
    TransportDescriptor,
)
from ltunnel.registry.entries import Entries, Entry
from ltunnel.registry.kinds import Descriptor, Kind
from ltunnel.registry.load import Plugin, load
from ltunnel.registry.options import read_options
from ltunnel.registry.refusal import PluginRefusedError, Status

D = TypeVar("D")

LABEL = ":"
"""Between a plugin's name and a label, where a transport is wanted more than once: ``transport_faketcp:udp``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a configuration says of plugins: names by kind, names never to be used, sections of options.

    Transports may have labels (`plugin_of`).
    """

    transports: Sequence[str] = ()
    cipher: str | None = None
    fec: str | None = None
    discovery: str | None = None
    routing: str | None = None
    disabled: frozenset[str] = frozenset()
    options: Mapping[str, Any] = field(default_factory=dict)
    """Sections by name, as it is written above."""
    folder: str = ""
    """Where relative names of files in them begin; empty for the working directory."""

    def wanted(self) -> Iterator[tuple[str, Kind]]:
        """Give each selected name with the kind it is selected for."""
        yield from ((name, Kind.TRANSPORT) for name in self.transports)
        for kind in (Kind.CIPHER, Kind.FEC, Kind.DISCOVERY, Kind.ROUTING):
            name = getattr(self, kind.value)
            if name is not None:
                yield name, kind

    def kinds(self, name: str) -> list[Kind]:
        """Return what a plugin is selected for."""
        return list(dict.fromkeys(kind for wanted, kind in self.wanted() if plugin_of(wanted) == name))

    def sections(self, name: str) -> dict[str, Any]:
        """Return the sections of a plugin, by the names under which it is selected; none if it is not."""
        return {wanted: self.options.get(wanted, {}) for wanted, _kind in self.wanted() if plugin_of(wanted) == name}


def plugin_of(name: str) -> str:
    """Return the name of the plugin, without a label."""
    return name.partition(LABEL)[0]


class Part(NamedTuple, Generic[D]):
    """A selected plugin in its place: name (with its label), what it provides, its options."""

    name: str
    descriptor: D
    options: Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The selected plugins, loaded and checked, with their options."""

    transports: tuple[Part[TransportDescriptor], ...]
    cipher: Part[CipherDescriptor]
    fec: Part[FecDescriptor] | None = None
    discovery: Part[DiscoveryDescriptor] | None = None
    routing: Part[RoutingDescriptor] | None = None


def build_stack(selection: Selection, entries: Entries) -> Stack:
    """Load what is selected, and nothing else.

    Raises `PluginRefusedError` for a plugin that cannot be used and `ConfigError` for options that it does not take.
    Nothing is imported before every name is known to belong to exactly one distribution.
    """
    wanted = list(selection.wanted())
    chosen = {name: find(name, selection, entries) for name in dict.fromkeys(plugin_of(name) for name, _kind in wanted)}
    plugins = {name: load(entry) for name, entry in chosen.items()}
    parts: dict[Kind, list[Part[Any]]] = {}
    for name, kind in wanted:
        plugin = plugins[plugin_of(name)]
        descriptor = as_kind(plugin, kind)
        options = read_options(plugin, selection.options.get(name, {}), name, selection.folder)
        parts.setdefault(kind, []).append(Part(name, descriptor, options))
    first = {kind: found[0] for kind, found in parts.items()}
    return Stack(
        transports=tuple(parts[Kind.TRANSPORT]),
        cipher=first[Kind.CIPHER],
        fec=first.get(Kind.FEC),
        discovery=first.get(Kind.DISCOVERY),
        routing=first.get(Kind.ROUTING),
    )


def find(name: str, selection: Selection, entries: Entries) -> Entry:
    """Return the one entry of a selected plugin. Raises `PluginRefusedError`."""
    candidates = entries.named(name)
    if not candidates:
        raise PluginRefusedError(f"plugin {name}", absence(name, entries))
    if len(candidates) > 1:
        raise PluginRefusedError(f"plugin {name}", conflict(candidates), Status.CONFLICT)
    (entry,) = candidates
    if name in selection.disabled:
        kinds = " and ".join(kind.value for kind in selection.kinds(name))
        raise PluginRefusedError(entry, f"selected as {kinds}, but listed in disable_plugins", Status.DISABLED)
    return entry


def as_kind(plugin: Plugin, kind: Kind) -> Descriptor:
    """Return what a plugin provides for a kind. Raises `PluginRefusedError` when it provides something else."""
    descriptor = plugin.descriptors.get(kind)
    if descriptor is None:
        others = " and ".join(other.value for other in plugin.descriptors)
        raise PluginRefusedError(plugin.entry, f"selected as {kind.value}, but provides {others}")
    return descriptor


def conflict(candidates: Sequence[Entry]) -> str:
    """Say which distributions compete for a name."""
    providers = " and ".join(entry.provider for entry in candidates)
    return f"provided more than once, by {providers}; uninstall all but one"


def absence(name: str, entries: Entries) -> str:
    """Say that a plugin is not installed, and what may have been meant or gone wrong."""
    reason = "not installed: no distribution provides it"
    if not entries.all:
        reason = "not installed, nor is any other; pip install 'ltunnel[standard]' brings the usual ones"
    close = difflib.get_close_matches(name, entries.names(), n=1, cutoff=0.75)
    if close:
        reason += f"; did you mean {close[0]}?"
    if entries.unreadable:
        reason += f"; metadata that cannot be read: {', '.join(entries.unreadable)}"
    return reason
