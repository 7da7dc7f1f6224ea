"""What ltunnel is meant to reach, as ratios within one run, and whether it does."""

from collections.abc import Mapping
from dataclasses import dataclass

SELF = "ltunnel"
TRANSPORTS = ("faketcp-packet", "faketcp-tun", "tls")
"""ltunnel over other transports than UDP."""
Medians = Mapping[str, Mapping[str, float]]
"""Row, then peer."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure of ltunnel's in a row: a multiple of another peer's figure, or a figure by itself."""

    row: str
    bound: float
    of: str | None = None
    at_most: bool = False
    peer: str = SELF

    def text(self) -> str:
        """Say it as it stands in the table: ``>= 8 x wireguard-go``."""
        whose = "" if self.peer == SELF else f"{self.peer} "
        return f"{whose}{'<=' if self.at_most else '>='} {self.bound:g}" + (f" x {self.of}" if self.of else "")

    def reached(self, medians: Medians) -> bool | None:
        """Whether it is reached; None: a figure is missing."""
        figures = medians.get(self.row, {})
        if self.peer not in figures or (self.of and self.of not in figures):
            return None
        limit = self.bound * (figures[self.of] if self.of else 1)
        return figures[self.peer] <= limit if self.at_most else figures[self.peer] >= limit


GOALS = (
    Goal("tcp", 8, "wireguard-go"),
    Goal("tcp", 0.13, "veth"),
    *(
        Goal(row, bound, SELF, peer=code)
        for row in ("tcp", "tcp_reverse", "tcp_segmented", "tcp_segmented_no_gro")
        for code, bound in (("ltunnel-rs", 0.4), ("ltunnel-xor", 0.6))
    ),
    Goal("tcp_reverse", 8, "wireguard-go"),
    Goal("tcp_reverse", 0.13, "veth"),
    Goal("tcp_4", 9, "wireguard-go"),
    Goal("tcp_segmented", 0.4, "veth"),
    Goal("tcp_segmented_no_gro", 0.37, "veth"),
    Goal("cpu", 0.13, "wireguard-go", at_most=True),
    Goal("udp_100", 97),
    Goal("udp_1300", 97),
    Goal("ping", 1, "wireguard-go", at_most=True),
    Goal("rss", 80, at_most=True),
    *(
        Goal(row, 0.9, SELF, peer=transport)
        for row in ("tcp", "tcp_reverse", "tcp_segmented", "tcp_segmented_no_gro")
        for transport in ("faketcp-packet", "faketcp-tun")
    ),
    Goal("tcp", 1, "wireguard-go", peer="tls"),
)
