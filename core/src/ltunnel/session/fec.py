"""What forward error correction has done for a peer, both ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class FecStats:
    """Counters of one peer. Shards are datagrams: data (a frame and its place in a group) or parity."""

    data_sent: int = 0
    parity_sent: int = 0
    data_received: int = 0
    parity_received: int = 0
    recovered: int = 0
    """Frames that were lost and made again."""
    lost: int = 0
    """Frames known to be lost for good: their group was given up."""
    wasted: int = 0
    """Parity that came and had nothing to repair."""
    late: int = 0
    """Data shards that came after they had been recovered, or too late to tell."""
    refused: int = 0
    """Shards that contradict themselves or others of their group."""
    delay: float = 0.0
    """Seconds, summed over all recovered frames, between the first shard of the group and the recovery."""
    longest_delay: float = field(default=0.0)

    def summary(self) -> dict[str, Any]:
        """Return the counters for status output."""
        mean = self.delay / self.recovered if self.recovered else 0.0
        return {
            "data_sent": self.data_sent,
            "parity_sent": self.parity_sent,
            "data_received": self.data_received,
            "parity_received": self.parity_received,
            "lost_before": self.recovered + self.lost,
            "recovered": self.recovered,
            "lost_after": self.lost,
            "parity_wasted": self.wasted,
            "late": self.late,
            "refused": self.refused,
            "delay_ms": round(mean * 1000, 3),
            "longest_delay_ms": round(self.longest_delay * 1000, 3),
        }
