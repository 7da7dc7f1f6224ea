"""The examples of docs/wire-format.md, byte for byte: what the code makes, what it reads, and that none is missing.

Everything is derived again from the secrets that the document names, so a change of the key schedule shows here too.
"""

import re
from hashlib import sha256
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ltunnel.keys import mac
from ltunnel.keys.identity import Identity
from ltunnel.keys.noise import HandshakeState, protocol_name
from ltunnel.keys.psk import derive_keys, format_key
from ltunnel.plugin import Answer, Behaviour, Candidate, CandidateKind, Carrier, Dependence
from ltunnel.wire import messages
from ltunnel.wire.advert import INFINITY, Advert, Route, Want
from ltunnel.wire.echo import pack_echo, parse_echo
from ltunnel.wire.frames import (
    Bye,
    ByeCode,
    Deny,
    DenyCode,
    PeerEntry,
    Peers,
    Ping,
    Pong,
    Probe,
    Report,
    Welcome,
    parse_frame,
)
from ltunnel.wire.messages import PROLOGUE, Confirm, Cookie, Init, Resp, Time, cipher_mark
from ltunnel.wire.observe import Observe, Observed
from ltunnel.wire.payloads import ConfirmPayload, InitPayload, RespPayload, stack_fingerprint
from ltunnel.wire.places import HubPlace
from ltunnel.wire.punch import KindCode, Punch, PunchStage
from ltunnel.wire.relay import SIZE, TTL, RelayTrailer, node_name
from ltunnel.wire.types import FrameType, MessageType

DOCUMENT = Path(__file__).parents[3] / "docs" / "wire-format.md"
DATA_PATH = {
    "row-first",
    "row-last",
    "bundle",
    "record-first",
    "record-last",
    "record-whole",
    "super",
    "shard-first",
    "shard-second",
    "shard-parity",
    "record-parity",
}  # held against the data path, in its tests
BLOCKS = re.compile(r"^```golden (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

STACK = ("cipher=AESGCM",)
INIT_INDEX, RESP_INDEX = 0x0A0B0C, 0x0D0E0F


class Gcm:
    """AES-256-GCM for messages."""

    def __init__(self, key: bytes) -> None:
        self._gcm = AESGCM(key)

    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        return self._gcm.encrypt(nonce, data, associated)

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        try:
            return self._gcm.decrypt(nonce, data, associated)
        except InvalidTag:
            return None


def read_document() -> dict[str, bytes]:
    """Return the examples of messages and control frames by name: hex, with what follows a ``#`` left out."""
    blocks = {}
    for name, body in BLOCKS.findall(DOCUMENT.read_text()):
        assert name not in blocks, f"two examples are called {name}"
        if name not in DATA_PATH:
            blocks[name] = bytes.fromhex("".join(line.split("#")[0] for line in body.splitlines()))
    return blocks


def make_examples() -> dict[str, bytes]:
    """Make every example from the secrets that the document names."""
    raw = bytes(range(32))
    keys = derive_keys(format_key(raw), "example")
    node, hub = Identity.from_private(b"\x11" * 32), Identity.from_private(b"\x22" * 32)

    def handshake(initiator: bool) -> HandshakeState:
        return HandshakeState(
            protocol_name("AESGCM"),
            initiator=initiator,
            prologue=PROLOGUE,
            new_aead=Gcm,  # type: ignore[arg-type]
            ephemeral=(b"\x33" if initiator else b"\x44") * 32,
            static=node if initiator else hub,
            psks=[keys.psk],
        )

    def finish(message: Init | Resp | Confirm, where: int) -> bytes:
        data = message.pack()
        end = where % len(data)
        return data[:end] + mac.mac1(keys.mac1, data[:end]) + data[end + 16 :]

    examples = {
        "psk": keys.psk,
        "mac1": keys.mac1,
        "cookie-key": keys.cookie,
        "time-key": keys.time,
        "init-payload": FRAMES["init-payload"].pack(),
        "resp-payload": FRAMES["resp-payload"].pack(),
        "confirm-payload": FRAMES["confirm-payload"].pack(),
    }
    initiator, responder = handshake(True), handshake(False)
    noise = initiator.write_message(examples["init-payload"])
    init = finish(Init(INIT_INDEX, cipher_mark("AESGCM"), noise), messages.INIT_MAC1)
    assert responder.read_message(noise) == examples["init-payload"]
    noise = responder.write_message(examples["resp-payload"])
    resp = finish(Resp(RESP_INDEX, INIT_INDEX, noise), messages.RESP_MAC1)
    assert initiator.read_message(noise) == examples["resp-payload"]
    noise = initiator.write_message(examples["confirm-payload"])
    confirm = finish(Confirm(INIT_INDEX, RESP_INDEX, noise), messages.CONFIRM_MAC1)
    assert responder.read_message(noise) == examples["confirm-payload"]
    first_key, second_key = initiator.split()

    init_mac1 = init[messages.INIT_MAC1 : messages.INIT_MAC2]
    salt, cookie = b"\x55" * 16, b"\x66" * 16
    sealed_cookie = mac.seal_cookie(keys.cookie, salt, cookie, init_mac1, Gcm)  # type: ignore[arg-type]
    sealed_time = mac.seal_time(keys.time, salt, TIME_NS, init_mac1, Gcm)  # type: ignore[arg-type]
    data_header = bytes((MessageType.DATA,)) + RESP_INDEX.to_bytes(3, "big") + (5).to_bytes(8, "big")
    ping = FRAMES["ping"].pack() + bytes((FrameType.PING,))
    data = data_header + AESGCM(first_key).encrypt(data_header, ping, b"")
    trailer = RelayTrailer(node_name(hub.public), node_name(node.public), TTL).pack()
    return examples | {
        "init": init,
        "resp": resp,
        "confirm": confirm,
        "keys": first_key + second_key,
        "cookie": Cookie(INIT_INDEX, salt, sealed_cookie).pack(),
        "init-mac2": mac.mac2(cookie, init[: messages.INIT_MAC2]),
        "time": Time(INIT_INDEX, salt, sealed_time).pack(),
        "data": data,
        "echo": pack_echo(b"token123"),
        "relay": data + trailer,
        "relay-record": data + data + SIZE.pack(len(data)) + trailer,
        **{name: frame.pack() for name, frame in FRAMES.items()},
    }


TIME_NS = 1_700_000_000 * 10**9
FRAMES: dict[str, Any] = {
    "init-payload": InitPayload(TIME_NS, stack_fingerprint(STACK)),
    "resp-payload": RespPayload(stack_fingerprint(STACK)),
    "confirm-payload": ConfirmPayload(
        name="node1",
        mtu=1400,
        addresses=(ip_interface("10.0.0.2/24"), ip_interface("fd00::2/64")),
        routes=(ip_network("192.168.7.0/24"),),
        stack=STACK,
    ),
    "ping": Ping(b"token123", padding=4),
    "pong": Pong(b"token123", padding=4),
    "probe": Probe(b"token123", padding=4),
    "report": Report(4096, 4094, 1, 1000),
    "observe": Observe(b"token123", from_other=True),
    "observed": Observed(b"token123", True, 9001, ("192.0.2.7", 40_100)),
    "punch": Punch(
        stage=PunchStage.START,
        key=b"\x88" * 32,
        round=1,
        delay=0.25,
        first=True,
        behaviour=Behaviour(
            mapping=Dependence.ENDPOINT_INDEPENDENT,
            filtering=Dependence.ADDRESS_AND_PORT_DEPENDENT,
            hairpin=Answer.NO,
            preserves_port=Answer.YES,
        ),
        candidates=(
            Candidate(kind=CandidateKind.SRFLX, address=("192.0.2.7", 40_100), priority=100),
            Candidate(
                kind=CandidateKind.HOST,
                address=("fd00::7", 9000),
                priority=200,
                carrier=Carrier.TCP,
                network=b"network1",
            ),
        ),
    ),
    "welcome": Welcome(
        name="hub",
        mtu=1400,
        addresses=(ip_interface("10.0.0.2/24"),),
        networks=(ip_network("10.0.0.0/24"),),
        hub_addresses=(ip_interface("10.0.0.1/24"),),
        isolated=True,
        places=(HubPlace(Carrier.UDP, ("2001:db8::1", 9000)),),
        behind=(ip_network("192.168.0.0/16"),),
    ),
    "peers": Peers(
        (PeerEntry(b"\x88" * 32, "node2", (ip_interface("10.0.0.3/24"),), 1400, (ip_network("192.168.7.0/24"),)),)
    ),
    "deny": Deny(DenyCode.ADDRESS_TAKEN, "10.0.0.2 is node2's"),
    "bye": Bye(ByeCode.STOPPED),
    "advert": Advert(
        hold=105.0,
        routes=(
            Route(node_name(Identity.from_private(b"\x11" * 32).public), 7, 0, 0),
            Route(node_name(Identity.from_private(b"\x22" * 32).public), 258, 22_500, 1),
            Route(b"node-two", 3, INFINITY, 1),
        ),
        wants=(Want(b"node-two", 4, 3),),
        all=True,
    ),
}


@pytest.fixture(scope="module")
def document() -> dict[str, bytes]:
    return read_document()


@pytest.fixture(scope="module")
def examples() -> dict[str, bytes]:
    return make_examples()


def test_no_example_is_missing_or_unchecked(document: dict[str, bytes], examples: dict[str, bytes]) -> None:
    assert sorted(document) == sorted(examples)


@pytest.mark.parametrize("name", sorted(read_document()))
def test_code_makes_what_the_document_says(name: str, document: dict[str, bytes], examples: dict[str, bytes]) -> None:
    assert document[name].hex(" ") == examples[name].hex(" ")


@pytest.mark.parametrize("name", ["init", "resp", "confirm", "cookie", "time"])
def test_code_reads_messages_of_the_document(name: str, document: dict[str, bytes]) -> None:
    message = messages.parse(document[name])
    assert type(message).__name__.lower() == name
    assert message.pack() == document[name]


@pytest.mark.parametrize("name", FRAMES)
def test_code_reads_payloads_of_the_document(name: str, document: dict[str, bytes]) -> None:
    kind = type(FRAMES[name])
    assert kind.parse(document[name]) == FRAMES[name]
    if hasattr(kind, "TYPE"):
        assert parse_frame(kind.TYPE, document[name]) == FRAMES[name]


def test_code_reads_the_echo_of_the_document(document: dict[str, bytes]) -> None:
    data = document["echo"]
    assert parse_echo(data) == b"token123"
    for other in (data[:-1], data + bytes(1), b"\x07" + data[1:], data[:-1] + b"\1", data[:1] + b"\1" + data[2:], b""):
        assert parse_echo(other) is None
    with pytest.raises(ValueError, match="7 bytes"):
        pack_echo(bytes(7))


def test_the_document_names_the_key_and_its_check() -> None:
    text = DOCUMENT.read_text()
    assert f"`{format_key(bytes(range(32)))}`" in text
    assert f"`{derive_keys(format_key(bytes(range(32))), 'example').check}`" in text


@pytest.mark.parametrize("number", [*MessageType, *FrameType], ids=lambda number: number.name)
def test_the_document_names_every_number(number: MessageType | FrameType) -> None:
    form = f"{number.value}" if isinstance(number, MessageType) else f"0x{number.value:02x}"
    assert re.search(rf"^\| {form} \| {number.name} \|", DOCUMENT.read_text(), re.MULTILINE)


@pytest.mark.parametrize("code", [*DenyCode, *ByeCode], ids=lambda code: f"{type(code).__name__}.{code.name}")
def test_the_document_names_every_code(code: DenyCode | ByeCode) -> None:
    kind = type(code).__name__.removesuffix("Code").upper()
    row = next(line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {kind} codes |"))
    assert f"{code.value} {code.name}" in row


@pytest.mark.parametrize("stage", PunchStage)
def test_the_document_names_every_stage(stage: PunchStage) -> None:
    assert f"| {stage.value} | {stage.name} |" in DOCUMENT.read_text()


def test_every_kind_of_candidate_has_a_number() -> None:
    assert [kind.name for kind in KindCode] == [kind.name for kind in CandidateKind]


def test_code_reads_the_trailer_of_the_document(document: dict[str, bytes]) -> None:
    trailer = RelayTrailer.parse(document["relay"])
    assert trailer.ttl == TTL
    assert document["relay"].removesuffix(trailer.pack()) == document["data"]


def test_stack_fingerprint_is_as_described() -> None:
    assert stack_fingerprint(STACK) == sha256(b"cipher=AESGCM\n").digest()[:16]
