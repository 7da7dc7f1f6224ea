"""The published vectors of cacophony: every handshake message, the transcript's hash and the transport messages."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltunnel.keys.identity import Identity
from ltunnel.keys.noise import CipherState, HandshakeState
from ltunnel.plugin import Aead

FILE = Path(__file__).parents[3] / "tests" / "vectors" / "noise-25519-aesgcm-sha256.json"
VECTORS = json.loads(FILE.read_text())["vectors"]
ONE_WAY = ("N", "K", "X", "Npsk0", "Kpsk0", "Xpsk1")


def side(vector: dict[str, Any], name: str, new_aead: Callable[[bytes], Aead]) -> HandshakeState:
    def field(key: str) -> bytes | None:
        text = vector.get(f"{name}_{key}")
        return None if text is None else bytes.fromhex(text)

    static = field("static")
    return HandshakeState(
        vector["protocol_name"],
        initiator=name == "init",
        prologue=field("prologue") or b"",
        new_aead=new_aead,
        ephemeral=field("ephemeral") or no_randomness,
        static=None if static is None else Identity.from_private(static),
        psks=[bytes.fromhex(psk) for psk in vector.get(f"{name}_psks", ())],
        remote_static=field("remote_static"),
    )


def no_randomness(size: int) -> bytes:
    raise AssertionError("a side without an ephemeral key wants one")


def test_there_are_vectors() -> None:
    assert len(VECTORS) == 59
    assert len({vector["protocol_name"] for vector in VECTORS}) == 59


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["protocol_name"].split("_")[1] for vector in VECTORS])
def test_vector(vector: dict[str, Any], new_aead: Callable[[bytes], Aead]) -> None:
    initiator, responder = side(vector, "init", new_aead), side(vector, "resp", new_aead)
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]
    position = 0
    while not initiator.finished:
        writer, reader = (initiator, responder) if position % 2 == 0 else (responder, initiator)
        payload, ciphertext = messages[position]
        assert writer.to_write
        assert writer.write_message(payload) == ciphertext
        assert reader.read_message(ciphertext) == payload
        position += 1
    assert responder.finished
    assert initiator.hash.hex() == responder.hash.hex() == vector["handshake_hash"]
    assert initiator.split() == responder.split()

    sealers = [CipherState(new_aead, key) for key in initiator.split()]
    openers = [CipherState(new_aead, key) for key in responder.split()]
    one_way = vector["protocol_name"].split("_")[1] in ONE_WAY
    assert position < len(messages)
    for payload, ciphertext in messages[position:]:
        direction = 0 if one_way else position % 2
        assert sealers[direction].encrypt(b"", payload) == ciphertext
        assert openers[direction].decrypt(b"", ciphertext) == payload
        position += 1
