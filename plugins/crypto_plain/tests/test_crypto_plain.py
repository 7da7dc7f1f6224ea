"""The cipher that is none."""

from ltunnel.plugin import API_VERSION
from ltunnel.testing.conformance import AeadConformance
from ltunnel_crypto_plain import ltunnel_cipher, ltunnel_plugin_info


class TestConformance(AeadConformance):
    descriptor = ltunnel_cipher()


def test_it_admits_what_it_is():
    assert not ltunnel_cipher().secure
    assert (ltunnel_plugin_info().name, ltunnel_plugin_info().api) == ("crypto_plain", API_VERSION)


def test_it_hides_nothing():
    aead = ltunnel_cipher().create(None, bytes(32))
    assert aead.seal_message(bytes(12), b"in the clear", b"") == b"in the clear" + bytes(16)


def test_what_lacks_the_tag_is_refused():
    aead = ltunnel_cipher().create(None, bytes(32))
    assert aead.open_message(bytes(12), b"in the clear" + b"\1" * 16, b"") is None
    assert aead.open_message(bytes(12), bytes(15), b"") is None
    rows = [memoryview(b"a" + bytes(16)), memoryview(b"b" * 17), memoryview(b"c" + bytes(16))]
    plain = [memoryview(bytearray(1)) for _ in rows]
    assert aead.open([memoryview(bytes(12))] * 3, rows, plain) == 1
    assert bytes(plain[0]) == b"a"
