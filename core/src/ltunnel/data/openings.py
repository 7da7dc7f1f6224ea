"""Opening neighbours of one kind back to back, when what they hold is to be looked at as an array."""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.constants import DATA_OVERHEAD
from ltunnel.data.batch import Batch
from ltunnel.data.grid import Arena
from ltunnel.plugin import Buffer
from ltunnel.session import Epoch


def open_alike(
    target: Arena, kinds: Sequence[int], batch: Batch, at: int, end: int, epoch: Epoch, first: Buffer
) -> tuple[int, int]:
    """Open the rows that follow row `at`, whose plaintext is `first`, all behind each other in `target`.

    Opened are those whose frame type is one of `kinds`, up to the first that is of another. Returns how many there are
    of the length of the first, itself included, and the length of a shorter one behind them, or 0.
    """
    open_rows, length = epoch.opener.open, len(first)
    target.view[:length] = first
    done, full = 1, min(end, batch.full) - at
    if full > 1:
        assert batch.grid is not None  # noqa: S101  # more than one row
        outputs = batch.grid.outputs(target, length, length)
        full = min(full, len(outputs))
        done += open_rows(batch.nonces[at + 1 : at + full], batch.sealed[at + 1 : at + full], outputs[1:full])
        found = target.data[length - 1 : done * length : length]
        if sum(map(found.count, kinds)) < done:
            done = next(row for row, kind in enumerate(found) if kind not in kinds)
    if at + done == batch.full < end and batch.short is not None:
        rest, start = batch.rest - DATA_OVERHEAD, done * length
        opened = open_rows(batch.nonces[batch.full : end], (batch.short,), (target.view[start : start + rest],))
        if opened and target.data[start + rest - 1] in kinds:
            return done, rest
    return done, 0
