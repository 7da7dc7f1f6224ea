"""Forward error correction of a node: its parts for both directions, its timers, its orders, its status."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ltunnel.data.deliver import Delivery
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.receiver import ShardReceiver
from ltunnel.data.fec.sender import ShardSender
from ltunnel.data.fec.settings import CONFIGURATION, FecMode, FecSettings
from ltunnel.session import Epoch, Peer

ORDER = "ltunnel ctl fec"
"""Who chose the settings, in status output, where it was not the configuration."""
REPORT_AT = 16
"""Datagrams for which a report is sent, so that slow lines are steered too."""


class NodeFec:
    """What a node does about losses; made in two steps, as the data path is.

    `reliable` has the indices of transports that repair losses themselves.
    """

    def __init__(self, codes: Codes, settings: FecSettings, reliable: Container[int] = ()) -> None:
        self.codes = codes
        self.sender = ShardSender(codes, settings, reliable)
        self.receiver: ShardReceiver | None = None

    def listen(self, delivery: Delivery, sessions: Mapping[int, Epoch]) -> ShardReceiver:
        """Make the receiving half."""
        self.receiver = ShardReceiver(self.codes, delivery, sessions)
        return self.receiver

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` is due, or None."""
        times = [self.sender.next_timeout(), self.receiver.next_timeout() if self.receiver else None]
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Close groups of ours, give up groups of others."""
        self.sender.handle_timeout(now)
        if self.receiver is not None:
            self.receiver.handle_timeout(now)

    def change(
        self, now: float, *, mode: str | None = None, data: int | None = None, parity: int | None = None
    ) -> None:
        """Send in another way from now on. Raises ValueError with a text for the operator.

        Numbers without a mode mean just those numbers, as in the configuration.
        """
        settings = self.sender.settings
        if mode is not None:
            try:
                settings = replace(settings, mode=FecMode(mode))
            except ValueError:
                modes = ", ".join(each.value for each in FecMode)
                raise ValueError(f"mode: should be one of {modes}") from None
        elif parity == 0:
            settings = replace(settings, mode=FecMode.OFF)
        elif data is not None or parity is not None:
            settings = replace(settings, mode=FecMode.FIXED)
        settings = replace(
            settings,
            data=settings.data if data is None else data,
            parity=settings.parity if parity is None else parity,
        )
        if settings.data < 1 or settings.parity < 0 or settings.data + settings.parity > self.codes.max_shards:
            raise ValueError(f"data and parity: should be at least 1 and 0, together at most {self.codes.max_shards}")
        self.sender.change(settings, now, ORDER)

    def settle(self, settings: FecSettings, now: float) -> None:
        """Send as the configuration says from now on, whatever was ordered before. The codes must have the pair."""
        if (settings, CONFIGURATION) != (self.sender.settings, self.sender.by):
            self.sender.change(settings, now)

    def status(self) -> dict[str, Any]:
        """Say what was chosen by configuration or order."""
        settings = self.sender.settings
        return {
            "plugin": self.codes.name,
            "mode": settings.mode.value,
            "data": settings.data,
            "parity": settings.parity,
            "deadline_ms": round(settings.deadline * 1000, 3),
            "target": settings.target,
            "overhead": settings.overhead,
        }

    def describe(self, peers: Sequence[Peer], entries: Sequence[dict[str, Any]]) -> None:
        """Add what is done for each peer to the peers' status entries."""
        for peer, entry in zip(peers, entries, strict=True):
            entry["fec"] = {**self.sender.describe(peer), **peer.fec.summary()}
