"""What of a configuration that was read again takes effect at once, and what waits for the next start."""

from __future__ import annotations

from ltunnel.config.model import INTERNAL, Config

LIVE = frozenset({"fec_mode", "fec_data", "fec_parity", "fec_deadline", "fec_target", "fec_overhead"})
"""Fields that a running ltunnel can change."""


def waiting(old: Config, new: Config) -> list[str]:
    """Name the fields and sections that differ and need a new start."""
    fields = [name for name in Config.model_fields if name not in INTERNAL | LIVE]
    before, after = old.plugin_options, new.plugin_options
    return [name for name in fields if getattr(old, name) != getattr(new, name)] + [
        name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)
    ]
