"""The cipher suite passes a good cipher and finds what is wrong with bad ones."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ltunnel.plugin import CipherDescriptor, NoOptions
from ltunnel.testing.conformance import AeadConformance


class Good:
    """ChaCha20-Poly1305 (RFC 8439), row by row."""

    def __init__(self, key: bytes) -> None:
        self.cipher = ChaCha20Poly1305(key)

    def seal(self, nonces: Sequence[memoryview], plain: Sequence[memoryview], sealed: Sequence[memoryview]) -> None:
        for nonce, source, target in zip(nonces, plain, sealed, strict=False):
            target[:] = self.seal_message(bytes(nonce), bytes(source), b"")

    def open(self, nonces: Sequence[memoryview], sealed: Sequence[memoryview], plain: Sequence[memoryview]) -> int:
        for opened, (nonce, source, target) in enumerate(zip(nonces, sealed, plain, strict=False)):
            data = self.open_message(bytes(nonce), bytes(source), b"")
            if data is None:
                return opened
            target[:] = data
        return len(sealed)

    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        return self.cipher.encrypt(nonce, data, associated)

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        try:
            return self.cipher.decrypt(nonce, data, associated)
        except InvalidTag:
            return None


class Plain(Good):
    """Does not protect."""

    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        return data + bytes(16)

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        return data[:-16]


class FixedNonce(Good):
    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        return super().seal_message(bytes(12), data, associated)

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        return super().open_message(bytes(12), data, associated)


class NoAssociated(Good):
    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        return super().seal_message(nonce, data, b"")

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        return super().open_message(nonce, data, b"")


class SkipsBadRows(Good):
    """Counts what opened instead of stopping."""

    def open(self, nonces, sealed, plain):
        opened = 0
        for nonce, source, target in zip(nonces, sealed, plain, strict=False):
            data = self.open_message(bytes(nonce), bytes(source), b"")
            if data is not None:
                target[:] = data
                opened += 1
        return opened


class RaisesOnForgery(Good):
    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        return self.cipher.decrypt(nonce, data, associated)


class Backwards(Good):
    """Works on the rows from the last to the first."""

    def open(self, nonces, sealed, plain):
        for i in reversed(range(len(sealed))):
            plain[i][:] = self.open_message(bytes(nonces[i]), bytes(sealed[i]), b"") or b""
        return len(sealed)


class Hoards(Good):
    kept: ClassVar[list[memoryview]] = []

    def seal(self, nonces, plain, sealed):
        self.kept.extend(sealed[:1])
        super().seal(nonces, plain, sealed)


class CountsNonces(Good):
    """Works on as many rows as there are nonces."""

    def seal(self, nonces, plain, sealed):
        super().seal(nonces, [*plain, *[plain[-1]] * (len(sealed) - len(plain))] if len(plain) else plain, sealed)


class SealsInPlace(Good):
    def seal(self, nonces, plain, sealed):
        super().seal(nonces, plain, sealed)
        for source, target in zip(plain, sealed, strict=False):
            source[:] = target[:-16]


class ShortTag(Good):
    """Looks at 8 bytes of the tag only."""

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        for_real = super().open_message(nonce, data, associated)
        if for_real is None and len(data) > 16:
            guess = self.cipher.encrypt(nonce, bytes(len(data) - 16), associated)
            text = bytes(a ^ b for a, b in zip(guess, data[:-16], strict=False))
            if self.cipher.encrypt(nonce, text, associated)[:-8] == data[:-8]:
                return text
        return for_real


def describe(make: type[Good], **changes: object) -> CipherDescriptor:
    fields = {"options": NoOptions, "wire_name": "TEST", "create": lambda options, key: make(key), **changes}
    return CipherDescriptor(**fields)


def test_good_ciphers_pass(failures: Callable[..., set[str]]):
    assert failures(AeadConformance, descriptor=describe(Good)) == set()
    assert failures(AeadConformance, descriptor=describe(Plain, secure=False)) == set()


@pytest.mark.parametrize(("cipher", "found_by"), [
    (Plain, "test_tampering_is_seen_everywhere"), (Plain, "test_keys_matter"), (Plain, "test_message_tampering"),
    (Plain, "test_short_messages_do_not_open"), (Plain, "test_nonces_matter"),
    (FixedNonce, "test_tampering_is_seen_everywhere"), (FixedNonce, "test_nonces_matter"),
    (FixedNonce, "test_message_tampering"), (NoAssociated, "test_message_tampering"),
    (SkipsBadRows, "test_stops_at_first_failure"), (RaisesOnForgery, "test_stops_at_first_failure"),
    (Backwards, "test_opens_in_order_into_overlapping_rows"), (Hoards, "test_keeps_no_reference"),
    (CountsNonces, "test_lists_may_be_longer"), (SealsInPlace, "test_plain_text_is_left_alone"),
    (ShortTag, "test_tampering_is_seen_everywhere"),
])  # fmt: skip
def test_bad_ciphers_are_found(failures: Callable[..., set[str]], cipher: type[Good], found_by: str):
    assert found_by in failures(AeadConformance, descriptor=describe(cipher))


@pytest.mark.parametrize("name", ["", "SEVENTEEN-LETTERS", "A_B", "AES\n", "Ä"])
def test_wire_names(failures: Callable[..., set[str]], name: str):
    assert failures(AeadConformance, descriptor=describe(Good, wire_name=name)) == {"test_descriptor_names"}
