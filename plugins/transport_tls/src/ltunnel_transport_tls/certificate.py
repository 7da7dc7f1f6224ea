"""Self-signed certificates, and the fingerprints by which clients know one."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PIN = "sha256:"
_CLOCKS_DIFFER = timedelta(days=1)
_COMMON_NAME_LIMIT = 64  # RFC 5280, ub-common-name


class Pair(NamedTuple):
    """A certificate and its private key, both PEM, and what clients write in their config to know it by."""

    certificate: bytes
    key: bytes
    pin: str


def make_pair(names: Sequence[str], *, now: datetime, days: int) -> Pair:
    """Make a key (ECDSA P-256) and a certificate for these host names and addresses, valid for so many days.

    Raises ValueError for a name that a certificate cannot have.
    """
    if not names:
        raise ValueError("a certificate needs a name")
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:_COMMON_NAME_LIMIT])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        PIN + key_fingerprint(certificate).hex(),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    if not name or not name.isascii() or not name.isprintable() or set(name) & set(" :/@,"):
        raise ValueError(f"{name!r} is neither a host name nor an address")
    return x509.DNSName(name)


def key_fingerprint(certificate: x509.Certificate) -> bytes:
    """Return the SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER); a renewal may keep it."""
    return hashlib.sha256(
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).digest()


def fingerprints(der: bytes) -> set[bytes]:
    """Return all by which a certificate may be pinned: SHA-256 of the whole and, if it can be read, of its key."""
    found = {hashlib.sha256(der).digest()}
    with contextlib.suppress(ValueError, UnsupportedAlgorithm):
        found.add(key_fingerprint(x509.load_der_x509_certificate(der)))
    return found


def read_pin(text: str) -> bytes:
    """Read ``sha256:`` and 64 hex digits, with or without the colons that openssl prints. Raises ValueError."""
    digits = text.lower().removeprefix(PIN).replace(":", "")
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size or len(digits) != 2 * len(digest):
        raise ValueError("should be sha256: and 64 hex digits")
    return digest
