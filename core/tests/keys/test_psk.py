import base64
import re
from hashlib import scrypt, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.errors import ConfigError
from ltunnel.keys.psk import NetworkKeys, derive_keys, format_key

RAW = sha256(b"a key").digest()
PASSPHRASE = "mysecret"


@pytest.fixture(scope="module")
def stretched() -> NetworkKeys:
    return derive_keys(PASSPHRASE, "home")


def test_every_purpose_has_its_own_key() -> None:
    keys = derive_keys(format_key(RAW), "home")
    made = [keys.psk, keys.mac1, keys.cookie, keys.time]
    assert all(len(key) == 32 for key in made)
    assert len({*made, RAW}) == 5
    assert keys.keyed
    assert keys.weakness is None


def test_key_check_is_unambiguous() -> None:
    checks = {derive_keys(format_key(sha256(bytes((n,))).digest()), "home").check for n in range(200)}
    assert all(re.fullmatch("[0-9A-HJKMNP-TV-Z]{4}", check) for check in checks)
    assert len(checks) > 195


@pytest.mark.parametrize(
    "form",
    [
        format_key(RAW),
        f"  {format_key(RAW)}\n",
        RAW.hex(),
        RAW.hex().upper(),
        base64.b64encode(RAW).decode(),
        base64.urlsafe_b64encode(RAW).decode(),
    ],
)
def test_forms_of_one_key(form: str) -> None:
    assert derive_keys(form, "home") == derive_keys(format_key(RAW), "home")


def test_networks_differ() -> None:
    here, there = derive_keys(format_key(RAW), "home"), derive_keys(format_key(RAW), "work")
    assert here.psk != there.psk
    assert here.mac1 != there.mac1
    assert here.check != there.check


@given(st.binary(min_size=32, max_size=32))
def test_genkey_form(raw: bytes) -> None:
    text = format_key(raw)
    assert re.fullmatch(r"ltk1_[A-Za-z0-9_-]{48}", text)
    assert derive_keys(text, "n").psk == derive_keys(raw.hex(), "n").psk


def test_genkey_form_takes_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        format_key(bytes(31))


@pytest.mark.parametrize("position", range(5, 53))
def test_damaged_keys_are_told_apart_from_passphrases(position: int) -> None:
    text = format_key(RAW)
    changed = text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]
    for damaged in (changed, text[:position], text + "A"):
        with pytest.raises(ConfigError, match="key: begins like") as caught:
            derive_keys(damaged, "home")
        assert damaged == "ltk1_" or damaged not in str(caught.value)


@pytest.mark.parametrize("damaged", ["ltk1_", "ltk1_ключ", "ltk1_" + "=" * 48])
def test_what_is_no_base64(damaged: str) -> None:
    with pytest.raises(ConfigError, match="damaged"):
        derive_keys(damaged, "home")


@pytest.mark.parametrize("secret", ["", "  ", "\n"])
def test_an_empty_key_is_no_key_at_all(secret: str) -> None:
    with pytest.raises(ConfigError, match="key: empty"):
        derive_keys(secret, "home")


def test_without_a_key() -> None:
    keys = derive_keys(None, "home")
    assert not keys.keyed
    assert keys.psk == bytes(32)
    assert keys.mac1 not in (bytes(32), derive_keys(format_key(RAW), "home").mac1)


def test_passphrases_are_stretched(stretched: NetworkKeys) -> None:
    """By the standard library's scrypt, so that nobody turns the cost down without noticing."""
    salt = sha256(b"ltunnel network\0home").digest()
    raw = scrypt(PASSPHRASE.encode(), salt=salt, n=2**17, r=8, p=1, maxmem=2**28, dklen=32)
    assert derive_keys(raw.hex(), "home").psk == stretched.psk
    assert stretched.keyed


def test_passphrases_are_normalised() -> None:
    composed, decomposed = "caf\u00e9 au lait, deux sucres", "cafe\u0301 au lait, deux sucres"
    assert derive_keys(composed, "home").psk == derive_keys(decomposed, "home").psk


def test_a_short_passphrase_is_told_what_it_is_worth(stretched: NetworkKeys) -> None:
    assert stretched.weakness is not None
    assert PASSPHRASE not in stretched.weakness
    assert "\n" not in stretched.weakness
    assert "in seconds if it is made of words (about 16 bits)" in stretched.weakness
    assert "in 121 days if every character is random (38 bits)" in stretched.weakness  # 26^8 / 2 / 10,000 s
    assert "`ltunnel genkey`" in stretched.weakness


def test_what_is_weak() -> None:
    assert derive_keys("a" * 60, "n").weakness is not None
    assert derive_keys("Tr0ub4dor&3 is not it", "n").weakness is None
    assert "thousands of years" in (derive_keys("x9$Kq!2mZ#7pL0vW", "n").weakness or "")


def test_a_key_that_is_not_random() -> None:
    assert "repeats a few bytes" in (derive_keys("00" * 32, "n").weakness or "")


def test_secrets_are_not_shown(stretched: NetworkKeys) -> None:
    text = repr(stretched)
    for secret in (stretched.psk, stretched.mac1, stretched.cookie, stretched.time):
        assert repr(secret) not in text
    assert stretched.check in text
