"""Epochs of a session: which exist, which one seals, and when each is forgotten.

The responder seals with a new epoch as soon as the CONFIRM has verified. The initiator has had it in its table since it
sent the CONFIRM, seals on with the old one, and changes when the first datagram of the new one has authenticated. The
old epoch is received for another 30 s. So no packet meets a side that has no key for it.

If both sides make an epoch at the same time, the one that the lower static key began is sealed with; the other is
received until it is forgotten.
"""

from __future__ import annotations

from ltunnel.constants import OLD_EPOCH_TIME, REJECT_AFTER_TIME, REKEY_AFTER_PACKETS
from ltunnel.control.context import Context
from ltunnel.control.handshake import TrafficKeys
from ltunnel.control.session import EPOCH_LIMIT, Session
from ltunnel.control.timers import Timer
from ltunnel.session import Epoch, Peer


class Epochs:
    """Keeps `Context.epochs`, `Peer.epoch` and each session's list in step."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def make(self, peer: Peer, keys: TrafficKeys, local: int, remote: int, now: float, *, initiator: bool) -> Epoch:
        """Make an epoch that is in no table."""
        new_aead = self._ctx.settings.new_aead
        return Epoch(
            peer, local_index=local, remote_index=remote, sealer=new_aead(keys.send), opener=new_aead(keys.receive),
            created=now, initiator=initiator,
        )  # fmt: skip

    def add(self, session: Session, epoch: Epoch, now: float) -> None:
        """Receive on an epoch from now on; it is forgotten after 30 s unless `use` comes first."""
        while len(session.epochs) >= EPOCH_LIMIT:
            others = [other for other in session.epochs if other is not epoch.peer.epoch]
            self._forget(session, min(others, key=lambda other: (other.window.top >= 0, other.created)))
        session.epochs.append(epoch)
        session.expiry[epoch.local_index] = now + OLD_EPOCH_TIME
        self._ctx.epochs[epoch.local_index] = epoch
        self._arm(session)

    def accepted(self, session: Session, epoch: Epoch, arrived: float, now: float) -> None:
        """Use an epoch that the peer began with an INIT that came at `arrived`, unless one of ours takes precedence."""
        current = epoch.peer.epoch
        both = current is not None and current.initiator and arrived <= session.used_at
        if not (both and self._ours_first(epoch.peer)):
            self.use(session, epoch, now)

    def proven(self, session: Session, epoch: Epoch, now: float) -> bool:
        """Take note that the peer has used an epoch that we began. True the first time."""
        began = session.unproven.pop(epoch.local_index, None)
        if began is None:
            return False
        epoch.confirmed = True
        current = epoch.peer.epoch
        both = current is not None and not current.initiator and current.created >= began
        if not both or self._ours_first(epoch.peer):
            self.use(session, epoch, now)
        return True

    def use(self, session: Session, epoch: Epoch, now: float) -> None:
        """Seal with an epoch from now on; the others are received for another 30 s."""
        timers = self._ctx.timers
        epoch.peer.epoch = epoch
        epoch.peer.last_handshake = session.used_at = now
        session.expiry.pop(epoch.local_index, None)
        for other in session.epochs:
            if other is not epoch:
                session.expiry.setdefault(other.local_index, now + OLD_EPOCH_TIME)
        self._arm(session)
        timers.cancel(Timer.REKEY, session)
        timers.cancel(Timer.REKEY_LATE, session)
        timer = Timer.REKEY if epoch.initiator else Timer.REKEY_LATE
        timers.set(timer, session, epoch.created + timer.schedule.delay(0, self._ctx.random))

    def worn(self, session: Session) -> bool:
        """Whether the epoch in use has sealed so much that the next one should be made."""
        peer = session.peer
        return peer is not None and peer.epoch is not None and peer.epoch.counter >= REKEY_AFTER_PACKETS

    def forget_due(self, session: Session, now: float) -> bool:
        """Forget what has expired. True if that leaves the session without an epoch to seal with."""
        for epoch in [epoch for epoch in session.epochs if self._end(session, epoch) <= now]:
            self._forget(session, epoch)
        self._arm(session)
        return session.peer is None or session.peer.epoch is None

    def remove(self, session: Session, epoch: Epoch) -> None:
        """Forget one epoch at once."""
        self._forget(session, epoch)
        self._arm(session)

    def clear(self, session: Session) -> None:
        """Forget all epochs."""
        for epoch in tuple(session.epochs):
            self._forget(session, epoch)
        for timer in (Timer.EPOCHS, Timer.REKEY, Timer.REKEY_LATE):
            self._ctx.timers.cancel(timer, session)

    def _ours_first(self, peer: Peer) -> bool:
        return self._ctx.settings.identity.public < peer.key

    def _end(self, session: Session, epoch: Epoch) -> float:
        old = epoch.created + REJECT_AFTER_TIME
        return min(old, session.expiry.get(epoch.local_index, old))

    def _arm(self, session: Session) -> None:
        if session.epochs:
            self._ctx.timers.set(Timer.EPOCHS, session, min(self._end(session, epoch) for epoch in session.epochs))
        else:
            self._ctx.timers.cancel(Timer.EPOCHS, session)

    def _forget(self, session: Session, epoch: Epoch) -> None:
        session.epochs.remove(epoch)
        for table in (session.expiry, session.unproven, session.confirm_macs):
            table.pop(epoch.local_index, None)
        self._ctx.epochs.pop(epoch.local_index, None)
        if epoch.peer.epoch is epoch:
            epoch.peer.epoch = None
