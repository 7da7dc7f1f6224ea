"""A node's part: connections to a hub, made anew from another port whenever one is lost."""

from __future__ import annotations

from ipaddress import ip_address

from ltunnel.plugin import Address, RawPort
from ltunnel_transport_faketcp.counts import Counts
from ltunnel_transport_faketcp.flow import Flow
from ltunnel_transport_faketcp.line import Line
from ltunnel_transport_faketcp.opening import Agreed, first_number, numbers, read_options
from ltunnel_transport_faketcp.segment import ACK, MASK, RST, Head, Segment, ends, make_key
from ltunnel_transport_faketcp.side import LOOK, Side
from ltunnel_transport_faketcp.states import Cause, State, move
from ltunnel_transport_faketcp.timers import Timers

SYN_TIMES = (0.0, 1.0, 2.0, 3.0, 4.0)
"""When SYNs are sent from one port: seconds since the first, as Linux does since 6.5 (tcp_syn_linear_timeouts)."""
PATIENCE = 5.0
PATIENCE_HINTED = 2.0
KEEPALIVE = 20.0
"""Seconds of silence after which a flow in use is probed, so that firewalls remember it."""
KEEPALIVE_HINTED = 4.0
"""The same after a RST or FIN: a firewall that believed it forgets in 10 s (nf_conntrack_tcp_timeout_close)."""
REST = 120.0
"""Seconds after which a flow that the core does not use is let go."""
NO_ROUTE_RETRY = 1.0


class Caller(Side):
    """Opens connections and keeps them."""

    patience = PATIENCE
    patience_hinted = PATIENCE_HINTED

    def __init__(self, port: RawPort, flows: dict[bytes, Flow], line: Line, timers: Timers, counts: Counts) -> None:
        super().__init__(port, flows, line, timers, counts)
        self._by_remote: dict[Address, Flow] = {}
        self._turn = 0

    def connect(self, remote: Address, now: float) -> Flow:
        """Return the flow to `remote`, the same each time until it is closed."""
        address = (str(ip_address(remote[0])), remote[1])
        flow = self._by_remote.get(address)
        if flow is None:
            flow = self._by_remote[address] = Flow(address, State.IDLE, now)
        flow.used = now
        self.want(flow, now)
        return flow

    def meet(self, remote: Address, like: Flow, now: float) -> Flow:
        """Return the flow to `remote`, which both ends open at once, from the port number that `like` uses."""
        address = (str(ip_address(remote[0])), remote[1])
        flow = self._by_remote.get(address)
        if flow is None:
            flow = self._by_remote[address] = Flow(address, State.IDLE, now)
        if not flow.is_up and flow.near != like.number:
            flow.near, flow.first = like.number, 0
        flow.used = now
        self.want(flow, now)
        return flow

    def want(self, flow: Flow, now: float) -> None:
        """Open a flow that has been let go."""
        if flow.state is State.IDLE:
            flow.state = move(State.IDLE, Cause.WANTED)
            self._timers.plan(flow, self._call(flow, now))

    def syn(self, segment: Segment, options: bytes, to: tuple[str], now: float) -> None:  # noqa: ARG002
        """Take the answer to a SYN; one that comes twice is acknowledged twice. Or the SYN of one whom we meet."""
        key, seq, ack, flags, window, *_ = segment
        flow = self._flows.get(key)
        if flow is None or flags & RST or not (flags & ACK or flow.near):
            self._counts.strays += 1
        elif not flags & ACK:
            self._met(flow, seq + 1 & MASK, read_options(options), now)
        elif ack != flow.first + 1 & MASK:
            self._counts.implausible += 1
        elif flow.is_up:
            self._line.acknowledge(flow, now)
        else:
            self._open(flow, read_options(options), seq + 1 & MASK, window, now)

    def admit(self, segment: Segment, to: tuple[str], now: float) -> None:  # noqa: ARG002
        """Drop what belongs to nothing: an earlier connection, a stranger."""
        self._counts.strays += 1

    def confirm(self, flow: Flow, segment: Segment, now: float) -> Flow | None:
        """Open a flow whose far end, which we have met, acknowledges our SYN."""
        if flow.state is not State.MEETING or segment[2] != flow.first + 1 & MASK:
            self._counts.implausible += 1
            return None
        self._open(flow, flow.offered, flow.far, segment[4] << (flow.offered.scale or 0), now)
        return flow

    def implausible(self, flow: Flow, segment: Segment, to: tuple[str], now: float) -> None:  # noqa: ARG002
        """Drop it. If the hub itself has lost its numbers, silence will show it."""
        self._counts.implausible += 1

    def owns(self, flow: Flow) -> bool:
        """Whether `connect` has returned it."""
        return self._by_remote.get(flow.remote) is flow

    def forget(self, flow: Flow) -> None:
        """Remove a flow."""
        del self._by_remote[flow.remote]
        self._hang_up(flow)

    def look_around(self, now: float) -> None:
        """Call again at once on flows whose packets leave with another address now: nobody would know them."""
        for flow in self._by_remote.values():
            if flow.state is not State.IDLE and self._is_cut_off(flow):
                self._counts.lost += flow.is_up
                when = self._give_up(flow, now)
                if when is not None:
                    self._timers.plan(flow, when)

    def _met(self, flow: Flow, far: int, offered: Agreed, now: float) -> None:
        """Take a SYN of one who opens as we do: answer it, as often as it comes."""
        if flow.is_up:
            if far == flow.far:
                self._line.acknowledge(flow, now)
            else:  # there it begins anew, or somebody says so
                self.hint(flow, now)
            return
        flow.far, flow.offered = far, offered
        if flow.state is State.OPENING:
            flow.state = move(State.OPENING, Cause.MET)
        self._line.meet(flow, now)

    def _open(self, flow: Flow, agreed: Agreed, far: int, window: int, now: float) -> None:
        """Begin a connection that the far end has acknowledged; what it sends goes on at `far`."""
        address, own, far_port, own_port = ends(flow.key)
        known = flow.numbers
        timed, ident = agreed.clock is not None, known.ident + len(SYN_TIMES) & 0xFFFF
        head = Head(own, address, own_port, far_port, timed=timed, ident=ident, label=known.label)
        flow.establish(head, agreed, first=flow.first, far=far, window=window, now=now)
        flow.far = far
        flow.state = move(flow.state, Cause.ANSWERED)
        self._counts.connections += 1
        self._line.acknowledge(flow, now)
        self._timers.plan(flow, now + LOOK)

    def _visit_closed(self, flow: Flow, now: float) -> float | None:
        if flow.state is not State.OPENING and flow.state is not State.MEETING:
            return None
        if now - flow.used >= REST:
            self._let_go(flow)
            return None
        if now >= flow.began + PATIENCE or self._is_cut_off(flow):
            flow.state = move(flow.state, Cause.LOST)
            return self._call(flow, now)
        return self._send_syn(flow, now)

    def _visit_quiet(self, flow: Flow, now: float) -> float | None:
        if now - flow.used >= REST:
            self._line.reset(flow, now)
            self._let_go(flow)
            return None
        quiet_until = flow.heard + (KEEPALIVE_HINTED if flow.hinted else KEEPALIVE)
        if now < quiet_until:
            return min(quiet_until, now + LOOK)
        self._line.probe(flow, now)
        return now + 1.0

    def _give_up(self, flow: Flow, now: float) -> float | None:
        if now - flow.used >= REST:
            self._let_go(flow)
            return None
        if flow.near and flow.is_up:  # firewalls take another SYN from the same port only when this is over
            self._line.reset(flow, now)
            flow.first = 0
        flow.state = move(flow.state, Cause.LOST)
        return self._call(flow, now)

    def _is_cut_off(self, flow: Flow) -> bool:
        """Whether packets to the hub would leave with another address now, or could not leave before."""
        route = self._port.route(flow.remote[0])
        return route is not None and route != flow.route

    def _let_go(self, flow: Flow) -> None:
        flow.state = move(flow.state, Cause.REST)
        self._hang_up(flow)

    def _hang_up(self, flow: Flow) -> None:
        """Forget the connection of a flow."""
        self._flows.pop(flow.key, None)
        flow.key = b""
        flow.drop_connection()

    def _call(self, flow: Flow, now: float) -> float:
        """Begin a connection from the port that was used longest ago; return when to look at it."""
        self._hang_up(flow)
        flow.began, flow.tries = now, 0
        flow.route = self._port.route(flow.remote[0])
        if flow.route is None:
            return now + NO_ROUTE_RETRY
        far, own = ip_address(flow.remote[0]).packed, flow.route.source
        for number in (flow.near,) if flow.near else self._numbers():
            key = make_key(far, own, flow.remote[1], number)
            if key not in self._flows:
                break
        flow.key, flow.number = key, number
        self._flows[key] = flow
        flow.numbers = numbers(self._port.secret, key)
        if not (flow.near and flow.first):  # those who meet repeat one SYN until it is answered: firewalls remember it
            flow.first = first_number(flow.numbers, now)
        return self._send_syn(flow, now)

    def _numbers(self) -> list[int]:
        """Return our port numbers, the one whose turn it is first."""
        turn = self._turn % len(self._port.numbers)
        self._turn += 1
        return [*self._port.numbers[turn:], *self._port.numbers[:turn]]

    def _send_syn(self, flow: Flow, now: float) -> float:
        """Send the SYN once more; return when to look at the flow again."""
        if flow.key and flow.tries < len(SYN_TIMES):
            if flow.state is State.MEETING:
                self._line.meet(flow, now)
            else:
                self._line.syn(flow, now)
            flow.tries += 1
        later = [flow.began + after for after in (*SYN_TIMES[flow.tries :], PATIENCE)]
        return later[0] if flow.key else min(later[-1], now + NO_ROUTE_RETRY)
