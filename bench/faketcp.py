"""µs that fake TCP's own code costs beside UDP's: a batch sent, a batch received, a segment received, a SYN answered.

    .venv/bin/python bench/faketcp.py

Ports swallow and repeat, so that no system call is in the figures. A batch is what one super-packet of 1400-byte
packets becomes: 44 slots of 1438 bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ltunnel.constants import HEADROOM
from ltunnel.plugin import Buffer, Endpoint, Route
from ltunnel_transport_faketcp import FakeTcpTransport, FramedTransport
from ltunnel_transport_faketcp.flow import Flow
from ltunnel_transport_udp import UdpTransport

SLOT, ROWS = 1438, 44
ROUNDS, REPEATS = 300, 40
HUB, NODE = b"\xcb\x00\x71\x01", b"\xc6\x33\x64\x01"


class LoopPort:
    """Swallows what is sent; gives out one datagram or packet again and again."""

    local: Endpoint = ("192.0.2.1", 9000)
    numbers: Sequence[int] = (9000,)
    secret = bytes(32)
    changes = 0

    def __init__(self, own: bytes) -> None:
        self.own = own
        self.data = b""
        self.seg = 0
        self.source: Endpoint = ("203.0.113.1",)
        self.sent = b""
        self.keep = False

    def send(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:  # noqa: ARG002
        """Swallow."""
        if self.keep:
            self.sent = bytes(buf[start:end])
        return True

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:  # noqa: ARG002
        """Give out the same again, which is in `buf` already."""
        return pos, pos + len(self.data), self.seg, self.source

    def route(self, host: str) -> Route:  # noqa: ARG002
        """Return the address that the packets are made for."""
        return Route(self.own, 1500, self.own)


def best(step: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the least mean time of a step in µs."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(rounds):
            step()
        times.append((time.perf_counter() - start) / rounds)
    return min(times) * 1e6


def pair() -> tuple[FakeTcpTransport, LoopPort, Flow, FakeTcpTransport, LoopPort, bytes]:
    """Return a node and a hub with a connection between them: transport, port and flow; transport, port; the SYN."""
    near, far = LoopPort(NODE), LoopPort(HUB)
    near.keep = far.keep = True
    node, hub = FakeTcpTransport(near, listen=False), FakeTcpTransport(far, listen=True)
    flow = node.connect(("203.0.113.1", 9000), 1.0)
    syn = near.sent
    _pass(near, hub, far)
    _pass(far, node, near)
    _pass(near, hub, far)
    return node, near, flow, hub, far, syn


def _pass(sender: LoopPort, transport: FakeTcpTransport, receiver: LoopPort) -> None:
    """Let a transport receive what was sent last."""
    buf = memoryview(bytearray(140_000))
    receiver.data = sender.sent
    buf[: len(receiver.data)] = receiver.data
    transport.receive(transport.ports[0], buf, 0, 1.0)


def main() -> None:
    """Measure and print."""
    buf = memoryview(bytearray(140_000))
    end = HEADROOM + ROWS * SLOT
    udp_port = LoopPort(NODE)
    udp = UdpTransport(udp_port)
    framed = FramedTransport(udp_port)
    node, near, flow, hub, far, syn = pair()
    to = ("203.0.113.1", 9000)

    def send() -> None:
        flow.limit = flow.sent + (1 << 26)
        node.send(flow, buf, HEADROOM, end, SLOT, 1.0)

    send()
    batch = near.sent
    near.keep = far.keep = False
    rows = [
        ("send a batch", "udp", best(lambda: udp.send(to, buf, HEADROOM, end, SLOT, 1.0))),
        ("", "faketcp", best(send)),
        ("", "framed", best(lambda: framed.send(to, buf, HEADROOM, end, SLOT, 1.0))),
    ]
    udp_port.data, udp_port.seg = bytes(buf[HEADROOM:end]), SLOT
    received = memoryview(bytearray(140_000))
    received[: end - HEADROOM] = udp_port.data
    rows += [
        ("receive a batch", "udp", best(lambda: udp.receive(udp_port, received, 0, 1.0))),
        ("", "framed", best(lambda: framed.receive(udp_port, received, 0, 1.0))),
    ]
    key = next(iter(hub._flows))
    there = hub._flows[key]

    def receive() -> None:
        there.received = there.told = first
        hub.receive(far, received, 0, 1.0)

    first = there.received
    far.data, far.seg = batch, SLOT
    received[: len(batch)] = batch
    rows.append(("", "faketcp, acknowledged", best(receive)))
    single = batch[: 62 + SLOT]
    single = single[:12] + (len(single) - 10).to_bytes(2, "big") + single[14:]
    far.data, far.seg = single, 0
    received[: len(single)] = single
    rows.append(("receive a segment", "faketcp", best(receive)))
    received[: len(syn)] = syn
    far.data = syn
    rows.append(("answer a SYN", "faketcp", best(lambda: hub.receive(far, received, 0, 1.0))))
    for what, who, took in rows:
        print(f"{what:18} {who:22} {took:6.2f} µs")


if __name__ == "__main__":
    main()
