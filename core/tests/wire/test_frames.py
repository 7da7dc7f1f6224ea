"""Handshake payloads and control frames: round trip, totality, bounds, and what a newer or a hostile peer may send."""

from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.errors import WireError
from ltunnel.plugin import Answer, Behaviour, Candidate, CandidateKind, Carrier, Dependence
from ltunnel.wire import fields, frames, tlv
from ltunnel.wire.frames import (
    Bye,
    ByeCode,
    Deny,
    DenyCode,
    Frame,
    PeerEntry,
    Peers,
    Ping,
    Pong,
    Probe,
    Welcome,
)
from ltunnel.wire.observe import Observe, Observed
from ltunnel.wire.payloads import ConfirmPayload, InitPayload, RespPayload, stack_fingerprint
from ltunnel.wire.punch import Punch, PunchStage
from ltunnel.wire.relay import RelayTrailer, node_name
from ltunnel.wire.text import escape, valid_name
from ltunnel.wire.types import FrameType

NAMES = st.text(min_size=1, max_size=63).filter(valid_name)
MTUS = st.integers(576, 65535)
INTERFACES = st.one_of(
    st.builds(lambda ip, length: IPv4Interface((ip, length)), st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds(lambda ip, length: IPv6Interface((ip, length)), st.ip_addresses(v=6), st.integers(0, 128)),
)
NETWORKS = st.one_of(
    st.builds(lambda ip, length: IPv4Network((ip, length), strict=False), st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds(lambda ip, length: IPv6Network((ip, length), strict=False), st.ip_addresses(v=6), st.integers(0, 128)),
)
ADDRESS_LISTS = st.lists(INTERFACES, max_size=8).map(tuple)
NETWORK_LISTS = st.lists(NETWORKS, max_size=24).map(tuple)
ASCII = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=32)
REASONS = st.text(max_size=50).map(lambda text: escape(text, limit=60))
TOKENS = st.binary(min_size=8, max_size=8)
PEERS = st.builds(
    PeerEntry,
    st.binary(min_size=32, max_size=32),
    st.text(min_size=1, max_size=10).filter(valid_name),
    st.lists(INTERFACES, max_size=2).map(tuple),
    st.none() | MTUS,
    st.lists(NETWORKS, max_size=3).map(tuple),
)

ENDPOINTS = st.tuples(
    st.ip_addresses().filter(lambda ip: getattr(ip, "ipv4_mapped", None) is None).map(str), st.integers(1, 0xFFFF)
)

FRAMES = st.one_of(
    st.builds(Ping, TOKENS, st.integers(0, 1400)),
    st.builds(Pong, TOKENS, st.integers(0, 1400)),
    st.builds(Probe, TOKENS, st.integers(0, 1400)),
    st.builds(
        Welcome,
        name=NAMES,
        mtu=MTUS,
        addresses=ADDRESS_LISTS,
        networks=NETWORK_LISTS,
        hub_addresses=ADDRESS_LISTS,
        isolated=st.booleans(),
        behind=st.lists(NETWORKS, max_size=8).map(tuple),
    ),
    st.builds(Peers, st.lists(PEERS, max_size=6).map(tuple)),
    st.builds(Deny, st.sampled_from(DenyCode), REASONS),
    st.builds(Bye, st.sampled_from(ByeCode), REASONS),
    st.builds(Observe, TOKENS, st.booleans()),
    st.builds(Observed, TOKENS, st.booleans(), st.integers(0, 0xFFFF), ENDPOINTS),
    st.builds(
        Punch,
        stage=st.sampled_from(PunchStage),
        key=st.binary(min_size=32, max_size=32),
        round=st.integers(0, 255),
        delay=st.integers(0, 0xFFFF).map(lambda milliseconds: milliseconds / 1000),
        first=st.booleans(),
        behaviour=st.builds(
            Behaviour,
            mapping=st.sampled_from(Dependence),
            filtering=st.sampled_from(Dependence),
            hairpin=st.sampled_from(Answer),
            preserves_port=st.sampled_from(Answer),
        ),
        candidates=st.lists(
            st.builds(
                Candidate,
                kind=st.sampled_from(CandidateKind),
                address=ENDPOINTS,
                priority=st.integers(0, 0xFFFFFFFF),
                carrier=st.sampled_from(Carrier),
                network=st.sampled_from((b"", b"network1")),
            ),
            max_size=8,
        ).map(tuple),
        reason=REASONS,
    ),
)
CONFIRMS = st.builds(
    ConfirmPayload,
    name=NAMES,
    mtu=MTUS,
    addresses=ADDRESS_LISTS,
    routes=NETWORK_LISTS,
    stack=st.lists(ASCII, max_size=8).map(tuple),
)

WELCOME = Welcome(name="hub", mtu=1400)


@given(FRAMES)
def test_frames_round_trip(frame: Frame) -> None:
    body = frame.pack()
    assert frames.parse_frame(frame.TYPE, body) == frame
    assert isinstance(frame, Ping | Pong | Probe) or len(body) <= tlv.MAX_BODY


@given(st.integers(0, 255), st.binary(max_size=1400))
def test_any_bytes_give_a_frame_or_a_wire_error(frame_type: int, body: bytes) -> None:
    try:
        frame = frames.parse_frame(frame_type, body)
    except WireError:
        return
    assert frame_type == frame.TYPE


@given(FRAMES, st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), max_size=3), st.integers(0, 1400))
def test_any_change_gives_a_frame_or_a_wire_error(frame: Frame, changes: list[tuple[int, int]], length: int) -> None:
    body = bytearray(frame.pack())
    for position, value in changes:
        if body:
            body[position % len(body)] = value
    for changed in (bytes(body), bytes(body[:length])):
        try:
            parsed = frames.parse_frame(frame.TYPE, changed)
        except WireError:
            continue
        assert type(parsed) is type(frame)


@pytest.mark.parametrize("kind", [FrameType.PADDING, FrameType.ROW, FrameType.BUNDLE, FrameType.RELAY, 0x7F, 0xFF])
def test_what_is_no_control_frame(kind: int) -> None:
    with pytest.raises(WireError, match=f"type {kind}"):
        frames.parse_frame(kind, b"")


@given(CONFIRMS)
def test_confirm_round_trip(payload: ConfirmPayload) -> None:
    data = payload.pack()
    assert len(data) <= 1152
    assert ConfirmPayload.parse(data) == payload


@given(st.binary(max_size=1400))
def test_any_bytes_give_a_payload_or_a_wire_error(data: bytes) -> None:
    try:
        payload = ConfirmPayload.parse(data)
    except WireError:
        pass
    else:
        assert valid_name(payload.name)
    for kind, size in ((InitPayload, 56), (RespPayload, 16)):
        if len(data) == size:
            kind.parse(data)
        else:
            with pytest.raises(WireError, match="payload of"):
                kind.parse(data)


@given(st.integers(0, 2**64 - 1), st.binary(min_size=16, max_size=16), st.integers(0, 255))
def test_init_and_resp_round_trip(time_ns: int, stack: bytes, version: int) -> None:
    payload = InitPayload(time_ns, stack, version)
    data = payload.pack()
    assert len(data) == 56
    assert InitPayload.parse(data) == payload
    assert RespPayload.parse(RespPayload(stack).pack()) == RespPayload(stack)


def test_a_later_version_may_use_the_zeros_of_init() -> None:
    data = bytearray(InitPayload(1, bytes(16), version=2).pack())
    data[9:16] = b"\xff" * 7
    data[32:] = b"\xff" * 24
    assert InitPayload.parse(bytes(data)) == InitPayload(1, bytes(16), version=2)


def test_fingerprints() -> None:
    assert stack_fingerprint(["b", "a"]) == stack_fingerprint(("a", "b"))
    assert len({stack_fingerprint(stack) for stack in ([], ["a"], ["a", "b"], ["ab"], ["a", "a"])}) == 5
    assert len(stack_fingerprint([])) == 16
    for kind in (lambda stack: InitPayload(0, stack), RespPayload):
        with pytest.raises(ValueError, match="16 bytes"):
            kind(bytes(15)).pack()


def test_everything_at_its_largest_fits() -> None:
    addresses = tuple(ip_interface(f"2001:db8::{n}/128") for n in range(8))
    networks = tuple(ip_network(f"2001:db8:{n}::/48") for n in range(24))
    name = "x" * 63
    confirm = ConfirmPayload(name=name, mtu=65535, addresses=addresses, routes=networks, stack=("y" * 32,) * 8)
    welcome = Welcome(name=name, mtu=65535, addresses=addresses, networks=networks, hub_addresses=addresses)
    assert max(len(confirm.pack()), len(welcome.pack())) <= tlv.MAX_BODY
    assert ConfirmPayload.parse(confirm.pack()) == confirm


@pytest.mark.parametrize(
    "frame",
    [
        Welcome(name="", mtu=1400),
        Welcome(name="x" * 64, mtu=1400),
        Welcome(name="a\x1bb", mtu=1400),
        Welcome(name="hub", mtu=575),
        Welcome(name="hub", mtu=65536),
        Welcome(name="hub", mtu=1400, addresses=(ip_interface("10.0.0.1/24"),) * 9),
        Welcome(name="hub", mtu=1400, behind=(ip_network("10.0.0.0/8"),) * 25),
        Peers((PeerEntry(bytes(32), "a", behind=(ip_network("10.0.0.0/8"),) * 25),)),
        Peers((PeerEntry(bytes(31), "a"),)),
        Peers((PeerEntry(bytes(32), "a"),) * 17),
        Peers((PeerEntry(bytes(32), "x" * 63),) * 12),
        Ping(bytes(7)),
        ConfirmPayload(name="a", mtu=1400, stack=("x" * 33,)),
        ConfirmPayload(name="a", mtu=1400, stack=("ü",)),
        ConfirmPayload(name="a", mtu=1400, stack=("a",) * 9),
    ],
)
def test_what_a_reader_would_refuse_is_not_sent(frame: Frame | ConfirmPayload) -> None:
    with pytest.raises(ValueError, match=r".+"):
        frame.pack()


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ((fields.Field.NAME, b"a\x1bb"), "not printable"),
        ((fields.Field.NAME, "a\u202eb".encode()), "not printable"),
        ((fields.Field.NAME, b"\xff"), "not UTF-8"),
        ((fields.Field.MTU, b"\x00\x44"), "MTU 68"),
        ((fields.Field.STACK, b"a\nb"), "printable ASCII"),
        ((fields.Field.STACK, b"\xc3\xbc"), "printable ASCII"),
        ((fields.Field.ADDRESS, b"\x21\x0a\x00\x00\x01"), "not an address"),
        ((fields.Field.NETWORK, b"\x08\x0a\x00\x00\x01"), "host bits"),
    ],
)
def test_what_a_hostile_node_may_put_into_confirm(entry: tuple[int, bytes], problem: str) -> None:
    entries = {fields.Field.NAME: b"node", fields.Field.MTU: b"\x05\x78"} | dict([entry])
    data = b"".join(bytes((kind,)) + len(value).to_bytes(2, "big") + value for kind, value in entries.items())
    with pytest.raises(WireError, match=problem):
        ConfirmPayload.parse(data)


def test_reasons_are_safe_to_print() -> None:
    text = "no\x1b]0;title\x07 \u202eway\n"
    for frame in (Deny(DenyCode.FULL, text), Bye(ByeCode.STOPPED, text)):
        parsed = frames.parse_frame(frame.TYPE, frame.pack())
        assert isinstance(parsed, Deny | Bye)
        assert parsed.text == r"no\x1b]0;title\x07 \u202eway\x0a"


def test_long_reasons_are_cut_between_characters() -> None:
    parsed = Deny.parse(Deny(DenyCode.FULL, "ü" * 150 + "\ud800").pack())
    assert parsed.text == "ü" * 100
    assert Deny.parse(Deny(DenyCode.FULL, "x" + "ü" * 150).pack()).text == "x" + "ü" * 99


def test_unknown_codes_read_as_other() -> None:
    assert Deny.parse(b"\x0a\x00\x01\xfe") == Deny(DenyCode.OTHER)
    assert Bye.parse(b"\x0a\x00\x01\xfe") == Bye(ByeCode.OTHER)


def test_a_newer_hub_may_say_more() -> None:
    """Optional entries are skipped and unknown flags ignored; entries that must be understood are refused."""
    body = WELCOME.pack()
    assert Welcome.parse(body + b"\x90\x00\x02ab") == WELCOME
    assert Welcome.parse(body[:-1] + b"\xfe") == WELCOME
    with pytest.raises(WireError, match="unknown entry"):
        Welcome.parse(body + b"\x10\x00\x02ab")


def test_ping_and_pong() -> None:
    assert Ping(b"12345678", 4).pack() == b"12345678\0\0\0\0"
    assert Ping.parse(b"12345678\0\0\0\0") == Ping(b"12345678", 4)
    assert len(Ping(b"12345678", 1300).pack()) == len(Pong(b"12345678", 1300).pack())
    assert not isinstance(Pong(bytes(8)), Ping)
    with pytest.raises(WireError, match="not zero"):
        Ping.parse(b"12345678\0\0\0\1")
    with pytest.raises(WireError, match="7 bytes"):
        Pong.parse(bytes(7))


# ---------------------------------------------------------------- finding paths


@pytest.mark.parametrize("length", [0, 8, 31, 33])
@pytest.mark.parametrize("kind", [Observe, Observed])
def test_observe_and_observed_have_one_length(kind: type[Observe | Observed], length: int) -> None:
    with pytest.raises(WireError, match=f"{length} bytes"):
        kind.parse(bytes(length))


def test_observe_and_observed_are_equally_long() -> None:
    observed = Observed(b"token123", False, 0, ("2001:db8::1", 1))
    assert len(Observe(b"token123").pack()) == len(observed.pack()) == 32


@pytest.mark.parametrize("frame", [Observe(b"token123"), Observed(b"token123", False, 1, ("192.0.2.1", 7))])
def test_padding_behind_observe_and_observed_is_zero(frame: Observe | Observed) -> None:
    with pytest.raises(WireError, match="zero"):
        type(frame).parse(frame.pack()[:-1] + b"\x01")


def test_observed_without_a_port_is_refused() -> None:
    with pytest.raises(WireError, match="port"):
        Observed.parse(bytes(32))


PUNCH = Punch(stage=PunchStage.READY, key=bytes(32))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0a 00 01 03", "0a 00 01 06"),  # a stage that there is not
        ("0e 00 04 00", "0e 00 04 04"),  # a dependence that there is not
        ("0e 00 04 00 00 00 00", "0e 00 04 00 00 00 03"),
        ("0c 00 01", "0d 00 01"),  # no round
    ],
)
def test_punch_with_numbers_that_are_none(old: str, new: str) -> None:
    body = PUNCH.pack()
    changed = body.replace(bytes.fromhex(old), bytes.fromhex(new))
    assert changed != body
    with pytest.raises(WireError):
        Punch.parse(changed)


@pytest.mark.parametrize(
    "value",
    [
        "01 11 00 00 00000000 0000000000000000 c0000207",  # no port
        "05 11 00 01 00000000 0000000000000000 c0000207",  # no such kind
        "01 12 00 01 00000000 0000000000000000 c0000207",  # no such carrier
        "01 11 00 01 00000000 0000000000000000 c000020708",  # an address of five bytes
        "01 11 00 01 00000000 0000000000000000 00000000000000000000ffffc0000207",  # IPv4 as IPv6
    ],
)
def test_candidates_that_are_none(value: str) -> None:
    entry = bytes.fromhex(value)
    with pytest.raises(WireError):
        Punch.parse(PUNCH.pack() + bytes((fields.Field.CANDIDATE, 0, len(entry))) + entry)


def test_punch_is_bounded() -> None:
    candidate = Candidate(kind=CandidateKind.HOST, address=("2001:db8::1", 9000), priority=1)
    assert len(Punch(stage=PunchStage.START, key=bytes(32), candidates=(candidate,) * 8, reason="r" * 300).pack()) < 600
    with pytest.raises(ValueError, match="entries"):
        Punch(stage=PunchStage.START, key=bytes(32), candidates=(candidate,) * 9).pack()
    with pytest.raises(ValueError, match="delay"):
        Punch(stage=PunchStage.START, key=bytes(32), delay=66.0).pack()


@given(st.binary(max_size=60))
def test_any_bytes_give_a_relay_trailer_or_a_wire_error(frame: bytes) -> None:
    try:
        trailer = RelayTrailer.parse(frame)
    except WireError:
        assert len(frame) <= 18 or frame[-1] != FrameType.RELAY
        return
    assert frame.endswith(trailer.pack())


def test_names_of_nodes() -> None:
    assert node_name(bytes(32)) == bytes.fromhex("66687aadf862bd77")  # SHA-256 of 32 zero bytes
    with pytest.raises(ValueError, match="8 bytes"):
        RelayTrailer(b"short", bytes(8), 1).pack()
