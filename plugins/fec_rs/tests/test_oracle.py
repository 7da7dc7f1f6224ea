"""`reedsolo` as the oracle: every column of a group is one of its codewords."""

from itertools import chain, combinations

import numpy as np
import pytest
import reedsolo
from hypothesis import given, settings
from hypothesis import strategies as st

from ltunnel_fec_rs import ReedSolomon
from ltunnel_fec_rs.field import PRODUCTS
from ltunnel_fec_rs.mix import Planes, Tables, make_mix
from ltunnel_fec_rs.room import Room


def encoded(rows: np.ndarray, m: int) -> np.ndarray:
    """What reedsolo makes of each column: (k + m, L)."""
    codec = reedsolo.RSCodec(m)
    return np.array([list(codec.encode(column.tobytes())) for column in rows.T], np.uint8).T


def make_rows(k: int, length: int, seed: int) -> np.ndarray:
    return np.random.default_rng([k, length, seed]).integers(0, 256, (k, length), np.uint8)


@pytest.mark.parametrize("m", range(1, 40))
def test_parity_of_every_small_pair(m):
    for k in range(1, 41 - m):
        rows = make_rows(k, 3, m)
        parity = np.empty((m, 3), np.uint8)
        ReedSolomon(k, m).encode(rows, parity)
        assert np.array_equal(parity, encoded(rows, m)[k:]), (k, m)


@pytest.mark.parametrize(("k", "m"), [(3, 2), (10, 1), (10, 3), (20, 2), (10, 5), (20, 10)])
def test_the_matrix_itself(k, m):
    """The parity of each unit row: no coefficient is left to chance."""
    parity = np.empty((m, k), np.uint8)
    ReedSolomon(k, m).encode(np.eye(k, dtype=np.uint8), parity)
    assert np.array_equal(parity, encoded(np.eye(k, dtype=np.uint8), m)[k:])


@pytest.mark.parametrize("m", range(1, 255))
def test_parity_of_the_longest_groups(m):
    """And of one in between, for every number of parity rows."""
    for k in {255 - m, max(1, (255 - m) * (m % 7) // 7)}:
        rows = make_rows(k, 2, m)
        parity = np.empty((m, 2), np.uint8)
        ReedSolomon(k, m).encode(rows, parity)
        assert np.array_equal(parity, encoded(rows, m)[k:]), (k, m)


@pytest.mark.parametrize(("k", "m"), [(1, 1), (1, 4), (2, 2), (3, 3), (4, 2), (5, 1), (5, 4), (6, 3)])
def test_every_pattern_of_small_pairs(k, m):
    code, codec = ReedSolomon(k, m), reedsolo.RSCodec(m)
    group = encoded(make_rows(k, 3, m), m)
    for lost in chain.from_iterable(combinations(range(k + m), count) for count in range(m + 1)):
        rows = group.copy()
        rows[[*lost]] = 0xA5
        said = [codec.decode(column.tobytes(), erase_pos=[*lost], only_erasures=True)[0] for column in rows.T]
        assert code.recover(rows, [row not in lost for row in range(k + m)])
        assert [column.tobytes() for column in rows[:k].T] == said, lost
        assert np.array_equal(rows[:k], group[:k])


@st.composite
def groups(draw):
    k = draw(st.integers(1, 254))
    m = draw(st.integers(1, 255 - k))
    lost = draw(st.sets(st.integers(0, k + m - 1), max_size=m))
    return k, m, lost, draw(st.integers(1, 4)), draw(st.integers(0, 99)), draw(st.integers(0, 2**32))


@settings(max_examples=200, deadline=None)
@given(groups())
def test_any_pair_and_any_pattern(group):
    k, m, lost, length, apart, seed = group
    code = ReedSolomon(k, m)
    wide = np.random.default_rng(seed).integers(0, 256, (k + m, length + apart), np.uint8)
    rows = wide[:, :length]
    expected = encoded(rows[:k], m)
    beyond = wide[:, length:].copy()
    code.encode(rows[:k], rows[k:])
    assert np.array_equal(rows, expected)
    rows[[*lost]] = 0x11
    assert code.recover(rows, [row not in lost for row in range(k + m)])
    assert np.array_equal(rows[:k], expected[:k])
    assert np.array_equal(wide[:, length:], beyond)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 70), st.integers(1, 300), st.integers(0, 2**32))
def test_both_ways_of_multiplying_agree_with_the_field(count, n, length, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 256, (count, n), np.uint8)
    rows = rng.integers(0, 256, (n, length), np.uint8)
    products = np.array([list(table) for table in PRODUCTS], np.uint8)
    expected = np.array([np.bitwise_xor.reduce(products[line[:, None], rows], axis=0) for line in matrix])
    for kind in (Tables, Planes):
        out = np.full((count, length), 0x33, np.uint8)
        kind(matrix).apply(rows, out, Room())
        assert np.array_equal(out, expected), kind


def test_products_are_those_of_reedsolo():
    reedsolo.init_tables()
    assert all(PRODUCTS[a][b] == reedsolo.gf_mul(a, b) for a in range(256) for b in range(256))


def test_small_matrices_go_by_tables():
    assert isinstance(make_mix(np.ones((2, 10), np.uint8)), Tables)
    assert isinstance(make_mix(np.ones((9, 20), np.uint8)), Planes)
