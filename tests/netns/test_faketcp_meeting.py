"""Two nodes behind two routers that translate and track strictly meet: TCP without anybody who can be called."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from lab import Lab
from lab.firewall import Firewall
from lab.network import HUB_OUTER
from lab.raw import RawPortOn, inside
from lab.tunnel import PORT
from ltunnel.constants import HEADROOM
from ltunnel.plugin import Flow
from ltunnel_transport_faketcp import FakeTcpTransport

pytestmark = pytest.mark.netns

ROOM = 140_000
BACKENDS = ["packet", "tun"]


class Speaker:
    """A transport on a host, driven by hand."""

    def __init__(self, port: RawPortOn, *, listen: bool) -> None:
        self.port = port
        self.transport = FakeTcpTransport(port.port, listen=listen)
        self.heard: list[tuple[Flow, bytes]] = []
        self._buf = memoryview(bytearray(ROOM))

    def work(self) -> None:
        """Receive what waits, and do what is due."""
        with inside(self.port.host):
            now = time.monotonic()
            for _ in range(100):
                try:
                    flow, start, end, seg = self.transport.receive(self.port.port, self._buf, 0, now)
                except BlockingIOError:
                    break
                places = range(start, end, seg or 1)
                self.heard += [(flow, bytes(self._buf[at + 2 : min(at + seg, end)])) for at in places]
            due = self.transport.next_timeout()
            if due is not None and due <= now:
                self.transport.handle_timeout(now)

    def send(self, flow: Flow, datagram: bytes) -> bool:
        """Send one datagram."""
        end = HEADROOM + 2 + len(datagram)
        self._buf[HEADROOM + 2 : end] = datagram
        with inside(self.port.host):
            return self.transport.send(flow, self._buf, HEADROOM, end, end - HEADROOM, time.monotonic())

    def connect(self) -> Flow:
        """Connect to the hub."""
        with inside(self.port.host):
            return self.transport.connect((HUB_OUTER, PORT), time.monotonic())

    def meet(self, remote: tuple[str, int], like: Flow) -> Flow:
        """Meet another node."""
        with inside(self.port.host):
            return self.transport.meet(remote, like, time.monotonic())


class Stage:
    """A hub, and two nodes behind a firewall each, which does not answer what comes for itself, as those at homes do.

    One that rejects a SYN with a reset ends what the other node has begun: then both SYNs have to be under way at once.
    """

    def __init__(self, lab: Lab, stack: ExitStack, backend: str) -> None:
        def speaker(host: object, port: int, **extra: object) -> Speaker:
            opened = RawPortOn(host, "0.0.0.0", port, backend=backend, **extra)  # type: ignore[arg-type]
            stack.callback(opened.close)
            return Speaker(opened, listen=bool(port))

        host = lab.host("hub")
        lab.attach(host, f"{HUB_OUTER}/24")
        self.hub = speaker(host, PORT)
        self.firewalls = [Firewall(lab, number) for number in range(2)]
        for firewall in self.firewalls:
            firewall.allow(udp=False)
            firewall.host.nft("""table ip itself { chain input {
                type filter hook input priority 0; iifname "wan" meta l4proto tcp counter drop; }; }""")
        self.nodes = [speaker(firewall.inside, 0, numbers=8) for firewall in self.firewalls]
        self.to_hub = [node.connect() for node in self.nodes]
        self.run(lambda: all(flow.is_up for flow in self.to_hub))
        self.outside = [self._seen_from(index) for index in range(2)]

    def run(self, until: Callable[[], bool], patience: float = 15.0) -> None:
        """Let all work until something holds."""
        deadline = time.monotonic() + patience
        while not until():
            assert time.monotonic() < deadline, "it does not come about"
            for one in (self.hub, *self.nodes):
                one.work()
            time.sleep(0.002)

    def meet(self, index: int) -> Flow:
        """Let a node open the connection to the other."""
        return self.nodes[index].meet(self.outside[1 - index], self.to_hub[index])

    def talk(self, flows: list[Flow]) -> None:
        """See that a datagram passes each way, and one to the hub."""
        words = [f"{time.monotonic()}".encode(), f"back {time.monotonic()}".encode()]
        for node, flow, hub, word in zip(self.nodes, flows, self.to_hub, words, strict=True):
            assert node.send(flow, word)
            assert node.send(hub, word)
        self.run(lambda: all((flows[i], words[1 - i]) in self.nodes[i].heard for i in range(2)))
        self.run(lambda: {data for _, data in self.hub.heard} >= set(words))

    def _seen_from(self, index: int) -> tuple[str, int]:
        """Return where the hub sees a node."""
        word = f"hello {index}".encode()
        assert self.nodes[index].send(self.to_hub[index], word)
        self.run(lambda: word in [data for _, data in self.hub.heard])
        remote: tuple[str, int] = next(flow.remote for flow, data in self.hub.heard if data == word)
        return remote


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_nodes_meet(lab: Lab, stack: ExitStack, backend: str) -> None:
    """Their routers see two connections of each, from one port, and nothing invalid."""
    stage = Stage(lab, stack, backend)

    flows = [stage.meet(0), stage.meet(1)]
    stage.run(lambda: all(flow.is_up for flow in flows))
    stage.talk(flows)

    for firewall, outside in zip(stage.firewalls, stage.outside, strict=True):
        established = [line for line in firewall.connections() if " ESTABLISHED " in line]
        assert len(established) == 2, firewall.connections()
        assert all(f"dport={outside[1]} " in line for line in established), "one port outside for both"
        assert firewall.invalid() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_of_them_comes_late(lab: Lab, stack: ExitStack, backend: str) -> None:
    stage = Stage(lab, stack, backend)

    early = stage.meet(0)
    late = time.monotonic() + 1.3
    stage.run(lambda: time.monotonic() > late)
    flows = [early, stage.meet(1)]
    stage.run(lambda: all(flow.is_up for flow in flows))
    stage.talk(flows)


@pytest.mark.parametrize("backend", BACKENDS)
def test_they_meet_again_when_a_router_has_forgotten(lab: Lab, stack: ExitStack, backend: str) -> None:
    stage = Stage(lab, stack, backend)
    flows = [stage.meet(0), stage.meet(1)]
    stage.run(lambda: all(flow.is_up for flow in flows))
    stage.talk(flows)

    stage.firewalls[0].forget()
    began = time.monotonic()

    def is_back() -> bool:
        for node, flow in zip(stage.nodes, flows, strict=True):
            node.send(flow, b"?")
        heard = [(flows[i], b"?") in stage.nodes[i].heard for i in range(2)]
        for node in stage.nodes:
            node.heard.clear()
        return time.monotonic() - began > 3 and all(heard)

    stage.run(is_back, patience=40)
