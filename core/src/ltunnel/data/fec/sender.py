"""Out: frames to data shards, which leave at once, and the parity of their groups.

Rows of a super-packet are coded where they lie, as many whole groups as there are, interleaved: row r goes to group
r mod g. What is left over, and all bundles, are copied to the peer's open groups, which are closed when they are full
or when their deadline has come.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from ltunnel.constants import BUNDLE_ENTRY, MAX_ROWS, ROW_TRAILER
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.emitter import Emitter, Send
from ltunnel.data.fec.grids import ShardGrid, deal
from ltunnel.data.fec.layout import DATA_TRAILER, NUMBERS, data_trailers, following, mark, parity_trailers
from ltunnel.data.fec.line import MOST_CREDIT, Line
from ltunnel.data.fec.open_group import OpenGroup
from ltunnel.data.fec.record_parity import Plan, largest_part, parity_of, plan
from ltunnel.data.fec.residual import enough
from ltunnel.data.fec.settings import CONFIGURATION, GRACE, FecMode, FecSettings
from ltunnel.data.fec.sounding import PATIENCE, opens_connection, soundings
from ltunnel.data.fec.steering import EXEMPT, NOTHING, UNUSED, Steering
from ltunnel.data.grid import Arena, Bytes2D, GridCache, Nonces
from ltunnel.data.records import part_size
from ltunnel.data.staging import bundled
from ltunnel.data.virtio import VNET_SIZE
from ltunnel.plugin import Buffer, FecCode, Transport
from ltunnel.session import Epoch, Peer
from ltunnel.wire.frames import Report
from ltunnel.wire.types import FrameType

TRICKLE = 25.0
"""Parity shards a second that groups closed early may have beyond the overhead, in the modes auto and latency."""
COPIES = 2
"""Copies of a small packet of a slow flow, besides itself."""
APART = 0.001
"""Seconds after which the copies follow: what handles the packet is not held up, and a bad moment may have passed."""


class ShardSender:
    """Makes shards for all peers of a node, but none over the transports with an index in `reliable`."""

    def __init__(self, codes: Codes, settings: FecSettings, reliable: Container[int] = ()) -> None:
        self.codes = codes
        self.settings = settings
        self._reliable = reliable
        self.by = CONFIGURATION
        self._lines: dict[Peer, Line] = {}
        self._busy: set[Line] = set()  # lines to which something is sent in this turn
        self._unsure: set[Line] = set()  # and those that are to be sounded
        self._open_groups: dict[OpenGroup, Line] = {}  # in the order of their deadlines
        self._graced: dict[OpenGroup, Line] = {}  # the same, of those that wait a little longer
        self._copied: dict[OpenGroup, Line] = {}  # and of single packets, whose copies are to follow
        self._waiting = self._open_groups, self._graced, self._copied
        self._shard_grids = GridCache(ShardGrid, limit=16)

    def attach(self, out: Arena, nonces: Nonces, transports: Sequence[Transport], send: Send) -> None:
        """Use the out arena, nonces and transports of the data path."""
        self._emitter = Emitter(out, nonces, transports, send)

    def flush(self, now: float) -> None:
        """Send parity that has come up, and soundings; to be called at the end of each turn."""
        self._emitter.flush(now)
        if self._unsure:
            for line in self._unsure:
                self._sound(line, now)
            self._unsure.clear()
        for line in self._busy:
            line.steering.losses.delays.end(line.epoch.counter)
        self._busy.clear()

    def _sound(self, line: Line, now: float) -> None:
        """Find out what a line loses."""
        self._emitter.emit(soundings(), line.epoch, now)
        line.steering.sounded(line.epoch.local_index, line.epoch.counter, now)
        line.until = now + PATIENCE + 2 * (line.peer.rtt or 0.0)
        self._choose(line, now)

    @property
    def picks(self) -> bool:
        """Whether packets of some flows go otherwise than the rest."""
        return self.settings.mode is FecMode.LATENCY

    # ---------------------------------------------------------------- what is to be done for a peer

    def line(self, peer: Peer, epoch: Epoch, now: float) -> Line:
        """Return the line to a peer, with open groups only of this epoch and of the code that is chosen now."""
        line = self._lines.get(peer)
        if line is None:
            self._lines = {other: its for other, its in self._lines.items() if other.epoch is not None}
            line = self._lines[peer] = Line(peer, epoch, Steering(self.settings, self.codes, self.by))
            self._take_path(line, now)
        elif line.epoch is not epoch:
            self._close_all(line, now)
            line.epoch, line.next = epoch, 0
            line.steering.losses.delays.restart()
        if line.path is not peer.path:
            self._take_path(line, now)
        if now >= line.until:
            line.until = float("inf")
            line.steering.give_up()
            self._choose(line, now)
        self._note(line, now)
        return line

    def _note(self, line: Line, now: float) -> None:
        """Take note of when the next counters are used."""
        line.steering.losses.delays.begin(line.epoch.counter, now)
        self._busy.add(line)

    def _take_path(self, line: Line, now: float) -> None:
        """Go by the path that is in use now."""
        before, line.path = line.path, line.peer.path
        assert before is not None and line.path is not None  # noqa: PT018, S101  # there is an epoch to seal with
        if (before.transport, before.flow) != (line.path.transport, line.path.flow):
            line.steering.moved()
        line.exempt = line.path.transport in self._reliable
        self._choose(line, now)

    def report(self, peer: Peer, epoch: Epoch, report: Report, now: float) -> None:
        """Take what a peer says about what has arrived."""
        line = self._lines.get(peer)
        if line is not None and not line.exempt:
            if peer.rtt is not None:
                line.steering.losses.delays.took(peer.rtt)
            line.steering.report(epoch.local_index, report, now)
            self._choose(line, now)
            self.flush(now)

    def change(self, settings: FecSettings, now: float, by: str = CONFIGURATION) -> None:
        """Go on with other settings, which are somebody's. Raises ValueError when the code has no such pair."""
        wants_pair = settings.mode in (FecMode.FIXED, FecMode.SPREAD) and settings.parity
        if wants_pair and self.codes.get(settings.data, settings.parity) is None:
            raise ValueError(f"{self.codes.name} has no code with {settings.data} + {settings.parity} shards")
        self.settings, self.by = settings, by
        for line in self._lines.values():
            self._close_all(line, now)
            line.steering.change(settings, by)
            self._choose(line, now)
            self.flush(now)

    def describe(self, peer: Peer) -> dict[str, Any]:
        """Say what is chosen for a peer and why, for status output."""
        line = self._lines.get(peer)
        choice = line.choice if line is not None else UNUSED
        k, m, depth = NOTHING[:3] if line is not None and line.steering.is_sounding else choice[:3]
        return {"mode": self.settings.mode.value, "data": k, "parity": m, "groups": depth, "why": choice.why}

    def _choose(self, line: Line, now: float) -> None:
        choice = EXEMPT if line.exempt else line.steering.choice
        if choice != line.choice:
            if (choice.k, choice.m, choice.depth) != (line.choice.k, line.choice.m, line.choice.depth):
                self._close_all(line, now)
                line.code = self.codes.get(choice.k, choice.m) if choice.m else None
            line.choice = choice

    # ---------------------------------------------------------------- super-packets

    def super_packet(
        self, line: Line, arena: Arena, begin: int, end: int, tail: bytearray, seg: int, now: float
    ) -> None:
        """Send a super-packet with the payload ``begin:end``, whose rows end with `tail`, index and type."""
        first = 0
        while begin < end:
            stop = self._rows(line, arena, begin, end, tail, first, seg, now)
            first += -(-(stop - begin) // seg)
            begin = stop

    def _rows(
        self, line: Line, arena: Arena, begin: int, end: int, tail: bytearray, first: int, seg: int, now: float
    ) -> int:
        """Send rows `first`, `first` + 1, ... of a super-packet with the payload ``begin:end``; return where it ended.

        That is before `end` if there was more than one call may take.
        """
        assert line.code is not None  # noqa: S101  # the caller has looked
        grid = self._shard_grids.get(len(tail) + 2 - ROW_TRAILER, seg, self._emitter.prefix(line.peer))
        end = min(end, begin + grid.limit * seg)
        full, rest = divmod(end - begin, seg)
        staging = grid.staging
        staging[:full, :seg] = arena.array[begin : begin + full * seg].reshape(full, seg)
        grid.tail[:full] = np.frombuffer(tail, np.uint8)
        if first:
            grid.indices[:full] += first
        block, groups = (0, 0) if line.steering.is_sounding else deal(full, line.code.k, line.code.m)
        base = line.next if line.next + groups <= NUMBERS else 0
        if block:
            line.next = following(base, groups)
            mark(staging[:block], base, data_trailers(block, groups, line.code.k, line.code.m))
        plain = grid.plain[:full]
        closed: list[OpenGroup] = []
        if line.choice.depth == 1:
            self._add_rows(line, staging[block:full], closed, now)
        else:
            plain[block:] = [self._add(line, row[: grid.frame], closed, now) for row in plain[block:]]
        if rest:
            stop = end + len(tail) + 2
            arena.data[end:stop] = tail + bytes((first + full, FrameType.ROW))
            plain.append(self._add(line, arena.view[end - rest : stop], closed, now))
        line.peer.fec.data_sent += len(plain)
        self._emitter.emit(plain, line.epoch, now)
        if block:
            self._block(line, grid, block, groups, base)
        if first:
            grid.indices[:full] -= first
        for group in closed:
            self._close(group, now)
        return end

    def _block(self, line: Line, grid: ShardGrid, count: int, groups: int, base: int) -> None:
        """Make the parity of `count` rows, row r being in group r mod `groups`."""
        code = line.code
        assert code is not None  # noqa: S101  # the caller has looked
        used = -(-count // groups)
        stop = used * groups
        if stop > count:
            grid.staging[count:stop] = 0
        parity = np.empty((code.m * groups, grid.length), np.uint8)
        code.encode(grid.staging[:stop].reshape(used, -1), parity.reshape(code.m, -1))
        mark(parity, base, parity_trailers(count, groups, code.k, code.m))
        if stop > count:
            grid.restore(count, stop)
        self._emitter.hold(parity, line.epoch)

    # ---------------------------------------------------------------- records

    def plan(self, line: Line, length: int) -> tuple[int, Plan | None]:
        """Say in parts of what size a record with `length` bytes of ciphertext goes, and how they are coded.

        No plan where its frames had better go as shards.
        """
        assert line.code is not None  # noqa: S101  # the caller has looked
        size = part_size(length, largest_part(line.peer.mtu))
        return size, plan(length, size, line.code, self.codes)

    def record(self, line: Line, ciphertext: Arena, length: int, size: int, plan: Plan, counter: int) -> None:
        """Make the parity of a record that has been sent in parts of `size`, the first with `counter`."""
        assert line.code is not None  # noqa: S101  # there is a plan
        line.peer.fec.data_sent += plan.parts
        self._emitter.hold(parity_of(ciphertext, length, size, plan, line.code, counter), line.epoch)

    # ---------------------------------------------------------------- bundles

    def packets(self, line: Line, arena: Arena, spans: list[tuple[int, int]], now: float) -> list[tuple[int, int]]:
        """Send packets, each with its bundle entry, as shards; return those that are to go without.

        In the mode latency packets of slow flows go at once, with copies.
        """
        if line.steering.is_unsure(now) and line.may_be_sounded and opens_connection(arena.data, spans):
            self._unsure.add(line)
        if self.settings.mode is FecMode.LATENCY and self.settings.parity and not line.exempt:
            line.slow.begin()
            fast = []
            for start, stop in spans:
                if line.slow.has(arena.data, start + VNET_SIZE, stop - 1, now):
                    self._copies(line, arena.view[start:stop], now)
                else:
                    fast.append((start, stop))
            spans = fast
        if line.code is None:
            return spans
        self._bundles(line, arena, bundled(spans, line.peer.mtu + BUNDLE_ENTRY), now)
        return []

    def _bundles(self, line: Line, arena: Arena, spans: Sequence[tuple[int, int]], now: float) -> None:
        """Send frames, one at each span."""
        view, peer = arena.view, line.peer
        peer.fec.data_sent += len(spans)
        at = 0
        while at < len(spans):
            closed: list[OpenGroup] = []
            start, end = spans[at]
            size = end - start
            plain = []
            for start, end in spans[at : at + MAX_ROWS]:
                if end - start > size:
                    break
                plain.append(self._add(line, view[start:end], closed, now))
                if end - start < size:
                    break
            at += len(plain)
            self._emitter.emit(plain, line.epoch, now)
            for group in closed:
                self._close(group, now)

    def _copies(self, line: Line, frame: Buffer, now: float) -> None:
        """Send a frame in a group of its own. Copies follow soon: whichever arrives first needs no waiting."""
        code = self.codes.get(1, COPIES) or self.codes.get(1, 1)
        if code is None:
            return
        group = self._open(line, code, len(frame), now)
        line.peer.fec.data_sent += 1
        self._emitter.emit([group.add(frame)], line.epoch, now)
        self._copied[group] = self._open_groups.pop(group)
        group.due = now + APART

    # ---------------------------------------------------------------- groups

    def next_timeout(self) -> float | None:
        """Return when a group is to be closed, or None."""
        return min((next(iter(groups)).due for groups in self._waiting if groups), default=None)

    def handle_timeout(self, now: float) -> None:
        """Close groups whose deadline has come, but for those that will soon be full."""
        for groups in self._waiting:
            while groups:
                group, line = next(iter(groups.items()))
                if group.due > now:
                    break
                if groups is self._open_groups and group.count * (1 + GRACE) >= group.code.k:
                    self._graced[group] = groups.pop(group)
                    group.due += self.settings.deadline * GRACE
                    continue
                if groups is not self._copied:
                    line.groups.remove(group)
                self._close(group, now)
        self.flush(now)

    def _add(self, line: Line, frame: Buffer, closed: list[OpenGroup], now: float) -> Buffer:
        """Put a frame into an open group, one that is full then into `closed`; return the shard's plaintext."""
        groups = line.groups
        if len(groups) < line.choice.depth:
            assert line.code is not None  # noqa: S101  # the caller has looked
            room = max(len(frame), line.peer.mtu + BUNDLE_ENTRY)
            at = len(groups)
            groups.append(self._open(line, line.code, room, now))
        else:
            line.turn = at = (line.turn + 1) % len(groups)
            if not groups[at].takes(len(frame)):  # the peer's MTU has grown
                closed.append(groups[at])
                groups[at] = self._open(line, groups[at].code, max(len(frame), line.peer.mtu + BUNDLE_ENTRY), now)
        group = groups[at]
        plain = group.add(frame)
        if group.is_full:
            del groups[at]
            closed.append(group)
        return plain

    def _add_rows(self, line: Line, rows: Bytes2D, closed: list[OpenGroup], now: float) -> None:
        """Put frames of one length into the open group, and mark the rows as its shards, which they are then."""
        while len(rows):
            if line.groups and not line.groups[0].takes(rows.shape[1] - DATA_TRAILER):  # the peer's MTU has grown
                closed.append(line.groups.pop())
            if not line.groups:
                assert line.code is not None  # noqa: S101  # the caller has looked
                room = max(rows.shape[1] - DATA_TRAILER, line.peer.mtu + BUNDLE_ENTRY)
                line.groups.append(self._open(line, line.code, room, now))
            group = line.groups[0]
            rows = rows[group.add_rows(rows) :]
            if group.is_full:
                closed.append(line.groups.pop())

    def _open(self, line: Line, code: FecCode, room: int, now: float) -> OpenGroup:
        patience = 2 if line.steering.is_sounding else 1
        group = OpenGroup(code, room, line.next, line.epoch, now + self.settings.deadline * patience)
        line.next = following(line.next)
        self._open_groups[group] = line
        return group

    def _close_all(self, line: Line, now: float) -> None:
        groups, line.groups = line.groups, []
        for group in groups:
            self._close(group, now)

    def _close(self, group: OpenGroup, now: float) -> None:
        """Send the parity of a group, as far as its keys are still good."""
        line, is_copied = next(
            (groups.pop(group), groups is self._copied) for groups in self._waiting if group in groups
        )
        if line.steering.withholds and not is_copied:
            return
        self._note(line, now)
        count = group.code.m if group.is_full else self._share(line, group, now)
        if count:
            self._emitter.hold(group.parity()[:count], group.epoch)

    def _share(self, line: Line, group: OpenGroup, now: float) -> int:
        """Say how many of its m parity shards a group gets that was closed early; those not sent count as lost.

        As many as keep it as safe as a full one. Where the amount is found out it keeps to the overhead but for a
        trickle: on a line that is full, a few packets with much parity each would drown themselves.
        """
        code, settings = group.code, self.settings
        if self.codes.residual is not None:
            wanted = min(code.m, group.count)
        elif loss := line.choice.loss:
            wanted = enough(code.k, code.m, group.count, loss, settings.target)
        else:
            wanted = enough(code.k, code.m, group.count)
        if settings.mode in (FecMode.FIXED, FecMode.SPREAD):
            return wanted
        earned = group.count * settings.overhead + (now - line.credited) * TRICKLE
        line.credit, line.credited = min(MOST_CREDIT, line.credit + earned), now
        count = min(wanted, int(line.credit))
        line.credit -= count
        return count
