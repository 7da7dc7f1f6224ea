"""Probes that discovery asks for, to places that are no paths yet.

    ask ─► Dial ─► dialled: PROBE ─┬─ PONG ─► answered
                                   ├─ not sent, as the flow is still opening ─► refused ─► again soon
                                   └─ nothing for 10 s ─► sweep

Repeating what was not answered is for discovery to say.
"""

from __future__ import annotations

from typing import Protocol

from ltunnel.control.candidates import Dial
from ltunnel.control.context import Context
from ltunnel.control.session import Session
from ltunnel.control.timers import Timer
from ltunnel.control.way_table import Ask, AskSent, Place, WayTable
from ltunnel.plugin import Flow, PathClass
from ltunnel.session import Path
from ltunnel.wire.frames import TOKEN_SIZE, Probe

ASK_LIMIT = 2048
"""Probes to one neighbour that are out."""
ASK_TIME = 10.0
"""So long (seconds) their answers are waited for."""
OPENING = 4.0
"""A flow that has not opened after so many seconds is given up."""

SEEK = (0.0, 5.0, 15.0, 30.0, 45.0)
"""Seconds from one search for a direct path to the next while there is none; the last one repeats."""
SEEK_BETTER = 60.0
"""The same while there is one, but not on the LAN."""


def seek_due(table: WayTable, now: float) -> bool:
    """Whether to look for a better path: there is traffic, and there may be one."""
    if table.current.path_class is PathClass.LAN or not table.busy(now) or not table.session.in_use:
        return False
    return now >= table.sought + (SEEK_BETTER if table.current.direct else SEEK[min(table.seeks, len(SEEK) - 1)])


class Seeker(Protocol):
    """What looks for paths: `control.discovery`."""

    def seek(self, session: Session, now: float) -> None:
        """Look for a path to a neighbour, or for a better one."""

    def answered(self, session: Session, transport: int, flow: Flow, now: float) -> None:
        """Take note that a direct path has answered, whoever found it, and may be of use now."""

    def relay_changed(self, now: float) -> None:
        """Take note that the session with the hub has begun or ended."""

    def ended(self, session: Session, now: float) -> None:
        """Take note that a session with a neighbour is over."""


class Watcher(Protocol):
    """What wants to know of paths: `control.mesh`."""

    def paths_changed(self, now: float) -> None:
        """Take note that paths, or which of them are in use, may have changed."""


class Asking:
    """Sends such probes, and knows their answers."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def ask(self, table: WayTable, dial: Dial, path_class: PathClass, now: float) -> None:
        """Ask for a flow to an address, to probe it."""
        ask = Ask(table, dial.transport, dial.address, path_class, now)
        self._ctx.calls.append(dial._replace(whose=ask))

    def dialled(self, ask: Ask, flow: Flow, now: float) -> None:
        """Send the probe over its flow, which may still be opening."""
        table, ctx = ask.table, self._ctx
        epoch, token = table.peer.epoch, ctx.random(TOKEN_SIZE)
        if epoch is None or not ctx.send_frame(epoch, Path(ask.transport, flow), Probe(token), now):
            return
        while len(table.asks) >= ASK_LIMIT:
            del table.asks[next(iter(table.asks))]
        table.asks[token] = AskSent(ask, flow, now)

    def refused(self, table: WayTable, place: Place, now: float) -> Place | None:
        """Take note that a probe did not leave, and try again soon; return the place if it is given up instead."""
        schedule = Timer.ASK.schedule
        for token, sent in reversed(table.asks.items()):
            if sent.when != now:
                break
            if sent.place == place:
                del table.asks[token]
                waited = now - sent.ask.began
                newest = table.opening[place] = max(sent.ask.began, table.opening.get(place, sent.ask.began))
                if waited >= OPENING:
                    if newest > sent.ask.began:  # a later probe still waits for the same flow
                        return None
                    del table.opening[place]
                    return place
                wait = min(schedule.cap, max(schedule.first, waited * (schedule.factor - 1.0)))
                self._ctx.timers.set(Timer.ASK, (sent.ask, sent.flow), now + wait)
                break
        return None

    def answered(self, table: WayTable, token: bytes, place: Place) -> AskSent | None:
        """Take a PONG; return the probe that it answers, None if there is none or it came another way."""
        sent = table.asks.get(token)
        if sent is None or sent.place != place:
            return None
        del table.asks[token]
        return sent

    def sweep(self, table: WayTable, now: float) -> list[Place]:
        """Forget probes that were not answered; return where they went."""
        late: list[Place] = []
        while table.asks:
            token, sent = next(iter(table.asks.items()))
            if now - sent.when < ASK_TIME:
                break
            late.append(table.asks.pop(token).place)
        for place in [place for place, began in table.opening.items() if now - began >= ASK_TIME]:
            del table.opening[place]
        return late
