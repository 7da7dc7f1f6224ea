"""The transport suite passes good transports, bare or framed with timers, and finds what is wrong with bad ones."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from ltunnel.plugin import (
    Address,
    Buffer,
    Carrier,
    Endpoint,
    NoOptions,
    Port,
    PortKind,
    PortSpec,
    TransportContext,
    TransportDescriptor,
)
from ltunnel.testing.conformance import TransportConformance


class Bare:
    """UDP as it is."""

    def __init__(self, ports: list[Port]) -> None:
        self.ports = ports
        self.prefix = 0
        self.sent_bytes = 0

    def connect(self, remote: Address, now: float) -> Endpoint:
        return (*remote, 0, 0) if len(self.ports[0].local) == 4 else remote

    def send(self, flow: Endpoint, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:
        return self.ports[0].send(buf, start, end, seg, flow)

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[Endpoint, int, int, int]:
        start, end, seg, source = port.recv(buf, pos)
        return source, start, end, seg

    def describe(self, flow: Endpoint) -> str:
        return f"{flow[0]}:{flow[1]}"

    def close(self, flow: Endpoint, now: float) -> None:
        pass

    def next_timeout(self) -> float | None:
        return None

    def handle_timeout(self, now: float) -> None:
        pass


class Framed(Bare):
    """A 4-byte header on single datagrams, a handshake before the first, a keepalive every 5 s."""

    MAGIC = b"\xffLT\x01"
    HELLO = b"\xffLT\x02"

    def __init__(self, ports: list[Port]) -> None:
        super().__init__(ports)
        self.open: dict[Endpoint, float] = {}  # flow -> next keepalive
        self.pending: set[Endpoint] = set()

    def connect(self, remote: Address, now: float) -> Endpoint:
        flow = super().connect(remote, now)
        self.pending.add(flow)
        self._hello(flow, now)
        return flow

    def _hello(self, flow: Endpoint, now: float) -> None:
        self.open[flow] = now + 5.0
        self.ports[0].send(memoryview(self.HELLO), 0, 4, 4, flow)

    def send(self, flow: Endpoint, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:
        if flow in self.pending:
            return False
        sent = True
        for at in range(start, end, seg):
            kept = bytes(buf[at - 4 : at])
            buf[at - 4 : at] = self.MAGIC
            last = min(at + seg, end)
            sent &= self.ports[0].send(buf, at - 4, last, last - at + 4, flow)
            if at > start:
                buf[at - 4 : at] = kept
        return sent

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[Endpoint, int, int, int]:
        start, end, seg, source = port.recv(buf, pos)
        if bytes(buf[start:end]) == self.HELLO * ((end - start) // 4):
            if source not in self.open:
                self._hello(source, now)
            self.pending.discard(source)
            return source, start, start, 0
        bodies, sizes = b"", set()
        for at in range(start, end, seg):
            datagram = bytes(buf[at : min(at + seg, end)])
            if not datagram.startswith(self.MAGIC) or len(datagram) == 4:
                return source, start, start, 0
            bodies += datagram[4:]
            sizes.add(len(datagram))
        buf[start : start + len(bodies)] = bodies
        return source, start, start + len(bodies), seg - 4

    def close(self, flow: Endpoint, now: float) -> None:
        self.open.pop(flow, None)
        self.pending.discard(flow)

    def next_timeout(self) -> float | None:
        return min(self.open.values(), default=None)

    def handle_timeout(self, now: float) -> None:
        for flow, due in list(self.open.items()):
            if due <= now:
                self._hello(flow, now)


class Prefixed(Bare):
    """The length of each datagram in front of it, where the core leaves room."""

    def __init__(self, ports: list[Port]) -> None:
        super().__init__(ports)
        self.prefix = 2

    def send(self, flow: Endpoint, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:
        for at in range(start, end, seg):
            buf[at : at + 2] = (min(at + seg, end) - at - 2).to_bytes(2, "big")
        return super().send(flow, buf, start, end, seg, now)

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[Endpoint, int, int, int]:
        source, start, end, seg = super().receive(port, buf, pos, now)
        for at in range(start, end, seg or 1):
            size = min(at + seg, end) - at - 2
            if size <= 0 or int.from_bytes(buf[at : at + 2], "big") != size:
                return source, start, start, 0
        return source, start, end, seg


class WritesPrefixesInside(Prefixed):
    def send(self, flow, buf, start, end, seg, now):
        buf[start + 2 : start + 4] = b"\0\1"
        return super().send(flow, buf, start, end, seg, now)


class LosesBoundaries(Bare):
    def receive(self, port, buf, pos, now):
        start, end, _, source = port.recv(buf, pos)
        return source, start, end, end - start


class ClobbersPayload(Bare):
    def send(self, flow, buf, start, end, seg, now):
        sent = super().send(flow, buf, start, end, seg, now)
        buf[start : start + 1] = b"\0"
        return sent


class ClobbersBeyondHeadroom(Bare):
    def send(self, flow, buf, start, end, seg, now):
        buf[start - 129 : start - 128] = b"\0"
        return super().send(flow, buf, start, end, seg, now)


class SaysNothing(Bare):
    def send(self, flow, buf, start, end, seg, now):
        super().send(flow, buf, start, end, seg, now)


class KeepsViews(Bare):
    kept: ClassVar[list[Buffer]] = []

    def send(self, flow, buf, start, end, seg, now):
        self.kept.append(buf)
        return super().send(flow, buf, start, end, seg, now)


class NeverBlocks(Bare):
    def receive(self, port, buf, pos, now):
        try:
            return super().receive(port, buf, pos, now)
        except BlockingIOError:
            return ("", 0), pos, pos, 0


class ChokesOnGarbage(Bare):
    def receive(self, port, buf, pos, now):
        source, start, end, seg = super().receive(port, buf, pos, now)
        if start < end and buf[start] > 0xF0:
            raise ValueError("bad header")
        return source, start, end, seg


class QuotesStrangers(Bare):
    def __init__(self, ports):
        super().__init__(ports)
        self.drops = {}

    def receive(self, port, buf, pos, now):
        source, start, end, seg = super().receive(port, buf, pos, now)
        self.drops[bytes(buf[start:end]).decode("latin-1")] = 1
        return source, start, end, seg


class SaysMuch(Bare):
    def __init__(self, ports):
        super().__init__(ports)
        self.notices = []

    def receive(self, port, buf, pos, now):
        got = super().receive(port, buf, pos, now)
        self.notices.append("something came")
        return got


class StuckTimer(Bare):
    def next_timeout(self):
        return 0.5


class ClosesOnce(Bare):
    def close(self, flow, now):
        self.known.remove(flow)

    def connect(self, remote, now):
        flow = super().connect(remote, now)
        self.known = {flow}
        return flow


class OneFlow(Bare):
    def receive(self, port, buf, pos, now):
        source, start, end, seg = super().receive(port, buf, pos, now)
        self.far = source
        return "far", start, end, seg

    def send(self, flow, buf, start, end, seg, now):
        return super().send(self.far if flow == "far" else flow, buf, start, end, seg, now)

    def describe(self, flow):
        return str(flow)


class WritesInFront(Bare):
    def receive(self, port, buf, pos, now):
        got = super().receive(port, buf, pos, now)
        if pos:
            buf[pos - 1 : pos] = b"\0"
        return got


class Padded(Bare):
    """Adds more than it declares."""

    def send(self, flow, buf, start, end, seg, now):
        padded = bytes(buf[start:end]) + bytes(2)
        return self.ports[0].send(memoryview(padded), 0, len(padded), max(seg, end - start + 2 - seg), flow)


def ports(options: NoOptions, context: TransportContext) -> list[PortSpec]:
    if context.listen is not None:
        return [PortSpec(kind=PortKind.UDP, host=context.listen[0], port=context.listen[1])]
    assert context.remote is not None
    return [PortSpec(kind=PortKind.UDP, host="::" if ":" in context.remote[0] else "0.0.0.0", port=0)]


def describe(make: type[Bare], **changes: Any) -> TransportDescriptor:
    fields = {"options": NoOptions, "wire_name": "test", "overhead": 8, "ports": ports,
              "create": lambda options, ports, context: make(list(ports)), **changes}  # fmt: skip
    return TransportDescriptor(**fields)


def test_good_transports_pass(failures: Callable[..., set[str]]):
    assert failures(TransportConformance, descriptor=describe(Bare)) == set()
    assert failures(TransportConformance, descriptor=describe(Framed, overhead=12)) == set()
    assert failures(TransportConformance, descriptor=describe(Prefixed, overhead=10)) == set()


@pytest.mark.parametrize(("transport", "found_by"), [
    (LosesBoundaries, "test_boundaries"), (ClobbersPayload, "test_boundaries"),
    (ClobbersBeyondHeadroom, "test_boundaries"), (SaysNothing, "test_boundaries"), (KeepsViews, "test_boundaries"),
    (NeverBlocks, "test_empty_ports_say_so"), (ChokesOnGarbage, "test_garbage"),
    (QuotesStrangers, "test_garbage"), (SaysMuch, "test_garbage"), (StuckTimer, "test_timers"),
    (ClosesOnce, "test_close"), (OneFlow, "test_flows"), (WritesInFront, "test_receives_at_any_place"),
    (WritesPrefixesInside, "test_boundaries"), (Padded, "test_boundaries"), (Framed, "test_overhead_is_what_it_says"),
])  # fmt: skip
def test_bad_transports_are_found(failures: Callable[..., set[str]], transport: type[Bare], found_by: str):
    assert found_by in failures(TransportConformance, descriptor=describe(transport))


def test_bad_descriptors_are_found(failures: Callable[..., set[str]]):
    def greedy(options: NoOptions, context: TransportContext) -> list[PortSpec]:
        return [PortSpec(kind=PortKind.UDP, host="0.0.0.0", port=9000)]

    for changes in ({"overhead": 200}, {"wire_name": ""}, {"ports": greedy}):
        assert "test_descriptor" in failures(TransportConformance, descriptor=describe(Bare, **changes))


def test_transports_that_cannot_carry_direct_paths_as_they_say_are_found(failures: Callable[..., set[str]]):
    assert failures(TransportConformance, descriptor=describe(Bare, direct=Carrier.UDP)) == set()
    assert failures(TransportConformance, descriptor=describe(Bare, direct=Carrier.TCP)) == {"test_direct_paths"}
    by_options = describe(Bare, direct=lambda options: Carrier.TCP)
    assert failures(TransportConformance, descriptor=by_options) == {"test_direct_paths"}


def test_a_datagram_transport_that_claims_to_repair_losses_is_found(failures: Callable[..., set[str]]):
    assert failures(TransportConformance, descriptor=describe(Bare, reliable=True)) == {"test_reliable"}
