"""The published test vector, and the conformance suites of ltunnel."""

import ltunnel_cipher_chacha
from ltunnel.testing.conformance import AeadConformance, PluginConformance


class TestCipher(AeadConformance):
    descriptor = ltunnel_cipher_chacha.ltunnel_cipher()


class TestPlugin(PluginConformance):
    module = ltunnel_cipher_chacha
    name = "cipher_chacha"


def test_published_vector():
    """RFC 8439, section 2.8.2."""
    key = bytes(range(0x80, 0xA0))
    nonce = bytes.fromhex("070000004041424344454647")
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    plain = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )  # fmt: skip
    sealed = ltunnel_cipher_chacha.ltunnel_cipher().create(None, key).seal_message(nonce, plain, associated)
    assert sealed[:16].hex() == "d31a8d34648e60db7b86afbc53ef7ec2"
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"
