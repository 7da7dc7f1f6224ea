"""Conformance of ciphers: `ltunnel.plugin.Aead` and its descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ltunnel.constants import DATA_HEADER, MAX_ROWS, TAG
from ltunnel.plugin import Aead, CipherDescriptor
from ltunnel.testing.conformance.base import DescriptorConformance

NONCE = 12
_GUARD = 0xA5


class Rows:
    """Rows of equal or different lengths in one buffer, with guard bytes around each."""

    def __init__(self, lengths: Sequence[int], gap: int = DATA_HEADER) -> None:
        self.buffer = bytearray([_GUARD]) * (sum(lengths) + gap * (len(lengths) + 1))
        self.spans: list[tuple[int, int]] = []
        at = gap
        for length in lengths:
            self.spans.append((at, at + length))
            at += length + gap

    def views(self) -> list[memoryview]:
        """Return a view of each row."""
        whole = memoryview(self.buffer)
        return [whole[start:end] for start, end in self.spans]

    def row(self, index: int) -> bytes:
        """Return a copy of a row."""
        start, end = self.spans[index]
        return bytes(self.buffer[start:end])

    def outside(self) -> bytes:
        """Return what lies between the rows."""
        rest = bytearray(self.buffer)
        for start, end in reversed(self.spans):
            del rest[start:end]
        return bytes(rest)

    def is_clean(self) -> bool:
        """Whether nothing was written between the rows."""
        return not self.outside().strip(bytes([_GUARD]))


class AeadConformance(DescriptorConformance):
    """``class TestMine(AeadConformance): descriptor = ltunnel_cipher()``.

    Ciphers that do not protect (`secure` is False) need not pass the part about protection.
    """

    descriptor: ClassVar[CipherDescriptor]

    def make_aead(self, key: bytes | None = None) -> Aead:
        """Return an AEAD with a key, the same one unless another is given."""
        return self.descriptor.create(self.make_options(), key or bytes(range(self.descriptor.key_size)))

    def make_nonces(self, count: int, first: int = 0) -> list[memoryview]:
        """Return nonces as the data path has them: rows of one array."""
        packed = b"".join(b"\6\0\0\1" + (first + i).to_bytes(8, "big") for i in range(count))
        whole = memoryview(bytearray(packed))
        return [whole[i * NONCE : (i + 1) * NONCE] for i in range(count)]

    def seal(self, rows: Sequence[bytes], first: int = 0) -> Rows:
        """Seal rows of any lengths."""
        sealed = Rows([len(row) + TAG for row in rows])
        plain = [memoryview(bytearray(row)) for row in rows]
        self.make_aead().seal(self.make_nonces(len(rows), first), plain, sealed.views())
        return sealed

    def test_descriptor_names(self) -> None:
        """The wire name is short and printable, the key has a size."""
        name = self.descriptor.wire_name
        assert 1 <= len(name) <= 16
        assert name.isascii()
        assert name.isprintable()
        assert "_" not in name, "an underscore would split the Noise protocol's name"
        assert self.descriptor.key_size > 0

    def test_round_trip(self) -> None:
        """What is sealed opens again, for batches of one to `MAX_ROWS` rows from 1 byte to the largest datagram."""
        random = self.make_random()
        batches = [[1], [2, 1], [15, 16, 17], [1372] * MAX_ROWS, [1372] * 12 + [77], [65_479], list(range(1, 65))]
        for lengths in batches:
            rows = [random.randbytes(length) for length in lengths]
            sealed = self.seal(rows)
            plain = Rows(lengths)
            nonces = self.make_nonces(len(rows))
            assert self.make_aead().open(nonces, sealed.views(), plain.views()) == len(rows)
            assert [plain.row(i) for i in range(len(rows))] == rows
            assert sealed.is_clean(), "seal wrote outside its rows"
            assert plain.is_clean(), "open wrote outside its rows"

    def test_one_object_does_both_again_and_again(self) -> None:
        """An AEAD keeps no state from call to call: order and number of calls do not matter."""
        aead = self.make_aead()
        sealed = [self.seal([bytes([i]) * 50], first=i) for i in range(5)]
        for i in (3, 0, 4, 3, 1):
            plain = Rows([50])
            assert aead.open(self.make_nonces(1, first=i), sealed[i].views(), plain.views()) == 1
            assert plain.row(0) == bytes([i]) * 50
            again = Rows([50 + TAG])
            aead.seal(self.make_nonces(1, first=i), plain.views(), again.views())
            assert again.row(0) == sealed[i].row(0), "the same input must seal to the same bytes"

    def test_plain_text_is_left_alone(self) -> None:
        """Sealing does not change what it seals, opening does not change what it opens."""
        plain = Rows([100, 200, 30])
        before = bytes(plain.buffer)
        sealed = Rows([116, 216, 46])
        aead, nonces = self.make_aead(), self.make_nonces(3)
        aead.seal(nonces, plain.views(), sealed.views())
        assert bytes(plain.buffer) == before
        cipher_text = bytes(sealed.buffer)
        aead.open(nonces, sealed.views(), Rows([100, 200, 30]).views())
        assert bytes(sealed.buffer) == cipher_text

    def test_lists_may_be_longer(self) -> None:
        """The list that is worked on decides the number of rows; the rest of the others is not touched."""
        aead, nonces = self.make_aead(), self.make_nonces(MAX_ROWS)
        rows = [bytes([i]) * 40 for i in range(3)]
        sealed = Rows([40 + TAG] * 6)
        aead.seal(nonces, [memoryview(bytearray(row)) for row in rows], sealed.views())
        for i in range(3, 6):
            assert sealed.row(i) == bytes([_GUARD]) * (40 + TAG), "seal touched a row that it was not given"
        plain = Rows([40] * 6)
        assert aead.open(nonces, sealed.views()[:3], plain.views()) == 3
        assert [plain.row(i) for i in range(3)] == rows
        for i in range(3, 6):
            assert plain.row(i) == bytes([_GUARD]) * 40, "open touched a row that it was not given"

    def test_empty_batch(self) -> None:
        """A batch of nothing is nothing."""
        aead, nonces = self.make_aead(), self.make_nonces(2)
        aead.seal(nonces, [], Rows([20]).views())
        assert aead.open(nonces, [], Rows([20]).views()) == 0

    def test_opens_in_order_into_overlapping_rows(self) -> None:
        """``plain[i + 1]`` may start inside ``plain[i]``: later rows overwrite the tails of earlier ones."""
        tail, body, count = 28, 1300, 40
        random = self.make_random()
        rows = [random.randbytes(body + tail) for _ in range(count)]
        sealed = self.seal(rows)
        buffer = memoryview(bytearray(count * body + tail))
        views = [buffer[i * body : (i + 1) * body + tail] for i in range(count)]
        assert self.make_aead().open(self.make_nonces(count), sealed.views(), views) == count
        assert bytes(buffer) == b"".join(row[:body] for row in rows) + rows[-1][body:]

    def test_keeps_no_reference(self) -> None:
        """After the call no buffer is held: a bytearray that somebody still views cannot be resized."""
        aead = self.make_aead()
        plain, sealed = Rows([60] * 4), Rows([60 + TAG] * 4)
        aead.seal(self.make_nonces(4), plain.views(), sealed.views())
        assert aead.open(self.make_nonces(4), sealed.views(), plain.views()) == 4
        damaged = sealed.views()
        damaged[2][0] ^= 1
        aead.open(self.make_nonces(4), damaged, plain.views())
        del damaged
        for rows in (plain, sealed):
            try:
                rows.buffer.extend(b"more")
            except BufferError:
                raise AssertionError("a view of a buffer was kept after the call") from None

    def test_messages(self) -> None:
        """Short messages with associated data come back, also empty ones, and interoperate between objects."""
        nonce = bytes(NONCE)
        for data in (b"", b"x", bytes(300)):
            for associated in (b"", b"transcript", bytes(64)):
                sealed = self.make_aead().seal_message(nonce, data, associated)
                assert len(sealed) == len(data) + TAG
                assert self.make_aead().open_message(nonce, sealed, associated) == data

    def test_messages_equal_rows(self) -> None:
        """A message without associated data is sealed as a row is: control frames and rows share one format."""
        nonce = self.make_nonces(1)[0]
        assert self.make_aead().seal_message(bytes(nonce), b"frame", b"") == self.seal([b"frame"]).row(0)

    def test_short_messages_do_not_open(self) -> None:
        """What is shorter than a tag is no message."""
        if self.descriptor.secure:
            for length in range(TAG):
                assert self.make_aead().open_message(bytes(NONCE), bytes(length), b"") is None

    def test_tampering_is_seen_everywhere(self) -> None:
        """One flipped bit in any byte of a sealed row, or in its nonce, and it does not open."""
        if not self.descriptor.secure:
            return
        aead = self.make_aead()
        for length in (1, 20, 33):
            sealed = self.seal([bytes(range(length))])
            view = sealed.views()[0]
            for at in range(length + TAG):
                view[at] ^= 1 << (at % 8)
                assert aead.open(self.make_nonces(1), [view], Rows([length]).views()) == 0, f"flipped byte {at}"
                view[at] ^= 1 << (at % 8)
            for at in range(NONCE):
                nonces = self.make_nonces(1)
                nonces[0][at] ^= 1
                assert aead.open(nonces, [view], Rows([length]).views()) == 0, f"flipped byte {at} of the nonce"
            assert aead.open(self.make_nonces(1), [view], Rows([length]).views()) == 1

    def test_stops_at_first_failure(self) -> None:
        """Returns how many rows were opened before the first that does not authenticate; those are right."""
        if not self.descriptor.secure:
            return
        rows = [bytes([i]) * 64 for i in range(10)]
        for bad in (0, 1, 5, 9):
            sealed = self.seal(rows)
            sealed.views()[bad][70] ^= 0x80
            plain = Rows([64] * 10)
            assert self.make_aead().open(self.make_nonces(10), sealed.views(), plain.views()) == bad
            assert [plain.row(i) for i in range(bad)] == rows[:bad]
            for i in range(bad + 1, 10):
                assert plain.row(i) == bytes([_GUARD]) * 64, "rows after the failure must not be opened"

    def test_keys_matter(self) -> None:
        """Another key opens nothing, and the sealed bytes do not show the plain ones."""
        if not self.descriptor.secure:
            return
        secret = b"a row that nobody else may read"
        sealed = self.seal([secret])
        assert secret[:8] not in sealed.row(0)
        other = self.make_aead(bytes(range(1, self.descriptor.key_size + 1)))
        assert other.open(self.make_nonces(1), sealed.views(), Rows([len(secret)]).views()) == 0

    def test_nonces_matter(self) -> None:
        """Equal rows under different nonces look different."""
        if self.descriptor.secure:
            sealed = self.seal([b"same row"] * 8)
            assert len({sealed.row(i) for i in range(8)}) == 8

    def test_message_tampering(self) -> None:
        """Neither data, nor nonce, nor associated data of a message can be changed."""
        if not self.descriptor.secure:
            return
        aead = self.make_aead()
        nonce, associated = bytes(range(NONCE)), b"associated"
        sealed = aead.seal_message(nonce, b"message", associated)
        for at in range(len(sealed)):
            assert aead.open_message(nonce, _flip(sealed, at), associated) is None
        for at in range(NONCE):
            assert aead.open_message(_flip(nonce, at), sealed, associated) is None
        for at in range(len(associated)):
            assert aead.open_message(nonce, sealed, _flip(associated, at)) is None
        assert aead.open_message(nonce, sealed, b"") is None
        assert aead.open_message(nonce, sealed, associated) == b"message"


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
