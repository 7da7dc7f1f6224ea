"""How many packets stay lost behind a code, when the path loses at random or in bursts.

For a code that restores any m of k + m shards and independent losses at rate p this is

    p * P(Bin(k + m - 1, p) >= m)

With bursts losses follow a chain of two states (Gilbert, 1960): all is lost in the one, nothing in the other; the mean
stay in the first is the mean burst.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import comb

REFERENCE = 0.05


def independent(k: int, m: int, loss: float) -> float:
    """Share of packets that stay lost with independent losses."""
    others = k + m - 1
    healed = sum(comb(others, i) * loss**i * (1 - loss) ** (others - i) for i in range(m))
    return loss * max(0.0, 1 - healed)


@lru_cache(4096)
def enough(k: int, m: int, used: int, loss: float = REFERENCE, target: float = 0.0) -> int:
    """How many parity shards protect `used` data shards at this loss as well as m protect k, or leave only `target`."""
    bound = max(target, independent(k, m, loss))
    return next((count for count in range(1, m) if independent(used, count, loss) <= bound), m)


def bursty(longest: int, loss: float, burst: float) -> Iterator[tuple[int, list[float]]]:
    """Give, for n = 1 .. `longest` shards in a row, n and the probabilities of 0, 1, ... n losses.

    ``0 < loss < 1``; `burst` is the mean number of losses in a row, at least ``1 / (1 - loss)`` (independent losses).
    """
    burst = max(burst, 1 / (1 - loss))
    leave = 1 / burst
    enter = min(1.0, loss * leave / (1 - loss))
    good, bad = [1 - loss], [0.0, loss]  # by number of losses: the last shard arrived, or was lost
    for n in range(1, longest + 1):
        good += [0.0] * (n + 1 - len(good))
        yield n, [g + b for g, b in zip(good, bad, strict=True)]
        next_good = [g * (1 - enter) + b * leave for g, b in zip(good, bad, strict=True)]
        bad = [0.0] + [g * enter + b * (1 - leave) for g, b in zip(good, bad, strict=True)]
        good = next_good


def stays_lost(distribution: list[float], m: int) -> float:
    """Share of packets that stay lost, from the probabilities of 0 .. n losses, if up to m can be restored."""
    n = len(distribution) - 1
    return sum(j * p for j, p in enumerate(distribution) if j > m) / n
