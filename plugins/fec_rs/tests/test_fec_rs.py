"""The conformance suites; shortened groups; what is kept between calls; formula of the residual loss."""

import sys
import threading
from itertools import combinations, product
from math import comb
from pathlib import Path

import numpy as np
import pytest

import ltunnel_fec_rs
from ltunnel.plugin import API_VERSION, NoOptions
from ltunnel.testing.conformance import FecConformance, PluginConformance
from ltunnel_fec_rs import ReedSolomon, ltunnel_fec, ltunnel_plugin_info

RNG = np.random.default_rng(7)


class TestCode(FecConformance):
    descriptor = ltunnel_fec()
    large = (*FecConformance.large, (20, 10), (128, 127), (254, 1), (1, 254))


class TestPlugin(PluginConformance):
    module = ltunnel_fec_rs
    name = "fec_rs"


def make_group(code, length=70, used=None):
    """A group of random rows, zero behind the `used` ones, with its parity."""
    group = np.zeros((code.k + code.m, length), np.uint8)
    used = code.k if used is None else used
    group[:used] = RNG.integers(0, 256, (used, length), np.uint8)
    code.encode(group[: code.k], group[code.k :])
    return group


def test_info():
    info = ltunnel_plugin_info()
    assert (info.name, info.api) == ("fec_rs", API_VERSION)
    assert ltunnel_fec().options is NoOptions


@pytest.mark.parametrize(("k", "m"), [(3, 2), (10, 3), (20, 10), (60, 4), (100, 90)])
def test_shortened_groups(k, m):
    code = ReedSolomon(k, m)
    for used in sorted({1, 2, 3, k // 2, k - 1}):
        group = make_group(code, used=used)
        parity = np.full((m, 70), 0xEE, np.uint8)
        code.encode(group[:used], parity)
        assert np.array_equal(parity, group[k:]), "not as with rows of zeros"
        for lost in (range(min(m, used)), range(max(0, used - m), used), [used - 1, *range(k, k + m - 1)]):
            rows = group.copy()
            rows[[*lost]] = 0x99
            assert code.recover(rows, [row not in lost for row in range(k + m)])
            assert np.array_equal(rows[:k], group[:k])


@pytest.mark.parametrize(("k", "m"), [(10, 3), (20, 10)])  # one for each way of multiplying
def test_encoding_only_reads_the_rows_and_writes_all_of_the_parity(k, m):
    code = ReedSolomon(k, m)
    rows = RNG.integers(0, 256, (k, 333), np.uint8)
    before = rows.copy()
    rows.flags.writeable = False
    first, second = np.zeros((m, 333), np.uint8), np.full((m, 333), 255, np.uint8)
    code.encode(rows, first)
    code.encode(rows, second)
    assert np.array_equal(rows, before)
    assert np.array_equal(first, second)


def test_presence_tells_of_data_rows_that_were_restored():
    code = ReedSolomon(4, 2)
    group = make_group(code)
    present = [True, False, True, False, True, True]
    assert code.recover(group, present)
    assert present == [True] * 6
    present = [True, False, False, False, True, True]
    assert not code.recover(group, present)
    assert present == [True, False, False, False, True, True]


def test_lengths_and_shapes_may_change_with_every_call():
    """Memory is kept between calls: nothing of an earlier group may show in a later one."""
    code = ReedSolomon(20, 10)
    plain = {}
    for length in (1, 63, 64, 65, 1400, 1, 1500, 200, 9001, 64):
        for used in (20, 20, 13):
            rows = RNG.integers(0, 256, (used, length), np.uint8)
            parity = np.empty((10, length), np.uint8)
            code.encode(rows, parity)
            fresh = np.empty_like(parity)
            ReedSolomon(20, 10).encode(rows, fresh)
            assert np.array_equal(parity, fresh), (length, used)
            plain[length, used] = rows, parity
    for (length, used), (rows, parity) in plain.items():
        group = np.zeros((30, length), np.uint8)
        group[:used], group[20:] = rows, parity
        lost = RNG.choice(used, 10, replace=False)
        group[lost] = 3
        assert code.recover(group, [row not in lost for row in range(30)])
        assert np.array_equal(group[:used], rows)


def test_many_patterns_and_lengths_do_not_pile_up():
    code = ReedSolomon(60, 20)
    group = make_group(code, 5)
    limit = code._repair.cache_info().maxsize
    for _ in range(3 * limit):
        lost = RNG.choice(80, 20, replace=False)
        rows = group.copy()
        rows[lost] = 0
        assert code.recover(rows, [row not in lost for row in range(80)])
        assert np.array_equal(rows[:60], group[:60])
    assert code._repair.cache_info().currsize == limit
    for length in range(1, 9000, 100):
        code.encode(np.ones((60, length), np.uint8), np.empty((20, length), np.uint8))
    assert len(code._room._layouts) <= 32


def test_codes_of_their_own_in_threads():
    """Nothing that is changed is shared between two codes, also not of the same k and m."""
    wrong, rounds = [], 150

    def work(seed):
        rng = np.random.default_rng(seed)
        code = ReedSolomon(20, 10)
        for _ in range(rounds):
            length = int(rng.integers(1, 1500))
            group = np.empty((30, length), np.uint8)
            group[:20] = rng.integers(0, 256, (20, length), np.uint8)
            code.encode(group[:20], group[20:])
            lost = rng.choice(20, 10, replace=False)
            rows = group.copy()
            rows[lost] = 0
            if not code.recover(rows, [row not in lost for row in range(30)]) or not np.array_equal(rows, group):
                wrong.append((seed, length))

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert wrong == []


def binomial(k, m, p):
    """Residual loss by the formula of the README."""
    others = k + m - 1
    return p * sum(comb(others, n) * p**n * (1 - p) ** (others - n) for n in range(m, others + 1))


@pytest.mark.parametrize(("k", "m"), [(4, 1), (5, 2), (3, 3)])
@pytest.mark.parametrize("p", [0.01, 0.2])
def test_residual_loss_is_what_the_formula_says(k, m, p):
    """All patterns, each with its probability: data rows that stay lost, on average."""
    code = ReedSolomon(k, m)
    group = make_group(code, 1)
    residual = 0.0
    for present in product((True, False), repeat=k + m):
        probability = (1 - p) ** sum(present) * p ** (k + m - sum(present))
        if not code.recover(group.copy(), [*present]):
            residual += probability * present[:k].count(False) / k
    assert residual == pytest.approx(binomial(k, m, p), rel=1e-9)


def test_figures_of_the_readme():
    text = (Path(__file__).parents[1] / "README.md").read_text()
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line[:3].strip("| ").isdigit()]
    assert len(lines) == 4
    for pair, overhead, *figures in lines:
        k, m = map(int, pair.split("+"))
        assert overhead.strip() == f"{m / k:.0%}"
        assert [figure.strip() for figure in figures] == [
            f"{100 * binomial(k, m, p):.2g} %" for p in (0.01, 0.05, 0.1, 0.2)
        ]


def test_every_set_of_k_rows_will_do():
    code = ReedSolomon(5, 4)
    group = make_group(code)
    for arrived in combinations(range(9), 5):
        rows = np.zeros_like(group)
        rows[[*arrived]] = group[[*arrived]]
        assert code.recover(rows, [row in arrived for row in range(9)])
        assert np.array_equal(rows[:5], group[:5])
