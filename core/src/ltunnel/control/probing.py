"""Rounds of probes over a path, when the next one is due, and what it means when nothing comes back.

A round is a PROBE without padding and, while the path's MTU is searched or watched, one with. The small one tells
whether the path works; if it does, a lost large one speaks about the MTU.

    in use, traffic     every 2 s; the large one every other time, and every time while much is sent
    of a better kind    every 2 s while there is traffic: why is it not used?
    in use, idle        every `keepalive` seconds, which also keeps mappings in NATs and sessions alive
    another direct one  every `keepalive` seconds
    through the hub     every 30 s while there is traffic over another one, else never: the hub's session is watched
    unanswered          again after 0.5 s to 1 s: SUSPECT after two, DEAD after four
    dead                after 1, 2, 4, 8, 10, 10, ... s
"""

from __future__ import annotations

from ltunnel.constants import BUNDLE_ENTRY, SHARD_TRAILER
from ltunnel.control.context import Context
from ltunnel.control.measure import Measure
from ltunnel.control.settings import ControlSettings
from ltunnel.control.timers import Timer, uniform
from ltunnel.control.way import CARRIES, Sent, Way, WayState, WayStep
from ltunnel.control.way_table import WayTable
from ltunnel.wire.frames import TOKEN_SIZE, Probe

HEARTBEAT = 2.0
SHORTEST_PATIENCE = 0.5
LONGEST_PATIENCE = 1.0
"""Between these two (seconds) lies how long an answer may take; later ones count, too."""
OVERDUE = 2
"""Unanswered rounds that make a path suspect."""
SILENT = 4
"""Unanswered rounds that make it dead."""
TRUST = 6.5
"""A path that carries data without a PONG for so long (seconds) is dead."""
RELAY_REFRESH = 30.0
LONGEST_RETRY = 10.0
KEPT = 600.0
"""So long (seconds) after its last PONG a dead path is asked now and then; it is forgotten after that."""
JITTER = 0.1
_SENT_LIMIT = 16


def padding(settings: ControlSettings) -> int:
    """Return by how much more than an inner packet's size a PROBE is padded, so that its datagram is as large.

    A packet travels in a bundle, with its entry, and that in a shard, if there is error correction.
    """
    shards = any(part.startswith("fec=") for part in settings.stack)
    return BUNDLE_ENTRY + (SHARD_TRAILER if shards else 0) - TOKEN_SIZE - 1


class Probing:
    """Sends rounds and judges them. The states themselves move in `Way.move`."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def begin(self, table: WayTable, way: Way, now: float) -> None:
        """Send a round."""
        size = self._size(table, way, now)
        way.small = self._send(way, 0, now)
        way.big = None if size is None else self._send(way, size, now)
        way.rounds += 1
        wait = self._patience(way) if way.state is not WayState.DEAD else min(LONGEST_RETRY, 2.0 ** (way.rounds - 1))
        self._ctx.timers.set(Timer.WAY, way, now + wait)

    def check(self, table: WayTable, way: Way, now: float) -> None:
        """Send a round now, unless one is out."""
        if way.small is None:
            self.begin(table, way, now)

    def plan(self, table: WayTable, way: Way, now: float) -> None:
        """Set when the next round is due, after one that was answered."""
        if way.mtu.in_doubt or way.mtu.wanted(now) is not None:
            self.begin(table, way, now)
            return
        wait = self._interval(table, way, now)
        if wait is None:
            self._ctx.timers.cancel(Timer.WAY, way)
        else:
            self._ctx.timers.set(Timer.WAY, way, now + wait)

    def answered(self, table: WayTable, way: Way, token: bytes, now: float) -> bool:
        """Take a PONG that came over the path; False if it answers none of its probes."""
        sent = way.sent.pop(token, None)
        if sent is None:
            return False
        self._works(table, way, now)
        if sent.size:
            way.mtu.carried(sent.size, now)
        else:
            way.measure.answered(now - sent.when, late=token != way.small)
        if token == way.big:
            way.big = None
        way.small = None  # one answer is enough
        if way.big is None:
            self.plan(table, way, now)
        return True

    def proved(self, table: WayTable, way: Way, sample: float, now: float) -> None:
        """Take a PONG to a probe that belongs to no round, `sample` seconds after it."""
        self._works(table, way, now)
        way.measure.answered(sample)
        if way.big is None:
            self.plan(table, way, now)

    def _works(self, table: WayTable, way: Way, now: float) -> None:
        if way.state not in CARRIES and way is not table.relay:
            way.mtu.forget()  # it may lead another way now
            way.measure = Measure()
        way.misses = 0
        way.last_pong = now
        way.proved = True
        way.path.budget = None
        way.move(WayStep.PONG)

    def judge(self, table: WayTable, way: Way, now: float) -> None:
        """WAY: see what the last round has brought, and send the next one."""
        if way.small is not None or way.state is WayState.PROBING:
            self._missed(table, way, now)
        elif way.big is not None:
            way.mtu.missed(way.sent[way.big].size, now)
        self.begin(table, way, now)

    def _missed(self, table: WayTable, way: Way, now: float) -> None:
        way.misses += 1
        if way.state is not WayState.DEAD:
            way.measure.missed()
        old = way.misses >= OVERDUE and now - way.last_pong >= TRUST and way.state is not WayState.PROBING
        if way is not table.relay and (old or way.misses >= SILENT):
            way.move(WayStep.SILENT)
        elif way.misses >= OVERDUE:
            way.move(WayStep.OVERDUE)

    def _send(self, way: Way, size: int, now: float) -> bytes | None:
        """Send a probe and return its token; None if keys or budget do not allow it."""
        ctx, epoch = self._ctx, way.peer.epoch
        token = ctx.random(TOKEN_SIZE)
        if epoch is None or not ctx.send_frame(
            epoch, way.path, Probe(token, size and size + padding(ctx.settings)), now
        ):
            return None
        if len(way.sent) >= _SENT_LIMIT:
            del way.sent[next(iter(way.sent))]
        way.sent[token] = Sent(now, size)
        return token

    def _size(self, table: WayTable, way: Way, now: float) -> int | None:
        """Return what the large probe of the next round stands for, None if there is none."""
        if way.state not in CARRIES:
            return None
        wanted = way.mtu.wanted(now)
        if wanted is not None:
            return wanted
        watched = way is table.current and table.busy(now) and (table.bulk(now) or way.rounds % 2 == 0)
        return way.mtu.size if watched or way.mtu.in_doubt else None

    def _patience(self, way: Way) -> float:
        return max(SHORTEST_PATIENCE, min(LONGEST_PATIENCE, 2.0 * (way.measure.rtt or 0.0)))

    def _interval(self, table: WayTable, way: Way, now: float) -> float | None:
        """Return after how many seconds an answered path is asked again; None if not until there is traffic."""
        busy = table.busy(now)
        if busy and (way is table.current or way.path_class < table.current.path_class):
            return HEARTBEAT
        if way is table.relay and way is not table.current:
            return RELAY_REFRESH if busy else None
        return self._ctx.settings.keepalive * (1.0 - JITTER * uniform(self._ctx.random))
