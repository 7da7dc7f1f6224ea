"""AES-256-GCM against the published test cases and the conformance suite."""

import pytest

from ltunnel.plugin import API_VERSION
from ltunnel.testing.conformance import AeadConformance
from ltunnel_crypto_aesgcm import ltunnel_cipher, ltunnel_plugin_info

# McGrew, Viega: The Galois/Counter Mode of Operation (GCM), appendix B, test cases 13, 14 and 16:
# key, nonce, plaintext, associated data, ciphertext and tag.
CASES = {
    13: ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    14: ("00" * 32, "00" * 12, "00" * 16, "", "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    16: (
        "feffe9928665731c6d6a8f9467308308" * 2,
        "cafebabefacedbaddecaf888",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
    ),
}


class TestConformance(AeadConformance):
    descriptor = ltunnel_cipher()


@pytest.mark.parametrize("number", CASES)
def test_published_cases(number):
    key, nonce, plain, associated, sealed = map(bytes.fromhex, CASES[number])
    aead = ltunnel_cipher().create(None, key)
    assert aead.seal_message(nonce, plain, associated) == sealed
    assert aead.open_message(nonce, sealed, associated) == plain
    if not associated:
        row = memoryview(bytearray(len(sealed)))
        aead.seal([memoryview(nonce)], [memoryview(plain)], [row])
        assert row == sealed


def test_info():
    info = ltunnel_plugin_info()
    assert (info.name, info.api) == ("crypto_aesgcm", API_VERSION)
