"""Slots out of segments whose boundaries are not those of slots.

A piece of the stream is placed by its sequence number. Either a slot is known to begin where it does, or it lies in a
slot whose beginning has come and which lacks it; else it is kept until one of the two is so. Slots are handed over as
soon as they are whole, in whatever order that is: nothing waits for what was lost.

Where slots begin is known behind a PSH, behind slots that were whole, and at the end of one that lacks something. After
a loss that takes all of this away, the size of recent slots says where they may be.

What one flow can make this keep is bounded: `SLOTS` slots that lack something, of `SLOT_BYTES` together, and `PIECES`
pieces of which it is not known where they belong, of `PIECE_BYTES`. What is newer pushes out what is older. All flows
share a `Memory`.
"""

from __future__ import annotations

from collections import deque

from ltunnel.plugin import Buffer
from ltunnel_transport_faketcp.memory import Memory
from ltunnel_transport_faketcp.segment import MASK
from ltunnel_transport_faketcp.slots import PREFIX

LARGEST = 65_535
"""Bytes of a slot, at most."""
SLOTS, SLOT_BYTES = 8, 131_072
PIECES, PIECE_BYTES = 64, 65_536
MOST = 256
"""Slots that are taken out of one piece. A batch has `MAX_ROWS` at most; more cost time, and come of nobody's batch."""

_HOLES = 64  # of a slot; more than arise where its pieces come in any order
_BEGINS = 8  # places that are remembered
_FAR = 1 << 18  # bytes; a piece is not kept for what is so far from it
_LARGE = 16_384  # slots of this size do not come many at a time, so none is looked for
_TRIES = 16  # places looked at in one piece
_ENOUGH = 16  # slots that do not follow each other by chance


class Partial:
    """A slot that lacks bytes."""

    __slots__ = ("begin", "data", "end", "guess", "holes", "size")

    def __init__(self, begin: int, size: int, *, guess: bool) -> None:
        self.begin, self.end = begin, begin + size & MASK
        """Sequence numbers of its first byte, and of what follows it."""
        self.size = size
        self.data = bytearray(size)
        self.holes = [(0, size)]
        """What is missing: (begin, end) in `data`, in order."""
        self.guess = guess
        """Whether it may be none: it has the size of recent ones, and begins with what could be its length."""

    def put(self, begin: int, part: Buffer) -> None:
        """Put bytes to their place, unless they make too many holes."""
        end = begin + len(part)
        low, high = self.holes[0]
        if begin == low and end < high:  # mostly
            self.holes[0] = end, high
        else:
            holes = []
            for low, high in self.holes:
                if low < begin:
                    holes.append((low, min(high, begin)))
                if end < high:
                    holes.append((max(low, end), high))
            if len(holes) > _HOLES:
                return
            self.holes = holes
        self.data[begin:end] = part


class Reader:
    """The stream of one flow."""

    __slots__ = ("_begins", "_early", "_memory", "_news", "_noted", "_partials", "aligned", "usual")

    def __init__(self, seq: int, memory: Memory | None = None) -> None:
        self._memory = Memory() if memory is None else memory
        self._noted = 0  # bytes that `_memory` knows of
        self.aligned = seq & MASK
        """The newest sequence number at which a slot is known to begin; -1: none."""
        self.usual = 0
        """Size of recent slots, by which the stream is found again; 0: not known, or too large."""
        self._begins: dict[int, bytes] = {}  # older ones like `aligned`; with the first byte of the slot, if that came
        self._partials: list[Partial] = []
        self._early: deque[tuple[int, bytes, bool]] = deque()  # pieces without a place: (seq, data, pushed)
        self._news = False  # whether some of these may have one now

    def skip(self, seq: int, size: int, seg: int, *, pushed: bool) -> bool:
        """Take note that `size` bytes at `seq` look like whole slots of `seg` bytes.

        False: they have to be read all the same. Either they are part of a larger slot, in which chance has put what
        looks like lengths, or pieces are kept that may follow them.
        """
        after = seq + size & MASK
        if self._early:
            return False
        if self._partials:
            if pushed:
                self._end(after)
                self._note()
            if seq != self.aligned and any(seq - partial.begin & MASK < partial.size for partial in self._partials):
                return False
        if seq == self.aligned:
            self.aligned = after
        else:
            self._know(after)
        if size > seg:
            self.usual = seg
        elif seg > _LARGE:
            self.usual = 0
        return True

    def read(self, seq: int, data: Buffer | bytes, *, pushed: bool) -> list[bytes | bytearray]:
        """Return the slots that ``data`` at `seq` completes; `pushed`: the segment has a PSH."""
        slots: list[bytes | bytearray] = []
        view = memoryview(data)
        if pushed and self._partials:
            self._end(seq + len(view) & MASK)
        if not self._place(seq, view, slots, pushed=pushed):
            self._search(seq, view, slots, pushed=pushed)
        while self._news and self._early:
            self._look_again(seq, slots)
        self._news = False
        if self._partials or self._early or self._noted:
            self._note()
        if slots:
            size = len(slots[0])
            if size > _LARGE:
                self.usual = 0
            elif not (pushed and len(slots) == 1):  # the last of a batch may be a short one
                self.usual = size
        return slots

    def forget(self) -> None:
        """Drop what is kept. The stream is found again as after a loss."""
        self.aligned, self._noted = -1, 0
        self._partials.clear()
        self._early.clear()
        self._begins.clear()

    def _note(self) -> None:
        """Tell how much is kept."""
        size = sum(partial.size for partial in self._partials) + sum(len(piece) for _, piece, _ in self._early)
        if size != self._noted:
            self._noted = size
            self._memory.note(self, size)

    def _place(self, seq: int, data: memoryview, slots: list[bytes | bytearray], *, pushed: bool) -> bool:
        """Take a piece if it is known where it belongs."""
        if seq == self.aligned:
            self.aligned = -1
            self._cut(seq, data, slots, pushed=pushed)
            return True
        if self._begins and (first := self._begins.pop(seq, None)) is not None:
            self._cut(seq - len(first) & MASK, memoryview(first + bytes(data)) if first else data, slots, pushed=pushed)
            return True
        placed = sure = False
        for partial in tuple(self._partials):  # mostly one; where a guess was wrong, the right one gets it too
            at = seq - partial.begin & MASK
            room = partial.size - at
            if room <= 0:
                continue
            placed = True
            sure |= not partial.guess
            partial.put(at, data[:room])
            if not partial.holes:
                self._partials.remove(partial)
                slots.append(partial.data)
            if len(data) > room:
                if self.aligned == partial.end:
                    self.aligned = -1
                self._begins.pop(partial.end, None)
                if not partial.guess or data[room : room + PREFIX] == partial.data[:PREFIX]:
                    sure = True
                    self._cut(partial.end, data[room:], slots, pushed=pushed)
        if placed and not sure:
            self._keep(seq, bytes(data), pushed=pushed)
        return placed

    def _end(self, seq: int) -> None:
        """Forget slots that would go on behind a PSH, which ends at `seq`: they were none."""
        self._partials = [partial for partial in self._partials if not 0 < seq - partial.begin & MASK < partial.size]

    def _cut(self, seq: int, data: memoryview, slots: list[bytes | bytearray], *, pushed: bool) -> None:
        """Cut slots off data that begins with one, and keep what is left as the beginning of another."""
        at, size = 0, len(data)
        ends = _ends(data, 0, MOST)
        for end in ends:
            slots.append(bytes(data[at:end]))
            at = end
        if len(ends) == MOST:
            at = size
        rest = size - at
        if pushed or not rest:
            self._know(seq + size & MASK)
        elif rest < PREFIX:
            self._remember(seq + size & MASK, bytes(data[at:]))
        elif PREFIX < (wanted := PREFIX + (data[at] << 8 | data[at + 1])) <= LARGEST:
            self._open(seq + at & MASK, wanted, data[at:])

    def _open(self, seq: int, size: int, data: memoryview, *, guess: bool = False) -> None:
        """Keep the beginning of a slot."""
        partial = Partial(seq, size, guess=guess)
        partial.put(0, data)
        partials = self._partials
        partials.append(partial)
        while len(partials) > SLOTS or sum(partial.size for partial in partials) > SLOT_BYTES:
            del partials[0]
        self._know(partial.end)
        self._news = True

    def _search(self, seq: int, data: memoryview, slots: list[bytes | bytearray], *, pushed: bool) -> None:
        """Look for slots in a piece that follows a gap; keep what is in front of them, and a piece that has none."""
        copy = bytes(data)
        at, sure = self._find(copy)
        if sure:
            self._cut(seq + at & MASK, data[at:], slots, pushed=pushed)
            copy, pushed = copy[:at], False
        elif pushed:
            self._know(seq + len(copy) & MASK)
        elif at < len(copy):
            self._open(seq + at & MASK, self.usual, data[at:], guess=True)
        if copy:
            self._keep(seq, copy, pushed=pushed)

    def _keep(self, seq: int, data: bytes, *, pushed: bool) -> None:
        """Keep a piece that may have another place."""
        self._early.append((seq, data, pushed))
        while len(self._early) > PIECES or sum(len(piece) for _, piece, _ in self._early) > PIECE_BYTES:
            self._early.popleft()

    def _look_again(self, seq: int, slots: list[bytes | bytearray]) -> None:
        """Take the pieces that have a place now, and let go those that come from far behind."""
        self._news = False
        early, self._early = self._early, deque()
        for piece in early:
            at, data, pushed = piece
            if seq - at + _FAR & MASK < 2 * _FAR and not self._place(at, memoryview(data), slots, pushed=pushed):
                self._early.append(piece)

    def _know(self, seq: int) -> None:
        """Take note of where a slot begins."""
        if seq != self.aligned:
            if self.aligned >= 0:
                self._remember(self.aligned, b"")
            self.aligned = seq
            self._news = True

    def _remember(self, seq: int, first: bytes) -> None:
        """Take note of where a slot goes on behind its first byte, or begins."""
        self._begins[seq] = first
        self._news = True
        if len(self._begins) > _BEGINS:
            del self._begins[next(iter(self._begins))]

    def _find(self, data: bytes) -> tuple[int, bool]:
        """Return where a slot begins in data that follows a gap, and whether what follows says so, too.

        The end of the data if there is none.
        """
        size = len(data)
        if size and _chain(data, 0):
            return 0, True
        if self.usual:
            pattern = (self.usual - PREFIX).to_bytes(PREFIX, "big")
            at = data.find(pattern)
            for _ in range(_TRIES):
                if at < 0:
                    break
                follows = at + self.usual
                if follows > size:
                    return at, False
                if data[follows : follows + PREFIX] == pattern or _chain(data, follows):
                    return at, True
                at = data.find(pattern, at + 1)
        return size, False


def _chain(data: bytes, at: int) -> bool:
    """Whether whole slots follow each other from `at` to the end, or `_ENOUGH` of them."""
    ends = _ends(data, at, _ENOUGH)
    return len(ends) == _ENOUGH or (ends[-1] if ends else at) == len(data)


def _ends(data: Buffer | bytes, at: int, most: int) -> list[int]:
    """Return where the whole slots end that follow each other from `at` on, `most` of them at most."""
    ends: list[int] = []
    size = len(data)
    while len(ends) < most and at + PREFIX < size:
        end = at + PREFIX + (data[at] << 8 | data[at + 1])
        if end > size or end == at + PREFIX:
            break
        ends.append(end)
        at = end
    return ends
