"""Large slots that arrive in pieces: in any order, with losses, repeats and overlaps, and what that may cost."""

from __future__ import annotations

from itertools import pairwise, permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltunnel.constants import HEADROOM
from ltunnel.testing import Quality
from ltunnel.testing.segments import fields_of, make_payload
from ltunnel_transport_faketcp.memory import LIMIT, Memory
from ltunnel_transport_faketcp.reader import LARGEST, MOST, PIECE_BYTES, PIECES, SLOT_BYTES, SLOTS, Reader

MOD = 2**32
WRAPS = MOD - 30_000

Piece = tuple[int, bytes, bool]


def make_slot(size: int, seed: int = 1) -> bytes:
    return (size - 2).to_bytes(2, "big") + Random(seed).randbytes(size - 2)


def cut(slot: bytes, begin: int, *places: int) -> list[Piece]:
    """Cut a slot that begins at `begin`; the last piece has the PSH, as what ends a batch."""
    bounds = [0, *places, len(slot)]
    return [((begin + at) % MOD, slot[at:end], end == len(slot)) for at, end in pairwise(bounds)]


def every(slot: bytes, begin: int, size: int) -> list[Piece]:
    return cut(slot, begin, *range(size, len(slot), size))


def read(reader: Reader, pieces: list[Piece]) -> list[bytes]:
    return [bytes(slot) for seq, data, pushed in pieces for slot in reader.read(seq, data, pushed=pushed)]


def is_empty(reader: Reader) -> bool:
    return not reader._partials and not reader._early


@pytest.mark.parametrize("begin", [0, 5, WRAPS])
@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_any_order(begin, order):
    slot = make_slot(60_000)
    pieces = cut(slot, begin, 1448, 30_000, 58_552)
    reader = Reader(begin)
    assert read(reader, [pieces[i] for i in order]) == [slot]
    assert is_empty(reader)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_any_order_of_two(order):
    """Nothing waits: the second is handed over when it is whole, though the first is not."""
    first, second = make_slot(50_000, 1), make_slot(40_000, 2)
    pieces = [*cut(first, WRAPS, 25_000), *cut(second, (WRAPS + 50_000) % MOD, 20_000)]
    reader = Reader(WRAPS)
    found = read(reader, [pieces[i] for i in order])
    assert sorted(found) == sorted([first, second])
    if sorted(order[:3])[0] == 0 and set(order[:3]) == {0, 2, 3}:
        assert found == [second, first]
    assert is_empty(reader)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, MOD - 1), st.integers(0, 12),
       st.sampled_from(((60_000,), (60_000, 1448, 700, 3000))))  # fmt: skip
def test_a_network_that_reorders_a_little(seed, first, distance, sizes):
    """Slots in segments of 1448 bytes, each up to `distance` places late: all arrive.

    Where there are small ones, besides the large, something may be taken for one by chance; the core drops that.
    """
    random, begin = Random(seed), first
    slots, pieces = [], []
    for number in range(8):
        slots.append(make_slot(random.choice(sizes), number))
        pieces += every(slots[-1], begin, 1448)
        begin = (begin + len(slots[-1])) % MOD
    order = sorted(range(len(pieces)), key=lambda i: i + random.uniform(0, distance))
    reader = Reader(first)
    found = []
    for i in order:  # as the transport does: what looks whole is not read
        seq, data, pushed = pieces[i]
        whole = int.from_bytes(data[:2], "big") + 2 == len(data)
        if whole and reader.skip(seq, len(data), len(data), pushed=pushed):
            found.append(data)
        else:
            found += read(reader, [pieces[i]])
    assert set(slots) <= set(found)
    assert len(found) == 8 or len(sizes) > 1


@pytest.mark.parametrize("lost", range(5))
def test_a_loss_costs_its_own_slot_alone(lost):
    slots = [make_slot(60_000, number) for number in range(4)]
    reader, found = Reader(0), []
    for number, slot in enumerate(slots):
        pieces = cut(slot, number * 60_000, 1448, 20_000, 40_000, 58_552)
        if number == 1:
            del pieces[lost]
        found += read(reader, pieces)
    assert found == [slots[0], slots[2], slots[3]]
    assert len(reader._partials) <= 1


def test_small_slots_at_once_while_a_large_one_lacks_something():
    large = cut(make_slot(60_000), 0, 20_000, 40_000)
    small = make_slot(500, 2) + make_slot(500, 3)
    reader = Reader(0)
    assert read(reader, [large[0], large[2]]) == []
    assert read(reader, [(60_000, small[:700], False)]) == [small[:500]]
    assert read(reader, [(60_700, small[700:], True)]) == [small[500:]]
    assert read(reader, [large[1]]) == [large[0][1] + large[1][1] + large[2][1]]


def test_repeats_and_overlaps():
    slot = make_slot(60_000)
    reader = Reader(0)
    pieces = every(slot, 0, 1448)
    assert read(reader, pieces[:1] * 2 + pieces[5:20] * 2 + [(3000, slot[3000:9000], False)]) == []
    assert read(reader, [*pieces[1:2], (20_000, slot[20_000:59_000], False)]) == []
    assert read(reader, [(2000, slot[2000:4000], False), *pieces[-2:]]) == [slot]
    assert read(reader, pieces[-1:]) == []


def test_a_piece_that_looks_like_a_slot_is_one_of_a_larger_slot():
    inner = make_slot(1448, 7)
    slot = make_slot(1448 * 3)[:1448] + inner + bytes(1448)
    pieces = every(slot, 0, 1448)
    reader = Reader(0)
    assert read(reader, pieces[:1]) == []
    assert not reader.skip(1448, 1448, 1448, pushed=False)
    assert read(reader, pieces[1:]) == [slot]
    assert reader.skip(3 * 1448, 1448, 1448, pushed=True)


def test_a_slot_that_would_go_on_behind_a_push_is_none():
    """A length that lies takes nothing of what follows."""
    reader = Reader(0)
    assert reader.read(0, b"\xff\x00" + bytes(1000), pushed=False) == []
    assert reader.skip(1002, 1400, 1400, pushed=True)
    assert reader._partials == []
    assert read(reader, cut(make_slot(30_000), 2402, 10_000)) == [make_slot(30_000)]


def test_pieces_that_come_first_are_few():
    reader = Reader(0)
    slot = make_slot(60_000)
    pieces = every(slot, 0, 600)
    assert len(pieces) > PIECES + 1
    assert read(reader, pieces[1:]) == []
    assert len(reader._early) == PIECES
    large = [(100_000 + i * 30_000, bytes(30_000), False) for i in range(5)]
    read(reader, large)
    assert sum(len(data) for _, data, _ in reader._early) <= PIECE_BYTES


@pytest.mark.parametrize(("size", "count", "kept"), [(60_000, 4, 2), (1448, SLOTS + 2, SLOTS)])
def test_slots_that_lack_something_are_few(size, count, kept):
    reader = Reader(0)
    slots = [make_slot(size, number) for number in range(count)]
    halves = [cut(slot, number * size, size // 2) for number, slot in enumerate(slots)]
    assert read(reader, [half[0] for half in halves]) == []
    assert len(reader._partials) == kept
    assert read(reader, [half[1] for half in halves]) == slots[-kept:], "the oldest have given way"


def test_what_is_far_behind_is_let_go():
    reader = Reader(0)
    slot = make_slot(60_000)
    late = cut(slot, 0, 30_000)[1]
    assert read(reader, [late]) == []
    assert read(reader, every(slot, 60_000, 1448)) == [slot]
    assert len(reader._early) == 1
    assert read(reader, [(1_000_000, b"\0", True)]) == []
    assert read(reader, every(slot, 1_000_001, 1448)) == [slot]
    assert [seq for seq, _, _ in reader._early] == [1_000_000]


def test_many_holes_are_not_kept():
    reader = Reader(0)
    slot = make_slot(10_000)
    read(reader, [(at, slot[at : at + 10], False) for at in range(0, 10_000, 20)])
    (partial,) = reader._partials
    assert len(partial.holes) == 64
    assert read(reader, every(slot, 0, 1000)[1:] + every(slot, 0, 1000)[:1]) == [slot]


def test_too_large_a_length():
    reader = Reader(0)
    assert read(reader, [(0, (LARGEST - 1).to_bytes(2, "big") + bytes(50), False)]) == []
    assert reader._partials == []
    assert read(reader, [(52, (LARGEST - 2).to_bytes(2, "big") + bytes(50), False)]) == []


def test_each_byte_is_copied_once():
    """One buffer takes all pieces, and is handed over as it is: nothing is joined again and again."""
    slot = make_slot(60_000)
    pieces = every(slot, 0, 1448)
    reader = Reader(0)
    assert read(reader, pieces[:1]) == []
    (partial,) = reader._partials
    buffer = partial.data
    for piece in pieces[1:-1]:
        assert read(reader, [piece]) == []
        assert partial.data is buffer
        assert len(partial.holes) == 1
    seq, data, pushed = pieces[-1]
    (found,) = reader.read(seq, data, pushed=pushed)
    assert found is buffer
    assert found == slot


def hostile(random: Random) -> Piece:
    size = random.choice((0, 1, 2, 3, 100, 1448, 1448, 5000, 60_000))
    head = random.choice((b"", b"\xff\xfd", b"\xea\x60", b"\x05\xa6", b"\0\0", b"\0\1"))
    return random.choice((0, 1, 2, 1448, 2896, 60_002, MOD - 1, random.randrange(1 << 18))), (
        head + random.randbytes(size))[:size], random.random() < 0.2  # fmt: skip


def test_whatever_comes_is_bounded():
    random = Random(4)
    reader = Reader(0)
    for _ in range(3000):
        seq, data, pushed = hostile(random)
        if random.random() < 0.3:
            reader.skip(seq, len(data), max(3, len(data)), pushed=pushed)
        for slot in reader.read(seq, data, pushed=pushed):
            assert 2 < len(slot) <= LARGEST
        assert len(reader._partials) <= SLOTS
        assert sum(len(partial.data) for partial in reader._partials) <= SLOT_BYTES
        assert all(len(partial.data) <= LARGEST and len(partial.holes) <= 64 for partial in reader._partials)
        assert len(reader._early) <= PIECES
        assert sum(len(data) for _, data, _ in reader._early) <= PIECE_BYTES
        assert len(reader._begins) <= 8


def test_nobody_sends_so_many_slots():
    """What would take long to cut is not cut to its end; behind the PSH the stream goes on."""
    tiny = b"\0\1x" * 20_000
    reader = Reader(0)
    assert read(reader, [(0, tiny, True)]) == [b"\0\1x"] * MOST
    slot = make_slot(5000)
    assert read(reader, every(slot, len(tiny), 1448)) == [slot]


def test_many_together_keep_little():
    """Each connection announces a slot that never comes: only the last ones are kept, whoever comes after goes on."""
    memory = Memory()
    readers = [Reader(0, memory) for _ in range(1000)]
    for reader in readers:
        assert read(reader, [(0, (LARGEST - 2).to_bytes(2, "big") + b"x", False)]) == []
    kept = [not is_empty(reader) for reader in readers]
    assert kept == [False] * (1000 - LIMIT // LARGEST) + [True] * (LIMIT // LARGEST)
    assert memory.total == LARGEST * (LIMIT // LARGEST) <= LIMIT

    slot, after = make_slot(60_000), make_slot(3000, 2)
    assert read(Reader(7, memory), every(slot, 7, 1448)) == [slot]
    first = readers[0]
    assert read(first, [(3, bytes(1448), True), *every(after, 1451, 1448)]) == [after]
    for reader in readers[-50:]:
        read(reader, [(50, b"x", True)])  # what would go on behind a PSH was none
    assert memory.total == sum(map(kept_by, readers)) < 80 * LARGEST


def kept_by(reader: Reader) -> int:
    return sum(part.size for part in reader._partials) + sum(len(piece) for _, piece, _ in reader._early)


# ---------------------------------------------------------------- in the transport


def large(number: int, size: int = 60_000) -> bytes:
    return Random(number).randbytes(size)


def send_large(wall, end, flow, *numbers: int) -> None:
    for number in numbers:
        assert end.send(flow, [large(number)], wall.now, piece=1402)
    wall.run(0.2)


@pytest.mark.parametrize("gro", [True, False])
def test_through_a_firewall_that_tracks(make_wall, gro):
    wall = make_wall(gro=gro)
    flow, back = wall.open_flow()
    send_large(wall, wall.node, flow, 1, 2, 3)
    send_large(wall, wall.hub, back, 4, 5)
    assert wall.hub.datagrams == [large(number) for number in (1, 2, 3)]
    assert wall.node.datagrams == [large(4), large(5)]
    assert not wall.wall.invalid


@pytest.mark.parametrize("gro", [True, False])
def test_through_a_middlebox_that_cuts_elsewhere(make_wall, gro):
    wall = make_wall(gro=gro)
    flow, _ = wall.open_flow()

    def look(packet, way):
        fields = fields_of(packet)
        if way == "down" or len(fields.data) < 1000:
            return [packet]
        head, tail = fields._replace(data=fields.data[:900], flags=0x10), fields._replace(
            seq=fields.seq + 900 & 0xFFFFFFFF, data=fields.data[900:])  # fmt: skip
        return [type(packet)(packet.source, packet.destination, make_payload(*part)) for part in (head, tail)]

    wall.tap.look = look
    send_large(wall, wall.node, flow, 1, 2, 3)
    assert wall.hub.datagrams == [large(number) for number in (1, 2, 3)]


@pytest.mark.parametrize("gro", [True, False])
def test_through_a_network_that_reorders(make_wall, gro):
    wall = make_wall(gro=gro)
    flow, _ = wall.open_flow()
    link = wall.node.host.links[0]
    link.up.quality = link.down.quality = Quality(delay=0.005, jitter=0.0002)
    for number in range(10):
        send_large(wall, wall.node, flow, number)
    assert sorted(wall.hub.datagrams) == sorted(large(number) for number in range(10))


def test_the_first_that_is_cut_arrives_with_its_end_first(make_wall):
    """There is no reader yet, and the piece behind the gap is not taken for the beginning of a slot."""
    wall = make_wall(gro=True)
    flow, _ = wall.open_flow()
    held = []

    def look(packet, way):
        fields = fields_of(packet)
        if way == "up" and len(fields.data) > 100:
            held.append(packet)
            if not fields.flags & 0x08:
                return []
            pieces, held[:] = held[:], []
            return [pieces[-1], *pieces[20:-1], *pieces[:20]]
        return [packet]

    wall.tap.look = look
    send_large(wall, wall.node, flow, 1)
    send_large(wall, wall.node, flow, 2)
    assert wall.hub.datagrams == [large(1), large(2)]
    assert wall.server_flow.reader is not None


def test_one_too_large_for_a_packet_does_not_leave(make_wall):
    wall = make_wall()
    flow, _ = wall.open_flow()
    before = flow.pieces
    assert not wall.node.send(flow, [bytes(65_500)], wall.now, piece=1402)
    assert flow.pieces == before
    assert flow.head.room <= HEADROOM
