"""The documents' TLS fields, as what the TLS transport is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from ltunnel.config import load

CLIENT = {"mode": "client", "remote_addr": "hub.example:443", "tunnel_addr": "10.0.0.2/24"}


def meant(tmp_path: Path, fields: dict[str, Any]) -> tuple[tuple[str, ...], Any]:
    """The transports of a configuration, and the options of the TLS transport."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(fields))
    file.chmod(0o600)
    config = load(file, {}, {})
    return config.transport, config.plugin_options.get("transport_tls")


@pytest.mark.parametrize(
    ("fields", "transport", "options"),
    [
        ({"tls_enabled": True, "tls_cert_file": "a.crt", "tls_key_file": "a.key"}, ("transport_tls",),
         {"cert": "a.crt", "key": "a.key"}),
        ({**CLIENT, "tls_enabled": True}, ("transport_tls",), None),
        ({**CLIENT, "tls_enabled": True, "tls_skip_verify": True}, ("transport_tls",), {"skip_verify": True}),
        ({**CLIENT, "tls_enabled": True, "transport": ["transport_udp"]}, ("transport_udp", "transport_tls"), None),
        ({**CLIENT, "tls_enabled": True, "transport": ["transport_tls", "transport_udp"]},
         ("transport_tls", "transport_udp"), None),
        ({**CLIENT, "tls_enabled": True, "tls_skip_verify": True, "transport_tls": {"skip_verify": False, "port": 443}},
         ("transport_tls",), {"skip_verify": False, "port": 443}),
        ({**CLIENT, "tls_skip_verify": True, "transport": ["transport_udp"]}, ("transport_udp",), None),
    ],
)  # fmt: skip
def test_fields_become_transport_and_options(tmp_path, fields, transport, options):
    assert meant(tmp_path, fields) == (transport, options)
