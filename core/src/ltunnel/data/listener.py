"""The control side as the data path sees it."""

from __future__ import annotations

from typing import Protocol

from ltunnel.plugin import Flow
from ltunnel.session import Epoch


class Listener(Protocol):
    """What the data path tells the control side; see `ltunnel.control.engine.Control`."""

    sessions: dict[int, Epoch]

    def receive(self, transport: int, flow: Flow, data: bytes, now: float) -> None:
        """Take a datagram that is not DATA."""

    def receive_frame(
        self, epoch: Epoch, frame_type: int, body: bytes, transport: int, flow: Flow, size: int, now: float
    ) -> None:
        """Take an authenticated control frame."""

    def notice(self, epoch: Epoch, transport: int, flow: Flow, size: int, newest: bool, now: float) -> None:
        """Take note of an authenticated batch that changes something: a new epoch, another flow."""
