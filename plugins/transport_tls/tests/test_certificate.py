"""Self-signed pairs, fingerprints, and the command that makes them."""

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ltunnel_transport_tls.certificate import fingerprints, make_pair, read_pin
from ltunnel_transport_tls.command import main

NOW = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_a_pair_is_what_it_says():
    pair = make_pair(["hub.example", "192.0.2.1", "2001:db8::1"], now=NOW, days=10)
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hub.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1", "2001:db8::1"]
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc == NOW + timedelta(days=10)
    certificate.verify_directly_issued_by(certificate)
    key = serialization.load_pem_private_key(pair.key, None)
    assert key.public_key() == certificate.public_key()


def test_pins_are_of_the_key_or_of_the_whole():
    pair = make_pair(["hub.example"], now=NOW, days=10)
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert read_pin(pair.pin) in fingerprints(der)
    assert hashlib.sha256(der).digest() in fingerprints(der)
    assert len(fingerprints(der)) == 2
    assert make_pair(["hub.example"], now=NOW, days=10).pin != pair.pin


def test_fingerprints_of_nonsense():
    for der in (b"", b"\x30\x82", b"x" * 500):
        assert fingerprints(der) == {hashlib.sha256(der).digest()}


@pytest.mark.parametrize("text", ["ab" * 32, "sha256:" + "AB" * 32, ":".join(["ab"] * 32), "SHA256:" + "ab" * 32])
def test_pins_as_people_write_them(text):
    assert read_pin(text) == b"\xab" * 32


@pytest.mark.parametrize("text", ["", "sha256:", "ab" * 31, "ab" * 33, "zz" * 32, "sha1:" + "ab" * 32, "ab " * 32])
def test_what_is_no_pin(text):
    with pytest.raises(ValueError, match="64 hex digits"):
        read_pin(text)


@pytest.mark.parametrize("name", ["", "two words", "a:b", "ä.example", "a/b", "me@example", "a,b"])
def test_names_that_a_certificate_cannot_have(name):
    with pytest.raises(ValueError, match="neither"):
        make_pair([name], now=NOW, days=1)
    with pytest.raises(ValueError, match="needs a name"):
        make_pair([], now=NOW, days=1)


def test_a_long_name_is_cut_only_where_it_must(tmp_path):
    name = "a" * 60 + ".example"
    certificate = x509.load_pem_x509_certificate(make_pair([name], now=NOW, days=1).certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]


def test_the_command_writes_a_pair_and_prints_the_pin(tmp_path, capsys):
    folder = tmp_path / "new" / "folder"
    assert main(["--name", "hub.example", "--name", "192.0.2.1", "--out", str(folder), "--days", "7"]) == 0
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {
        "cert.pem": "0o644",
        "key.pem": "0o600",
    }
    certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    pin = next(word for word in capsys.readouterr().out.replace('"', " ").split() if word.startswith("sha256:"))
    assert read_pin(pin) in fingerprints(certificate.public_bytes(serialization.Encoding.DER))


def test_the_command_replaces_nothing_unasked(tmp_path, capsys):
    words = ["--name", "hub.example", "--out", str(tmp_path)]
    assert main(words) == 0
    before = (tmp_path / "key.pem").read_bytes()
    assert main(words) == 2
    assert (tmp_path / "key.pem").read_bytes() == before
    assert capsys.readouterr().err == f"ltunnel-tls-cert: {tmp_path}/cert.pem is there already; --force replaces it\n"
    (tmp_path / "key.pem").chmod(0o644)
    assert main([*words, "--force"]) == 0
    assert (tmp_path / "key.pem").read_bytes() != before
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_mistakes_are_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    for words, said in (
        (["--out", str(tmp_path)], "--name"),
        (["--name", "a b", "--out", str(tmp_path)], "'a b' is neither a host name nor an address"),
        (["--name", "a", "--out", str(tmp_path / "file")], "file"),
        (["--name", "a", "--out", "/proc/nowhere"], "/proc/nowhere"),
        (["--name", "a", "--out", str(tmp_path), "--days", "0"], "--days"),
    ):
        assert main(words) == 2
        text = capsys.readouterr().err
        assert said in text
        assert text.count("\n") == 1
    assert not (tmp_path / "key.pem").exists()


def test_the_console_script_is_there():
    script = Path(sys.executable).parent / "ltunnel-tls-cert"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=30, check=True)
    assert "--name" in done.stdout
