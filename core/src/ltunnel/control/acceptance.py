"""Answering handshakes: the responder's side, before it is known who is at the other end.

INIT passes `admission`, gets a RESP and leaves a half-open entry for six seconds; the peer's key is known when its
CONFIRM verifies. What is then made of the peer is decided elsewhere (`hub`, `joining`); here only the duplicates of a
CONFIRM are recognised, by its MAC1.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from ltunnel.control.admission import HALF_OPEN_LIMIT, Admission
from ltunnel.control.context import Context
from ltunnel.control.directory import Denial
from ltunnel.control.epochs import Epochs
from ltunnel.control.handshake import Responder, TrafficKeys, mac_ok
from ltunnel.control.paths import AMPLIFICATION
from ltunnel.control.session import Session
from ltunnel.control.timers import Timer
from ltunnel.errors import WireError
from ltunnel.plugin import Flow
from ltunnel.session import Drop, Epoch, Path, Peer
from ltunnel.wire.frames import Deny
from ltunnel.wire.messages import Confirm, Init
from ltunnel.wire.payloads import ConfirmPayload, InitPayload, RespPayload, stack_fingerprint

GREETING_GAP = 0.1
"""At most one greeting in so many seconds answers duplicates of a CONFIRM."""


class HalfOpen:
    """A handshake that was answered with RESP, or a node that was refused: kept to answer duplicates."""

    __slots__ = ("arrived", "flow", "mac", "refused", "remote_index", "responder", "transport")

    def __init__(self, responder: Responder, remote_index: int, transport: int, flow: Flow, arrived: float) -> None:
        self.responder = responder
        self.remote_index = remote_index
        self.transport = transport
        self.flow = flow
        self.arrived = arrived
        self.refused: tuple[Epoch, Path, Deny] | None = None
        self.mac = b""
        """MAC1 of the CONFIRM that was refused."""


class Proved(NamedTuple):
    """A CONFIRM has verified: who it is, what it asks for, and the keys."""

    key: bytes
    claim: ConfirmPayload
    keys: TrafficKeys
    local_index: int
    remote_index: int
    mac: bytes
    path: Path
    arrived: float
    """When the INIT came."""


class Repeated(NamedTuple):
    """A CONFIRM came again whose session stands."""

    session: Session
    epoch: Epoch


class Acceptance:
    """Handshakes that others start."""

    __slots__ = ("_admission", "_ctx", "_epochs", "_half_open", "_resp")

    def __init__(self, ctx: Context, epochs: Epochs, now: float) -> None:
        settings = ctx.settings
        self._ctx = ctx
        self._epochs = epochs
        self._admission = Admission(settings.keys, settings.cipher, settings.new_aead, ctx.random, now)
        self._half_open: OrderedDict[int, HalfOpen] = OrderedDict()
        self._resp = RespPayload(stack_fingerprint(settings.stack)).pack()

    def __len__(self) -> int:
        return len(self._half_open)

    def handle_init(self, init: Init, data: bytes, transport: int, flow: Flow, now: float) -> Drop | None:
        """Answer an INIT (`data` is all of it), with RESP, COOKIE or TIME, or say why it is dropped."""
        ctx = self._ctx
        source = ctx.describe(transport, flow)
        verdict = self._admission.judge(init, data, source, len(self._half_open), now)
        if isinstance(verdict, Drop):
            return verdict
        reply = verdict
        if reply is None:
            responder = Responder(ctx.settings, ctx.random)
            sealed = responder.read_init(init)
            if sealed is None:
                return Drop.FORGED
            try:
                payload = InitPayload.parse(sealed)
            except WireError:
                return Drop.MALFORMED
            reply = self._admission.judge_time(init, payload.time_ns / 1e9, ctx.wall(now))
            if reply is None:
                reply = self._answer(init, responder, transport, flow, now)
        ctx.send(transport, flow, reply)
        return None

    def handle_confirm(
        self, confirm: Confirm, data: bytes, transport: int, flow: Flow, now: float
    ) -> Proved | Repeated | Drop | None:
        """Read a CONFIRM (`data` is all of it): who it is, or that it came again (None: was refused, and is again)."""
        ctx = self._ctx
        if not mac_ok(ctx.settings, confirm, data):
            return Drop.MAC
        half = self._half_open.get(confirm.receiver)
        if half is None:
            return self._repeated(confirm)
        if half.refused is not None:
            if confirm.mac1 != half.mac:
                return Drop.UNKNOWN_INDEX
            self._send_deny(half, now)
            return None
        if confirm.sender != half.remote_index:
            return Drop.UNKNOWN_INDEX
        payload = half.responder.read_confirm(confirm)
        if payload is None:
            return Drop.FORGED
        try:
            claim = ConfirmPayload.parse(payload)
        except WireError:
            self._forget(confirm.receiver)
            return Drop.MALFORMED
        same = (half.transport, half.flow) == (transport, flow)  # the RESP has been there, so the address is its own
        return Proved(
            key=half.responder.remote_static,
            claim=claim,
            keys=half.responder.keys(),
            local_index=confirm.receiver,
            remote_index=half.remote_index,
            mac=confirm.mac1,
            path=Path(transport, flow, None if same else AMPLIFICATION * len(data)),
            arrived=half.arrived,
        )

    def accept(self, proved: Proved, session: Session, peer: Peer, now: float) -> Epoch:
        """Make the epoch of a peer that is taken, and receive on it."""
        self._forget(proved.local_index)
        epoch = self._epochs.make(peer, proved.keys, proved.local_index, proved.remote_index, now, initiator=False)
        epoch.confirmed = True
        self._epochs.add(session, epoch, now)
        session.confirm_macs[epoch.local_index] = proved.mac
        return epoch

    def refuse(self, proved: Proved, denial: Denial | None, now: float) -> None:
        """Take note that a peer is not taken, and tell it why unless `denial` is None."""
        half = self._half_open.get(proved.local_index)
        if half is None:
            return
        if denial is None:
            self._forget(proved.local_index)
            return
        epoch = self._epochs.make(
            Peer(proved.key), proved.keys, proved.local_index, proved.remote_index, now, initiator=False
        )
        half.refused = epoch, proved.path, Deny(denial.code, denial.text)
        half.mac = proved.mac
        self._send_deny(half, now)

    def sweep(self, now: float) -> None:
        """HALF_OPEN: forget handshakes that were not finished in time."""
        life = Timer.HALF_OPEN.schedule.first
        while self._half_open:
            index, half = next(iter(self._half_open.items()))
            if half.arrived + life > now:
                self._ctx.timers.set(Timer.HALF_OPEN, None, half.arrived + life)
                return
            self._forget(index)

    def _answer(self, init: Init, responder: Responder, transport: int, flow: Flow, now: float) -> bytes:
        if len(self._half_open) >= HALF_OPEN_LIMIT:  # the oldest goes: a newcomer needs one round trip, not six seconds
            self._ctx.stats.drop(Drop.LIMITED)
            self._forget(next(iter(self._half_open)))
        index = self._ctx.new_index()
        self._ctx.reserved.add(index)
        self._half_open[index] = HalfOpen(responder, init.sender, transport, flow, now)
        if self._ctx.timers.when(Timer.HALF_OPEN, None) is None:
            self._ctx.timers.set(Timer.HALF_OPEN, None, now + Timer.HALF_OPEN.schedule.first)
        return responder.resp(index, init.sender, self._resp)

    def _repeated(self, confirm: Confirm) -> Repeated | Drop:
        epoch = self._ctx.epochs.get(confirm.receiver)
        session = None if epoch is None else self._ctx.session_of(epoch)
        if epoch is None or session is None or session.confirm_macs.get(epoch.local_index) != confirm.mac1:
            return Drop.UNKNOWN_INDEX
        return Repeated(session, epoch)

    def _send_deny(self, half: HalfOpen, now: float) -> None:
        if half.refused is not None:
            epoch, path, deny = half.refused
            self._ctx.send_frame(epoch, path, deny, now)

    def _forget(self, index: int) -> None:
        self._half_open.pop(index, None)
        self._ctx.reserved.discard(index)
