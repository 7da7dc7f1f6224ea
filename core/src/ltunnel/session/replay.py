"""Replay window over counters, for whole batches (after RFC 6479's purpose, on one big integer).

Look up before opening, commit after: a forged datagram with a huge counter must not move the window.
"""

from ltunnel.constants import REPLAY_WINDOW

_MASK = (1 << REPLAY_WINDOW) - 1


class ReplayWindow:
    """Remembers which of the last `REPLAY_WINDOW` counters have been accepted."""

    __slots__ = ("_seen", "accepted", "gaps", "late", "top")

    def __init__(self) -> None:
        self.top = -1
        """Highest counter accepted, -1 before the first."""
        self.accepted = 0
        """How many counters have been accepted."""
        self.gaps = 0
        """How often counters were left out; where nothing is reordered, how many times datagrams were lost in a row."""
        self.late = 0
        """How many came after a higher one."""
        self._seen = 0  # bit i: counter top - i was accepted

    def fresh(self, first: int, count: int = 1) -> bool:
        """Whether all of the counters first .. first + count - 1 are new and inside the window."""
        last = first + count - 1
        behind = self.top - last
        if behind < 0:
            overlap = first - self.top - 1  # negative: how many lie at or below top
            if overlap >= 0:
                return True
            if count + behind > REPLAY_WINDOW:
                return False
            return not self._seen & ((1 << -overlap) - 1)
        if behind + count > REPLAY_WINDOW:
            return False
        return not (self._seen >> behind) & ((1 << count) - 1)

    def commit(self, first: int, count: int = 1) -> None:
        """Mark counters that `fresh` passed and that then authenticated."""
        self.accepted += count
        last = first + count - 1
        ahead = last - self.top
        if ahead > 0:
            if ahead > count:
                self.gaps += 1
            kept = (self._seen << ahead) & _MASK if ahead < REPLAY_WINDOW else 0
            self._seen = kept | ((1 << count) - 1) & _MASK
            self.top = last
        else:
            self.late += count
            self._seen |= ((1 << count) - 1) << -ahead
