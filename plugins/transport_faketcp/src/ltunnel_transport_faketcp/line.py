"""Segments that carry none of the core's data: acknowledgements, probes, resets and the handshake's."""

from __future__ import annotations

from ltunnel.plugin import RawPort
from ltunnel_transport_faketcp.flow import Flow
from ltunnel_transport_faketcp.opening import (
    SYN_ACK_WINDOW,
    SYN_WINDOW,
    Agreed,
    clock,
    largest_mss,
    make_cookie,
    numbers,
    write_options,
)
from ltunnel_transport_faketcp.segment import ACK, RST, SYN, Head, ends, word

_HEADROOM = 128
_SYN_HEADER = 20
_ROUTE_AGE = 10.0
_ETHERNET_MTU = 1500


class Line:
    """Sends them through a port, from a buffer of its own."""

    def __init__(self, port: RawPort) -> None:
        self._port = port
        self._view = memoryview(bytearray(_HEADROOM + 64))
        self._known_mss: dict[int, tuple[int, float]] = {}  # by IP version, and until when

    def acknowledge(self, flow: Flow, now: float) -> None:
        """Acknowledge what a flow has received."""
        self._send(flow, flow.sent, 0, flow.pure_word, now)

    def probe(self, flow: Flow, now: float) -> None:
        """Ask for an answer: one byte that was sent before, as a keepalive (RFC 9293, section 3.8.4).

        Its end is all that was sent, so that the answer acknowledges over everything lost. Without the byte, a firewall
        behind the loss would not have seen that number.
        """
        flow.probed = now
        if flow.waiting is None:
            flow.waiting = now
        self._send(flow, flow.sent - 1, 1, flow.pure_word, now)

    def reset(self, flow: Flow, now: float) -> None:
        """Tell far end and firewalls that a connection is over."""
        size = 32 if flow.head is not None and flow.head.timed else 20
        self._send(flow, flow.sent, 0, word(RST | ACK, 0, size), now)

    def syn(self, flow: Flow, now: float) -> None:
        """Ask for a connection: `Flow.first`, `Flow.key` and `Flow.route` say which."""
        self._send_opening(flow, SYN, 0, None, now)

    def meet(self, flow: Flow, now: float) -> None:
        """Acknowledge the SYN of a far end that opens as we do (RFC 9293, section 3.5: from SYN-RECEIVED)."""
        self._send_opening(flow, SYN | ACK, flow.far, flow.offered, now)

    def answer_syn(self, key: bytes, seq: int, offered: Agreed, to: tuple[str], now: float) -> None:
        """Answer a SYN with a cookie, and forget it."""
        far, own, far_port, own_port = ends(key)
        known = numbers(self._port.secret, key)
        cookie, told = make_cookie(known, offered, now)
        head = Head(own, far, own_port, far_port, timed=False, label=known.label)
        options = write_options(self._mss(head.version, to[0], now), told, offered)
        self._send_syn(head, cookie, seq + 1, SYN | ACK, SYN_ACK_WINDOW, options, to)

    def _send_opening(self, flow: Flow, flags: int, ack: int, offered: Agreed | None, now: float) -> None:
        assert flow.route is not None  # noqa: S101  # the caller has found it
        far, own, far_port, own_port = ends(flow.key)
        label, ident = flow.numbers.label, flow.numbers.ident + flow.tries
        head = Head(own, far, own_port, far_port, timed=False, ident=ident & 0xFFFF, label=label)
        options = write_options(largest_mss(flow.route.mtu, head.version), clock(flow.numbers, now), offered)
        self._send_syn(head, flow.first, ack, flags, SYN_WINDOW, options, flow.to)

    def _mss(self, version: int, host: str, now: float) -> int:
        """Return the MSS to announce; routes are looked up now and then, not for every SYN of a flood."""
        known = self._known_mss.get(version)
        if known is not None and now < known[1]:
            return known[0]
        route = self._port.route(host)
        mss = largest_mss(_ETHERNET_MTU if route is None else route.mtu, version)
        self._known_mss[version] = (mss, now + _ROUTE_AGE)
        return mss

    def _send(self, flow: Flow, seq: int, size: int, control: bytes, now: float) -> None:
        head = flow.head
        assert head is not None  # noqa: S101  # there is a connection
        flow.told = flow.received
        start = head.write(
            self._view, _HEADROOM, size, size, seq, flow.ack, control, clock(flow.numbers, now), flow.echo
        )  # fmt: skip
        self._port.send(self._view, start, _HEADROOM + size, size, flow.to)

    def _send_syn(
        self, head: Head, seq: int, ack: int, flags: int, window: int, options: bytes, to: tuple[str]
    ) -> None:
        control = word(flags, window, _SYN_HEADER + len(options))
        start = head.write_syn(self._view, _HEADROOM, seq, ack, control, options)
        self._port.send(self._view, start, _HEADROOM + len(options), len(options), to)
