"""The Noise protocol framework (noiseprotocol.org, revision 34) for 25519 and SHA256, over a cipher from a plugin.

`CipherState`, `SymmetricState` and `HandshakeState` are the three objects of its section 5. What an attacker can send
is answered with None and leaves the state as it was, so that a forged answer cannot end a handshake that a true one
would complete; what only a programmer can do wrong raises `ValueError`.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from hashlib import sha256

from ltunnel.constants import TAG
from ltunnel.keys.identity import KEY_SIZE, Identity, low_order
from ltunnel.keys.patterns import find_pattern
from ltunnel.plugin import Aead

HASH_SIZE = 32
NewAead = Callable[[bytes], Aead]


def protocol_name(cipher: str) -> str:
    """Return the Noise protocol that ltunnel speaks with a cipher of this wire name."""
    return f"Noise_XXpsk0_25519_{cipher}_SHA256"


def hkdf(chaining_key: bytes, material: bytes, outputs: int) -> tuple[bytes, ...]:
    """Noise's HKDF (section 4.3): `outputs` strings of 32 bytes. It is RFC 5869 with an empty info."""
    secret = hmac.digest(chaining_key, material, "sha256")
    result: list[bytes] = []
    last = b""
    for number in range(1, outputs + 1):
        last = hmac.digest(secret, last + bytes((number,)), "sha256")
        result.append(last)
    return tuple(result)


def nonce(counter: int) -> bytes:
    """Return AESGCM's 12-byte nonce: 4 zero bytes and the counter, big-endian (section 12.4)."""
    return counter.to_bytes(12, "big")


class CipherState:
    """A key and its counter (section 5.1). Without a key, text passes as it is."""

    __slots__ = ("_aead", "_new_aead", "counter", "key")

    def __init__(self, new_aead: NewAead, key: bytes | None = None) -> None:
        self._new_aead = new_aead
        self.set_key(key)

    def set_key(self, key: bytes | None, counter: int = 0) -> None:
        """Start over with another key (32 bytes, or None)."""
        self.key = key
        self.counter = counter
        self._aead: Aead | None = None  # made when first used: most keys of a handshake never are

    def _next(self) -> tuple[Aead, bytes]:
        if self.counter >= 2**64 - 1:
            raise ValueError("a Noise key is used up")
        if self._aead is None:
            assert self.key is not None  # noqa: S101 (for the type checker; both callers look)
            self._aead = self._new_aead(self.key)
        return self._aead, nonce(self.counter)

    def encrypt(self, associated: bytes, plain: bytes) -> bytes:
        """Seal text (n bytes -> n + 16, or n without a key)."""
        if self.key is None:
            return plain
        aead, number = self._next()
        self.counter += 1
        return aead.seal_message(number, plain, associated)

    def decrypt(self, associated: bytes, sealed: bytes) -> bytes | None:
        """Open text; None and an unmoved counter if it does not authenticate."""
        if self.key is None:
            return sealed
        if len(sealed) < TAG:
            return None
        aead, number = self._next()
        plain = aead.open_message(number, sealed, associated)
        if plain is not None:
            self.counter += 1
        return plain


class SymmetricState:
    """Chaining key, transcript hash and cipher (section 5.2)."""

    __slots__ = ("chaining_key", "cipher", "hash")

    def __init__(self, protocol: str, new_aead: NewAead) -> None:
        name = protocol.encode()
        self.hash = name.ljust(HASH_SIZE, b"\0") if len(name) <= HASH_SIZE else sha256(name).digest()
        self.chaining_key = self.hash
        self.cipher = CipherState(new_aead)

    def mix_key(self, material: bytes) -> None:
        """Take in a shared secret."""
        self.chaining_key, key = hkdf(self.chaining_key, material, 2)
        self.cipher.set_key(key)

    def mix_hash(self, data: bytes) -> None:
        """Take in what both sides have seen."""
        self.hash = sha256(self.hash + data).digest()

    def mix_key_and_hash(self, material: bytes) -> None:
        """Take in a pre-shared key."""
        self.chaining_key, seen, key = hkdf(self.chaining_key, material, 3)
        self.mix_hash(seen)
        self.cipher.set_key(key)

    def encrypt_and_hash(self, plain: bytes) -> bytes:
        """Seal text bound to the transcript, and add it to the transcript."""
        sealed = self.cipher.encrypt(self.hash, plain)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes | None:
        """Open text bound to the transcript, and add it to the transcript; None if it does not authenticate."""
        plain = self.cipher.decrypt(self.hash, sealed)
        if plain is not None:
            self.mix_hash(sealed)
        return plain

    def split(self) -> tuple[bytes, bytes]:
        """Return the keys for initiator to responder and for responder to initiator."""
        first, second = hkdf(self.chaining_key, b"", 2)
        return first, second


class HandshakeState:
    """One side of a handshake (section 5.3).

    `protocol` is the whole name (``Noise_XXpsk0_25519_AESGCM_SHA256``), `psks` has 32 bytes for each psk modifier,
    `ephemeral` is a private key of 32 bytes or a random source that makes one, `remote_static` the far public key where
    the pattern wants it known. ValueError for what does not fit together.
    """

    __slots__ = ("_ephemeral", "_initiator", "_messages", "_position", "_psks", "_random", "_remote_ephemeral",
                 "_static", "_symmetric", "_uses_psk", "remote_static")  # fmt: skip

    def __init__(
        self,
        protocol: str,
        *,
        initiator: bool,
        prologue: bytes,
        new_aead: NewAead,
        ephemeral: bytes | Callable[[int], bytes],
        static: Identity | None = None,
        psks: Sequence[bytes] = (),
        remote_static: bytes | None = None,
    ) -> None:
        noise, name, curve, _cipher, digest = protocol.split("_")
        if (noise, curve, digest) != ("Noise", "25519", "SHA256"):
            raise ValueError(f"not a Noise protocol for 25519 and SHA256: {protocol!r}")
        pattern = find_pattern(name)
        wanted = sum(message.count("psk") for message in pattern.messages)
        if len(psks) != wanted or any(len(psk) != KEY_SIZE for psk in psks):
            raise ValueError(f"{protocol} takes {wanted} pre-shared keys of {KEY_SIZE} bytes")
        self._messages = pattern.messages
        self._position = 0
        self._initiator = initiator
        self._psks = tuple(psks)  # those not yet used
        self._uses_psk = wanted > 0
        self._static = static
        self._random = (lambda _size: ephemeral) if isinstance(ephemeral, bytes) else ephemeral
        self._ephemeral: Identity | None = None
        self._remote_ephemeral: bytes | None = None
        self.remote_static = remote_static
        """The far static public key, once known."""
        self._symmetric = SymmetricState(protocol, new_aead)
        self._symmetric.mix_hash(prologue)
        for known, whose in ((pattern.initiator_known, initiator), (pattern.responder_known, not initiator)):
            if known:
                self._symmetric.mix_hash(self._own_static().public if whose else self._far_static())

    @property
    def hash(self) -> bytes:
        """The transcript's hash (32 bytes): equal on both sides once finished, and unique to this handshake."""
        return self._symmetric.hash

    @property
    def finished(self) -> bool:
        """Whether all messages have passed, so that `split` may be called."""
        return self._position == len(self._messages)

    @property
    def to_write(self) -> bool:
        """Whether the next message is this side's."""
        return not self.finished and (self._position % 2 == 0) == self._initiator

    def write_message(self, payload: bytes) -> bytes:
        """Make the next message: keys as the pattern says, then the payload, sealed as soon as there is a key."""
        if not self.to_write:
            raise ValueError("it is not this side's turn to write")
        symmetric = self._symmetric
        parts = []
        for token in self._messages[self._position]:
            if token == "e":  # noqa: S105 (a token of the pattern)
                self._ephemeral = Identity.from_private(self._random(KEY_SIZE))
                parts.append(self._ephemeral.public)
                symmetric.mix_hash(self._ephemeral.public)
                if self._uses_psk:
                    symmetric.mix_key(self._ephemeral.public)
            elif token == "s":  # noqa: S105
                parts.append(symmetric.encrypt_and_hash(self._own_static().public))
            else:
                self._mix(token)
        parts.append(symmetric.encrypt_and_hash(payload))
        self._position += 1
        return b"".join(parts)

    def read_message(self, data: bytes) -> bytes | None:
        """Take the far side's message and return its payload; None, with nothing changed, if it is not authentic."""
        if self.finished or self.to_write:
            raise ValueError("it is not the far side's turn to write")
        symmetric = self._symmetric
        before = (
            symmetric.chaining_key, symmetric.hash, symmetric.cipher.key, symmetric.cipher.counter,
            self.remote_static, self._psks,
        )  # fmt: skip
        payload = self._read(data)
        if payload is None:
            (
                symmetric.chaining_key, symmetric.hash, key, counter,
                self.remote_static, self._psks,
            ) = before  # fmt: skip
            symmetric.cipher.set_key(key, counter)
            return None
        self._position += 1
        return payload

    def split(self) -> tuple[bytes, bytes]:
        """Return the session's keys: (initiator to responder, responder to initiator), 32 bytes each."""
        if not self.finished:
            raise ValueError("the handshake is not finished")
        return self._symmetric.split()

    def _read(self, data: bytes) -> bytes | None:
        symmetric = self._symmetric
        for token in self._messages[self._position]:
            if token == "e":  # noqa: S105
                public, data = data[:KEY_SIZE], data[KEY_SIZE:]
                if len(public) != KEY_SIZE or low_order(public):
                    return None
                self._remote_ephemeral = public
                symmetric.mix_hash(public)
                if self._uses_psk:
                    symmetric.mix_key(public)
            elif token == "s":  # noqa: S105
                size = KEY_SIZE + TAG if symmetric.cipher.key is not None else KEY_SIZE
                opened = symmetric.decrypt_and_hash(data[:size])
                if opened is None or len(opened) != KEY_SIZE or low_order(opened):
                    return None
                self.remote_static = opened
                data = data[size:]
            else:
                self._mix(token)
        return symmetric.decrypt_and_hash(data)

    def _mix(self, token: str) -> None:
        """Mix in a psk or a shared secret; in ee, es, se, ss the initiator's key is named first."""
        if token == "psk":  # noqa: S105
            self._symmetric.mix_key_and_hash(self._psks[0])
            self._psks = self._psks[1:]
            return
        mine, far = (token[0], token[1]) if self._initiator else (token[1], token[0])
        own = self._own_ephemeral() if mine == "e" else self._own_static()
        self._symmetric.mix_key(own.shared(self._far_ephemeral() if far == "e" else self._far_static()))

    def _own_static(self) -> Identity:
        if self._static is None:
            raise ValueError("this pattern needs a static key")
        return self._static

    def _own_ephemeral(self) -> Identity:
        if self._ephemeral is None:
            raise ValueError("no ephemeral key was made yet")
        return self._ephemeral

    def _far_static(self) -> bytes:
        if self.remote_static is None:
            raise ValueError("this pattern needs the far static key")
        return self.remote_static

    def _far_ephemeral(self) -> bytes:
        if self._remote_ephemeral is None:
            raise ValueError("no ephemeral key was received yet")
        return self._remote_ephemeral
