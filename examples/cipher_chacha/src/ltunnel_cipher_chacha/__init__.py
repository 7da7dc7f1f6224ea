"""ChaCha20-Poly1305 (RFC 8439) for ltunnel."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import repeat

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ltunnel.plugin import Buffer, CipherDescriptor, NoOptions, Options, PluginInfo, hookimpl

_TAG = 16
_drain = deque[int](maxlen=0).extend  # runs an iterator to its end without a Python loop


class ChaCha:
    """One key of 32 bytes."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, nonces: Sequence[Buffer], plain: Sequence[Buffer], sealed: Sequence[Buffer]) -> None:
        """Seal rows in order; `map` stops at the shortest list, which is `plain`."""
        _drain(map(self._cipher.encrypt_into, nonces, plain, repeat(None), sealed))

    def open(self, nonces: Sequence[Buffer], sealed: Sequence[Buffer], plain: Sequence[Buffer]) -> int:
        """Open rows in order and return how many there were before the first that does not authenticate."""
        opened = 0
        try:
            for nonce, source, target in zip(nonces, sealed, plain, strict=False):
                self._cipher.decrypt_into(nonce, source, None, target)
                opened += 1
        except InvalidTag:
            pass
        return opened

    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        """Seal a message of the handshake; returns ciphertext and tag."""
        return self._cipher.encrypt(nonce, data, associated)

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        """Open a message of the handshake; None when it does not authenticate."""
        if len(data) < _TAG:
            return None
        try:
            return self._cipher.decrypt(nonce, data, associated)
        except InvalidTag:
            return None


def _create(_options: Options, key: bytes) -> ChaCha:
    return ChaCha(key)


@hookimpl
def ltunnel_plugin_info() -> PluginInfo:
    """Say who this is; the name is that of the entry point."""
    return PluginInfo(name="cipher_chacha", summary="ChaCha20-Poly1305, for processors without AES", api=(1, 0))


@hookimpl
def ltunnel_cipher() -> CipherDescriptor:
    """Provide the cipher.

    Not under Noise's name ChaChaPoly: there nonces are little-endian, and ltunnel's are big-endian for every cipher.
    """
    return CipherDescriptor(options=NoOptions, wire_name="CHACHA20", key_size=32, create=_create)
