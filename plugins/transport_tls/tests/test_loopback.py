"""Both ends over the runtime's ports, on loopback."""

import hashlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from random import Random

import pytest

from ltunnel.constants import HEADROOM
from ltunnel.plugin import TransportContext
from ltunnel.runtime.stream import open_stream
from ltunnel_transport_tls import ltunnel_transport
from ltunnel_transport_tls.framing import PREFIX

BATCH = 40
SIZE = 1430


class End:
    """A transport on a real port; `take` gets every datagram."""

    def __init__(self, context: TransportContext, options: dict) -> None:
        descriptor = ltunnel_transport()
        chosen = descriptor.options.model_validate(options)
        (spec,) = descriptor.ports(chosen, context)
        self.port = open_stream(spec.host, spec.port, listen=spec.extra["listen"], dual_stack=spec.dual_stack)
        self.transport = descriptor.create(chosen, [self.port], context)
        self.inbox: list[tuple[object, bytes]] = []
        self.buf = memoryview(bytearray(1 << 17))

    def work(self) -> None:
        now = time.monotonic()
        while True:
            try:
                flow, start, end, seg = self.transport.receive(self.port, self.buf, 0, now)
            except BlockingIOError:
                break
            slots = (bytes(self.buf[at : min(at + seg, end)]) for at in range(start, end, seg or 1))
            self.inbox += [(flow, slot[PREFIX:]) for slot in slots]
        if (self.transport.next_timeout() or now + 1) <= now:
            self.transport.handle_timeout(now)

    def send(self, flow: object, datagrams: list[bytes]) -> bool:
        data = bytes(HEADROOM) + b"".join(bytes(PREFIX) + datagram for datagram in datagrams)
        buf = memoryview(bytearray(data))
        return self.transport.send(flow, buf, HEADROOM, len(data), PREFIX + len(datagrams[0]), time.monotonic())


class Pair:
    def __init__(self, files, address: str) -> None:
        self.files, self.address = files, address
        self.hub = End(TransportContext(listen=(address, 0), remote=None), files.hub)
        self.number = self.hub.port.local[1]
        node = TransportContext(listen=None, remote=(address, self.number), remote_name="hub.example")
        self.node = End(node, {"ca": files.cert})

    def close(self) -> None:
        for end in (self.hub, self.node):
            end.port.close()

    def run(self, until, patience: float = 30.0) -> None:
        deadline = time.monotonic() + patience
        while not until():
            assert time.monotonic() < deadline, (self.hub.transport.drops, self.node.transport.drops)
            select.select([self.hub.port, self.node.port], [], [], 0.02)
            self.hub.work()
            self.node.work()

    def open_flow(self) -> tuple[object, object]:
        flow = self.node.transport.connect((self.address, self.number), time.monotonic())
        self.hub.inbox.clear()
        self.run(lambda: self.node.send(flow, [b"hello"]))
        self.run(lambda: self.hub.inbox)
        back = self.hub.inbox.pop()[0]
        self.hub.send(back, [b"hello"])
        self.run(lambda: self.node.inbox)
        self.node.inbox.clear()
        return flow, back


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(files, request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(files, request.param)
    yield pair
    pair.close()


def test_bulk_both_ways(pair):
    """What `send` takes arrives, whole and in order; what it does not take, its caller sends again."""
    flow, back = pair.open_flow()
    random = Random(1)
    sent = {end: hashlib.sha256() for end in (pair.node, pair.hub)}
    pending = {end: [] for end in sent}
    left = dict.fromkeys(sent, 200)

    def feed() -> bool:
        for end, name in ((pair.node, flow), (pair.hub, back)):
            while left[end]:
                batch = pending[end] or [random.randbytes(SIZE) for _ in range(BATCH)]
                before = end.transport.drops.get("queue full", 0)
                if end.send(name, batch):
                    gone = len(batch)
                else:
                    gone = len(batch) - (end.transport.drops["queue full"] - before)
                for datagram in batch[:gone]:
                    sent[end].update(datagram)
                pending[end] = batch[gone:]
                if pending[end]:
                    break
                left[end] -= 1
        return not any(left.values())

    pair.run(feed, 30.0)
    pair.run(lambda: len(pair.hub.inbox) >= 200 * BATCH and len(pair.node.inbox) >= 200 * BATCH)
    for end, far, name in ((pair.node, pair.hub, back), (pair.hub, pair.node, flow)):
        got = hashlib.sha256(b"".join(data for _, data in far.inbox)).digest()
        assert {there for there, _ in far.inbox} == {name}
        assert got == sent[end].digest()


def test_a_hub_that_starts_again_is_found_again(pair):
    flow, back = pair.open_flow()
    pair.hub.port.close()
    pair.hub = End(TransportContext(listen=(pair.address, pair.number), remote=None), pair.files.hub)
    began = time.monotonic()
    pair.run(lambda: (pair.node.send(flow, [b"again"]), pair.hub.inbox)[1])
    assert time.monotonic() - began < 10.0
    there, data = pair.hub.inbox[0]
    assert (data, there is back) == (b"again", False)


def test_a_reader_that_stands_still_costs_datagrams_not_memory(pair):
    """The hub's program hangs: the kernels' buffers fill, then datagrams are dropped, then it goes on."""
    flow, _ = pair.open_flow()
    batch = [bytes((7,)) * SIZE] * BATCH
    dropped = 0
    for _ in range(4000):
        dropped += not pair.node.send(flow, batch)
        if dropped > 50:
            break
    assert dropped > 50
    connection = pair.node.port._connections[flow.connection]
    assert len(connection.kept) < 1 << 19
    assert pair.node.port.drops == {}
    pair.run(lambda: pair.node.send(flow, [b"on we go"]))
    pair.run(lambda: pair.hub.inbox and pair.hub.inbox[-1][1] == b"on we go")
    assert {data for _, data in pair.hub.inbox[:-1]} == {batch[0]}


def test_garbage_and_many_nodes(pair):
    family = socket.AF_INET6 if ":" in pair.address else socket.AF_INET
    random = Random(2)
    raws = []
    for i in range(60):
        raw = socket.socket(family)
        raw.connect((pair.address, pair.number))
        if i % 3:
            raw.sendall(random.randbytes(random.choice((1, 100, 30_000))))
        raws.append(raw)
    nodes = [End(TransportContext(listen=None, remote=(pair.address, pair.number)), pair.files.node) for _ in range(8)]
    flows = [node.transport.connect((pair.address, pair.number), time.monotonic()) for node in nodes]
    waiting = set(range(8))

    def work() -> bool:
        for number in list(waiting):
            nodes[number].work()
            if nodes[number].send(flows[number], [b"%d" % number] * 3):
                waiting.discard(number)
        return len(pair.hub.inbox) == 24

    pair.run(work)
    assert sorted(data for _, data in pair.hub.inbox) == sorted(b"%d" % number for number in range(8) for _ in range(3))
    assert len({flow for flow, _ in pair.hub.inbox}) == 8
    for raw in raws:
        raw.close()
    for node in nodes:
        node.port.close()


def test_openssl_itself_can_connect(pair):
    """A client that is not ours: what is on the wire is plain TLS 1.3."""
    context = ssl.create_default_context(cafile=pair.files.cert)
    context.set_alpn_protocols(["http/1.1"])
    seen: list[object] = []

    def client() -> None:
        raw = socket.create_connection((pair.address, pair.number), 5)
        with context.wrap_socket(raw, server_hostname="hub.example") as tls:
            seen.extend((tls.version(), tls.selected_alpn_protocol()))
            tls.sendall(b"\0\5hello")
            seen.append(tls.recv(100))

    thread = threading.Thread(target=client)
    thread.start()
    pair.run(lambda: pair.hub.inbox)
    flow, data = pair.hub.inbox[0]
    pair.hub.send(flow, [b"and hello to you"])
    pair.run(lambda: not thread.is_alive())
    assert data == b"hello"
    assert seen == ["TLSv1.3", "http/1.1", b"\0\x10and hello to you"]
