from collections.abc import Callable, Sequence

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ltunnel.plugin import Aead, Buffer


class GcmAead:
    """AES-256-GCM for messages, so that these tests need no plugin."""

    def __init__(self, key: bytes) -> None:
        self._gcm = AESGCM(key)

    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        return self._gcm.encrypt(nonce, data, associated)

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        try:
            return self._gcm.decrypt(nonce, data, associated)
        except InvalidTag:
            return None

    def seal(self, nonces: Sequence[Buffer], plain: Sequence[Buffer], sealed: Sequence[Buffer]) -> None:
        raise NotImplementedError

    def open(self, nonces: Sequence[Buffer], sealed: Sequence[Buffer], plain: Sequence[Buffer]) -> int:
        raise NotImplementedError


@pytest.fixture(scope="session")
def new_aead() -> Callable[[bytes], Aead]:
    return GcmAead
