"""Datagrams in, datagrams out, whatever happens to the boundaries of segments in between."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ltunnel_transport_faketcp.reader import LARGEST, PIECE_BYTES, PIECES, SLOTS, Reader
from ltunnel_transport_faketcp.slots import runs, slot_size, write_prefixes

MOD = 2**32


def make_batch(random: Random, size: int, count: int, last: int = 0) -> tuple[list[bytes], bytes]:
    """Return datagrams and the slots that a sender makes of them."""
    datagrams = [random.randbytes(size) for _ in range(count)] + [random.randbytes(last)] * (last > 0)
    buf = bytearray(b"".join(b"??" + datagram for datagram in datagrams))
    write_prefixes(memoryview(buf), 0, len(buf), size + 2)
    return datagrams, bytes(buf)


batches = st.lists(
    st.tuples(st.integers(1, 1500), st.integers(1, 12), st.integers(0, 1500)).map(lambda b: (b[0], b[1], b[2] % b[0])),
    min_size=1,
    max_size=8,
)


def receive(pieces: list[tuple[int, bytes, bool]], first: int) -> list[bytes]:
    """Do with (seq, data, pushed) what a transport does; return the datagrams."""
    reader, found = Reader(first), []
    for seq, data, pushed in pieces:
        view = memoryview(data)
        seg = slot_size(view, 0, len(data))
        if seg and reader.skip(seq, len(data), seg, pushed=pushed):
            got = [(data, seg)]
        else:
            got = runs(reader.read(seq, data, pushed=pushed))
        for batch, size in got:
            assert 0 < len(batch) <= 65_507
            found += [batch[at + 2 : at + size] for at in range(0, len(batch), size)]
    return found


@given(batches, st.integers(0, MOD - 1), st.randoms(use_true_random=False))
def test_whole_batches_and_single_segments(plan, first, random):
    """GRO joins all, some or none of a batch's segments: each arrives with one look."""
    sent, pieces, seq = [], [], first
    for size, count, last in plan:
        datagrams, data = make_batch(random, size, count, last)
        sent += datagrams
        at = 0
        while at < len(data):
            step = min((size + 2) * random.randint(1, 12), len(data) - at)
            piece = data[at : at + step]
            assert slot_size(memoryview(piece), 0, step) == min(size + 2, step)
            at += step
            pieces.append((seq, piece, at == len(data)))
            seq = (seq + step) % MOD
    assert receive(pieces, first) == sent


@given(batches, st.integers(0, MOD - 1), st.randoms(use_true_random=False), st.booleans())
def test_cut_and_joined_anywhere(plan, first, random, keeps_pushes):
    """A middlebox cuts the stream as it likes; nothing is lost, so everything arrives, in order."""
    sent, stream, pushes, begins = [], b"", set(), set()
    for size, count, last in plan:
        datagrams, data = make_batch(random, size, count, last)
        sent += datagrams
        begins.update(range(len(stream), len(stream) + len(data), size + 2))
        stream += data
        pushes.add(len(stream))
    pieces, at = [], 0
    while at < len(stream):
        end = min(at + random.choice((1, 2, 3, random.randint(1, 3000))), len(stream))
        if keeps_pushes:  # as segmentation does: the flag stays with the last byte
            end = min([end, *(push for push in pushes if push > at)])
        if at not in begins and slot_size(memoryview(stream[at:end]), 0, end - at):
            end = at + 1  # a piece that looks whole by chance, one in 65,536, is taken for that
        pieces.append(((first + at) % MOD, stream[at:end], keeps_pushes and end in pushes))
        at = end
    assert receive(pieces, first) == sent


def test_found_again_after_a_loss():
    """Slots of 1438 bytes in segments of 1388: what is lost costs the slots that it touches, not the rest."""
    random = Random(3)
    first = MOD - 100_000
    sent, pieces, at, lost = [], [], first, 0
    reader = Reader(first)
    for _ in range(200):
        datagrams, data = make_batch(random, 1436, 40, random.randint(1, 1435))
        sent += datagrams
        for offset in range(0, len(data), 1388):
            piece = data[offset : offset + 1388]
            if random.random() < 0.02:
                lost += 1
            else:
                pieces.append(((at + offset) % MOD, piece, offset + 1388 >= len(data)))
        at += len(data)
    found = []
    for seq, data, pushed in pieces:
        found += [bytes(slot[2:]) for slot in reader.read(seq, data, pushed=pushed)]
    wrong = [datagram for datagram in found if datagram not in set(sent)]
    assert len(sent) - len(set(found) & set(sent)) < 3 * lost
    assert len(wrong) < lost * 0.1


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, MOD - 1), st.binary(max_size=400), st.booleans(), st.booleans()), max_size=30))
def test_nonsense_is_bounded(pieces):
    """Whatever comes, in whatever order: no exception, and never more kept than one partial slot."""
    reader = Reader(0)
    for seq, data, pushed, follows in pieces:
        partial = reader._partials[-1] if reader._partials else None
        expected = partial.begin + partial.holes[0][0] if partial else reader.aligned
        for slot in reader.read(expected % MOD if follows else seq, data, pushed=pushed):
            assert 2 < len(slot) <= LARGEST
        assert len(reader._partials) <= SLOTS
        assert all(len(partial.data) <= LARGEST for partial in reader._partials)
        assert len(reader._early) <= PIECES
        assert sum(len(piece) for _, piece, _ in reader._early) <= PIECE_BYTES


def test_a_push_ends_a_partial_slot():
    """After the end of a batch a slot begins, so half a slot in front of it will never be whole."""
    reader = Reader(0)
    assert reader.read(0, b"\0\x08half", pushed=True) == []
    assert reader.read(6, b"\0\x03new\0\x09ne", pushed=False) == [b"\0\x03new"]
    assert reader.read(15, b"xt slot", pushed=True) == [b"\0\x09next slot"]


def test_too_large_for_a_slot():
    reader = Reader(0)
    start = (LARGEST - 1).to_bytes(2, "big") + bytes(1000)
    assert reader.read(0, start, pushed=False) == []
    assert reader._partials == []
    assert reader.read(1002, b"\0\x01a", pushed=True) == [b"\0\x01a"]


def test_slot_size():
    whole = {b"\0\1a": 3, b"\0\1a\0\1b": 3, b"\0\2ab\0\1c": 4, b"\0\2ab\0\2cd\0\1e": 4}
    for data, size in whole.items():
        assert slot_size(memoryview(data), 0, len(data)) == size
    for data in (
        b"", b"\0", b"\0\1", b"\0\0", b"\0\1ab", b"\0\2ab\0\2c", b"\0\2ab\0\1c\0\2de", b"\0\2ab\1\2cd",
        b"\0\0\0\0", b"\0\2ab\0\0", b"\0\2ab\0", b"\0\3abc\0\3def\0\1",
    ):  # fmt: skip
        assert slot_size(memoryview(data), 0, len(data)) == 0
    assert slot_size(memoryview(b"xx\0\1ayy"), 2, 5) == 3


def test_slot_size_of_joined_segments():
    """Where every segment is a slot, only the first and the last are looked at."""
    assert slot_size(memoryview(b"\0\2ab\0\2cd\0\1e"), 0, 11, 4) == 4
    assert slot_size(memoryview(b"\0\2ab\7\7cd\0\1e"), 0, 11, 4) == 4
    assert slot_size(memoryview(b"\0\2ab\0\2cd\0\2e"), 0, 11, 4) == 0
    assert slot_size(memoryview(b"\0\2ab\7\7cd\0\1e"), 0, 11, 5) == 0
    assert slot_size(memoryview(b"\0\0\0\0"), 0, 4, 2) == 0


def test_runs():
    def slot(size: int) -> bytes:
        return bytes(size)

    assert runs([]) == []
    sizes = [[len(batch), seg] for batch, seg in runs([slot(n) for n in (5, 5, 3, 5, 7, 7, 2, 2)])]
    assert sizes == [[13, 5], [5, 5], [16, 7], [2, 2]]
    assert [len(batch) for batch, _ in runs([slot(1000)] * 100)] == [65_000, 35_000]


def test_a_datagram_too_large_for_a_packet_is_dropped(make_wall):
    wall = make_wall()
    flow, _ = wall.open_flow()
    sent = flow.sent
    assert not wall.node.send(flow, [bytes(65_507)], wall.now)
    assert not wall.node.send(flow, [bytes(65_507)] * 2, wall.now)
    assert flow.sent == sent
    assert wall.node.send(flow, [b"after"], wall.now)
    wall.run(0.5)
    assert wall.hub.datagrams == [b"after"]
