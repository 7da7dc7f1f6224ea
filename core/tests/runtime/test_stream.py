import contextlib
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from ltunnel.errors import HostError
from ltunnel.plugin import Endpoint, StreamEvent, StreamPort
from ltunnel.runtime import stream
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.stream import TcpPort, open_stream

Heard = list[tuple[Endpoint, bytes | StreamEvent]]


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[TcpPort]:
    port = open_stream(request.param, 0, listen=True, dual_stack=False)
    yield port
    port.close()


@pytest.fixture
def connector() -> Iterator[TcpPort]:
    port = open_stream("0.0.0.0", 0, listen=False, dual_stack=False)
    yield port
    port.close()


def drain(port: TcpPort, buf: memoryview | None = None) -> Heard:
    """Take what there is without waiting."""
    buf = memoryview(bytearray(65536)) if buf is None else buf
    heard: Heard = []
    while True:
        try:
            start, end, seg, name = port.recv(buf, 0)
        except BlockingIOError:
            return heard
        heard.append((name, StreamEvent(seg) if start == end else bytes(buf[start:end])))


def hear(port: TcpPort, enough: Callable[[Heard], object], patience: float = 20.0) -> Heard:
    """Take what comes until it is enough; waits as the loop does, on the port's descriptor."""
    heard: Heard = []
    deadline = time.monotonic() + patience
    while not enough(heard):
        left = deadline - time.monotonic()
        assert left > 0, f"only {[(name, len(what) if isinstance(what, bytes) else what) for name, what in heard]}"
        if select.select([port], [], [], left)[0]:
            heard += drain(port)
    return heard


def events(heard: Heard) -> list[StreamEvent]:
    return [what for _, what in heard if isinstance(what, StreamEvent)]


def data(heard: Heard) -> bytes:
    return b"".join(what for _, what in heard if isinstance(what, bytes))


def send(port: TcpPort, name: Endpoint, what: bytes) -> bool:
    return port.send(memoryview(what), 0, len(what), len(what), name)


def join(listener: TcpPort, connector: TcpPort) -> tuple[Endpoint, Endpoint]:
    """Connect: the name at the connecting end, the name at the listening end."""
    near = connector.connect(listener.local[:2])
    ((far, event),) = hear(listener, len)
    assert event is StreamEvent.ACCEPTED
    drain(connector)
    return near, far


def test_is_a_stream_port(listener):
    port: StreamPort = listener
    assert port.local[1] > 0


def test_bytes_go_both_ways(listener, connector):
    near, far = join(listener, connector)
    assert connector.describe(near).endswith(f":{listener.local[1]}")
    host, number = listener.describe(far).rsplit(":", 1)
    assert (host.strip("[]"), int(number)) == far[:2]
    assert send(connector, near, b"question")
    assert hear(listener, data) == [(far, b"question")]
    assert send(listener, far, b"answer")
    assert hear(connector, data) == [(near, b"answer")]


def test_what_is_sent_before_it_stands_is_kept_in_order(listener, connector):
    near = connector.connect(listener.local[:2])
    assert connector.room(near) > 65536
    for word in (b"one ", b"two ", b"three"):
        assert send(connector, near, word)
    assert data(hear(connector, lambda _: True) + hear_listener(listener, connector, 13)) == b"one two three"


def hear_listener(listener: TcpPort, connector: TcpPort, size: int, patience: float = 20.0) -> Heard:
    """Let both ends work until the listening one has so many bytes."""
    heard: Heard = []
    deadline = time.monotonic() + patience
    while len(data(heard)) < size:
        assert time.monotonic() < deadline
        select.select([listener, connector], [], [], 0.1)
        drain(connector)
        heard += drain(listener)
    return heard


def test_a_dual_stack_port_names_ipv4_as_people_do(connector):
    port = open_stream("::", 0, listen=True, dual_stack=True)
    connector.connect(("127.0.0.1", port.local[1]))
    ((name, _),) = hear(port, len)
    assert port.describe(name).startswith("127.0.0.1:")
    port.close()


def test_the_end_of_a_connection(listener, connector):
    near, far = join(listener, connector)
    send(connector, near, b"last words")
    connector.disconnect(near)
    assert hear(listener, events) == [(far, b"last words"), (far, StreamEvent.CLOSED)]
    for port, name in ((listener, far), (connector, near)):
        assert not send(port, name, b"?")
        assert port.room(name) == 0
        assert port.describe(name) == ""
        port.disconnect(name)
        assert drain(port) == []


def test_a_reset_is_an_end(listener):
    with socket.create_connection(listener.local[:2]) as raw:
        hear(listener, len)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert events(hear(listener, len)) == [StreamEvent.CLOSED]


def test_nobody_listens(connector):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        name = connector.connect(free.getsockname())
    assert hear(connector, len) == [(name, StreamEvent.CLOSED)]


def test_no_way_there(connector):
    """An error at once is told by `recv` like any other, and wakes the loop."""
    name = connector.connect(("255.255.255.255", 9))
    assert hear(connector, len) == [(name, StreamEvent.CLOSED)]
    assert connector.describe(name) == ""


def test_sending_to_a_dead_connection_does_not_raise(listener, connector):
    near, far = join(listener, connector)
    listener.disconnect(far)
    select.select([connector], [], [], 1)
    send(connector, near, b"x")  # the far kernel answers with a reset
    time.sleep(0.05)
    assert not send(connector, near, b"x")
    assert events(hear(connector, len)) == [StreamEvent.CLOSED]


def test_a_stalled_reader_costs_room_and_no_more(listener, connector):
    """The far end does not read: `room` shrinks to nothing while little waits, and nothing that was taken is lost."""
    near, _ = join(listener, connector)
    block = bytes(range(256)) * 256
    sent = 0
    while connector.room(near) >= len(block):
        assert send(connector, near, block)
        sent += len(block)
        assert sent < 64 << 20, "room never ends"
        time.sleep(0.0005)
    raw = connector._connections[near].sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 168)
    unsent = int.from_bytes(raw[144:148], "little")
    assert unsent <= stream.QUEUE_LIMIT + len(block)
    assert send(connector, near, b"end"), "room is for the caller to keep"
    got = data(hear_listener(listener, connector, sent + 3))
    assert got == block * (sent // len(block)) + b"end"
    assert connector.room(near) >= len(block)


def test_what_nobody_can_take_is_refused_whole(listener, connector):
    near, _ = join(listener, connector)
    block = bytes(256 << 10)
    taken = 0
    while send(connector, near, block):
        taken += len(block)
        assert taken < 64 << 20
    assert connector.drops == {"queue full": 1}
    assert len(data(hear_listener(listener, connector, taken))) == taken


def test_room_on_a_slow_line_is_fifty_milliseconds_worth(listener, connector, monkeypatch):
    near, _ = join(listener, connector)
    found = connector._connections[near]

    def info(*, flags=0, mss=1000, unacked=0, rtt=100_000, window=10, unsent=0, rate=0):
        return stream._TCP_INFO.pack(flags, mss, unacked, rtt, window, unsent, rate)

    class Told:
        def __init__(self, **fields):
            self.raw = info(**fields)

        def getsockopt(self, *_):
            return self.raw

        close = fileno = None

    real = found.sock
    limited = stream._APP_LIMITED
    try:
        for fields, room in (
            ({"rate": 1_000_000, "unacked": 10}, 50_000),
            ({"rate": 1_000_000, "unacked": 10, "unsent": 20_000}, 30_000),
            ({"rate": 1_000_000, "unacked": 10, "unsent": 60_000}, 0),
            ({"rate": 100_000_000, "unacked": 10}, stream.QUEUE_LIMIT),
            ({"rate": 1000, "unacked": 10}, stream.QUEUE_LEAST),
            ({"rate": 1000, "unacked": 4}, stream.QUEUE_LEAST + 6000),  # the window takes these at once
            ({"rate": 1000, "unacked": 4, "unsent": 1}, stream.QUEUE_LEAST - 1),
            ({"rate": 1000, "window": 100, "unacked": 100, "flags": limited}, 50_000),  # 100 kB in 100 ms
            ({"rate": 0, "window": 100, "unacked": 100}, 50_000),
        ):
            found.sock = Told(**fields)
            assert connector.room(near) == room, fields
        found.sock = Told()
        found.sock.raw = bytes(104)  # an old kernel
        assert connector.room(near) == stream.QUEUE_LEAST
    finally:
        found.sock = real


def test_the_descriptor_stays_readable_until_recv_says_that_nothing_is_left(listener, connector):
    near, _ = join(listener, connector)
    send(connector, near, b"x" * 100)
    select.select([listener], [], [], 1)
    buf = memoryview(bytearray(65536))
    assert listener.recv(buf, 0)[1] == 100
    assert select.select([listener], [], [], 0)[0], "the transport may hold some of it back"
    with pytest.raises(BlockingIOError):
        listener.recv(buf, 0)
    assert not select.select([listener], [], [], 0)[0]


def test_a_loop_serves_many_connections(listener, connector):
    loop = Loop()
    got: dict[Endpoint, bytes] = {}
    buf = memoryview(bytearray(65536))

    def work(port: TcpPort, limit: int) -> None:
        for _ in range(limit):
            try:
                start, end, _, name = port.recv(buf, 0)
            except BlockingIOError:
                return
            got[name] = got.get(name, b"") + bytes(buf[start:end])

    loop.watch(listener.fileno(), lambda _: work(listener, 3))
    loop.watch(connector.fileno(), lambda _: work(connector, 3))
    names = [connector.connect(listener.local[:2]) for _ in range(40)]
    for number, name in enumerate(names):
        send(connector, name, f"from {number}".encode())
    deadline = time.monotonic() + 20
    loop.run(lambda now: loop.stop() if sum(map(bool, got.values())) == 40 or now > deadline else now + 0.01)
    loop.close()
    assert sorted(got.values()) == sorted(f"from {number}".encode() for number in range(40))


def test_connections_take_turns(listener, connector):
    pairs = [join(listener, connector) for _ in range(3)]
    for near, _ in pairs:
        send(connector, near, bytes(200_000))
    time.sleep(0.2)
    drain(connector)
    order = [listener.recv(memoryview(bytearray(65536)), 0)[3] for _ in range(6)]
    assert sorted(order[:3]) == sorted(order[3:]) == sorted(far for _, far in pairs)


def test_accepted_sockets_have_the_options(listener, connector):
    near, far = join(listener, connector)
    for sock in (listener._connections[far].sock, connector._connections[near].sock):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
        assert not sock.getblocking()


def test_connections_beyond_the_limit_are_reset(listener, monkeypatch):
    monkeypatch.setattr(listener, "_limit", 2)
    raws = [socket.create_connection(listener.local[:2]) for _ in range(4)]
    hear(listener, lambda _: listener.drops)
    time.sleep(0.05)
    drain(listener)
    assert listener.drops == {"too many connections": 2}
    assert len(listener._connections) == 2
    raws[3].settimeout(2)
    with pytest.raises(ConnectionResetError):
        raws[3].recv(1)
    for raw in raws:
        raw.close()


def test_too_many_a_second_are_reset(listener, monkeypatch):
    monkeypatch.setattr(listener, "_tokens", 3.0)
    monkeypatch.setattr(stream, "ACCEPTS_A_SECOND", 0.001)
    raws = [socket.create_connection(listener.local[:2]) for _ in range(5)]
    time.sleep(0.05)
    heard = drain(listener)
    assert events(heard) == [StreamEvent.ACCEPTED] * 3
    assert listener.drops == {"too many a second": 2}
    for raw in raws:
        raw.close()


def test_a_flood_of_connections_leaves_turns_for_others(listener, connector):
    near, _ = join(listener, connector)
    raws = [socket.create_connection(listener.local[:2]) for _ in range(60)]
    send(connector, near, b"in between")
    time.sleep(0.05)
    heard: Heard = []
    buf = memoryview(bytearray(65536))
    while not data(heard):
        start, end, seg, name = listener.recv(buf, 0)
        heard.append((name, StreamEvent(seg) if start == end else bytes(buf[start:end])))
    assert len(heard) <= 2 * stream.ACCEPTS_A_TURN + 1
    for raw in raws:
        raw.close()


def test_out_of_descriptors(listener):
    """The connection is refused, the loop does not spin on it, and nothing breaks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raws = [socket.create_connection(listener.local[:2]) for _ in range(2)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (raws[-1].fileno() + 1, hard))
    used = []
    try:
        with contextlib.suppress(OSError):
            while True:
                used.append(os.open(os.devnull, os.O_RDONLY))
        assert drain(listener) == []
        assert listener.drops == {"too many connections": 2}
        assert not select.select([listener], [], [], 0)[0]
    finally:
        for fd in used:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for raw in raws:
            raw.close()
    with socket.create_connection(listener.local[:2]):
        assert events(hear(listener, len)) == [StreamEvent.ACCEPTED]


def test_the_limit_leaves_descriptors_for_others(monkeypatch):
    for limit, connections in ((1024, 960), (100_000, 4096), (resource.RLIM_INFINITY, 4096), (10, 1)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert stream._connection_limit() == connections


def test_a_listener_can_be_opened_again_at_once(connector):
    port = open_stream("127.0.0.1", 0, listen=True, dual_stack=False)
    _, far = join(port, connector)
    send(port, far, b"x")
    port.close()  # the connection is left in TIME_WAIT
    open_stream("127.0.0.1", port.local[1], listen=True, dual_stack=False).close()


def test_bad_addresses():
    with pytest.raises(HostError, match="numeric"):
        open_stream("localhost", 1, listen=True, dual_stack=False)
    with pytest.raises(OSError, match="assign"):
        open_stream("192.0.2.1", 0, listen=True, dual_stack=False)


def test_a_bound_connector_connects_from_its_address():
    listener = open_stream("127.0.0.1", 0, listen=True, dual_stack=False)
    port = open_stream("127.0.0.7", 0, listen=False, dual_stack=False)
    port.connect(listener.local[:2])
    ((name, _),) = hear(listener, len)
    assert name[0] == "127.0.0.7"
    port.close()
    listener.close()
