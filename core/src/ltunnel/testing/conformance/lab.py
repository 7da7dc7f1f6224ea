"""Two ends of a transport in a simulated network, as the transport suite needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from ltunnel.constants import HEADROOM
from ltunnel.plugin import (
    Flow,
    Options,
    Port,
    PortSpec,
    StreamTransport,
    Transport,
    TransportContext,
    TransportDescriptor,
)
from ltunnel.testing.host import Host
from ltunnel.testing.links import Quality
from ltunnel.testing.network import Network, Router

ROOM = 65_536
_STEPS = 100_000

OpenPort = Callable[[Host, PortSpec], Port]


class End:
    """One host with a transport on it; what arrives is kept in `inbox`."""

    def __init__(
        self, host: Host, descriptor: TransportDescriptor, options: Options, context: TransportContext, opener: OpenPort
    ) -> None:
        self.host = host
        self.context = context
        self.specs: Sequence[PortSpec] = descriptor.ports(options, context)
        self.ports = [opener(host, spec) for spec in self.specs]
        self.transport: Transport = descriptor.create(options, self.ports, context)
        self.inbox: list[tuple[Flow, bytes]] = []
        self._buffer = bytearray(HEADROOM + 2 * ROOM)

    @property
    def datagrams(self) -> list[bytes]:
        """What has arrived, without the flows."""
        return [data for _, data in self.inbox]

    def send(self, flow: Flow, datagrams: Sequence[bytes], now: float, piece: int = 0) -> bool:
        """Send equal datagrams, the last may be shorter; check what the transport did to the buffer.

        With a `piece` it is one, which the transport takes whole (`ltunnel.plugin.StreamTransport.send_whole`).
        """
        prefix = self.transport.prefix
        joined = b"".join(bytes(prefix) + datagram for datagram in datagrams)
        guard = b"\xa5" * 50
        buffer = bytearray(guard + b"\x5a" * HEADROOM + joined + guard)
        start, slot = len(guard) + HEADROOM, prefix + len(datagrams[0])
        transport, end = self.transport, start + len(joined)
        if piece:
            sent = cast(StreamTransport, transport).send_whole(flow, memoryview(buffer), start, end, piece, now)
        else:
            sent = transport.send(flow, memoryview(buffer), start, end, slot, now)
        assert isinstance(sent, bool), "send must say True or False"
        assert buffer[: len(guard)] == guard, "send wrote in front of the headroom"
        assert buffer[end:] == guard, "send wrote behind the datagrams"
        for i, datagram in enumerate(datagrams):
            at = start + i * slot + prefix
            assert buffer[at : at + len(datagram)] == datagram, "send changed the datagrams"
        try:
            buffer.append(0)
        except BufferError:
            raise AssertionError("send kept a view of the buffer") from None
        return sent

    def poll(self, now: float, *, pos: int = HEADROOM) -> None:
        """Receive until nothing waits; check the ranges that come back."""
        for port in self.transport.ports:
            for _ in range(_STEPS):
                self._buffer[:pos] = b"\x33" * pos
                view = memoryview(self._buffer)
                try:
                    flow, start, end, seg = self.transport.receive(port, view, pos, now)
                except BlockingIOError:
                    break
                assert pos <= start <= end <= len(self._buffer), f"range {start}..{end} outside the buffer"
                assert self._buffer[:pos] == b"\x33" * pos, "receive wrote in front of pos"
                if start < end:
                    prefix = self.transport.prefix
                    assert seg > prefix, "datagrams of no length"
                    slots = [bytes(view[i : min(i + seg, end)]) for i in range(start, end, seg)]
                    self.inbox += [(flow, slot[prefix:]) for slot in slots]
            else:
                raise AssertionError("receive never says that nothing waits")

    def run_timers(self, now: float) -> None:
        """Let the transport do what is due; its timers must move on."""
        for _ in range(100):
            due = self.transport.next_timeout()
            if due is None or due > now:
                break
            self.transport.handle_timeout(now)
        else:
            raise AssertionError(f"handle_timeout({now}) does not move next_timeout on, it stays {due}")


class Lab:
    """A hub and nodes; `run` lets time pass."""

    def __init__(
        self, descriptor: TransportDescriptor, options: Options, opener: OpenPort, *, ipv6: bool = False,
        quality: Quality | None = None, seed: int = 1,
    ) -> None:  # fmt: skip
        self.network = Network(seed, trace=True)
        self.quality = quality or Quality(delay=0.01)
        self.internet = Router(self.network, "internet")
        self._descriptor, self._options, self._opener = descriptor, options, opener
        self._nodes: list[End] = []
        self._ipv6 = ipv6
        self.hub_address = ("2001:db8::1" if ipv6 else "203.0.113.1", 9000)
        hub = self.add_host("hub", self.hub_address[0])
        listen = ("::" if ipv6 else "0.0.0.0", 9000)  # noqa: S104 (a simulated host)
        self.hub = End(hub, descriptor, options, TransportContext(listen=listen, remote=None), opener)
        self.node = self.add_node()

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self.network.clock.now

    @property
    def ends(self) -> list[End]:
        """The hub, then the nodes."""
        return [self.hub, *self._nodes]

    def add_host(self, name: str, address: str) -> Host:
        """Add a host to the internet."""
        host = Host(self.network, name)
        host.attach(self.internet, address, quality=self.quality)
        return host

    def add_node(self) -> End:
        """Add another node."""
        number = len(self._nodes) + 1
        host = self.add_host(f"node{number}", f"2001:db8::1:{number}" if self._ipv6 else f"198.51.100.{number}")
        context = TransportContext(listen=None, remote=self.hub_address)
        end = End(host, self._descriptor, self._options, context, self._opener)
        self._nodes.append(end)
        return end

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, events happen and timers run; stop early and say True when `until` holds."""
        stop = self.now + seconds
        for _ in range(_STEPS):
            for end in self.ends:
                end.poll(self.now)
                end.run_timers(self.now)
            if until():
                return True
            times = [end.transport.next_timeout() for end in self.ends]
            times.append(self.network.next_event())
            due = min((when for when in times if when is not None), default=None)
            if due is None or due > stop:
                self.network.clock.advance_to(stop)
                return False
            self.network.clock.advance_to(max(due, self.now))
            self.network.run_due()
        raise AssertionError("the transport keeps the network busy for ever")

    def open_flow(self, node: End | None = None, *, patience: float = 10.0) -> tuple[Flow, Flow]:
        """Connect a node to the hub and send until something arrives: (the node's flow, the hub's flow)."""
        node = node or self.node
        hello = b"hello from " + node.host.name.encode()
        flow = node.transport.connect(self.hub_address, self.now)
        deadline = self.now + patience
        while self.now < deadline:
            node.send(flow, [hello], self.now)
            if self.run(0.5, lambda: hello in self.hub.datagrams):
                back = next(there for there, data in self.hub.inbox if data == hello)
                self.run(1.0)
                for end in self.ends:
                    end.inbox.clear()
                return flow, back
        raise AssertionError(f"nothing arrived within {patience:g} s after connect")
