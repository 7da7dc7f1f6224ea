"""A clock that only moves when told to."""


class FakeClock:
    """Monotonic time that a test moves, and a wall clock beside it that may be wrong.

    It starts at 0 on purpose: code that takes 0.0 for "never" shows it.
    """

    __slots__ = ("now", "wall_offset")

    def __init__(self, now: float = 0.0, wall: float = 1_700_000_000.0) -> None:
        self.now = now
        """Monotonic seconds."""
        self.wall_offset = wall - now
        """Wall time minus monotonic time, seconds. Set it to simulate a clock that is wrong or was stepped."""

    @property
    def wall(self) -> float:
        """Seconds since 1970, as this clock believes."""
        return self.now + self.wall_offset

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.advance_to(self.now + seconds)

    def advance_to(self, when: float) -> None:
        """Let time pass until `when`; ValueError for a time that is gone."""
        if when < self.now:
            raise ValueError(f"time does not run backwards: {when} < {self.now}")
        self.now = when
