"""What an operator may choose about forward error correction."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

DEADLINE = 0.008
GRACE = 0.5
"""How much longer than its deadline, as a share of it, a group waits that will be full by then at the pace so far."""
TARGET = 1e-3
OVERHEAD = 0.6
CONFIGURATION = "configuration"
"""Who chose the settings, where it was not an order."""


class FecMode(Enum):
    """How much parity is sent."""

    OFF = "off"
    FIXED = "fixed"  # always K + M
    AUTO = "auto"  # as much as the losses that the far end reports ask for
    LATENCY = "latency"  # copies for small packets of slow flows, as auto for the rest
    SPREAD = "spread"  # K + M, interleaved over several groups


@dataclass(frozen=True, slots=True, kw_only=True)
class FecSettings:
    """What this end sends. What it receives says in every shard how it was made."""

    mode: FecMode = FecMode.AUTO
    data: int = 10
    """Data shards of a group, in the modes fixed and spread."""
    parity: int = 3
    """Parity shards of a group, in the modes fixed and spread."""
    deadline: float = DEADLINE
    """Seconds after which a group is closed that has not been filled."""
    target: float = TARGET
    """Share of packets that may stay lost, where the amount of parity is found out."""
    overhead: float = OVERHEAD
    """Parity shards for each data shard, at most, where their number is found out."""
