"""XXpsk0 between two of our own ends, and what an attacker may try on it."""

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltunnel.keys.identity import _LOW_ORDER, Identity
from ltunnel.keys.noise import CipherState, HandshakeState, SymmetricState, hkdf, nonce, protocol_name
from ltunnel.keys.patterns import find_pattern
from ltunnel.plugin import Aead

NewAead = Callable[[bytes], Aead]

NAME = protocol_name("AESGCM")
PSK = bytes(range(32))
NODE = Identity.from_private(b"node" * 8)
HUB = Identity.from_private(b"hub!" * 8)
PAYLOADS = (b"first payload", b"second payload", b"third payload")


def pair(
    new_aead: NewAead, *, psk: bytes = PSK, prologue: bytes = b"p", name: str = NAME
) -> tuple[HandshakeState, HandshakeState]:
    initiator = HandshakeState(
        NAME, initiator=True, prologue=b"p", new_aead=new_aead, ephemeral=b"e" * 32, static=NODE, psks=[PSK]
    )
    responder = HandshakeState(
        name, initiator=False, prologue=prologue, new_aead=new_aead, ephemeral=b"f" * 32, static=HUB, psks=[psk]
    )
    return initiator, responder


def up_to(new_aead: NewAead, count: int) -> tuple[HandshakeState, HandshakeState, bytes]:
    """Run `count` messages and return writer and reader of the next one, and that message."""
    writer, reader = pair(new_aead)
    for payload in PAYLOADS[:count]:
        assert reader.read_message(writer.write_message(payload)) == payload
        writer, reader = reader, writer
    return writer, reader, writer.write_message(PAYLOADS[count])


def test_our_protocol() -> None:
    assert NAME == "Noise_XXpsk0_25519_AESGCM_SHA256"
    assert find_pattern("XXpsk0").messages == (("psk", "e"), ("e", "ee", "s", "es"), ("s", "se"))


def test_both_ends_agree(new_aead: NewAead) -> None:
    initiator, responder = pair(new_aead)
    sizes = []
    turns = ((initiator, responder), (responder, initiator), (initiator, responder))
    for (writer, reader), payload in zip(turns, PAYLOADS, strict=True):
        message = writer.write_message(payload)
        sizes.append(len(message) - len(payload))
        assert reader.read_message(message) == payload
    assert sizes == [32 + 16, 32 + 48 + 16, 48 + 16]
    assert initiator.finished
    assert responder.finished
    assert initiator.hash == responder.hash
    assert initiator.remote_static == HUB.public
    assert responder.remote_static == NODE.public
    assert initiator.split() == responder.split()
    assert len({*initiator.split(), initiator.hash}) == 3


def test_ephemeral_keys_come_from_the_random_source(new_aead: NewAead) -> None:
    asked: list[int] = []

    def random(size: int) -> bytes:
        asked.append(size)
        return b"e" * size

    initiator, _ = pair(new_aead)
    other = HandshakeState(
        NAME, initiator=True, prologue=b"p", new_aead=new_aead, ephemeral=random, static=NODE, psks=[PSK]
    )
    assert asked == []
    assert other.write_message(b"x") == initiator.write_message(b"x")
    assert asked == [32]


@pytest.mark.parametrize("bit", range(0, 256, 37))
def test_wrong_psk(new_aead: NewAead, bit: int) -> None:
    other = bytearray(PSK)
    other[bit // 8] ^= 1 << bit % 8
    initiator, responder = pair(new_aead, psk=bytes(other))
    assert responder.read_message(initiator.write_message(b"payload")) is None


def test_wrong_prologue(new_aead: NewAead) -> None:
    initiator, responder = pair(new_aead, prologue=b"q")
    assert responder.read_message(initiator.write_message(b"payload")) is None


def test_other_cipher_name(new_aead: NewAead) -> None:
    initiator, responder = pair(new_aead, name=protocol_name("OTHER"))
    assert responder.read_message(initiator.write_message(b"payload")) is None


@pytest.mark.parametrize("count", [0, 1, 2])
def test_every_changed_byte_is_refused_and_forgotten(new_aead: NewAead, count: int) -> None:
    _, reader, message = up_to(new_aead, count)
    before = reader.hash, reader.remote_static
    for position in range(len(message)):
        changed = bytearray(message)
        # The top bit of a public key in clear is ignored by X25519 but part of the transcript: flip that one, too.
        changed[position] ^= 0x80
        assert reader.read_message(bytes(changed)) is None, position
        assert (reader.hash, reader.remote_static) == before
    assert reader.read_message(message) == PAYLOADS[count]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_every_length_is_refused(new_aead: NewAead, count: int) -> None:
    _, reader, message = up_to(new_aead, count)
    for length in range(len(message)):
        assert reader.read_message(message[:length]) is None, length
    assert reader.read_message(message + b"\0") is None
    assert reader.read_message(message) == PAYLOADS[count]


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 2), data=st.binary(max_size=200))
def test_nothing_from_the_network_raises(new_aead: NewAead, count: int, data: bytes) -> None:
    _, reader, _ = up_to(new_aead, count)
    assert reader.read_message(data) is None


@pytest.mark.parametrize("point", sorted(_LOW_ORDER), ids=bytes.hex)
def test_low_order_ephemeral_is_refused(new_aead: NewAead, point: bytes) -> None:
    """A forger who knows the psk sends it with a payload that authenticates: only the key itself is wrong."""
    state = SymmetricState(NAME, new_aead)
    state.mix_hash(b"p")
    state.mix_key_and_hash(PSK)
    state.mix_hash(point)
    state.mix_key(point)
    _, responder = pair(new_aead)
    assert responder.read_message(point + state.encrypt_and_hash(b"payload")) is None


def test_low_order_static_is_refused(new_aead: NewAead) -> None:
    class Weak:
        public = bytes(32)

        def shared(self, public: bytes) -> bytes:
            return bytes(32)

    initiator, _ = pair(new_aead)
    responder = HandshakeState(
        NAME, initiator=False, prologue=b"p", new_aead=new_aead, ephemeral=b"f" * 32, static=Weak(), psks=[PSK]  # type: ignore[arg-type]
    )  # fmt: skip
    assert responder.read_message(initiator.write_message(b"")) == b""
    assert initiator.read_message(responder.write_message(b"")) is None


def test_turns_are_kept(new_aead: NewAead) -> None:
    initiator, responder = pair(new_aead)
    with pytest.raises(ValueError, match="this side's turn"):
        responder.write_message(b"")
    with pytest.raises(ValueError, match="far side's turn"):
        initiator.read_message(b"")
    with pytest.raises(ValueError, match="not finished"):
        initiator.split()


def test_what_does_not_fit_together(new_aead: NewAead) -> None:
    def make(name: str, psks: list[bytes], remote: bytes | None = None, static: Identity | None = NODE) -> None:
        HandshakeState(
            name, initiator=True, prologue=b"", new_aead=new_aead, ephemeral=PSK, static=static, psks=psks,
            remote_static=remote,
        ).write_message(b"")  # fmt: skip

    with pytest.raises(ValueError, match="1 pre-shared keys of 32 bytes"):
        make(NAME, [])
    with pytest.raises(ValueError, match="1 pre-shared keys of 32 bytes"):
        make(NAME, [b"short"])
    with pytest.raises(ValueError, match="25519 and SHA256"):
        make("Noise_XX_448_AESGCM_SHA512", [])
    with pytest.raises(ValueError, match="no Noise pattern 'ZZ'"):
        make("Noise_ZZ_25519_AESGCM_SHA256", [])
    with pytest.raises(ValueError, match="no message 4"):
        make("Noise_XXpsk4_25519_AESGCM_SHA256", [PSK])
    with pytest.raises(ValueError, match="far static key"):
        make("Noise_NK_25519_AESGCM_SHA256", [])
    with pytest.raises(ValueError, match="needs a static key"):
        make("Noise_KN_25519_AESGCM_SHA256", [], static=None)


def test_two_psks() -> None:
    assert find_pattern("NNpsk0+psk2").messages == (("psk", "e"), ("e", "ee", "psk"))


def test_long_names_are_hashed(new_aead: NewAead) -> None:
    short, long = "Noise_XX_25519_AESGCM_SHA256", "Noise_XXpsk0_25519_AESGCM_SHA2567"
    assert SymmetricState(short, new_aead).hash == short.encode() + bytes(4)
    assert SymmetricState(NAME, new_aead).hash == NAME.encode()  # exactly 32 bytes
    assert SymmetricState(long, new_aead).hash == sha256(long.encode()).digest()


def test_nonce_is_big_endian() -> None:
    assert nonce(1).hex() == "000000000000000000000001"
    assert nonce(0x0102).hex() == "000000000000000000000102"


def test_cipher_counts_only_what_authenticates(new_aead: NewAead) -> None:
    sealer, opener = CipherState(new_aead, PSK), CipherState(new_aead, PSK)
    first, second = sealer.encrypt(b"a", b"one"), sealer.encrypt(b"a", b"two")
    assert opener.decrypt(b"a", second) is None
    assert opener.decrypt(b"b", first) is None
    assert opener.counter == 0
    assert opener.decrypt(b"a", first) == b"one"
    assert opener.decrypt(b"a", second) == b"two"
    sealer.counter = 2**64 - 1
    with pytest.raises(ValueError, match="used up"):
        sealer.encrypt(b"", b"")


def test_hkdf_is_rfc_5869() -> None:
    # RFC 5869, appendix A.3: empty salt and info; a salt of zeros of any length is the same HMAC key.
    first, second = hkdf(bytes(32), b"\x0b" * 22, 2)
    assert (first + second)[:42].hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )
