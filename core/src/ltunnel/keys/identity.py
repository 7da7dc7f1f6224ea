"""X25519 key pairs (RFC 7748): the static one that a node is known by, and the ephemeral ones of handshakes."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

KEY_SIZE = 32

_P = 2**255 - 19
_LOW_ORDER = frozenset(
    number.to_bytes(KEY_SIZE, "little")
    for number in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _P - 1,
        _P,
        _P + 1,
    )
)
"""Every encoding of a point of order 1, 2, 4 or 8 on the curve or its twist, the unused top bit cleared."""


def low_order(public: bytes) -> bool:
    """Whether a public key makes every shared secret all zeros (RFC 7748 section 6.1)."""
    return public[:-1] + bytes((public[-1] & 0x7F,)) in _LOW_ORDER


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair of 32 bytes each. Make it with `from_private`."""

    private: bytes = field(repr=False)
    public: bytes
    _key: X25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def from_private(cls, private: bytes) -> Identity:
        """Make the pair for 32 random bytes (clamped as RFC 7748 says when used). ValueError for another length."""
        if len(private) != KEY_SIZE:
            raise ValueError(f"a private key has {KEY_SIZE} bytes, not {len(private)}")
        key = X25519PrivateKey.from_private_bytes(private)
        return cls(bytes(private), key.public_key().public_bytes_raw(), key)

    def shared(self, public: bytes) -> bytes:
        """Return the shared secret with a public key (32 bytes each). ValueError if it is all zeros."""
        return self._key.exchange(X25519PublicKey.from_public_bytes(public))
