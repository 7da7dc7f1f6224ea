"""What a hub and a node do differently, as the engine sees it, and the parts that both are built from."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ltunnel.control.acceptance import Acceptance, Proved
from ltunnel.control.context import Context
from ltunnel.control.epochs import Epochs
from ltunnel.control.initiation import Initiation, Met
from ltunnel.control.liveness import Liveness
from ltunnel.control.paths import Paths
from ltunnel.control.session import Session
from ltunnel.plugin import Flow
from ltunnel.session import Epoch
from ltunnel.wire.frames import Frame


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

    def silent(self, session: Session, now: float) -> None:
        """Nothing was heard for `timeout`."""

    def keyless(self, session: Session, now: float) -> None:
        """Go on without an epoch to seal with."""

    def retry(self, session: Session, now: float) -> None:
        """RETRY or RECONNECT has fallen due."""
