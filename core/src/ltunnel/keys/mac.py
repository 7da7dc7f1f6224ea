"""MAC1, MAC2 and the sealed replies COOKIE and TIME.

MAC1 shows that a sender holds the network's key and costs a microsecond to check, so that strangers get no answer and
no work. MAC2 shows that it can be reached under its address: it is made with a cookie that a loaded hub sends there.
The construction is WireGuard's (Donenfeld, NDSS 2017, sections 5.3 and 5.4.7), with the chosen cipher for the sealing:
a key of its own for every 16-byte salt, so the constant nonce is used once per key.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import blake2s

from ltunnel.keys.noise import NewAead, nonce

MAC_SIZE = 16
SALT_SIZE = 16
SEALED_SIZE = 16
"""Bytes inside COOKIE and TIME."""
COOKIE_LIFETIME = 120.0

_NONCE = nonce(0)


def mac1(key: bytes, data: bytes) -> bytes:
    """Return the 16-byte MAC of a message up to where the MAC stands; `mac2` is the same with a cookie as the key."""
    return blake2s(data, digest_size=MAC_SIZE, key=key).digest()


mac2 = mac1


def verify(key: bytes, data: bytes, mac: bytes) -> bool:
    """Whether `mac` is MAC1 (or MAC2) of `data`, in constant time."""
    return hmac.compare_digest(blake2s(data, digest_size=MAC_SIZE, key=key).digest(), mac)


def _seal(key: bytes, purpose: bytes, salt: bytes, value: bytes, mac: bytes, new_aead: NewAead) -> bytes:
    if len(salt) != SALT_SIZE or len(value) != SEALED_SIZE:
        raise ValueError(f"salt and value have {SALT_SIZE} bytes each")
    return new_aead(blake2s(salt, key=key, person=purpose).digest()).seal_message(_NONCE, value, mac)


def _open(key: bytes, purpose: bytes, salt: bytes, sealed: bytes, mac: bytes, new_aead: NewAead) -> bytes | None:
    return new_aead(blake2s(salt, key=key, person=purpose).digest()).open_message(_NONCE, sealed, mac)


def seal_cookie(key: bytes, salt: bytes, cookie: bytes, mac: bytes, new_aead: NewAead) -> bytes:
    """Seal a cookie (16 bytes) for a COOKIE reply: 32 bytes.

    `key` is `NetworkKeys.cookie`, `salt` 16 fresh random bytes, `mac` the MAC1 of the message that is answered.
    """
    return _seal(key, b"cookie", salt, cookie, mac, new_aead)


def open_cookie(key: bytes, salt: bytes, sealed: bytes, mac: bytes, new_aead: NewAead) -> bytes | None:
    """Open what `seal_cookie` made; None if it does not authenticate."""
    return _open(key, b"cookie", salt, sealed, mac, new_aead)


def seal_time(key: bytes, salt: bytes, time_ns: int, mac: bytes, new_aead: NewAead) -> bytes:
    """Seal the hub's wall clock (nanoseconds since 1970) for a TIME reply: 32 bytes. `key` is `NetworkKeys.time`."""
    return _seal(key, b"time", salt, time_ns.to_bytes(8, "big") + bytes(8), mac, new_aead)


def open_time(key: bytes, salt: bytes, sealed: bytes, mac: bytes, new_aead: NewAead) -> int | None:
    """Open what `seal_time` made: nanoseconds since 1970; None if it does not authenticate."""
    value = _open(key, b"time", salt, sealed, mac, new_aead)
    if value is None or len(value) != SEALED_SIZE or any(value[8:]):
        return None
    return int.from_bytes(value[:8], "big")


class CookieSecrets:
    """Makes and checks cookies without remembering anybody: a cookie is a MAC of the source under a changing secret.

    The secret changes every 120 s; cookies made with the one before are accepted, so a cookie lives 120 to 240 s.
    """

    __slots__ = ("_born", "_current", "_previous", "_random")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._current = random(32)
        self._previous = random(32)
        self._born: float | None = None  # when the current secret was first used

    def _rotate(self, now: float) -> None:
        if self._born is None:
            self._born = now
        age = now - self._born
        if age < COOKIE_LIFETIME:
            return
        self._previous = self._current if age < 2 * COOKIE_LIFETIME else self._random(32)
        self._current = self._random(32)
        self._born = now

    def cookie(self, source: str, now: float) -> bytes:
        """Return the cookie (16 bytes) for a source, as named by its transport with address and port."""
        self._rotate(now)
        return mac1(self._current, source.encode())

    def verify(self, source: str, data: bytes, mac: bytes, now: float) -> bool:
        """Whether `mac` is MAC2 of `data` under a cookie that `source` was given."""
        self._rotate(now)
        name = source.encode()
        return verify(mac1(self._current, name), data, mac) or verify(mac1(self._previous, name), data, mac)
