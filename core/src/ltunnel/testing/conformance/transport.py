"""Conformance of transports: `ltunnel.plugin.Transport` and its descriptor, over simulated ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ltunnel.constants import HEADROOM, MAX_DATAGRAM, MAX_ROWS
from ltunnel.plugin import Carrier, Port, PortKind, PortSpec, Transport, TransportContext, TransportDescriptor
from ltunnel.testing.conformance.base import DescriptorConformance
from ltunnel.testing.conformance.lab import Lab
from ltunnel.testing.datagrams import TCP, UDP
from ltunnel.testing.host import Host
from ltunnel.testing.links import Quality
from ltunnel.testing.ports import SimUdpPort
from ltunnel.testing.raw import SimRawPort
from ltunnel.testing.stream import SimStreamPort


class TransportConformance(DescriptorConformance):
    """``class TestMine(TransportConformance): descriptor = ltunnel_transport()``.

    Ports come from `open_port`, simulated ones of every kind.
    """

    descriptor: ClassVar[TransportDescriptor]
    wire_payload: ClassVar[int] = 1400
    """Bytes of a datagram that the transport must be able to carry."""

    def open_port(self, host: Host, spec: PortSpec, *, gro: bool) -> Port:
        """Open a port on a simulated host. Without `gro`, streams come in scraps, cut anywhere."""
        if spec.kind is PortKind.STREAM:
            random = self.make_random()
            return SimStreamPort(host, spec, chunk=None if gro else lambda: random.choice((1, 2, 3, 40, 1500)))
        return SimRawPort(host, spec, gro=gro) if spec.kind is PortKind.RAW else SimUdpPort(host, spec, gro=gro)

    def make_lab(self, *, gro: bool = True, **settings: Any) -> Lab:
        """Return a hub and a node."""
        return Lab(self.descriptor, self.make_options(), lambda host, spec: self.open_port(host, spec, gro=gro),
                   **settings)  # fmt: skip

    def make_batches(self, prefix: int = 0) -> Sequence[Sequence[bytes]]:
        """Return batches of equal datagrams with a shorter last one, or not, that fit with a prefix to each."""
        random = self.make_random()
        sizes = [[1], [100], [200] * 3, [200, 200, 1], [self.wire_payload] * 30, [self.wire_payload] * 10 + [77],
                 [900] * MAX_ROWS, [MAX_DATAGRAM // MAX_ROWS - prefix] * MAX_ROWS]  # fmt: skip
        return [[random.randbytes(size) for size in batch] for batch in sizes]

    def test_descriptor(self) -> None:
        """It has a wire name, an overhead, and asks for ports that fit its role."""
        descriptor, options = self.descriptor, self.make_options()
        assert descriptor.wire_name
        assert descriptor.wire_name.isascii()
        assert 0 <= descriptor.overhead_with(options) <= HEADROOM, "headers must fit the headroom"
        for host in ("0.0.0.0", "::", "192.0.2.1"):  # noqa: S104 (asked for, not bound)
            specs = descriptor.ports(options, TransportContext(listen=(host, 9000), remote=None))
            assert specs, "a transport needs a port"
            assert any(spec.port == 9000 and spec.host == host for spec in specs), "a hub listens where it is told to"
        for host in ("192.0.2.1", "2001:db8::1"):
            specs = descriptor.ports(options, TransportContext(listen=None, remote=(host, 9000)))
            assert specs
            assert all(spec.port == 0 for spec in specs), "a node's ports are ephemeral"

    def test_direct_paths(self) -> None:
        """One for direct paths by UDP has one port, so that others like it can be made; one by TCP can meet."""
        options = self.make_options()
        carrier = self.descriptor.direct_with(options)
        transport = self.make_lab().node.transport
        assert carrier is not Carrier.UDP or len(transport.ports) == 1
        assert carrier is not Carrier.TCP or callable(getattr(transport, "meet", None))

    def test_keeps_its_ports(self) -> None:
        """`ports` are those that it was given, in order."""
        for end in self.make_lab().ends:
            assert list(end.transport.ports) == end.ports

    def test_boundaries(self) -> None:
        """Equal datagrams and a shorter last one arrive as they were sent, both ways, GRO or not."""
        for gro in (True, False):
            lab = self.make_lab(gro=gro)
            flow, back = lab.open_flow()
            for batch in self.make_batches(lab.node.transport.prefix):
                assert lab.node.send(flow, batch, lab.now)
                lab.run(0.5)
                assert lab.hub.datagrams == batch
                assert {there for there, _ in lab.hub.inbox} == {back}, "one far end, one flow"
                assert lab.hub.send(back, batch, lab.now)
                lab.run(0.5)
                assert lab.node.datagrams == batch
                assert {there for there, _ in lab.node.inbox} == {flow}, "answers belong to the flow of connect"
                lab.hub.inbox.clear()
                lab.node.inbox.clear()

    def test_ipv6(self) -> None:
        """The same over IPv6."""
        lab = self.make_lab(ipv6=True)
        flow, back = lab.open_flow()
        lab.node.send(flow, [b"a" * 500, b"b" * 500, b"c"], lab.now)
        lab.hub.send(back, [b"d" * 500, b"e"], lab.now)
        lab.run(0.5)
        assert lab.hub.datagrams == [b"a" * 500, b"b" * 500, b"c"]
        assert lab.node.datagrams == [b"d" * 500, b"e"]

    def test_overhead_is_what_it_says(self) -> None:
        """No packet on the wire is larger than IP header, declared overhead and datagram."""
        for ipv6, header in ((False, 20), (True, 40)):
            lab = self.make_lab(ipv6=ipv6)
            flow, _ = lab.open_flow()
            trace = lab.network.trace
            assert trace is not None
            trace.clear()
            lab.node.send(flow, [bytes(self.wire_payload)] * 3, lab.now)
            lab.run(0.5)
            assert len(lab.hub.inbox) == 3
            largest = max(entry.packet.size for entry in trace)
            assert largest <= header + self.descriptor.overhead_with(self.make_options()) + self.wire_payload

    def test_large_datagrams(self) -> None:
        """What takes large datagrams whole (`StreamTransport`) delivers them as one, both ways, GRO or not.

        A transport that cuts the stream into packets itself makes none larger than it is told.
        """
        for gro, ipv6 in ((True, False), (True, True), (False, False)):
            lab = self.make_lab(gro=gro, ipv6=ipv6)
            prefix, largest = lab.node.transport.prefix, getattr(lab.node.transport, "largest_slot", 0)
            if not largest:
                return
            assert largest - prefix <= MAX_DATAGRAM, "larger than any datagram"
            flow, back = lab.open_flow()
            trace = lab.network.trace
            assert trace is not None
            trace.clear()
            random = self.make_random()
            for size in (largest - prefix, self.wire_payload + 1, 20_000, 60_000):
                datagram = random.randbytes(size)
                for end, there, other in ((lab.node, flow, lab.hub), (lab.hub, back, lab.node)):
                    other.inbox.clear()
                    assert end.send(there, [datagram], lab.now, piece=prefix + self.wire_payload)
                    assert end.send(there, [b"after"] * 3, lab.now)
                    lab.run(0.5)
                    assert other.datagrams == [datagram] + [b"after"] * 3
            if all(spec.kind is not PortKind.STREAM for spec in lab.node.specs):
                overhead = self.descriptor.overhead_with(self.make_options()) + (40 if ipv6 else 20)
                assert max(entry.packet.size for entry in trace) <= overhead + self.wire_payload

    def test_empty_ports_say_so(self) -> None:
        """BlockingIOError when nothing waits, at once and again."""
        lab = self.make_lab()
        buffer = memoryview(bytearray(2 * 65_536))
        for end in lab.ends:
            for port in end.transport.ports:
                for _ in range(3):
                    try:
                        end.transport.receive(port, buffer, HEADROOM, lab.now)
                    except BlockingIOError:
                        continue
                    raise AssertionError("receive must raise BlockingIOError when nothing waits")

    def test_receives_at_any_place(self) -> None:
        """`pos` may be anywhere, and nothing is written in front of it."""
        lab = self.make_lab()
        flow, _ = lab.open_flow()
        for pos in (0, 1, HEADROOM, 5000):
            lab.node.send(flow, [b"x" * 300, b"y" * 20], lab.now)
            lab.network.run(0.2)
            lab.hub.poll(lab.now, pos=pos)
            assert lab.hub.datagrams == [b"x" * 300, b"y" * 20]
            lab.hub.inbox.clear()

    def test_flows(self) -> None:
        """Flows of two nodes differ, can be hashed, and have names that differ too."""
        lab = self.make_lab()
        second = lab.add_node()
        first_flow, first_back = lab.open_flow()
        second_flow, second_back = lab.open_flow(second)
        assert first_back != second_back
        assert len({first_back, second_back}) == 2
        names = [lab.hub.transport.describe(first_back), lab.hub.transport.describe(second_back)]
        names.append(lab.node.transport.describe(first_flow))
        for name in names:
            assert isinstance(name, str)
            assert name.isprintable()
            assert name
        assert names[0] != names[1]
        lab.hub.send(second_back, [b"for the second"], lab.now)
        lab.hub.send(first_back, [b"for the first"], lab.now)
        lab.run(0.5)
        assert lab.node.datagrams == [b"for the first"]
        assert second.inbox == [(second_flow, b"for the second")]

    def test_close(self) -> None:
        """Closing twice, or what was never open, does nothing; after closing one can connect again."""
        lab = self.make_lab()
        flow, back = lab.open_flow()
        strange, _ = self.make_lab(seed=2).open_flow()
        for _ in range(2):
            lab.node.transport.close(flow, lab.now)
            lab.hub.transport.close(back, lab.now)
            lab.hub.transport.close(strange, lab.now)
            lab.run(1.0)
        flow, _ = lab.open_flow()
        lab.node.send(flow, [b"again"], lab.now)
        lab.run(0.5)
        assert lab.hub.datagrams == [b"again"]

    def test_timers(self) -> None:
        """`next_timeout` is None or a time, and moves on; time may pass unused (`End.run_timers` looks on)."""
        lab = self.make_lab()
        lab.open_flow()
        for _ in range(20):
            lab.run(3.0)
            for end in lab.ends:
                due = end.transport.next_timeout()
                assert due is None or isinstance(due, float)
                assert due is None or due > lab.now
        lab.network.clock.advance(3600.0)
        for end in lab.ends:
            end.run_timers(lab.now)
            end.transport.handle_timeout(lab.now)

    def test_bad_network(self) -> None:
        """Whatever a network loses, repeats and reorders, what arrives is what was sent, byte for byte."""
        quality = Quality(delay=0.01, jitter=0.005, loss=0.1, reorder=0.3, duplicate=0.2)
        for gro in (True, False):
            lab = self.make_lab(gro=gro)
            flow, back = lab.open_flow()
            link = lab.node.host.links[0]
            link.up.quality = link.down.quality = quality
            random = self.make_random()
            sent: set[bytes] = set()
            for _ in range(40):
                size = random.choice((20, 700, self.wire_payload))
                batch = [random.randbytes(size) for _ in range(random.randint(1, 10))]
                sent.update(batch)
                lab.node.send(flow, batch, lab.now)
                lab.hub.send(back, batch, lab.now)
                lab.run(0.05)
            lab.run(2.0)
            for end in (lab.hub, lab.node):
                assert set(end.datagrams) <= sent, "something arrived that nobody sent"
                assert len(set(end.datagrams)) > len(sent) * 0.6

    def test_reliable(self) -> None:
        """A transport that says it repairs loss itself delivers all that `send` took, once."""
        if not self.descriptor.reliable:
            return
        lab = self.make_lab()
        flow, _ = lab.open_flow()
        link = lab.node.host.links[0]
        link.up.quality = link.down.quality = Quality(delay=0.01, loss=0.1)
        random = self.make_random()
        sent = []
        for _ in range(100):
            datagram = random.randbytes(500)
            if lab.node.send(flow, [datagram], lab.now):
                sent.append(datagram)
            lab.run(0.1)
        lab.run(60.0, lambda: len(lab.hub.inbox) >= len(sent))
        lab.run(1.0)
        assert len(sent) > 20
        assert sorted(lab.hub.datagrams) == sorted(sent)

    def test_garbage(self) -> None:
        """What strangers send never raises, and never stops what works."""
        for gro in (True, False):
            lab = self.make_lab(gro=gro)
            flow, back = lab.open_flow()
            stranger = lab.add_host("stranger", "198.51.100.200")
            targets = [
                ((end.host.addresses[0], int(port.local[1])), UDP if spec.kind is PortKind.UDP else TCP)
                for end in lab.ends
                for spec, port in zip(end.specs, end.ports, strict=True)
            ]
            genuine = [entry.packet.payload for entry in lab.network.trace or ()][:20]
            random = self.make_random()
            for i in range(600):
                if genuine and i % 3 == 0:
                    data = bytearray(random.choice(genuine))
                    for _ in range(random.randint(1, 3)):
                        if data:
                            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
                    payload = bytes(data[: random.randint(0, len(data))])
                else:
                    payload = random.randbytes(random.choice((0, 1, 2, 7, 19, 20, 40, 200, 1400)))
                for target, protocol in targets:
                    stranger.send((None, 1024 + i % 7), target, payload, protocol)
                if i % 20 == 0:
                    lab.run(0.05)
            lab.run(2.0)
            lab.hub.inbox.clear()
            lab.node.inbox.clear()
            lab.node.send(flow, [b"still"], lab.now)
            lab.hub.send(back, [b"there"], lab.now)
            lab.run(1.0)
            assert (back, b"still") in lab.hub.inbox
            assert (flow, b"there") in lab.node.inbox
            for end in lab.ends:
                _check_what_it_tells(end.transport)

    def test_unreachable_does_not_raise(self) -> None:
        """Nobody at the far end, or no way there: send says True or False, nothing more."""
        lab = self.make_lab()
        for remote in (("198.51.100.99", 9), ("2001:db8::99", 9)):
            flow = lab.node.transport.connect(remote, lab.now)
            lab.node.send(flow, [b"anybody"], lab.now)
            assert lab.node.transport.describe(flow)
            lab.run(20.0)
            lab.node.transport.close(flow, lab.now)


def _check_what_it_tells(transport: Transport) -> None:
    """See that what there is of `ltunnel.plugin.TellingTransport` has its form, and repeats nothing of the network."""
    for attribute in ("drops", "tallies"):
        for word, number in getattr(transport, attribute, {}).items():
            assert isinstance(word, str), f"{attribute}: reasons are words"
            assert word.isprintable()
            assert len(word) <= 100, f"{attribute}: a reason is a few words"
            assert isinstance(number, int), f"{attribute}: how often"
            assert number >= 0
    notices = getattr(transport, "notices", [])
    assert isinstance(notices, list), "notices: the core empties the list"
    assert len(notices) <= 100, "notices: keep what nobody reads short"
    assert all(isinstance(text, str) and text.isprintable() for text in notices)
