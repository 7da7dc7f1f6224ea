import os
import socket
from pathlib import Path

import pytest

from ltunnel.errors import HostError
from ltunnel.plugin import PortKind, PortSpec
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.ports import find_holder, name_address, open_ports


@pytest.fixture
def host(tmp_path: Path) -> HostChanges:
    return HostChanges(tmp_path, "tun0", pytest.fail)


def spec(host: str = "127.0.0.1", port: int = 0, kind: PortKind = PortKind.UDP) -> PortSpec:
    return PortSpec(kind=kind, host=host, port=port)


def test_ports_come_open_and_in_order(host):
    ports = open_ports([spec(), spec("::1")], host)
    assert [port.local[0] for port in ports] == ["127.0.0.1", "::1"]
    assert all(port.local[1] for port in ports)
    for port in ports:
        port.close()


def test_a_port_in_use_is_named_with_who_holds_it(host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        number = holder.getsockname()[1]
        with pytest.raises(HostError) as caught:
            open_ports([spec(port=number)], host)
    assert f"UDP port 127.0.0.1:{number} is in use by" in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tcp_port_in_use_is_named_with_who_listens_there(host):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        number = holder.getsockname()[1]
        wanted = PortSpec(kind=PortKind.STREAM, host="127.0.0.1", port=number, extra={"listen": True})
        with pytest.raises(HostError) as caught:
            open_ports([wanted], host)
    assert f"TCP port 127.0.0.1:{number} is in use by" in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)


def test_what_was_opened_before_a_failure_is_closed(host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    with pytest.raises(HostError):
        open_ports([spec(port=number), spec("192.0.2.1")], host)
    open_ports([spec(port=number)], host)[0].close()


def test_an_address_of_another_machine_is_explained(host):
    with pytest.raises(HostError, match=r"192\.0\.2\.1 is not an address of this machine.*-l"):
        open_ports([spec("192.0.2.1", 9000)], host)


def test_nobody_holds_a_free_port():
    assert find_holder("UDP", 0) is None
    assert find_holder("TCP", 0) is None


def test_addresses_are_named_as_people_write_them():
    assert name_address(("192.0.2.1", 9000)) == "192.0.2.1:9000"
    assert name_address(("2001:db8::1", 9000, 0, 0)) == "[2001:db8::1]:9000"
