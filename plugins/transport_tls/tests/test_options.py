"""What an operator may write, and what he hears when it cannot be used."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from pydantic import ValidationError

from ltunnel.errors import ConfigError
from ltunnel.plugin import PortKind, TransportContext
from ltunnel_transport_tls import ltunnel_transport
from ltunnel_transport_tls.certificate import make_pair
from ltunnel_transport_tls.options import TlsOptions, client_context, server_context

HUB = TransportContext(listen=("0.0.0.0", 9000), remote=None)
NODE = TransportContext(listen=None, remote=("192.0.2.1", 9000), remote_name="hub.example")
PIN = "sha256:" + "ab" * 32
DESCRIPTOR = ltunnel_transport()


def options(**fields: object) -> TlsOptions:
    return TlsOptions.model_validate(fields)


def test_defaults():
    assert options().alpn == ("http/1.1",)
    assert not options().skip_verify
    assert options(alpn=[]).alpn == ()
    assert options(alpn="h2").alpn == ("h2",)
    assert options(pin=PIN).pin == options(pin=[PIN]).pin == (PIN,)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pin": "ab"}, "64 hex digits"),
        ({"pin": PIN, "skip_verify": True}, "exclude each other"),
        ({"pin": PIN, "ca": "x"}, "leave one out"),
        ({"skip_verify": True, "ca": "x"}, "leave one out"),
        ({"alpn": [""]}, "1 to 255"),
        ({"alpn": ["x" * 256]}, "1 to 255"),
        ({"alpn": ["ä"]}, "1 to 255"),
        ({"port": 0}, "greater"),
        ({"port": 65_536}, "less"),
        ({"server_name": ""}, "at least 1"),
        ({"certificate": "x"}, "extra"),
    ],
)
def test_what_cannot_be(fields, said):
    with pytest.raises(ValidationError, match=said):
        options(**fields)


def test_ports():
    (spec,) = DESCRIPTOR.ports(options(), HUB)
    assert (spec.kind, spec.host, spec.port, spec.extra) == (PortKind.STREAM, "0.0.0.0", 9000, {"listen": True})
    (spec,) = DESCRIPTOR.ports(options(port=443), HUB)
    assert spec.port == 443
    (spec,) = DESCRIPTOR.ports(options(), TransportContext(listen=("::", 9000), remote=None))
    assert spec.dual_stack
    (spec,) = DESCRIPTOR.ports(options(port=443), NODE)
    assert (spec.host, spec.port, spec.extra) == ("0.0.0.0", 0, {"listen": False})
    (spec,) = DESCRIPTOR.ports(options(), TransportContext(listen=None, remote=("2001:db8::1", 9000)))
    assert spec.host == "::"


def test_warnings(files):
    def said(context: TransportContext, **fields: object) -> list[str]:
        return list(DESCRIPTOR.warnings(options(**fields), context))

    assert said(HUB, **files.hub) == said(NODE) == said(NODE, pin=PIN) == []
    (text,) = said(NODE, skip_verify=True)
    assert "NOT CHECKED" in text
    (text,) = said(NODE, **files.hub)
    assert "cert, key: not in effect in client mode" in text
    (text,) = said(HUB, **files.hub, skip_verify=True, server_name="x")
    assert "server_name, skip_verify: not in effect in server mode" in text


def test_a_key_that_all_can_read(tmp_path, files):
    loose = tmp_path / "key.pem"
    loose.write_bytes(Path(files.key).read_bytes())
    loose.chmod(0o644)
    (text,) = DESCRIPTOR.warnings(options(cert=files.cert, key=str(loose)), HUB)
    assert f"chmod 600 {loose}" in text


def test_files_that_cannot_be_used(tmp_path, files):
    other = make_pair(["x"], now=datetime.now(UTC), days=1)
    (tmp_path / "other.pem").write_bytes(other.key)
    (tmp_path / "empty.pem").write_bytes(b"")
    secret = serialization.load_pem_private_key(other.key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    (tmp_path / "encrypted.pem").write_bytes(secret)
    for make, fields, said in (
        (server_context, {}, r"transport_tls\.cert: is needed in server mode; `ltunnel-tls-cert` makes"),
        (server_context, {"cert": files.cert}, r"transport_tls\.key: is needed"),
        (server_context, {"cert": "/nowhere", "key": files.key}, r"\.cert: cannot read /nowhere: No such file"),
        (server_context, {"cert": files.cert, "key": "/"}, r"\.key: cannot read /: Is a directory"),
        (server_context, {"cert": files.cert, "key": str(tmp_path / "other.pem")}, "not a certificate and its key"),
        (server_context, {"cert": files.key, "key": files.key}, "not a certificate and its key"),
        (server_context, {"cert": files.cert, "key": str(tmp_path / "encrypted.pem")}, "not a certificate and its key"),
        (client_context, {"ca": "/nowhere"}, r"\.ca: cannot read /nowhere"),
        (client_context, {"ca": str(tmp_path / "empty.pem")}, "holds no certificate"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            make(options(**fields))
        assert "\n" not in str(caught.value)


def test_a_name_that_is_none(files):
    port = type("Port", (), {"room": None})()
    with pytest.raises(ConfigError, match=r"transport_tls\.server_name: '\.x' is not a host name"):
        DESCRIPTOR.create(options(server_name=".x"), [port], NODE)


def test_contexts_are_strict(files):
    server, client = server_context(options(**files.hub)), client_context(options())
    for context in (server, client):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert client.check_hostname
    assert client.verify_mode is ssl.CERT_REQUIRED
    assert server.num_tickets == 0
