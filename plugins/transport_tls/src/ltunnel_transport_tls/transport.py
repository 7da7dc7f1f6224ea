"""The transport: flows over connections of a stream port, in TLS.

    send:     lengths ─► TLS, a batch at a time ─► port, as far as there is room; whole datagrams are dropped
    receive:  port ─► TLS ─► stage ─► runs of equal datagrams

A node's flow outlives its connections: when one ends, another is made, after a while that grows with every failure. A
hub's flow is a connection; what came in and is not answered by the core (which answers nobody without the network's
key) is a stranger, and strangers are few and have little time.
"""

from __future__ import annotations

import heapq
import ssl
from collections.abc import Callable, Sequence
from itertools import count
from typing import cast

from ltunnel.plugin import Address, Buffer, Endpoint, Port, StreamEvent, StreamPort, write_address
from ltunnel_transport_tls.channel import RECORD, RECORD_COST, Channel
from ltunnel_transport_tls.flow import Strangers, TlsFlow
from ltunnel_transport_tls.framing import LARGEST_SLOT, PREFIX, find_run, write_lengths

HANDSHAKE_TIME = 10.0
"""Seconds for a connection, its TLS handshake and, at a hub, a first answer from the core."""
IDLE_TIME = 180.0
"""Seconds: as long as a session's keys live. An unused flow is let go."""
FIRST_RETRY, LAST_RETRY = 0.5, 8.0
"""Seconds from the end of a connection to the next, after the first failure and at most; each doubles it."""
MAX_STRANGERS, MAX_STRANGERS_EACH = 256, 32
CONNECTION_BYTES = 1 << 38
"""What one key of AES-GCM may seal: 2^24.5 full records, rounded down (RFC 8446, section 5.5)."""
NOTICE_GAP = 60.0
"""Seconds before the same trouble is told again."""

_RAW = 1 << 17  # bytes read from a connection at a time

NewChannel = Callable[[], Channel]


class TlsTransport:
    """See `ltunnel.plugin.Transport`.

    A node has `connect`, which makes its channels, a hub has `accept`, which makes those of far ends that come in.
    `number` is the TCP port to connect to where it is not that of the remote.
    """

    def __init__(
        self,
        port: Port,
        *,
        connect: NewChannel | None = None,
        accept: NewChannel | None = None,
        number: int | None = None,
    ) -> None:
        self.ports: Sequence[Port] = (port,)
        self.prefix = PREFIX
        self.notices: list[str] = []
        """What the operator should hear, a line each; who reads it empties it."""
        self.drops: dict[str, int] = {}
        """What came to nothing: connections by reason, datagrams without room ("queue full")."""
        self.tallies = {"connections": 0}
        """Connections begun or accepted."""
        self._port = cast(StreamPort, port)
        self._room = self._port.room
        self._connect = connect
        self._accept = accept
        self._number = number
        self._outgoing: dict[Address, TlsFlow] = {}
        self._flows: dict[Endpoint, TlsFlow] = {}
        self._strangers = Strangers(MAX_STRANGERS, MAX_STRANGERS_EACH)
        self._timers: list[tuple[float, int, TlsFlow]] = []
        self._serial = count()
        self._said: tuple[str, float] = ("", 0.0)
        self._raw = memoryview(bytearray(_RAW))
        # plaintext of one flow that has not been handed over: its last partial datagram and what came with one read
        self._stage = bytearray(LARGEST_SLOT + _RAW + 2 * (RECORD + RECORD_COST))
        self._stage_view = memoryview(self._stage)
        self._staged: TlsFlow | None = None
        self._at = self._end = 0

    # ---------------------------------------------------------------- flows

    def connect(self, remote: Address, now: float) -> TlsFlow:
        """Return the flow to `remote`, and begin to connect."""
        remote = (remote[0], self._number or remote[1])
        flow = self._outgoing.get(remote)
        if flow is None:
            flow = self._outgoing[remote] = TlsFlow(write_address(remote), now, remote)
        self._use(flow, now)
        return flow

    def describe(self, flow: TlsFlow) -> str:
        """Name a flow as ``host:port``."""
        return flow.text

    def close(self, flow: TlsFlow, now: float) -> None:  # noqa: ARG002
        """Forget a flow."""
        if flow.remote is not None and self._outgoing.get(flow.remote) is flow:
            del self._outgoing[flow.remote]
        elif flow.connection is None or self._flows.get(flow.connection) is not flow:
            return
        flow.is_closed = True
        self._end_connection(flow)

    # ---------------------------------------------------------------- out

    def send(self, flow: TlsFlow, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:
        """Send a batch as far as there is room for it; see `ltunnel.plugin.Transport`."""
        flow.used = now
        channel = flow.channel
        if channel is None or not channel.ready or flow.connection is None:
            if flow.remote is not None and not flow.is_closed:
                self._use(flow, now)
            return False
        if flow.stranger:
            self._strangers.remove(flow)
        whole = True
        size = end - start
        room = self._room(flow.connection)
        if size + RECORD_COST * (size // RECORD + 1) > room:
            fitting = max(0, room - RECORD_COST * (room // RECORD + 1)) // seg
            self._drop("queue full", -(-size // seg) - fitting)
            if not fitting:
                return False
            end, whole = start + fitting * seg, False
        write_lengths(buf, start, end, seg)
        if not self._put(flow, channel.seal(buf[start:end])):
            self._lose(flow, now, "the connection takes nothing more")
            return False
        flow.sealed += end - start
        if flow.sealed > CONNECTION_BYTES:
            self._lose(flow, now, "its key is worn out")
        return whole

    def _put(self, flow: TlsFlow, records: bytes) -> bool:
        size = len(records)
        return not size or self._port.send(memoryview(records), 0, size, size, flow.connection or ())

    # ---------------------------------------------------------------- in

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[TlsFlow | None, int, int, int]:
        """Receive a run of datagrams; see `ltunnel.plugin.Transport`."""
        if self._staged is None:
            start, end, seg, connection = port.recv(self._raw, 0)
            flow = self._flows.get(connection)
            if start == end:
                self._take_event(seg, connection, flow, now)
                return None, pos, pos, 0
            if flow is None or not self._open(flow, self._raw[start:end], now):
                return None, pos, pos, 0
        return self._hand_over(buf, pos, now)

    def _open(self, flow: TlsFlow, records: Buffer, now: float) -> bool:
        """Decrypt what came on a flow into the stage; False when that was the end of its connection."""
        channel = flow.channel
        if channel is None:
            assert self._accept is not None  # noqa: S101  # only what came in has no channel yet
            channel = flow.channel = self._accept()
        at = len(flow.partial)
        self._stage[:at] = flow.partial
        flow.partial = b""
        self._end = channel.receive(records, self._stage_view, at)
        if channel.ended is not None and self._end == at:
            self._lose(flow, now, channel.ended)
            return False
        flow.heard = now
        if not self._put(flow, channel.output()):
            self._lose(flow, now, "the connection takes nothing more")
            return False
        self._staged, self._at = flow, 0
        return True

    def _hand_over(self, buf: Buffer, pos: int, now: float) -> tuple[TlsFlow, int, int, int]:
        """Copy the next run from the stage; what is no whole datagram is kept with its flow."""
        flow, at = self._staged, self._at
        assert flow is not None  # noqa: S101
        stop, slot = find_run(self._stage, at, self._end)
        if stop > at:
            flow.failures = 0
            size = stop - at
            buf[pos : pos + size] = self._stage_view[at:stop]
            self._at = stop
            if stop == self._end:
                self._staged = None
                self._look_for_end(flow, now)
            return flow, pos, pos + size, slot
        self._staged = None
        if not slot:
            self._lose(flow, now, "it sends something else than datagrams")
        elif not self._look_for_end(flow, now):
            flow.partial = bytes(self._stage_view[at : self._end])
        return flow, pos, pos, 0

    def _look_for_end(self, flow: TlsFlow, now: float) -> bool:
        """End a connection of which all has been handed over, if what came last was its end."""
        ended = None if flow.channel is None else flow.channel.ended
        if ended is not None:
            self._lose(flow, now, ended)
        return ended is not None

    # ---------------------------------------------------------------- connections

    def _take_event(self, event: int, connection: Endpoint, flow: TlsFlow | None, now: float) -> None:
        if event == StreamEvent.ACCEPTED:
            if self._accept is None:
                self._port.disconnect(connection)
                return
            self.tallies["connections"] += 1
            flow = self._flows[connection] = TlsFlow(self._port.describe(connection), now)
            flow.connection = connection
            flow.deadline = now + HANDSHAKE_TIME
            victim = self._strangers.add(flow)
            if victim is not None:
                self._lose(victim, now, "too many strangers")
            self._schedule(flow, flow.deadline)
        elif flow is not None:
            self._lose(flow, now, "the far end closed it")

    def _use(self, flow: TlsFlow, now: float) -> None:
        """Take note that somebody wants a node's flow; connect if it rests."""
        flow.used = now
        if flow.connection is None and flow.retry_at is None and not flow.is_closed:
            self._outgoing[cast(Address, flow.remote)] = flow
            self._dial(flow, now)

    def _dial(self, flow: TlsFlow, now: float) -> None:
        assert self._connect is not None  # noqa: S101  # only nodes have remotes
        assert flow.remote is not None  # noqa: S101
        flow.retry_at = None
        self.tallies["connections"] += 1
        flow.connection = self._port.connect(flow.remote)
        self._flows[flow.connection] = flow
        flow.channel = self._connect()
        flow.deadline = now + HANDSHAKE_TIME
        self._schedule(flow, flow.deadline)
        self._put(flow, flow.channel.start())

    def _end_connection(self, flow: TlsFlow) -> None:
        """Leave a flow without connection."""
        self._strangers.remove(flow)
        if self._staged is flow:
            self._staged = None
        if flow.connection is not None:
            if flow.channel is not None:
                self._put(flow, flow.channel.finish())
            self._port.disconnect(flow.connection)
            self._flows.pop(flow.connection, None)
        flow.connection = flow.channel = flow.retry_at = None
        flow.partial, flow.sealed = b"", 0

    def _lose(self, flow: TlsFlow, now: float, reason: str) -> None:
        """End a connection, and plan the next one of a node's flow."""
        if flow.connection is None:
            return
        self._drop(reason, 1)
        self._end_connection(flow)
        if flow.remote is None:
            flow.is_closed = True
            return
        self._say(f"TLS connection to {flow.text}: {reason}", now)
        flow.retry_at = now + min(LAST_RETRY, FIRST_RETRY * 2.0**flow.failures)
        flow.failures += 1
        self._schedule(flow, flow.retry_at)

    # ---------------------------------------------------------------- time

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` is due."""
        return self._timers[0][0] if self._timers else None

    def handle_timeout(self, now: float) -> None:
        """Connect again, and end what takes too long or is not used."""
        while self._timers and self._timers[0][0] <= now:
            when, _, flow = heapq.heappop(self._timers)
            if when != flow.due:  # an earlier one was set since
                continue
            flow.due = None
            if not flow.is_closed:
                self._check(flow, now)

    def _schedule(self, flow: TlsFlow, when: float) -> None:
        """Look after a flow at a time, or before."""
        if flow.due is None or when < flow.due:
            flow.due = when
            heapq.heappush(self._timers, (when, next(self._serial), flow))

    def _check(self, flow: TlsFlow, now: float) -> None:
        """Do what is due for one flow, and set its next timer."""
        if flow.connection is None:
            if flow.retry_at is None:
                return
            if now < flow.retry_at:
                self._schedule(flow, flow.retry_at)
            elif now - flow.used >= IDLE_TIME:
                self._rest(flow)
            else:
                self._dial(flow, now)
            return
        waiting = flow.stranger or flow.channel is None or not flow.channel.ready
        until = flow.deadline if waiting else (flow.heard if flow.remote is None else flow.used) + IDLE_TIME
        if now < until:
            self._schedule(flow, until)
        elif waiting:
            self._lose(flow, now, "it took too long")
        elif flow.remote is None:
            self._lose(flow, now, "nothing came for long")
        else:
            self._rest(flow)

    def _rest(self, flow: TlsFlow) -> None:
        """Do without a connection until somebody wants to send."""
        self._end_connection(flow)
        self._outgoing.pop(cast(Address, flow.remote), None)

    # ---------------------------------------------------------------- what people hear

    def _drop(self, reason: str, number: int) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + number

    def _say(self, text: str, now: float) -> None:
        last, when = self._said
        if text != last or now - when >= NOTICE_GAP:
            self._said = (text, now)
            self.notices.append(text)
            del self.notices[:-16]


def make_server(port: Port, context: ssl.SSLContext) -> TlsTransport:
    """Return the transport of a hub."""

    def accept() -> Channel:
        return Channel(context, server_side=True)

    return TlsTransport(port, accept=accept)


def make_client(
    port: Port,
    context: ssl.SSLContext,
    *,
    server_name: str | None,
    trusts: Callable[[bytes], bool] | None,
    number: int | None,
) -> TlsTransport:
    """Return the transport of a node; `number` is the hub's TCP port where it is not that of its address."""

    def connect() -> Channel:
        return Channel(context, server_name=server_name, trusts=trusts)

    return TlsTransport(port, connect=connect, number=number)
