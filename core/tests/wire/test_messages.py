import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.errors import WireError
from ltunnel.wire import messages
from ltunnel.wire.messages import Confirm, Cookie, Init, Message, Resp, Time, parse

INDEX = st.integers(0, messages.INDEX_LIMIT - 1)


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


MESSAGES = st.one_of(
    st.builds(Init, INDEX, exactly(2), exactly(104), exactly(16), exactly(16)),
    st.builds(Resp, INDEX, INDEX, exactly(112), exactly(16)),
    st.builds(Confirm, INDEX, INDEX, st.binary(min_size=64, max_size=64 + 1152), exactly(16)),
    st.builds(Cookie, INDEX, exactly(16), exactly(32)),
    st.builds(Time, INDEX, exactly(16), exactly(32)),
)

SAMPLES = (
    Init(0x010203, b"cc", b"n" * 104, b"1" * 16, b"2" * 16),
    Resp(0x010203, 0x040506, b"n" * 112, b"1" * 16),
    Confirm(0x010203, 0x040506, b"n" * 100, b"1" * 16),
    Cookie(0x010203, b"s" * 16, b"c" * 32),
    Time(0x010203, b"s" * 16, b"t" * 32),
)


@given(MESSAGES)
def test_round_trip(message: Message) -> None:
    assert parse(message.pack()) == message


@given(st.binary(max_size=1400))
def test_any_bytes_give_a_message_or_a_wire_error(data: bytes) -> None:
    try:
        message = parse(data)
    except WireError:
        return
    assert message.pack() == data


@given(MESSAGES, st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), max_size=4), st.integers(0, 1400))
def test_any_change_gives_a_message_or_a_wire_error(
    message: Message, changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(message.pack())
    for position, value in changes:
        data[position % len(data)] = value
    for datagram in (bytes(data), bytes(data[:length])):
        try:
            parsed = parse(datagram)
        except WireError:
            continue
        assert parsed.pack() == datagram


def test_sizes() -> None:
    assert [len(message.pack()) for message in SAMPLES] == [144, 140, 92 + 36, 56, 56]


def test_no_reply_is_larger_than_its_request() -> None:
    init, resp, _, cookie, time = (len(message.pack()) for message in SAMPLES)
    assert max(resp, cookie, time) <= init


def test_mac_offsets() -> None:
    init, resp, confirm = (message.pack() for message in SAMPLES[:3])
    assert init[messages.INIT_MAC1 :] == b"1" * 16 + b"2" * 16
    assert init[messages.INIT_MAC2 :] == b"2" * 16
    assert resp[messages.RESP_MAC1 :] == b"1" * 16
    assert confirm[messages.CONFIRM_MAC1 :] == b"1" * 16


@pytest.mark.parametrize("message", SAMPLES)
def test_every_field_is_read_from_its_own_place(message: Message) -> None:
    """A changed byte is refused or changes the message: none is ignored."""
    data = message.pack()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0xFF
        try:
            assert parse(bytes(changed)) != message, position
        except WireError:
            continue


@pytest.mark.parametrize("message", SAMPLES[1:])
@pytest.mark.parametrize("position", [1, 2, 3])
def test_reserved_bytes_are_zero(message: Message, position: int) -> None:
    data = bytearray(message.pack())
    data[position] = 1
    with pytest.raises(WireError, match="reserved"):
        parse(bytes(data))


@pytest.mark.parametrize(("message", "position"), [(m, 4) for m in SAMPLES] + [(m, 8) for m in SAMPLES[1:3]])
def test_indices_have_24_bits(message: Message, position: int) -> None:
    data = bytearray(message.pack())
    data[position] = 1
    with pytest.raises(WireError, match="24 bits"):
        parse(bytes(data))


@pytest.mark.parametrize("message", SAMPLES)
def test_every_other_length_is_refused(message: Message) -> None:
    data = message.pack()
    lengths = range(92) if isinstance(message, Confirm) else range(len(data))
    for length in lengths:
        with pytest.raises(WireError):
            parse(data[:length])
    with pytest.raises(WireError):
        parse(data + bytes(1400))


def test_confirm_bounds() -> None:
    largest = Confirm(1, 2, bytes(64 + 1152)).pack()
    assert len(parse(largest).pack()) == 92 + 1152
    with pytest.raises(WireError, match="CONFIRM of 1245 bytes"):
        parse(largest + b"\0")


def test_other_versions_are_named() -> None:
    data = bytearray(SAMPLES[0].pack())
    data[1] = 2
    with pytest.raises(WireError, match="INIT of version 2"):
        parse(bytes(data) + b"more")


@pytest.mark.parametrize("kind", [0, 6, 7, 0x16, 0x45, 255])
def test_what_is_no_handshake_message(kind: int) -> None:
    with pytest.raises(WireError, match=f"type {kind}"):
        parse(bytes((kind,)) + bytes(143))


@pytest.mark.parametrize(
    "message",
    [
        Init(1 << 24, b"cc", bytes(104)),
        Init(1, b"c", bytes(104)),
        Init(1, b"cc", bytes(103)),
        Init(1, b"cc", bytes(104), bytes(15)),
        Resp(1, -1, bytes(112)),
        Resp(1, 1, bytes(113)),
        Confirm(1, 1, bytes(63)),
        Confirm(1, 1, bytes(64 + 1153)),
        Cookie(1, bytes(15), bytes(32)),
        Time(1, bytes(16), bytes(33)),
    ],
)
def test_what_does_not_fit_is_not_sent(message: Message) -> None:
    with pytest.raises(ValueError, match=r"bytes|24 bits"):
        message.pack()


def test_ciphers_are_told_apart() -> None:
    marks = {messages.cipher_mark(name) for name in ("AESGCM", "PLAIN", "ChaChaPoly")}
    assert len(marks) == 3
    assert all(len(mark) == 2 for mark in marks)
