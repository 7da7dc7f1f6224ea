"""Entry points in the group ``ltunnel``: read from the metadata of installed distributions, without importing them.

Every distribution is read for itself, so that one with unreadable metadata hides no other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions

from ltunnel.plugin import GROUP
from ltunnel.registry.text import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry point: a plugin's name, what to import for it, and the distribution that says so."""

    name: str
    target: str
    """``module`` or ``module:attribute``."""
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"plugin {self.name} ({self.provider})"

    @property
    def provider(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}"

    def load(self) -> object:
        """Import the plugin. Raises whatever its code raises."""
        return EntryPoint(self.name, self.target, GROUP).load()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """All entry points of the group, sorted by name and distribution."""

    all: Sequence[Entry]
    unreadable: Sequence[str] = ()
    """Distributions that have ltunnel plugins, but metadata that cannot be read."""

    def named(self, name: str) -> Sequence[Entry]:
        """Return the entries of one name: none, one, or more when distributions compete for it."""
        return [entry for entry in self.all if entry.name == name]

    def names(self) -> Sequence[str]:
        """Return all names, sorted, each once."""
        return sorted({entry.name for entry in self.all})


def read_entries() -> Entries:
    """Read the metadata of all distributions on `sys.path`.

    Of two distributions of one name the first on the path counts, as it does for imports.
    """
    found: list[Entry] = []
    unreadable: list[str] = []
    seen: set[str] = set()
    for distribution in distributions():
        if f"[{GROUP}]" not in (_entry_points_text(distribution) or ""):
            continue
        name, version = _name(distribution), _version(distribution)
        normalized = re.sub(r"[-_.]+", "-", name).lower()  # the packaging standards' normalized name
        if normalized in seen:
            continue
        seen.add(normalized)
        try:
            points = [point for point in distribution.entry_points if point.group == GROUP]
        except Exception:  # noqa: BLE001 - the parser of the standard library raises what it happens to
            unreadable.append(f"{name} {version}")
            continue
        found += (
            Entry(name=printable(point.name), target=point.value, distribution=name, version=version)
            for point in points
        )
    found.sort(key=lambda entry: (entry.name, entry.distribution))
    return Entries(all=tuple(found), unreadable=tuple(unreadable))


def _entry_points_text(distribution: Distribution) -> str | None:
    try:
        return distribution.read_text("entry_points.txt")
    except (OSError, UnicodeDecodeError):
        return None


def _name(distribution: Distribution) -> str:
    try:
        return printable(distribution.metadata["Name"] or "unnamed")
    except Exception:  # noqa: BLE001 - missing or torn metadata shows in many ways
        return "unnamed"


def _version(distribution: Distribution) -> str:
    try:
        return printable(distribution.version or "without version")
    except Exception:  # noqa: BLE001 - as above
        return "without version"
