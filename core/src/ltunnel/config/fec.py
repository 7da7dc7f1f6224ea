"""From what operators write about forward error correction to the code and what is sent."""

from __future__ import annotations

from functools import partial

from ltunnel.config.fields import NONE
from ltunnel.config.model import Config
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.settings import FecMode, FecSettings
from ltunnel.errors import ConfigError
from ltunnel.plugin import FecCode, FecDescriptor
from ltunnel.registry import Entries, Part, Stack

USUAL = "fec_rs"
"""What is used where it is installed, if the configuration names none."""


def fec_plugin(config: Config, entries: Entries) -> str | None:
    """Return the name of the plugin that a configuration selects, None for none."""
    if config.fec:
        return None if config.fec == NONE else config.fec
    return USUAL if entries.named(USUAL) and USUAL not in config.disable_plugins else None


def fec_codes(part: Part[FecDescriptor]) -> Codes:
    """Return the codes of a plugin."""
    descriptor = part.descriptor
    return Codes(
        part.name, partial(_create, part), wire_name=descriptor.wire_name, max_shards=descriptor.max_shards,
        residual=descriptor.residual,
    )  # fmt: skip


def _create(part: Part[FecDescriptor], k: int, m: int) -> FecCode:
    return part.descriptor.create(part.options, k, m)


def fec_settings(config: Config, stack: Stack) -> tuple[Codes, FecSettings] | None:
    """Return the codes and what is sent with them, None without a plugin. Raises `ConfigError` as `fec_values` does."""
    if stack.fec is None:
        return None
    codes = fec_codes(stack.fec)
    return codes, fec_values(config, codes)


def fec_values(config: Config, codes: Codes) -> FecSettings:
    """Return what is sent.

    Raises `ConfigError` when the plugin has no code for what is written. ``-fec-data 10 -fec-parity 3`` means just
    that: a group size that is written is kept, unless the mode says otherwise. Where nothing is written losses decide.
    """
    written = {"fec_data", "fec_parity"} & config.model_fields_set
    if config.fec_parity == 0:
        mode = FecMode.OFF
    elif config.fec_mode is not None:
        mode = FecMode(config.fec_mode)
    else:
        mode = FecMode.FIXED if written else FecMode.AUTO
    if mode in (FecMode.FIXED, FecMode.SPREAD) and codes.get(config.fec_data, config.fec_parity) is None:
        text = f"fec_parity: {codes.name} has no code with {config.fec_data} + {config.fec_parity} shards"
        raise ConfigError(f"{config.source}: {text}" if config.source else text)
    return FecSettings(
        mode=mode,
        data=config.fec_data,
        parity=config.fec_parity,
        deadline=config.fec_deadline / 1000,
        target=config.fec_target,
        overhead=config.fec_overhead,
    )
