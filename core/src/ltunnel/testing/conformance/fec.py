"""Conformance of erasure codes: `ltunnel.plugin.FecCode` and its descriptor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from ltunnel.plugin import FecCode, FecDescriptor
from ltunnel.testing.conformance.base import DescriptorConformance

_LENGTH = 61


class FecConformance(DescriptorConformance):
    """``class TestMine(FecConformance): descriptor = ltunnel_fec()``.

    A code that cannot restore every pattern of m losses (parity by columns, say) sets `any_losses` to False; single
    losses must then still be restored, whichever parity row is first must restore the first data row, and what is
    restored must be right.
    """

    descriptor: ClassVar[FecDescriptor]
    any_losses: ClassVar[bool] = True
    small: ClassVar[Sequence[tuple[int, int]]] = ((1, 1), (2, 1), (3, 1), (2, 2), (4, 2), (5, 3), (6, 4))
    """Pairs (k, m) of which every pattern of losses is tried."""
    large: ClassVar[Sequence[tuple[int, int]]] = ((10, 3), (20, 2), (10, 5), (64, 16))
    """Pairs of which random patterns are tried. 20+2 and 10+5 stand in the documents."""

    def make_code(self, k: int, m: int) -> FecCode:
        """Return a code."""
        return self.descriptor.create(self.make_options(), k, m)

    def make_group(self, code: FecCode, length: int = _LENGTH) -> Any:
        """Return a group of random data with its parity: a (k + m, length) uint8 array."""
        rng = np.random.default_rng([code.k, code.m, length])
        group = rng.integers(0, 256, (code.k + code.m, length), dtype=np.uint8)
        code.encode(group[: code.k], group[code.k :])
        return group

    def lose(self, code: FecCode, group: Any, lost: Iterable[int], *, junk: int = 0x5A) -> bool:
        """Lose rows of a group and let it be recovered; check the outcome and say whether it succeeded."""
        lost = set(lost)
        rows = group.copy()
        for index in lost:
            rows[index] = junk
        damaged = rows.copy()
        present = [index not in lost for index in range(len(rows))]
        done = code.recover(rows, present)
        assert isinstance(done, (bool, np.bool_))
        what = f"{code.k}+{code.m} after losing {lost}"
        assert all(present[index] for index in range(len(rows)) if index not in lost), f"{what}: a row went missing"
        assert done == all(present[: code.k]), f"{what}: {bool(done)} does not agree with what is present"
        there = [index for index in range(len(rows)) if present[index]]
        assert np.array_equal(rows[there], group[there]), f"{what}: wrong data, or a row that arrived was changed"
        missing = [index for index in range(code.k) if not present[index]]
        assert np.array_equal(rows[missing], damaged[missing]), f"{what}: a row changed that was not recovered"
        return bool(done)

    def test_shapes(self) -> None:
        """The code knows its k and m."""
        for k, m in (*self.small, *self.large):
            code = self.make_code(k, m)
            assert (code.k, code.m) == (k, m)

    def test_encoding_is_systematic_and_repeatable(self) -> None:
        """Data rows are not changed, every byte of the parity is written, and equal data gives equal parity."""
        for k, m in (*self.small, *self.large):
            code = self.make_code(k, m)
            group = self.make_group(code)
            again = group.copy()
            again[k:] = ~again[k:]
            code.encode(again[:k], again[k:])
            assert np.array_equal(again, group)
            other = self.make_code(k, m)
            again[k:] = 0
            other.encode(again[:k], again[k:])
            assert np.array_equal(again, group), "two codes with equal k and m do not agree"

    def test_every_small_pattern(self) -> None:
        """All patterns of up to m + 1 losses."""
        for k, m in self.small:
            code = self.make_code(k, m)
            group = self.make_group(code)
            for count in range(m + 2):
                for lost in combinations(range(k + m), count):
                    done = self.lose(code, group, lost)
                    missing = [index for index in lost if index < k]
                    if not missing:
                        assert done, "nothing is missing"
                    elif count > m:
                        assert not done, f"{k}+{m}: {count} losses cannot be recovered, {lost} was claimed to be"
                    elif self.any_losses or count == 1:
                        assert done, f"{k}+{m}: {lost} was not recovered"

    def test_random_large_patterns(self) -> None:
        """Random patterns of exactly m losses, and of one."""
        random = self.make_random()
        for k, m in self.large:
            code = self.make_code(k, m)
            group = self.make_group(code)
            for _ in range(40):
                done = self.lose(code, group, random.sample(range(k + m), m))
                assert done or not self.any_losses
            for lost in random.sample(range(k + m), min(10, k + m)):
                assert self.lose(code, group, [lost])

    def test_shortened_groups(self) -> None:
        """A group with fewer data rows has the parity of one with rows of zeros behind, and is recovered as one."""
        random = self.make_random()
        for k, m in (*self.small, *self.large):
            code = self.make_code(k, m)
            for used in sorted({1, min(2, k), (k + 1) // 2, max(1, k - 1)}):
                group = self.make_group(code)
                group[used:k] = 0
                code.encode(group[:k], group[k:])
                parity = np.full_like(group[k:], 0xA7)
                before = group[:used].copy()
                code.encode(group[:used], parity)
                assert np.array_equal(parity, group[k:]), f"{k}+{m} with {used} rows: not as with rows of zeros"
                assert np.array_equal(group[:used], before), f"{k}+{m} with {used} rows: data was changed"
                assert self.lose(code, group, [random.randrange(used)])
                can_be_lost = [*range(used), *range(k, k + m)]
                for count in range(1, min(m, used) + 1):
                    done = self.lose(code, group, random.sample(can_be_lost, count))
                    assert done or not self.any_losses

    def test_parity_that_was_not_sent(self) -> None:
        """A group that is closed early has fewer parity rows: the first of them repair as if the others were lost."""
        for k, m in (*self.small, *self.large):
            code = self.make_code(k, m)
            group = self.make_group(code)
            group[1:k] = 0
            code.encode(group[:k], group[k:])
            assert self.lose(code, group, [0, *range(k + 1, k + m)])

    def test_lengths(self) -> None:
        """Rows of any length, from one byte to more than a datagram."""
        for length in (1, 2, 3, 7, 8, 9, 64, 1399, 1400, 9001):
            code = self.make_code(4, 1)
            assert self.lose(code, self.make_group(code, length), [2])

    def test_rows_of_larger_arrays(self) -> None:
        """Rows need not be contiguous: the core works in the first bytes of longer rows."""
        k, m = 4, 1
        code = self.make_code(k, m)
        group = self.make_group(code)
        wide = np.full((k + m, _LENGTH + 30), 0x77, np.uint8)
        inner = wide[:, :_LENGTH]
        inner[:k] = group[:k]
        code.encode(inner[:k], inner[k:])
        assert np.array_equal(inner, group)
        inner[1] = 0
        assert code.recover(inner, [True, False, True, True, True])
        assert np.array_equal(inner[:k], group[:k])
        assert (wide[:, _LENGTH:] == 0x77).all(), "bytes beyond the rows were changed"

    def test_missing_rows_are_not_looked_at(self) -> None:
        """What stands in a row that did not arrive has no influence."""
        code = self.make_code(5, 1)
        group = self.make_group(code)
        for junk in (0, 1, 0xFF):
            assert self.lose(code, group, [3], junk=junk)

    def test_presence_may_be_any_mutable_sequence(self) -> None:
        """`present` as list or array of bools; all, or nothing."""
        code = self.make_code(3, 1)
        group = self.make_group(code)
        kinds: list[Any] = [[True, False, True, True], np.array([1, 0, 1, 1], bool)]
        for present in kinds:
            rows = group.copy()
            rows[1] = 0
            assert code.recover(rows, present)
            assert all(present)
            assert np.array_equal(rows, group)
        rows = group.copy()
        assert code.recover(rows, [True] * 4)
        assert not code.recover(rows, [False] * 4)
        assert np.array_equal(rows, group)

    def test_hostile_rows(self) -> None:
        """Rows that were never encoded give wrong data or False, no exception, and never change what arrived."""
        rng = np.random.default_rng(5)
        random = self.make_random()
        for k, m in (*self.small, *self.large):
            code = self.make_code(k, m)
            for _ in range(10):
                rows = rng.integers(0, 256, (k + m, _LENGTH), dtype=np.uint8)
                before = rows.copy()
                present = [random.random() < 0.7 for _ in range(k + m)]
                arrived = present.copy()
                code.recover(rows, present)
                kept = [i for i in range(k + m) if arrived[i] or not present[i]]
                data = [i for i in kept if i < k or arrived[i]]
                assert np.array_equal(rows[data], before[data])

    def test_keeps_no_reference(self) -> None:
        """After a call no array is held."""
        code = self.make_code(4, 1)
        buffer = bytearray(5 * _LENGTH)
        rows = np.frombuffer(buffer, np.uint8).reshape(5, _LENGTH)
        code.encode(rows[:4], rows[4:])
        code.recover(rows, [False, True, True, True, True])
        del rows
        try:
            buffer.extend(b"more")
        except BufferError:
            raise AssertionError("an array was kept after the call") from None

    def test_impossible_pairs(self) -> None:
        """Pairs that cannot be are refused with ValueError when the code is made."""
        most = self.descriptor.max_shards
        for k, m in ((0, 1), (-1, 2), (1, -1), (most, 1), (1, most), (1000, 1000)):
            try:
                self.make_code(k, m)
            except ValueError:
                continue
            raise AssertionError(f"{k}+{m} was accepted, max_shards is {most}")
