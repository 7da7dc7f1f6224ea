"""Port mapping against gateways on loopback: PCP, NAT-PMP, UPnP by a stand-in for the library, and none at all."""

import socket
import struct
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from ltunnel.plugin import Carrier
from ltunnel_nat_punch import mapper as mapper_module
from ltunnel_nat_punch import pcp
from ltunnel_nat_punch.mapper import Mapper, default_gateway

OUTSIDE = "198.51.100.7"


class Gateway:
    """A router's daemon. `speaks` holds the versions that it answers, 0 (NAT-PMP) and 2 (PCP)."""

    def __init__(self, *speaks: int, result: int = 0, deaf: int = 0, lie: str = "") -> None:
        self.speaks = speaks
        self.result = result
        self.deaf = deaf
        self.lie = lie
        self.mapped: dict[tuple[int, int], int] = {}
        self.asked: list[bytes] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.05)
        self.stopped = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while not self.stopped:
            try:
                data, source = self.socket.recvfrom(2048)
            except TimeoutError:
                continue
            self.asked.append(data)
            if self.deaf:
                self.deaf -= 1
                continue
            answer = self.answer(data)
            if answer:
                self.socket.sendto(answer, source)

    def answer(self, data: bytes) -> bytes:
        if data[0] not in self.speaks:
            return struct.pack(">BBHI", 0, data[1] | 128, 1, 0)  # unsupported version
        if data[0] == 2:
            lifetime, own, nonce, protocol, inside, outside = struct.unpack(">4xI16s12sBxxxHH16x", data)
            assert str(IPv6Address(own).ipv4_mapped) == "127.0.0.1"
            self.keep(protocol, inside, outside, lifetime)
            nonce = bytes(12) if self.lie == "nonce" else nonce
            packed = bytes(10) + b"\xff\xff" + IPv4Address(OUTSIDE).packed
            return struct.pack(">BBxBII12x12sBxxxHH16s", 2, 129, self.result, min(lifetime, 600), 9, nonce, protocol,
                               inside, outside, packed)  # fmt: skip
        if data[1] == 0:
            return struct.pack(">BBHI4s", 0, 128, self.result, 9, IPv4Address(OUTSIDE).packed)
        _, code, inside, outside, lifetime = struct.unpack(">BBxxHHI", data)
        self.keep(17 if code == 1 else 6, inside, outside or inside, lifetime)
        inside = 1 if self.lie == "port" else inside
        return struct.pack(">BBHIHHI", 0, code | 128, self.result, 9, inside, outside or 5000, min(lifetime, 600))

    def keep(self, protocol: int, inside: int, outside: int, lifetime: int) -> None:
        if lifetime:
            self.mapped[protocol, inside] = outside
        else:
            self.mapped.pop((protocol, inside), None)

    def close(self) -> None:
        self.stopped = True
        self.thread.join()
        self.socket.close()

    def mapper(self, upnp=lambda: None) -> Mapper:
        return Mapper(lambda: "127.0.0.1", self.socket.getsockname()[1], upnp)


@pytest.fixture
def gateway() -> Iterator:
    made: list[Gateway] = []

    def make(*speaks: int, **settings) -> Gateway:
        made.append(Gateway(*speaks, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(mapper_module, "WAITS", (0.1, 0.1, 0.2))


def wait_for(condition) -> None:
    for _ in range(200):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to that")


@pytest.mark.parametrize(("version", "name"), [(2, "PCP"), (0, "NAT-PMP")])
@pytest.mark.parametrize("carrier", list(Carrier))
def test_a_port_is_mapped_renewed_and_given_back(gateway, version, name, carrier):
    router = gateway(version)
    mapper = router.mapper()
    for _ in range(2):
        assert mapper.map(carrier, 4500, 3600.0) == ((OUTSIDE, 4500), 600.0, name)
    assert router.mapped == {(int(carrier), 4500): 4500}
    renewal = router.asked[-1 if version == 2 else -2]
    assert renewal[0] == version, "what has worked is tried first"
    mapper.close()
    wait_for(lambda: not router.mapped)


def test_lost_questions_are_asked_again(gateway):
    router = gateway(2, deaf=2)
    assert router.mapper().map(Carrier.UDP, 4500, 60.0) == ((OUTSIDE, 4500), 60.0, "PCP")
    assert len(router.asked) == 3


@pytest.mark.parametrize(("version", "settings"), [
    (2, {"result": 2}), (2, {"lie": "nonce"}), (0, {"result": 2}), (0, {"lie": "port"}), (7, {}),
])  # fmt: skip
def test_refusals_and_lies_are_no_mapping(gateway, version, settings):
    assert gateway(version, **settings).mapper().map(Carrier.UDP, 4500, 3600.0) is None


def test_without_a_gateway_nothing_is_asked():
    assert Mapper(lambda: None, upnp=lambda: None).map(Carrier.UDP, 4500, 3600.0) is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    nobody = Mapper(lambda: "127.0.0.1", port, lambda: None)
    assert nobody.map(Carrier.UDP, 4500, 3600.0) is None
    nobody.close()


class Device:
    """Stands for ``miniupnpc.UPnP``."""

    lanaddr = "192.168.1.2"
    leases = True

    def __init__(self) -> None:
        self.discoverdelay = 0
        self.mapped: dict[tuple[int, str], tuple] = {}

    def discover(self) -> int:
        return 1

    def selectigd(self) -> str:
        return "http://192.168.1.1/"

    def externalipaddress(self) -> str:
        return OUTSIDE

    def addportmapping(self, outside, protocol, host, inside, description, remote, lease=None) -> bool:
        if lease and not self.leases:
            raise Exception("OnlyPermanentLeasesSupported")
        self.mapped[outside, protocol] = (host, inside, description, remote, lease)
        return True

    def deleteportmapping(self, outside, protocol, remote) -> bool:
        del self.mapped[outside, protocol]
        return True


class Library:
    def __init__(self, device: Device) -> None:
        self.UPnP = lambda: device


@pytest.mark.parametrize(("leases", "lease"), [(True, 3600), (False, None)])
def test_upnp_is_the_last_resort(gateway, leases, lease):
    device = Device()
    device.leases = leases
    mapper = gateway(7).mapper(lambda: Library(device))
    assert mapper.map(Carrier.TCP, 4500, 3600.0) == ((OUTSIDE, 4500), 3600.0, "UPnP")
    assert device.mapped == {(4500, "TCP"): ("192.168.1.2", 4500, "ltunnel", "", lease)}
    mapper.close()
    assert not device.mapped


def test_a_upnp_library_that_finds_nothing_is_no_mapping(gateway):
    class Lonely(Device):
        def selectigd(self) -> str:
            raise Exception("No UPnP device discovered")

    assert gateway(7).mapper(lambda: Library(Lonely())).map(Carrier.UDP, 4500, 3600.0) is None


@pytest.mark.parametrize("said", ["", "0.0.0.0", "127.0.0.1", "no address\x1b[31m"])
def test_an_outside_address_that_is_none_is_no_mapping(gateway, said):
    device = Device()
    device.externalipaddress = lambda: said
    assert gateway(7).mapper(lambda: Library(device)).map(Carrier.UDP, 4500, 3600.0) is None


def test_the_real_library_has_what_is_used():
    library = pytest.importorskip("miniupnpc")
    used = {name for name in vars(Device) if not name.startswith("_")} - {"leases"}
    assert used <= set(dir(library.UPnP()))


def test_the_default_gateway_is_that_of_the_best_route(tmp_path):
    routes = tmp_path / "route"
    routes.write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "eth1\t00000000\t0102A8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0\n"
        "eth1\t0002A8C0\t00000000\t0001\t0\t0\t50\t00FFFFFF\t0\t0\t0\n"
    )
    assert default_gateway(routes) == "192.168.2.1"
    routes.write_text("Iface\n")
    assert default_gateway(routes) is None
    assert default_gateway(tmp_path / "missing") is None


def test_messages_are_those_of_the_documents():
    """Bytes worked out by hand from RFC 6886, section 3.3, and RFC 6887, figures 2, 9 and 10."""
    assert pcp.pmp_map(Carrier.UDP, 4500, 3600.0).hex() == "000100001194119400000e10"
    assert pcp.pmp_map(Carrier.UDP, 4500, 0.0).hex() == "000100001194000000000000"
    request = pcp.pcp_map(Carrier.UDP, 4500, 3600.0, "192.168.1.2", bytes(range(12)))
    assert request.hex() == (
        "0201000000000e10" "00000000000000000000ffffc0a80102"
        "000102030405060708090a0b" "11000000" "1194" "1194" "00000000000000000000ffff00000000"
    )  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 8, 12, 16, 59, 60, 1100])
def test_any_bytes_are_read(size):
    for fill in (0, 0x81, 0xFF):
        data = bytes((fill,)) * size
        assert pcp.read_address(data) in (None, "0.0.0.0")
        pcp.read_pmp_map(data, Carrier.UDP, 4500)
        assert pcp.read_pcp_map(data, Carrier.UDP, 4500, bytes(12)) is None
