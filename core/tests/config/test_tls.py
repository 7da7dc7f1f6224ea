"""The documents' TLS fields, as what the TLS transport is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from ltunnel.config import load, load_stack

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


def test_files_count_from_where_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the configuration from its folder, those of flags from the working directory."""
    folder, elsewhere = tmp_path / "etc", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    file = folder / "config.json"
    written = {"tls_enabled": True, "tls_cert_file": "tls/a.crt", "tls_key_file": "/abs/a.key", "key": "ab" * 32}
    file.write_text(json.dumps(written | {"transport_tls": {"ca": "ca.pem"}}))

    def files(overrides: dict[str, Any], path: Path | None = file) -> list[str]:
        (part,) = load_stack(load(path, overrides, {})).transports
        options = part.options.model_dump()
        return [options["cert"], options["key"], options["ca"]]

    assert files({}) == [str(folder / "tls/a.crt"), "/abs/a.key", str(folder / "ca.pem")]
    assert files({"tls_cert_file": "b.crt"}) == [str(elsewhere / "b.crt"), "/abs/a.key", str(folder / "ca.pem")]
    flags = {"tls_enabled": True, "tls_cert_file": "b.crt", "tls_key_file": "b.key", "key": "ab" * 32}
    assert files(flags, None)[:2] == [str(elsewhere / "b.crt"), str(elsewhere / "b.key")]
