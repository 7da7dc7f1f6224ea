from collections.abc import Callable
from hashlib import blake2s

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.keys import mac
from ltunnel.plugin import Aead

NewAead = Callable[[bytes], Aead]

KEY = bytes(range(32))
SALT = b"s" * 16
COOKIE = b"c" * 16
MAC1 = b"m" * 16


def counting() -> Callable[[int], bytes]:
    """Make a random source whose every answer differs."""
    calls = iter(range(1, 1000))
    return lambda size: next(calls).to_bytes(size, "big")


def test_mac_is_pinned() -> None:
    """Keyed BLAKE2s with a digest of 16 bytes, which is not the start of the one with 32."""
    tag = mac.mac1(KEY, bytes(range(8)))
    assert tag.hex() == "95d22870392efe2846b12b6e8e84efbb"
    assert tag != blake2s(bytes(range(8)), key=KEY).digest()[:16]


@given(st.binary(max_size=200), st.integers(min_value=0))
def test_every_bit_counts(data: bytes, where: int) -> None:
    tag = mac.mac1(KEY, data)
    assert len(tag) == mac.MAC_SIZE
    assert mac.verify(KEY, data, tag)
    changed = bytearray(tag + data)
    changed[where // 8 % len(changed)] ^= 1 << where % 8
    assert not mac.verify(KEY, bytes(changed[16:]), bytes(changed[:16]))
    assert not mac.verify(bytes(32), data, tag)


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_other_lengths_do_not_verify(size: int) -> None:
    assert not mac.verify(KEY, b"data", mac.mac1(KEY, b"data").ljust(size, b"\0")[:size])


def test_cookie_comes_back_only_to_who_sent_the_mac(new_aead: NewAead) -> None:
    sealed = mac.seal_cookie(KEY, SALT, COOKIE, MAC1, new_aead)
    assert len(sealed) == 32
    assert mac.open_cookie(KEY, SALT, sealed, MAC1, new_aead) == COOKIE
    assert mac.open_cookie(KEY, SALT, sealed, b"n" * 16, new_aead) is None
    assert mac.open_cookie(KEY, b"t" * 16, sealed, MAC1, new_aead) is None
    assert mac.open_cookie(bytes(32), SALT, sealed, MAC1, new_aead) is None
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        assert mac.open_cookie(KEY, SALT, bytes(changed), MAC1, new_aead) is None


def test_every_salt_has_its_own_key() -> None:
    keys: list[bytes] = []

    class Spy:
        def __init__(self, key: bytes) -> None:
            keys.append(key)

        def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
            return bytes(32)

    for number in range(10):
        mac.seal_cookie(KEY, bytes([number] * 16), COOKIE, MAC1, Spy)  # type: ignore[arg-type]
        mac.seal_time(KEY, bytes([number] * 16), 0, MAC1, Spy)  # type: ignore[arg-type]
    assert len(set(keys)) == 20
    assert KEY not in keys


@given(time_ns=st.integers(0, 2**64 - 1))
def test_time(new_aead: NewAead, time_ns: int) -> None:
    sealed = mac.seal_time(KEY, SALT, time_ns, MAC1, new_aead)
    assert len(sealed) == 32
    assert mac.open_time(KEY, SALT, sealed, MAC1, new_aead) == time_ns
    assert mac.open_time(KEY, SALT, sealed, b"n" * 16, new_aead) is None
    assert mac.open_cookie(KEY, SALT, sealed, MAC1, new_aead) is None


def test_time_leaves_no_room_for_anything_else(new_aead: NewAead) -> None:
    subkey = blake2s(SALT, key=KEY, person=b"time").digest()
    sealed = new_aead(subkey).seal_message(bytes(12), bytes(8) + b"\0\0\0\0\0\0\0\1", MAC1)
    assert mac.open_time(KEY, SALT, sealed, MAC1, new_aead) is None


def test_wrong_sizes_are_the_callers_fault(new_aead: NewAead) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        mac.seal_cookie(KEY, b"short", COOKIE, MAC1, new_aead)
    with pytest.raises(ValueError, match="16 bytes"):
        mac.seal_cookie(KEY, SALT, b"short", MAC1, new_aead)


def test_cookies_belong_to_a_source() -> None:
    secrets = mac.CookieSecrets(counting())
    cookie = secrets.cookie("udp 192.0.2.1:9000", 5.0)
    tag = mac.mac2(cookie, b"init")
    assert len(cookie) == 16
    assert secrets.verify("udp 192.0.2.1:9000", b"init", tag, 5.0)
    assert not secrets.verify("udp 192.0.2.1:9001", b"init", tag, 5.0)
    assert not secrets.verify("udp 192.0.2.1:9000", b"other", tag, 5.0)
    assert not secrets.verify("udp 192.0.2.1:9000", b"init", bytes(16), 5.0)
    assert not mac.CookieSecrets(lambda size: b"x" * size).verify("udp 192.0.2.1:9000", b"init", tag, 5.0)


def test_cookies_of_the_secret_before_are_accepted() -> None:
    secrets = mac.CookieSecrets(counting())
    early = secrets.cookie("a", 1000.0)
    assert secrets.cookie("a", 1119.9) == early
    tag = mac.mac2(early, b"init")
    assert secrets.cookie("a", 1120.0) != early
    assert secrets.verify("a", b"init", tag, 1239.9)
    assert not secrets.verify("a", b"init", tag, 1240.0)


def test_a_long_silence_forgets_both_secrets() -> None:
    secrets = mac.CookieSecrets(counting())
    tag = mac.mac2(secrets.cookie("a", 0.0), b"init")
    assert not secrets.verify("a", b"init", tag, 240.0)
