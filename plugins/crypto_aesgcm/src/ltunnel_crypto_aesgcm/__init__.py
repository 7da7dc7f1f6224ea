"""AES-256-GCM (NIST SP 800-38D) for ltunnel, sealing and opening whole batches with one call per row and no copies."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import repeat

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ltunnel.plugin import Buffer, CipherDescriptor, NoOptions, Options, PluginInfo, hookimpl

_TAG = 16
_drain = deque[int](maxlen=0).extend  # runs an iterator to its end without a Python loop


class AesGcm:
    """One AES-256-GCM key (32 bytes)."""

    __slots__ = ("_cipher", "_decrypt_into", "_encrypt_into")

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._encrypt_into = self._cipher.encrypt_into
        self._decrypt_into = self._cipher.decrypt_into

    def seal(self, nonces: Sequence[Buffer], plain: Sequence[Buffer], sealed: Sequence[Buffer]) -> None:
        """Seal rows in order; see `ltunnel.plugin.Aead`."""
        _drain(map(self._encrypt_into, nonces, plain, repeat(None), sealed))

    def open(self, nonces: Sequence[Buffer], sealed: Sequence[Buffer], plain: Sequence[Buffer]) -> int:
        """Open rows in order until one fails; see `ltunnel.plugin.Aead`."""
        try:
            _drain(map(self._decrypt_into, nonces, sealed, repeat(None), plain))
        except InvalidTag:
            return self._open_singly(nonces, sealed, plain)
        return len(sealed)

    def _open_singly(self, nonces: Sequence[Buffer], sealed: Sequence[Buffer], plain: Sequence[Buffer]) -> int:
        """Find the row that fails. Work is done twice, but only for a batch that holds a forgery."""
        for opened, (nonce, source, target) in enumerate(zip(nonces, sealed, plain, strict=False)):
            try:
                self._decrypt_into(nonce, source, None, target)
            except InvalidTag:
                return opened
        return len(sealed)

    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        """Seal one short message; returns ciphertext and tag."""
        return self._cipher.encrypt(nonce, data, associated)

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        """Open one short message; None when it does not authenticate."""
        if len(data) < _TAG:
            return None
        try:
            return self._cipher.decrypt(nonce, data, associated)
        except InvalidTag:
            return None


def _create(_options: Options, key: bytes) -> AesGcm:
    return AesGcm(key)


@hookimpl
def ltunnel_plugin_info() -> PluginInfo:
    """Say who this is."""
    return PluginInfo(name="crypto_aesgcm", summary="AES-256-GCM on everything", api=(1, 0))


@hookimpl
def ltunnel_cipher() -> CipherDescriptor:
    """Provide the cipher."""
    return CipherDescriptor(options=NoOptions, wire_name="AESGCM", key_size=32, create=_create)
