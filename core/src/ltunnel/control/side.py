"""What a hub and a node do differently, as the engine sees it, and the parts that both are built from."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ltunnel.control.acceptance import Acceptance, Proved
from ltunnel.control.candidates import Candidate
from ltunnel.control.context import Context
from ltunnel.control.epochs import Epochs
from ltunnel.control.initiation import Initiation, Met
from ltunnel.control.liveness import Liveness
from ltunnel.control.paths import Paths
from ltunnel.control.session import Attempt, Session
from ltunnel.control.timers import Timer
from ltunnel.plugin import Flow
from ltunnel.session import Epoch, Path
from ltunnel.wire.frames import Frame, Pong


class Parts(NamedTuple):
    """The machinery, the same on both sides."""

    ctx: Context
    epochs: Epochs
    liveness: Liveness
    paths: Paths
    initiation: Initiation
    acceptance: Acceptance


class Side(Protocol):
    """Policy: whom to talk to, what to say, and what to make of it."""

    def start(self, now: float) -> None:
        """Begin."""

    def answers(self, transport: int, flow: Flow) -> bool:
        """Whether an INIT from this flow is answered at all."""

    def follows(self, transport: int, flow: Flow) -> bool:
        """Whether a session moves to a flow of a transport because the peer's newest datagram came from there."""

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

    def pong(self, pong: Pong, transport: int, flow: Flow, now: float) -> None:
        """Take a PONG that answers no PING of `Liveness`."""

    def doubt(self, session: Session, now: float) -> None:
        """Look for another way, if there may be one: a PING over the path in use is overdue."""

    def comeback_due(self, session: Session, now: float) -> None:
        """COMEBACK has fallen due."""

    def candidate_due(self, timer: Timer, candidate: Candidate, now: float) -> None:
        """Go on with a candidate: a timer of it has fallen due."""

    def silent(self, session: Session, now: float) -> None:
        """Nothing was heard for `timeout`."""

    def keyless(self, session: Session, now: float) -> None:
        """Go on without an epoch to seal with."""

    def retry(self, session: Session, now: float) -> None:
        """RETRY or RECONNECT has fallen due."""
