"""Making a `Config` of a file, flags and the environment.

Flags go before the file, the file before defaults; for the key the environment comes after both. Errors are one line:
``config.json: mtu: Input should be a valid integer (got "x")``, and the flag's name stands first when a flag is wrong.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ltunnel.config import tls
from ltunnel.config.fields import NONE
from ltunnel.config.model import DEFAULT_TRANSPORTS, INTERNAL, RULE, Config
from ltunnel.config.read import read_file
from ltunnel.config.secret import exposure, find_secret
from ltunnel.errors import ConfigError
from ltunnel.registry import Entries, plugin_of, read_entries
from ltunnel.registry.options import causes, complaints, shown
from ltunnel.registry.text import printable

FIELDS = frozenset(Config.model_fields) - INTERNAL

_SHOWN_ERRORS = 3


def load(
    path: str | Path | None,
    overrides: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    flags: Mapping[str, str] | None = None,
    entries: Entries | None = None,
) -> Config:
    """Read a configuration. Raises `ConfigError`.

    `overrides` holds fields from the command line, `flags` the names under which they were given (``{"mtu": "-mtu"}``);
    `entries` are the installed plugins, whose names may head sections.
    """
    file = None if path is None else Path(path)
    written = {} if file is None else {name: value for name, value in read_file(file).items() if value is not None}
    sections = {name: written.pop(name) for name in written.keys() - FIELDS}
    secret = find_secret(written, file, overrides, environ)
    remarks = list(secret.remarks)
    if file is not None and "key" in written:
        remarks += filter(None, [exposure(file)])
    fields = {**written, **overrides, **tls.absolute(overrides)}
    if secret.key is not None:
        fields["key"] = secret.key
    places = _Places(file, overrides, flags or {})
    try:
        config = Config.model_validate({**fields, "source": str(file or ""), "remarks": tuple(remarks)})
    except ValidationError as error:
        raise ConfigError(places.describe(error)) from None
    entries = entries or read_entries()
    config = config.model_copy(update={"transport": _transports(config, entries)})
    _check_sections(sections, config, entries, str(file))
    return config.model_copy(update={"plugin_options": tls.sections(config, sections)})


def _transports(config: Config, entries: Entries) -> tuple[str, ...]:
    """Return the transports that are meant. Of those that nobody wrote, one that is not there is not missed."""
    meant = tls.transports(config)
    if meant != DEFAULT_TRANSPORTS or "transport" in config.model_fields_set:
        return meant
    there = set(entries.names()) - set(config.disable_plugins)
    return tuple(name for name in meant if name in there) or meant


def _check_sections(sections: Mapping[str, Any], config: Config, entries: Entries, source: str) -> None:
    """Refuse keys that are neither fields nor plugins, and sections that are not objects."""
    plugins = {*entries.names(), *config.transport, config.cipher, config.fec, config.discovery, config.routing} - {
        "",
        NONE,
    }
    for name, section in sections.items():
        if name not in plugins and plugin_of(name) not in plugins:
            close = difflib.get_close_matches(name, sorted(FIELDS | plugins), n=1, cutoff=0.75)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{source}: {printable(name, 60)}: is neither a field nor an installed plugin{meant}")
        if not isinstance(section, dict):
            raise ConfigError(f"{source}: {name}: should be an object with the plugin's options (got {shown(section)})")


class _Places:
    """Says for each wrong field where it was written."""

    def __init__(self, file: Path | None, overrides: Mapping[str, Any], flags: Mapping[str, str]) -> None:
        self._file = file
        self._overrides = overrides
        self._flags = flags

    def describe(self, error: ValidationError) -> str:
        """Return all errors in one line."""
        found = []
        for details, (place, text) in zip(causes(error), complaints(error), strict=True):
            if details["type"] == RULE:
                place, text = details["ctx"]["field"], details["ctx"]["text"]
            field = place.partition(".")[0]
            if field == "key":
                text = text.partition(" (got ")[0]  # a key is never shown
            found.append(f"{self._prefix(field)}{self._flags.get(field, place)}: {text}")
        more = len(found) - _SHOWN_ERRORS
        return "; ".join(found[:_SHOWN_ERRORS]) + (f"; and {more} more" if more > 0 else "")

    def _prefix(self, field: str) -> str:
        return "" if field in self._overrides or self._file is None else f"{self._file}: "
