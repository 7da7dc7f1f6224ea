"""The runtime's TUN device, its netlink set-up and its UDP port, on a real kernel."""

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path
from struct import pack

import pytest
from pyroute2 import netns

from lab import Host, Lab
from ltunnel.errors import HostError
from ltunnel.runtime.link import link_mtu
from ltunnel.runtime.netlink import GSO_MAX_SIZE, configure_tun
from ltunnel.runtime.tun import OffloadTun, PlainTun, Tun, open_tun
from ltunnel.runtime.udp import open_udp

pytestmark = pytest.mark.netns

OWN, FAR = "10.77.0.1", "10.77.0.2"


@contextmanager
def inside(host: Host) -> Iterator[None]:
    """Open devices and sockets inside a namespace; they stay there."""
    netns.pushns(host.namespace)
    try:
        yield
    finally:
        netns.popns()


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("one", ipv6=True)


@pytest.fixture(params=["offload", "plain"])
def tun(request: pytest.FixtureRequest, host: Host) -> Iterator[Tun]:
    with inside(host):
        tun = open_tun("tun7", vnet=request.param == "offload")
        configure_tun("tun7", mtu=1400, queue=500, addresses=[ip_interface(f"{OWN}/24"), ip_interface("fd77::1/64")])
    yield tun
    tun.close()


def link(host: Host, device: str) -> str:
    return host.run("ip", "-d", "link", "show", device).stdout


def receive(tun: Tun, pos: int = 0) -> bytes:
    """Return the next IPv4 packet that the kernel sends into the device, with its virtio-net header."""
    buf = memoryview(bytearray(pos + 70_000))
    while True:
        assert select.select([tun], [], [], 2)[0], "nothing came"
        size = tun.read(buf, pos)
        packet = bytes(buf[pos : pos + size])
        if packet[10] >> 4 == 4:
            return packet


def udp_packet(payload: bytes, port: int, gso_size: int = 0) -> list[bytes]:
    """A UDP packet from FAR to OWN, its checksum left to the receiver of the header; a super-packet with gso_size."""
    length = 28 + len(payload)
    addresses = socket.inet_aton(FAR) + socket.inet_aton(OWN)
    ip = bytearray(pack(">BBHHHBBH", 0x45, 0, length, 7, 0, 64, 17, 0) + addresses)
    ip[10:12] = pack(">H", ~fold(ip) & 0xFFFF)
    pseudo = fold(addresses + pack(">BBH", 0, 17, length - 20))
    udp = pack(">HHHH", 4000, port, length - 20, pseudo)
    return [pack("<BBHHHH", 1, 5 if gso_size else 0, 28 if gso_size else 0, gso_size, 20, 6), bytes(ip) + udp, payload]


def fold(data: bytes) -> int:
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def udp_socket(host: Host, address: str = OWN) -> socket.socket:
    with inside(host):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(2)
    sock.bind((address, 0))
    return sock


def test_this_kernel_gives_all_offloads(host):
    with inside(host):
        tun = open_tun("tun7")
    assert isinstance(tun, OffloadTun)
    assert (tun.offload, tun.uso, tun.name) == (True, True, "tun7")
    tun.close()


def test_the_device_is_set_up_and_vanishes_when_closed(host, tun):
    shown = link(host, "tun7")
    assert "mtu 1400" in shown
    assert "qlen 500" in shown
    assert f"gso_max_size {GSO_MAX_SIZE} " in shown
    assert "gso_ipv4_max_size" not in shown or f"gso_ipv4_max_size {GSO_MAX_SIZE} " in shown
    assert "UP" in shown
    addresses = host.run("ip", "-o", "address", "show", "tun7").stdout
    assert f"{OWN}/24" in addresses
    assert "fd77::1/64" in addresses
    assert "fe80" not in addresses
    assert "tentative" not in addresses
    tun.close()
    assert "tun7" not in host.run("ip", "link").stdout


def test_an_empty_device_blocks(host, tun):
    buf = memoryview(bytearray(70_000))
    while select.select([tun], [], [], 0.1)[0]:  # the kernel may say hello by itself
        tun.read(buf, 0)
    with pytest.raises(BlockingIOError):
        tun.read(buf, 0)


def test_what_the_machine_sends_is_read_behind_a_header(host, tun):
    with udp_socket(host) as sender:
        sender.sendto(b"hello", (FAR, 9))
        packet = receive(tun, pos=500)
    assert len(packet) == 10 + 20 + 8 + 5
    assert packet[-5:] == b"hello"
    assert packet[10 + 12 : 10 + 20] == socket.inet_aton(OWN) + socket.inet_aton(FAR)
    if isinstance(tun, PlainTun):
        assert packet[:10] == bytes(10)


def test_what_is_written_reaches_the_machine(host, tun):
    with udp_socket(host) as receiver:
        assert tun.write(udp_packet(b"hello", receiver.getsockname()[1]))
        assert receiver.recvfrom(100) == (b"hello", (FAR, 4000))
    assert tun.refused == 0


def test_a_super_packet_reaches_the_machine_as_its_segments(host, tun):
    if not (tun.uso or isinstance(tun, PlainTun)):
        pytest.skip("this kernel's TUN takes no UDP super-packets")
    payload = bytes(range(256)) * 12
    with udp_socket(host) as receiver:
        assert tun.write(udp_packet(payload, receiver.getsockname()[1], gso_size=1000))
        found = [receiver.recv(2000) for _ in range(4)]
    assert [len(each) for each in found] == [1000, 1000, 1000, 72]
    assert b"".join(found) == payload


def test_a_bulk_sender_fills_super_packets(host):
    with inside(host):
        tun = open_tun("tun7")
        configure_tun("tun7", mtu=1400, queue=500, addresses=[ip_interface(f"{OWN}/24")])
    with udp_socket(host) as sender:
        sender.setsockopt(17, 103, 1300)  # UDP_SEGMENT
        sender.sendto(bytes(13_000), (FAR, 9))
        packet = receive(tun)
    tun.close()
    assert len(packet) == 10 + 28 + 13_000
    assert packet[1] == 5
    assert int.from_bytes(packet[4:6], "little") == 1300


def test_a_refused_packet_is_counted(host, tun):
    assert not tun.write([bytes(10), b"\x00" * 40])  # neither IPv4 nor IPv6
    assert tun.refused == 1
    host.down("tun7")
    assert not tun.write(udp_packet(b"x", 9))
    assert tun.refused == 2


def test_a_device_that_is_taken_away_raises(host, tun):
    host.run("ip", "link", "delete", "tun7")
    with pytest.raises(OSError, match="bad state"):
        tun.read(memoryview(bytearray(70_000)), 0)
    with pytest.raises(OSError, match="bad state"):
        tun.write(udp_packet(b"x", 9))


def test_a_name_that_is_taken_is_explained(host, tun):
    with inside(host), pytest.raises(HostError, match=r"interface named tun7 already.*--tun-name"):
        open_tun("tun7")


def test_an_impossible_name_is_explained(host):
    with inside(host):
        for name in ("x" * 20, "a/b"):
            with pytest.raises(HostError, match="cannot name a network interface"):
                open_tun(name)


def test_overlapping_addresses_are_warned_of(lab, host):
    lab.attach(host, "10.77.0.130/25")
    with inside(host):
        tun = open_tun("tun7")
        (warning,) = configure_tun("tun7", mtu=1400, queue=500, addresses=[ip_interface(f"{OWN}/24")])
    tun.close()
    assert warning == "10.77.0.1/24 overlaps with 10.77.0.130/25 of eth0"


def test_ipv6_switched_off_is_explained(host):
    with inside(host):
        tun = open_tun("tun7")
        host.sysctl({"net.ipv6.conf.tun7.disable_ipv6": 1})
        with pytest.raises(HostError, match=r"give it the address fd77::1/64.*IPv6 is switched off"):
            configure_tun("tun7", mtu=1400, queue=500, addresses=[ip_interface("fd77::1/64")])
    tun.close()


def test_an_mtu_that_the_kernel_refuses_is_explained(host):
    with inside(host):
        tun = open_tun("tun7")
        with pytest.raises(HostError, match=r"cannot configure tun7: could not set MTU 70000 .*EINVAL"):
            configure_tun("tun7", mtu=70_000, queue=500, addresses=[])
    tun.close()


WITHOUT_RIGHTS = """
import os, sys
from ltunnel.errors import HostError
from ltunnel.runtime.tun import open_tun
os.setresuid(65534, 65534, 65534)
try:
    open_tun("tun7")
except HostError as error:
    print(error)
"""


def test_without_rights_the_remedy_is_named(host):
    done = subprocess.run(
        host.command([sys.executable, "-c", WITHOUT_RIGHTS]), capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("no permission to create a TUN device: run as root")
    assert done.stdout.count("\n") == 1


WITHOUT_DEVICE = """
from ltunnel.errors import HostError
from ltunnel.runtime.tun import open_tun
try:
    open_tun("tun7")
except HostError as error:
    print(error)
"""


def test_without_the_module_the_remedy_is_named(host):
    hide = f"mount -t tmpfs tmpfs {Path('/dev/net')} && exec {sys.executable} -c '{WITHOUT_DEVICE}'"
    done = subprocess.run(["unshare", "-m", "sh", "-c", hide], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("/dev/net/tun is missing: load the module with `modprobe tun`")


def test_datagrams_larger_than_the_path_arrive_in_fragments(lab):
    left, right = lab.host("left"), lab.host("right")
    lab.attach(left, "192.0.2.2/30")
    lab.attach(right, "198.51.100.2/30", mtu=1300)
    with inside(left):
        sender = open_udp("0.0.0.0", 0, dual_stack=False)
    with inside(right):
        receiver = open_udp("198.51.100.2", 9000, dual_stack=False)
    buf = memoryview(bytearray(128 + 14_280))
    for _ in range(3):  # from the first one on, and still when the kernel has heard of the path's MTU
        assert sender.send(buf, 128, 128 + 14_280, 1428, ("198.51.100.2", 9000))
        room = memoryview(bytearray(65_536))
        came = 0
        while came < 14_280:
            assert select.select([receiver], [], [], 2)[0], f"{came} of 14280 bytes came"
            start, end, _, _ = receiver.recv(room, 0)
            came += end - start
    sender.close()
    receiver.close()


def test_segments_larger_than_the_own_link_go_one_by_one(lab):
    left, right = lab.host("left"), lab.host("right")
    lab.attach(left, "192.0.2.2/30", mtu=1300)
    lab.attach(right, "198.51.100.2/30")
    with inside(left):
        sender = open_udp("0.0.0.0", 0, dual_stack=False)
    with inside(right):
        receiver = open_udp("198.51.100.2", 9000, dual_stack=False)
    buf = memoryview(bytearray(128 + 4284))
    assert sender.send(buf, 128, 128 + 4284, 1428, ("198.51.100.2", 9000))
    room = memoryview(bytearray(65_536))
    for _ in range(3):
        assert select.select([receiver], [], [], 2)[0]
        start, end, seg, _ = receiver.recv(room, 0)
        assert end - start == seg == 1428
    assert sender.drops == {}
    sender.close()
    receiver.close()


def test_an_unreachable_far_end_is_counted(host):
    with inside(host):
        sender = open_udp("0.0.0.0", 0, dual_stack=False)
    buf = memoryview(bytearray(300))
    assert not sender.send(buf, 128, 228, 100, ("198.51.100.2", 9000))
    assert sender.drops == {"unreachable": 1}
    sender.close()


def test_the_link_is_found_by_route_by_address_and_by_guess(lab):
    host = lab.host("one", ipv6=True)
    with inside(host):
        assert link_mtu(remote=("198.51.100.2", 9000)) == 1500  # no link at all
    lab.attach(host, "192.0.2.2/30", "2001:db8:1::2/64", mtu=1480)
    host.veth("eth1", lab.host("other"), "eth0", mtu=1300)
    host.add_address("eth1", "203.0.113.2/30")
    with inside(host):
        assert link_mtu(remote=("198.51.100.2", 9000)) == 1480
        assert link_mtu(remote=("203.0.113.1", 9000)) == 1300
        assert link_mtu(remote=("2001:db8:2::2", 9000)) == 1480
        assert link_mtu(listen=("0.0.0.0", 9000)) == 1480
        assert link_mtu(listen=("::", 9000)) == 1480
    host.run("ip", "route", "delete", "default")
    with inside(host):
        assert link_mtu(listen=("0.0.0.0", 9000)) == 1300  # nobody knows by which: the smallest will do
