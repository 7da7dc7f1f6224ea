"""The FEC suite passes good codes and finds what is wrong with bad ones."""

from collections.abc import Callable, MutableSequence
from typing import Any, ClassVar

import numpy as np
import pytest

from ltunnel.plugin import FecDescriptor, NoOptions
from ltunnel.testing.conformance import FecConformance

EXP = [1] * 512
for _i in range(1, 512):
    EXP[_i] = EXP[_i - 1] << 1 ^ (0x11D if EXP[_i - 1] & 128 else 0)
LOG = {EXP[i]: i for i in range(255)}


def times(a: int, row: Any) -> Any:
    """Multiply a row by a number in GF(256)."""
    table = np.array([EXP[LOG[a] + LOG[b]] if a and b else 0 for b in range(256)], np.uint8)
    return table[row]


def inverse(a: int) -> int:
    return EXP[255 - LOG[a]]


class Cauchy:
    """A Cauchy Reed-Solomon code, slow and plain."""

    def __init__(self, k: int, m: int) -> None:
        if k < 1 or m < 1 or k + m > 255:
            raise ValueError(f"{k}+{m}")
        self.k, self.m = k, m
        self.matrix = [[inverse(i ^ (m + j)) for j in range(k)] for i in range(m)]

    def encode(self, rows: Any, parity: Any) -> None:
        for i in range(self.m):
            parity[i] = np.bitwise_xor.reduce([times(a, row) for a, row in zip(self.matrix[i], rows, strict=False)])

    def recover(self, rows: Any, present: MutableSequence[bool]) -> bool:
        missing = [j for j in range(self.k) if not present[j]]
        use = [i for i in range(self.m) if present[self.k + i]][: len(missing)]
        if len(use) < len(missing):
            return False
        system = [[self.matrix[i][j] for j in missing] for i in use]
        sums = []
        for i in use:
            known = [times(self.matrix[i][j], rows[j]) for j in range(self.k) if present[j]]
            sums.append(np.bitwise_xor.reduce([rows[self.k + i], *known]))
        for c in range(len(missing)):  # Gauss-Jordan; every minor of a Cauchy matrix is regular
            pivot = inverse(system[c][c])
            system[c], sums[c] = [int(times(pivot, x)) for x in system[c]], times(pivot, sums[c])
            for r in range(len(missing)):
                factor = system[r][c]
                if r != c and factor:
                    system[r] = [x ^ int(times(factor, y)) for x, y in zip(system[r], system[c], strict=True)]
                    sums[r] = sums[r] ^ times(factor, sums[c])
        for j, row in zip(missing, sums, strict=True):
            rows[j] = row
            present[j] = True
        return True


class Columns:
    """XOR parity over every m-th row."""

    def __init__(self, k: int, m: int) -> None:
        if k < 1 or m < 1 or k + m > 255:
            raise ValueError(f"{k}+{m}")
        self.k, self.m = k, m

    def encode(self, rows: Any, parity: Any) -> None:
        for i in range(self.m):
            parity[i] = np.bitwise_xor.reduce(rows[i :: self.m], axis=0)

    def recover(self, rows: Any, present: MutableSequence[bool]) -> bool:
        for i in range(self.m):
            column = [*range(i, self.k, self.m), self.k + i]
            lost = [j for j in column if not present[j]]
            if len(lost) == 1 and lost[0] < self.k:
                rows[lost[0]] = np.bitwise_xor.reduce(rows[[j for j in column if j != lost[0]]], axis=0)
                present[lost[0]] = True
        return all(present[: self.k])


class NotSystematic(Cauchy):
    def encode(self, rows: Any, parity: Any) -> None:
        super().encode(rows, parity)
        rows[0] ^= 1


class AddsToParity(Cauchy):
    def encode(self, rows: Any, parity: Any) -> None:
        fresh = np.zeros_like(parity)
        super().encode(rows, fresh)
        parity ^= fresh


class Optimist(Cauchy):
    def recover(self, rows: Any, present: MutableSequence[bool]) -> bool:
        return super().recover(rows, present) or True


class HalfDone(Columns):
    """Spoils what it could not restore."""

    def recover(self, rows: Any, present: MutableSequence[bool]) -> bool:
        if super().recover(rows, present):
            return True
        rows[[j for j in range(self.k) if not present[j]]] = 0
        return False


class TrustsMissing(Columns):
    """Believes that rows that are missing are zero."""

    def recover(self, rows: Any, present: MutableSequence[bool]) -> bool:
        before, arrived = rows.copy(), list(present)
        done = super().recover(rows, present)
        for j in range(self.k):
            if present[j] and not arrived[j]:
                rows[j] ^= before[j]
        return done


class NeedsContiguous(Columns):
    def encode(self, rows: Any, parity: Any) -> None:
        if not rows.flags.c_contiguous:
            raise BufferError
        super().encode(rows, parity)


class Greedy(Cauchy):
    """Takes any pair."""

    def __init__(self, k: int, m: int) -> None:
        if k + m <= 255 and min(k, m) > 0:
            super().__init__(k, m)


class Keeps(Columns):
    kept: ClassVar[list[Any]] = []

    def encode(self, rows: Any, parity: Any) -> None:
        self.kept.append(rows)
        super().encode(rows, parity)


class Silent(Cauchy):
    """Restores and does not say what."""

    def recover(self, rows: Any, present: MutableSequence[bool]) -> bool:
        return super().recover(rows, list(present))


class FromBehind(Columns):
    """Counts columns from the last row, so that a shortened group has other ones."""

    def encode(self, rows: Any, parity: Any) -> None:
        shift = self.k - len(rows)
        for i in range(self.m):
            parity[i] = np.bitwise_xor.reduce(rows[(i + shift) % self.m :: self.m], axis=0)


class NeedsAllRows(Cauchy):
    """Cannot do shortened groups."""

    def encode(self, rows: Any, parity: Any) -> None:
        if len(rows) != self.k:
            raise ValueError(f"{len(rows)} rows")
        super().encode(rows, parity)


class NeedsAllParity(Cauchy):
    """Gives up where parity is missing."""

    def recover(self, rows: Any, present: MutableSequence[bool]) -> bool:
        return all(present[: self.k]) or (all(present[self.k + 1 :]) and super().recover(rows, present))


class RaisesWhenLost(Cauchy):
    def recover(self, rows: Any, present: MutableSequence[bool]) -> bool:
        if not super().recover(rows, present):
            raise ValueError("too many losses")
        return True


def describe(make: type[Any]) -> FecDescriptor:
    return FecDescriptor(options=NoOptions, wire_name="test", create=lambda options, k, m: make(k, m))


SMALL = {"small": ((1, 1), (3, 1), (4, 2)), "large": ((10, 3),)}


def test_good_codes_pass(failures: Callable[..., set[str]]):
    assert failures(FecConformance, descriptor=describe(Cauchy), large=((10, 3), (20, 2), (10, 5))) == set()
    assert failures(FecConformance, descriptor=describe(Columns), any_losses=False) == set()


@pytest.mark.parametrize(("code", "found_by"), [
    (Columns, "test_every_small_pattern"), (Columns, "test_random_large_patterns"),
    (NotSystematic, "test_encoding_is_systematic_and_repeatable"),
    (AddsToParity, "test_encoding_is_systematic_and_repeatable"), (Optimist, "test_every_small_pattern"),
    (HalfDone, "test_every_small_pattern"), (HalfDone, "test_hostile_rows"), (Greedy, "test_impossible_pairs"),
    (TrustsMissing, "test_missing_rows_are_not_looked_at"), (NeedsContiguous, "test_rows_of_larger_arrays"),
    (Keeps, "test_keeps_no_reference"), (RaisesWhenLost, "test_presence_may_be_any_mutable_sequence"),
    (Silent, "test_every_small_pattern"), (FromBehind, "test_shortened_groups"),
    (NeedsAllRows, "test_shortened_groups"), (NeedsAllParity, "test_parity_that_was_not_sent"),
])  # fmt: skip
def test_bad_codes_are_found(failures: Callable[..., set[str]], code: type[Any], found_by: str):
    assert found_by in failures(FecConformance, descriptor=describe(code), **SMALL)
