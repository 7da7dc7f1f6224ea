"""Worlds with the first-party plugins in them."""

from collections.abc import Callable
from typing import Any

import pytest

import ltunnel_crypto_aesgcm
import ltunnel_crypto_plain
import ltunnel_transport_udp
from ltunnel.testing import World

MakeWorld = Callable[..., World]


def build_world(seed: int | str = 1, *, plain: bool = False, **settings: Any) -> World:
    """Return an empty world on UDP and AES-GCM, or without encryption."""
    cipher = ltunnel_crypto_plain if plain else ltunnel_crypto_aesgcm
    return World(
        {"transport_udp": ltunnel_transport_udp.ltunnel_transport()}, cipher.ltunnel_cipher(), seed, **settings
    )


@pytest.fixture
def make_world() -> MakeWorld:
    """Return `build_world`."""
    return build_world
