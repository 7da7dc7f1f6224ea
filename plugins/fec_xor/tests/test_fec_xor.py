"""The conformance suites; the layout of the parity; shortened groups; formula of the residual loss."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ltunnel_fec_xor
from ltunnel.plugin import API_VERSION, NoOptions
from ltunnel.testing.conformance import FecConformance, PluginConformance
from ltunnel_fec_xor import XorParity, ltunnel_fec, ltunnel_plugin_info

PAIRS = [(1, 1), (2, 1), (10, 1), (2, 2), (6, 3), (7, 3), (10, 4), (20, 2), (200, 55)]


class TestCode(FecConformance):
    descriptor = ltunnel_fec()
    any_losses = False
    large: Sequence[tuple[int, int]] = (*FecConformance.large, (20, 10), (128, 127), (254, 1))


class TestPlugin(PluginConformance):
    module = ltunnel_fec_xor
    name = "fec_xor"


def make_rows(k, length=50):
    return np.random.default_rng([k, length]).integers(0, 256, (k, length), np.uint8)


def make_group(code, used=None):
    rows = make_rows(code.k)
    rows[code.k if used is None else used :] = 0
    parity = np.empty((code.m, 50), np.uint8)
    code.encode(rows, parity)
    return np.concatenate((rows, parity))


def test_info():
    info = ltunnel_plugin_info()
    assert (info.name, info.api) == ("fec_xor", API_VERSION)
    assert ltunnel_fec().options is NoOptions


@pytest.mark.parametrize(("k", "m"), [(1, 2), (3, 4), (10, 11)])
def test_parity_of_nothing_is_refused(k, m):
    with pytest.raises(ValueError, match=rf"^fec_xor: {k}\+{m} rows, needs no more parity rows than data rows$"):
        XorParity(k, m)


@pytest.mark.parametrize(("k", "m"), PAIRS)
def test_parity_row_j_is_the_sum_of_its_column(k, m):
    rows, parity = make_rows(k), np.full((m, 50), 0xEE, np.uint8)
    rows.flags.writeable = False
    XorParity(k, m).encode(rows, parity)
    for j in range(m):
        expected = bytes(50)
        for i in range(k):
            if i % m == j:
                expected = bytes(a ^ b for a, b in zip(expected, rows[i].tobytes(), strict=True))
        assert parity[j].tobytes() == expected, j


@pytest.mark.parametrize(("k", "m"), PAIRS)
def test_shortened_groups(k, m):
    code = XorParity(k, m)
    for used in sorted({1, min(2, k), k // 2 or 1, k}):
        group = make_group(code, used)
        parity = np.full((m, 50), 0xEE, np.uint8)
        code.encode(group[:used], parity)
        assert np.array_equal(parity, group[k:]), "not as with rows of zeros"
        rows = group.copy()
        rows[used - 1] = 0x99
        assert code.recover(rows, [row != used - 1 for row in range(k + m)])
        assert np.array_equal(rows, group)


@st.composite
def losses(draw):
    k = draw(st.integers(1, 200))
    m = draw(st.integers(1, min(k, 255 - k)))
    return k, m, draw(st.sets(st.integers(0, k + m - 1), max_size=m + 1))


@settings(max_examples=200, deadline=None)
@given(losses())
def test_heals_one_loss_in_each_column_and_no_more(drawn):
    k, m, lost = drawn
    code = XorParity(k, m)
    group = make_group(code)
    rows = group.copy()
    rows[[*lost]] = 0x42
    damaged = rows.copy()
    columns = [(row % m if row < k else row - k) for row in sorted(lost)]
    hopeless = {row for row in lost if row < k and columns.count(row % m) > 1}
    present = [row not in lost for row in range(k + m)]
    assert code.recover(rows, present) is not bool(hopeless)
    assert {row for row in range(k) if not present[row]} == hopeless
    healed = [row for row in range(k) if row not in hopeless]
    assert np.array_equal(rows[healed], group[healed])
    assert np.array_equal(rows[[*hopeless]], damaged[[*hopeless]])


def test_patterns_do_not_pile_up():
    code = XorParity(200, 20)
    group = make_group(code)
    for row in range(200):
        for parity in range(200, 205):
            rows = group.copy()
            rows[row] = 0
            assert code.recover(rows, [place not in (row, parity) for place in range(220)]) is (
                row % 20 != parity - 200
            )
    assert code._repair.cache_info().currsize == code._repair.cache_info().maxsize < 1000


def formula(k, m, p):
    """Residual loss by the formula of the README."""
    sizes = [len(range(j, k, m)) for j in range(m)]
    return sum(size / k * p * (1 - (1 - p) ** size) for size in sizes)


@pytest.mark.parametrize(("k", "m"), [(6, 1), (4, 2), (5, 2), (5, 3)])
@pytest.mark.parametrize("p", [0.01, 0.2])
def test_residual_loss_is_what_the_formula_says(k, m, p):
    """All patterns, each with its probability: data rows that stay lost, on average."""
    code = XorParity(k, m)
    group = make_group(code)
    residual = 0.0
    for present in product((True, False), repeat=k + m):
        probability = (1 - p) ** sum(present) * p ** (k + m - sum(present))
        there = [*present]
        code.recover(group.copy(), there)
        residual += probability * there[:k].count(False) / k
    assert residual == pytest.approx(formula(k, m, p), rel=1e-9)
    if m == 1:
        assert residual == pytest.approx(p * (1 - (1 - p) ** k), rel=1e-9)


def test_figures_of_the_readme():
    text = (Path(__file__).parents[1] / "README.md").read_text()
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line[:3].strip("| ").isdigit()]
    assert len(lines) == 4
    for pair, overhead, *figures in lines:
        k, m = map(int, pair.split("+"))
        assert overhead.strip() == f"{m / k:.0%}"
        assert [figure.strip() for figure in figures] == [
            f"{100 * formula(k, m, p):.2g} %" for p in (0.01, 0.05, 0.1, 0.2)
        ]
