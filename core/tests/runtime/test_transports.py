import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ltunnel.errors import HostError, PluginError
from ltunnel.plugin import NoOptions, PortKind, PortSpec, TransportContext, TransportDescriptor
from ltunnel.registry import Part
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.transports import open_transports

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
