"""From what an operator gives with ``-k`` to the keys of a network.

A key made by ``ltunnel genkey`` (or any 32 bytes in base64 or hex) is used as it is; a passphrase is stretched with
scrypt (RFC 7914, N=2^17, r=8, p=1: about 0.3 s and 128 MiB), salted by the network's name. HKDF-SHA256 (RFC 5869) then
makes one key for each purpose, so that no two uses share one.
"""

from __future__ import annotations

import base64
import math
import re
import unicodedata
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ltunnel.errors import ConfigError

KEY_SIZE = 32

_PREFIX = "ltk1_"
_CHECKSUM = 4
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # no I, L, O, U: nothing that is misread or misheard
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43}=")

_SHORT = 20  # characters; from here on even plain words are worth some 40 bits
_WORD_BITS = 2.0  # bits in a character of ordinary words (NIST SP 800-63, 2004, appendix A)
_GUESSES = 10_000  # scrypt guesses a second: what about a dozen graphics cards do
_DISTINCT = 16  # 32 random bytes have fewer different values once in 10^9


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkKeys:
    """The keys of a network, 32 bytes each."""

    psk: bytes = field(repr=False)
    """Goes into the handshake; all zeros without a key."""
    mac1: bytes = field(repr=False)
    cookie: bytes = field(repr=False)
    time: bytes = field(repr=False)
    check: str
    """Four characters for two people to compare. They tell a reader of the log 20 bits, no help against a real key."""
    weakness: str | None
    """What is wrong with the key, in words for its owner; None if nothing is."""
    keyed: bool
    """False if no key was given: anybody can join and read."""


def format_key(raw: bytes) -> str:
    """Return genkey's form of 32 random bytes: a prefix, then the key and 4 bytes of checksum in URL-safe base64."""
    if len(raw) != KEY_SIZE:
        raise ValueError(f"a key has {KEY_SIZE} bytes, not {len(raw)}")
    return _PREFIX + base64.urlsafe_b64encode(raw + _checksum(raw)).decode()


def derive_keys(secret: str | None, network: str) -> NetworkKeys:
    """Make the keys of a network from a key, a passphrase, or None for no key.

    ConfigError if the secret is empty or a damaged genkey key; the text does not repeat it.
    """
    salt = sha256(b"ltunnel network\0" + network.encode()).digest()
    weakness = None
    if secret is None:
        material = b""
    elif not secret.strip():
        raise ConfigError("key: empty; make one with `ltunnel genkey`, or leave it out to run without encryption")
    else:
        raw = _read_key(secret.strip())
        if raw is None:
            weakness = _passphrase_weakness(secret)
            passphrase = unicodedata.normalize("NFC", secret).encode()  # as RFC 8265 has it for passwords
            raw = Scrypt(salt=salt, length=KEY_SIZE, n=2**17, r=8, p=1).derive(passphrase)
        elif len(set(raw)) < _DISTINCT:
            weakness = "the key repeats a few bytes over and over, so it can be guessed; make one with `ltunnel genkey`"
        material = raw
    return NetworkKeys(
        psk=_derive(material, salt, b"psk") if secret is not None else bytes(KEY_SIZE),
        mac1=_derive(material, salt, b"mac1"),
        cookie=_derive(material, salt, b"cookie"),
        time=_derive(material, salt, b"time"),
        check=_key_check(_derive(material, salt, b"key check")),
        weakness=weakness,
        keyed=secret is not None,
    )


def _derive(material: bytes, salt: bytes, label: bytes) -> bytes:
    return HKDF(SHA256(), length=KEY_SIZE, salt=salt, info=b"ltunnel " + label).derive(material)


def _key_check(digest: bytes) -> str:
    bits = int.from_bytes(digest[:3], "big")
    return "".join(_CROCKFORD[bits >> shift & 31] for shift in (19, 14, 9, 4))


def _checksum(raw: bytes) -> bytes:
    return sha256(b"ltunnel key\0" + raw).digest()[:_CHECKSUM]


def _read_key(text: str) -> bytes | None:
    """Return the 32 bytes that a text spells, or None if it is a passphrase."""
    if text.startswith(_PREFIX):
        try:
            data = base64.b64decode(text[len(_PREFIX) :], altchars=b"-_", validate=True)
        except ValueError:  # wrong alphabet, wrong length, not ASCII
            data = b""
        raw = data[:KEY_SIZE]
        if len(data) != KEY_SIZE + _CHECKSUM or data[KEY_SIZE:] != _checksum(raw):
            raise ConfigError(
                f"key: begins like one of `ltunnel genkey` ({_PREFIX}) but is damaged; copy it again, whole"
            )
        return raw
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if _BASE64.fullmatch(text):
        raw = base64.b64decode(text.translate(str.maketrans("-_", "+/")))
        if base64.b64encode(raw).decode() == text.translate(str.maketrans("-_", "+/")):
            return raw
    return None


def _passphrase_weakness(passphrase: str) -> str | None:
    """Say what a short passphrase is worth: the time to guess it from one recorded handshake, at best and at worst."""
    length = min(len(passphrase), 2 * len(set(passphrase)))
    if length >= _SHORT:
        return None
    alphabet = sum(
        size
        for size, pattern in (
            (26, r"[a-z]"),
            (26, r"[A-Z]"),
            (10, r"[0-9]"),
            (33, r"[ -/:-@[-`{-~]"),
            (1000, r"[^ -~]"),
        )
        if re.search(pattern, passphrase)
    )
    words = length * _WORD_BITS
    random = length * math.log2(alphabet)
    return (
        f"the passphrase is short: one recorded handshake and {_GUESSES:,} guesses a second give it away in "
        f"{_duration(words)} if it is made of words (about {words:.0f} bits), in {_duration(random)} if every "
        f"character is random ({random:.0f} bits); `ltunnel genkey` makes a key that cannot be guessed"
    )


def _duration(bits: float) -> str:
    """Return in words how long half of 2^bits guesses take."""
    seconds = 2 ** (bits - 1) / _GUESSES
    for unit, size in (("years", 31_557_600), ("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            count = seconds / size
            return f"{count:.0f} {unit}" if count < 10_000 else "thousands of years"
    return "a minute" if seconds > 10 else "seconds"
