"""A plugin's options: its section of the configuration, checked by its pydantic model."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ltunnel.errors import ConfigError
from ltunnel.plugin import Options
from ltunnel.plugin.descriptors import FOLDER
from ltunnel.registry.load import Plugin, guard
from ltunnel.registry.text import printable

_SHOWN_VALUE = 60


def read_options(plugin: Plugin, section: object, name: str = "", folder: str = "") -> Options:
    """Make a plugin's options from its section. Raises `ConfigError`: ``fec_rs.parity: ... (got 300)``.

    `name` is that of the section, where it is not the plugin's; `folder` is where relative names of files begin.
    """
    name = name or plugin.entry.name
    if not isinstance(section, Mapping):
        raise ConfigError(f"{name}: should hold the plugin's options (got {shown(section)})")
    verdict = guard(plugin.entry, "its options model raises", lambda: _validate(plugin.options, dict(section), folder))
    if isinstance(verdict, ValidationError):
        raise ConfigError("; ".join(f"{name}.{place}: {text}" for place, text in complaints(verdict)))
    return verdict


def _validate(model: type[Options], section: dict[str, object], folder: str) -> Options | ValidationError:
    try:
        return model.model_validate(section, context={FOLDER: folder})
    except ValidationError as error:
        return error


def complaints(error: ValidationError) -> list[tuple[str, str]]:
    """Return (place, text) of each error; the text ends in what was given: ``(got "x")``."""
    return [_complaint(details) for details in causes(error)]


def causes(error: ValidationError) -> list[ErrorDetails]:
    """Return the errors without those of defaults that could not be made because another field is wrong."""
    return [details for details in error.errors(include_url=False) if details["type"] != "default_factory_not_called"]


def _complaint(details: ErrorDetails) -> tuple[str, str]:
    place = ".".join(str(step) for step in details["loc"])
    text = details["msg"]
    match details["type"]:
        case "extra_forbidden":
            text = "no such option"
        case "missing":
            return place, "is required"
        case "value_error":
            text = text.removeprefix("Value error, ")
        case "assertion_error":
            text = text.removeprefix("Assertion failed, ")
    return place, f"{printable(text)} (got {shown(details['input'])})"


def shown(value: Any) -> str:
    """Return a value as it would stand in a JSON file, cut to what fits a line."""
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    return printable(text, _SHOWN_VALUE)
