"""What was dropped, and why; what became of connections."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Packets from the network, and batches of the core, that came to nothing, by reason."""

    malformed: int = 0
    """No TCP segments, or of no use: wrong lengths, flags that mean nothing."""
    strays: int = 0
    """Segments of no connection, without a valid cookie."""
    implausible: int = 0
    """Segments with numbers that their connection cannot have."""
    hints: int = 0
    """RST and FIN segments, which are not obeyed."""
    refused: int = 0
    """Connections for which there was no room."""
    not_open: int = 0
    """Batches of the core for a flow without a connection."""
    window_full: int = 0
    """Batches of the core for which the far end's window had no room."""
    connections: int = 0
    """Connections that were made."""
    lost: int = 0
    """Of these, given up because nothing came any more."""

    def drops(self) -> dict[str, int]:
        """Return what was dropped, in the operator's words, without what never was."""
        counted = {
            "malformed": self.malformed, "stray": self.strays, "implausible": self.implausible, "refused": self.refused,
            "not open": self.not_open, "window full": self.window_full,
        }  # fmt: skip
        return {word: number for word, number in counted.items() if number}

    def tallies(self) -> dict[str, int]:
        """Return what else happened."""
        return {"connections": self.connections, "connections lost": self.lost, "resets seen": self.hints}
