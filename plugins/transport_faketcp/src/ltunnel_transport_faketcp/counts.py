"""What was dropped, and why."""

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
