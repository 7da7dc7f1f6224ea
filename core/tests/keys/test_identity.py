import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.keys.identity import _LOW_ORDER, Identity, low_order

# RFC 7748, section 6.1
ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_rfc_7748() -> None:
    alice, bob = Identity.from_private(bytes.fromhex(ALICE)), Identity.from_private(bytes.fromhex(BOB))
    assert alice.public.hex() == ALICE_PUBLIC
    assert bob.public.hex() == BOB_PUBLIC
    assert alice.shared(bob.public).hex() == bob.shared(alice.public).hex() == SHARED


def test_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        Identity.from_private(bytes(31))


def test_private_key_is_not_shown() -> None:
    text = repr(Identity.from_private(bytes.fromhex(ALICE)))
    assert "private" not in text.lower()
    assert repr(bytes.fromhex(ALICE)) not in text


@pytest.mark.parametrize("top", [0, 0x80])
@pytest.mark.parametrize("point", sorted(_LOW_ORDER), ids=bytes.hex)
def test_low_order_points_give_no_secret(point: bytes, top: int) -> None:
    public = point[:-1] + bytes((point[-1] | top,))
    assert low_order(public)
    with pytest.raises(ValueError, match="shared key"):
        Identity.from_private(bytes.fromhex(ALICE)).shared(public)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_made_keys_are_not_low_order_and_agree(first: bytes, second: bytes) -> None:
    one, two = Identity.from_private(first), Identity.from_private(second)
    assert not low_order(one.public)
    assert one.shared(two.public) == two.shared(one.public) != bytes(32)
