import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from ltunnel.errors import HostError, PluginError
from ltunnel.plugin import HostRule, HostRuleKind, NoOptions, PortKind, PortSpec, TransportContext, TransportDescriptor
from ltunnel.registry import Part
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.transports import open_transports
from ltunnel.runtime.udp import UdpPort

CONTEXT = TransportContext(listen=("127.0.0.1", 9000), remote=None)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def changes(tmp_path: Path) -> HostChanges:
    return HostChanges(tmp_path, "tun0", pytest.fail)


def part(name: str, *hosts: str, create=lambda _options, ports, _context: ports, **more) -> Part[TransportDescriptor]:
    """A transport with a UDP port on each of some hosts; the transport itself is the list of its ports."""
    specs = [PortSpec(kind=PortKind.UDP, host=host, port=0) for host in hosts]
    descriptor = TransportDescriptor(
        options=NoOptions, wire_name=name, overhead=8, ports=lambda _options, _context: specs, create=create, **more
    )
    return Part(name, descriptor, NoOptions())


def is_open(port) -> bool:
    return port.fileno() >= 0


def test_all_that_are_asked_for_are_opened_in_order(stack, changes):
    parts = [part("transport_a", "127.0.0.1"), part("transport_b", "127.0.0.1", "127.0.0.1")]
    opened, warnings = open_transports(parts, CONTEXT, changes, stack, receive_buffer=100_000)
    assert [(one.name, len(one.ports)) for one in opened] == [("transport_a", 1), ("transport_b", 2)]
    assert warnings == []
    assert all(is_open(port) for one in opened for port in one.ports)
    stack.close()
    assert not any(is_open(port) for one in opened for port in one.ports)


def test_one_that_cannot_be_had_is_left_out_with_a_warning(stack, changes):
    made = []
    parts = [part("transport_a", "127.0.0.1", "203.0.113.7"), part("transport_b", "127.0.0.1", create=lambda *_: made)]
    (opened,), (warning,) = open_transports(parts, CONTEXT, changes, stack, receive_buffer=100_000)
    assert (opened.name, opened.transport) == ("transport_b", made)
    assert warning.startswith("goes without transport_a: cannot listen on 203.0.113.7:0")


def test_what_a_failed_one_has_opened_is_closed_at_once(stack, changes):
    seen = []

    def fail(_options, ports, _context):
        seen.extend(ports)
        raise HostError("there is no such thing here")

    parts = [part("transport_a", "127.0.0.1", create=fail), part("transport_b", "127.0.0.1")]
    _, warnings = open_transports(parts, CONTEXT, changes, stack, receive_buffer=100_000)
    assert warnings == ["goes without transport_a: there is no such thing here"]
    assert [is_open(port) for port in seen] == [False]


def test_none_that_can_be_had_is_an_error(stack, changes):
    with pytest.raises(HostError, match=r"^cannot listen on 203\.0\.113\.7:0: .* \(-l\)$"):
        open_transports([part("transport_a", "203.0.113.7")], CONTEXT, changes, stack, receive_buffer=100_000)
    both = [part("transport_a", "203.0.113.7"), part("transport_b", "203.0.113.7")]
    with pytest.raises(HostError, match=r"^cannot listen on 203\.0\.113\.7:0: (?!.*cannot)"):
        open_transports(both, CONTEXT, changes, stack, receive_buffer=100_000)
    both = [part("transport_a", "203.0.113.7"), part("transport_b", "203.0.113.8")]
    with pytest.raises(HostError, match=r"^transport_a: cannot .*; transport_b: cannot listen on 203\.0\.113\.8:0"):
        open_transports(both, CONTEXT, changes, stack, receive_buffer=100_000)


def test_a_broken_plugin_is_not_left_out(stack, changes):
    def fail(*_):
        raise RuntimeError("oh\nno")

    for broken in (part("transport_a", "127.0.0.1", create=fail), part("transport_a", "127.0.0.1", warnings=fail)):
        with pytest.raises(PluginError, match=r"^plugin transport_a cannot be set up: RuntimeError: oh\\x0ano$"):
            open_transports([broken, part("transport_b", "127.0.0.1")], CONTEXT, changes, stack, receive_buffer=100_000)


def test_only_those_in_use_warn(stack, changes):
    def loud(_options, _context):
        return ["certificates are not checked"]

    parts = [part("transport_a", "203.0.113.7", warnings=loud), part("transport_b", "127.0.0.1", warnings=loud)]
    _, warnings = open_transports(parts, CONTEXT, changes, stack, receive_buffer=100_000)
    assert len(warnings) == 2
    assert warnings[1] == "certificates are not checked"


def test_a_port_that_is_taken_is_named(stack, changes):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        spec = PortSpec(kind=PortKind.UDP, host="127.0.0.1", port=holder.getsockname()[1])
        taken = part("transport_a")
        taken = taken._replace(descriptor=TransportDescriptor(
            options=NoOptions, wire_name="a", overhead=8, ports=lambda *_: [spec], create=lambda *_: None
        ))  # fmt: skip
        _, warnings = open_transports([taken, part("transport_b", "127.0.0.1")], CONTEXT, changes, stack,
                                      receive_buffer=100_000)  # fmt: skip
    assert "is in use by" in warnings[0]


# -------------------------------------------------------------------- one number for several


@pytest.fixture
def number() -> int:
    """A port number that is free for UDP and for TCP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        found: int = udp.getsockname()[1]
    return found


def with_spec(name: str, number: int, accepts=None, kind: PortKind = PortKind.UDP, **more) -> Part[TransportDescriptor]:
    extra = {"listen": True} if kind is PortKind.STREAM else {}
    spec = PortSpec(kind=kind, host="127.0.0.1", port=number, accepts=accepts, extra=extra)
    base = part(name, **more)
    return base._replace(descriptor=replace(base.descriptor, ports=lambda *_: [spec]))


def begins_with_a(datagram: memoryview) -> bool:
    return bytes(datagram[:1]) == b"a"


def test_a_port_of_one_transport_is_a_plain_socket(stack, changes, number):
    (opened,), _ = open_transports([with_spec("transport_a", number)], CONTEXT, changes, stack, receive_buffer=100_000)
    assert type(opened.ports[0]) is UdpPort


def test_two_transports_share_a_udp_port(stack, changes, number):
    parts = [with_spec("transport_b", number), with_spec("transport_a", number, begins_with_a)]
    (b, a), warnings = open_transports(parts, CONTEXT, changes, stack, receive_buffer=100_000)
    assert warnings == []
    ports = [b.ports[0], a.ports[0]]
    assert ports[0].fileno() == ports[1].fileno()
    assert ports[0].local == ports[1].local == ("127.0.0.1", number)
    assert ports[0].drops is ports[1].drops
    room = memoryview(bytearray(70_000))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in (b"a1", b"b1"):
            sender.sendto(data, ("127.0.0.1", number))
        assert ports[1].recv(room, 0)[:3] == (0, 2, 2)
        with pytest.raises(BlockingIOError):
            ports[1].recv(room, 0)
        start, end, _, source = ports[0].recv(room, 10)
        assert (bytes(room[start:end]), source) == (b"b1", ("127.0.0.1", sender.getsockname()[1]))
        assert ports[0].send(memoryview(b"back"), 0, 4, 4, source)
        assert sender.recv(10) == b"back"
    ports[0].close()
    assert is_open(ports[1])
    stack.close()
    assert not is_open(ports[1])


def test_a_shared_port_that_is_taken_fails_for_both(stack, changes):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        taken = holder.getsockname()[1]
        parts = [with_spec("transport_a", taken, begins_with_a), with_spec("transport_b", taken)]
        with pytest.raises(HostError, match=rf"^UDP port 127.0.0.1:{taken} is in use by"):
            open_transports(parts, CONTEXT, changes, stack, receive_buffer=100_000)


@pytest.mark.parametrize(
    ("accepts", "kind", "protocol"),
    [(None, PortKind.UDP, "UDP"), (begins_with_a, PortKind.UDP, "UDP"), (None, PortKind.STREAM, "TCP")],
)
def test_what_cannot_be_told_apart_cannot_share(stack, changes, number, accepts, kind, protocol):
    parts = [with_spec(f"transport_{label}", number, accepts, kind) for label in "ab"]
    (opened,), (warning,) = open_transports(parts, CONTEXT, changes, stack, receive_buffer=100_000)
    assert opened.name == "transport_a"
    assert warning == (
        f"goes without transport_b: {protocol} port 127.0.0.1:{number} is that of transport_a here: "
        "give one of the two another port"
    )


def test_tcp_and_udp_do_not_share(stack, changes, number):
    parts = [with_spec("transport_a", number), with_spec("transport_b", number, kind=PortKind.STREAM)]
    opened, warnings = open_transports(parts, CONTEXT, changes, stack, receive_buffer=100_000)
    assert (len(opened), warnings) == (2, [])


def test_rules_of_one_that_cannot_be_made_go_with_it(stack, tmp_path):
    """Not at the end of the program: what comes to those ports is other programs' business."""

    class Changes:
        def __init__(self) -> None:
            self.calls: list[tuple[str, list[HostRule]]] = []

        def add_rules(self, rules: list[HostRule]) -> None:
            self.calls.append(("add", rules))

        def drop_rules(self, rules: list[HostRule]) -> None:
            self.calls.append(("drop", rules))

    def fail(*_):
        raise HostError("no")

    rules = [HostRule(kind=HostRuleKind.DROP_RESETS, port=9000, host="0.0.0.0")]
    changes = Changes()
    failing = part("transport_a", "127.0.0.1", create=fail, host_rules=lambda *_: rules)
    open_transports([failing, part("transport_b", "127.0.0.1")], CONTEXT, changes, stack, receive_buffer=100_000)
    assert changes.calls == [("add", rules), ("drop", rules), ("add", ())]
