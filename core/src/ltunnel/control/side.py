"""What is decided differently for each kind of session, as the engine sees it, and the parts that all are built from.

A hub has one policy, `HubSide`; a node has two: `NodeSide` for its hub and `Neighbours` for other nodes.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ltunnel.control.acceptance import Acceptance, Proved
from ltunnel.control.context import Context
from ltunnel.control.epochs import Epochs
from ltunnel.control.initiation import Initiation, Met
from ltunnel.control.liveness import Liveness
from ltunnel.control.paths import Paths
from ltunnel.control.session import Attempt, Session
from ltunnel.control.sounding import Sounding
from ltunnel.control.subnets import Subnets
from ltunnel.control.timers import Timer
from ltunnel.plugin import Flow
from ltunnel.session import Epoch, Path, Peer
from ltunnel.wire.frames import Frame, Pong


class Parts(NamedTuple):
    """The machinery, the same on both sides."""

    ctx: Context
    epochs: Epochs
    liveness: Liveness
    paths: Paths
    initiation: Initiation
    acceptance: Acceptance
    sounding: Sounding
    subnets: Subnets

    def pong(self, session: Session, peer: Peer, pong: Pong, transport: int, flow: Flow, now: float) -> bool:
        """Take a PONG between a node and its hub; False if it answers nothing that these parts have asked."""
        if self.sounding.pong(session, pong.token, transport, flow, now):
            return True
        sent = self.liveness.pong(session, peer, pong, transport, flow, now)
        if sent is not None:
            self.paths.proved(session, peer, sent, now)
            self.subnets.settle(now, peer.path)
        return sent is not None


class Side(Protocol):
    """Policy: whom to talk to, what to say, and what to make of it."""

    def answers(self, transport: int, flow: Flow, now: float) -> bool:
        """Whether an INIT from this flow is answered at all."""

    def arrived(
        self, session: Session, epoch: Epoch, transport: int, flow: Flow, size: int, newest: bool, now: float
    ) -> None:
        """Take note of authenticated datagrams (`size` bytes) from a flow that may not be the one in use.

        `newest`: one of them has the highest counter so far, and is none that says nothing about the path in use.
        """

    def admit(self, proved: Proved, now: float) -> None:
        """Take or refuse the peer whose CONFIRM has verified."""

    def greet(self, session: Session, epoch: Epoch, now: float) -> None:
        """Answer a CONFIRM that was accepted, whenever it comes."""

    def met(self, met: Met, now: float) -> None:
        """Go on with the peer whose RESP has verified, or do not."""

    def proven(self, session: Session, epoch: Epoch, now: float) -> None:
        """Take note that a datagram has come on an epoch that this side began and has not used yet."""

    def handle_frame(self, session: Session, epoch: Epoch, frame: Frame, now: float) -> bool:
        """Take a frame other than PING and PONG; False for one that this side does not take."""

    def initiate(self, session: Session, now: float) -> None:
        """Send the next INIT of the handshake under way."""

    def hurry(self, attempt: Attempt, now: float) -> None:
        """Send an INIT again that was answered with COOKIE or TIME."""

    def probed(self, session: Session, epoch: Epoch, path: Path, now: float) -> None:
        """Take note of a PROBE, which is about to be answered, from a path that is not in use."""

    def pong(self, session: Session, peer: Peer, pong: Pong, transport: int, flow: Flow, now: float) -> None:
        """Take a PONG."""

    def doubt(self, session: Session, now: float) -> None:
        """Look for another way, if there may be one: a PING over the path in use is overdue."""

    def due(self, timer: Timer, session: Session, now: float) -> None:
        """Do what a timer is for that only this side sets."""

    def silent(self, session: Session, now: float) -> None:
        """Nothing was heard for `timeout`."""

    def keyless(self, session: Session, now: float) -> None:
        """Go on without an epoch to seal with."""
