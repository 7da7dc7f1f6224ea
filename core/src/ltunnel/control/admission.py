"""Who gets an answer to an INIT. Cheap checks first, so that a stranger costs about a microsecond and learns nothing.

    MAC1 ─► same cipher ─► this e is new ─► load: a cookie first ─► 20/s for an address ─► Noise ─► time ─► e is used up

Up to Noise this module decides; what stands in the sealed payload is judged by `judge_time`. Nothing is answered before
MAC1 verifies, and COOKIE and TIME (56 B) are smaller than the INIT (144 B) that asked for them.
"""

from __future__ import annotations

from ltunnel.control.flows import limit_group
from ltunnel.control.limits import Bucket, Buckets, UsedOnce
from ltunnel.control.settings import Random
from ltunnel.keys.mac import CookieSecrets, seal_cookie, seal_time, verify
from ltunnel.keys.noise import NewAead
from ltunnel.keys.psk import NetworkKeys
from ltunnel.session import Drop
from ltunnel.wire.messages import INIT_MAC1, INIT_MAC2, NO_MAC, Cookie, Init, Time, cipher_mark

MAX_SKEW = 180.0
"""An INIT's time may differ from ours by so many seconds."""
ADDRESS_RATE = 20.0
"""Handshakes a second for one address (an IPv4 address, an IPv6 /64)."""
LOAD_RATE = 200.0
"""Handshakes a second from all addresses together; beyond it every INIT needs a cookie."""
HALF_OPEN_LIMIT = 1024
HALF_OPEN_LOAD = HALF_OPEN_LIMIT // 2
"""From so many half-open handshakes on every INIT needs a cookie, too."""
ADDRESS_LIMIT = 4096
"""Addresses with a bucket."""
USED_LIMIT = 16_384
"""Ephemeral keys remembered; at LOAD_RATE that is 80 s, and `UsedOnce.floor` covers the rest."""


class Admission:
    """The gate in front of the responder. One for each node; holds no session."""

    __slots__ = ("_addresses", "_keys", "_load", "_mark", "_new_aead", "_random", "_secrets", "used")

    def __init__(self, keys: NetworkKeys, cipher: str, new_aead: NewAead, random: Random, now: float) -> None:
        self._keys = keys
        self._mark = cipher_mark(cipher)
        self._new_aead = new_aead
        self._random = random
        self._secrets = CookieSecrets(random)
        self._load = Bucket(LOAD_RATE, LOAD_RATE, now)
        self._addresses = Buckets(ADDRESS_RATE, ADDRESS_RATE, ADDRESS_LIMIT)
        self.used = UsedOnce(USED_LIMIT)
        """Ephemeral keys (their first 16 bytes) of admitted INITs."""

    def judge(self, init: Init, data: bytes, source: str, half_open: int, now: float) -> Drop | bytes | None:
        """Judge an INIT (`data` is its 144 bytes) from a flow named `source`, with `half_open` handshakes under way.

        Returns why it is dropped, or the COOKIE to send, or None: go on with Noise.
        """
        if not verify(self._keys.mac1, data[:INIT_MAC1], init.mac1):
            return Drop.MAC
        if init.cipher != self._mark:
            return Drop.STACK
        if ephemeral(init) in self.used:
            return Drop.REPLAYED
        loaded = not self._load.take(now) or half_open >= HALF_OPEN_LOAD
        proved = init.mac2 != NO_MAC and self._secrets.verify(source, data[:INIT_MAC2], init.mac2, now)
        # An address that has not proved itself has a bucket of its own: who spoofs it empties that one, and its owner
        # still gets in with a cookie.
        group = limit_group(source)
        if not proved:
            return self._cookie(init, source, now) if loaded or not self._addresses.take((group, False), now) else None
        return None if self._addresses.take((group, True), now) else Drop.LIMITED

    def judge_time(self, init: Init, sent: float, wall: float) -> bytes | None:
        """Judge the time that stood in an INIT (seconds since 1970) by our clock `wall`, and use up its ephemeral key.

        Returns the TIME to send to a node whose clock is off, or None: answer it.
        """
        self.used.expire(wall - MAX_SKEW - 1.0)
        if abs(sent - wall) > MAX_SKEW or sent <= self.used.floor:
            salt = self._random(16)
            sealed = seal_time(self._keys.time, salt, int(wall * 1e9), init.mac1, self._new_aead)
            return Time(init.sender, salt, sealed).pack()
        self.used.add(ephemeral(init), sent, wall)
        return None

    def _cookie(self, init: Init, source: str, now: float) -> bytes:
        salt = self._random(16)
        cookie = self._secrets.cookie(source, now)
        return Cookie(init.sender, salt, seal_cookie(self._keys.cookie, salt, cookie, init.mac1, self._new_aead)).pack()


def ephemeral(init: Init) -> bytes:
    """Return what an INIT's ephemeral key is remembered by: its first 16 bytes."""
    return init.noise[:16]
