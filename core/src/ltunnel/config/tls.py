"""The documents' TLS fields (``-tls``, ``-tls-cert``, ...), said as a choice of transport and its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltunnel.config.model import Config

TRANSPORT = "transport_tls"
_FILES = ("tls_cert_file", "tls_key_file")


def absolute(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return files that flags name as absolute names: they count from the working directory, not from the file's."""
    return {field: str(Path(flags[field]).absolute()) for field in _FILES if flags.get(field)}


def transports(config: Config) -> tuple[str, ...]:
    """Return the transports that a configuration means: `tls_enabled` asks for TLS, alone or after those written."""
    if not config.tls_enabled or TRANSPORT in config.transport:
        return config.transport
    written = config.transport if "transport" in config.model_fields_set else ()
    return (*written, TRANSPORT)


def sections(config: Config, written: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the plugins' sections with the documents' TLS fields in the transport's; what the section says wins."""
    if not config.tls_enabled:
        return dict(written)
    if config.is_hub:
        fields: dict[str, Any] = {"cert": config.tls_cert_file, "key": config.tls_key_file}
    else:
        fields = {"skip_verify": config.tls_skip_verify}
    given = {name: value for name, value in fields.items() if value}
    section = {**given, **written.get(TRANSPORT, {})}
    return {**written, TRANSPORT: section} if section else dict(written)
