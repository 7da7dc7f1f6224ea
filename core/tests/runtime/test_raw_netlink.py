"""Own addresses, as the kernel lists them, and a list that does not come to its end."""

import socket
from collections.abc import Iterator
from contextlib import closing
from struct import Struct

import pytest

from ltunnel.plugin import Carrier
from ltunnel.runtime import raw_netlink
from ltunnel.runtime.raw_netlink import Netlink, OwnAddress
from ltunnel.runtime.surroundings import Seen, look_around

HEADER = Struct("=IHHII")  # struct nlmsghdr
DONE, ERROR, NEW_ADDRESS = 3, 2, 20
UNIVERSE, LINK = 0, 253
DUPLICATE, DEPRECATED, TENTATIVE, PERMANENT = 0x08, 0x20, 0x40, 0x80


def message(kind: int, body: bytes, serial: int = 1) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, 2, serial, 0) + body


def address(last: int, flags: int = PERMANENT, scope: int = UNIVERSE) -> bytes:
    body = Struct("=BBBBI").pack(socket.AF_INET, 24, flags, scope, 3)  # struct ifaddrmsg
    return message(NEW_ADDRESS, body + Struct("=HH4s").pack(8, 2, bytes((192, 168, 7, last))))


class Kernel:
    """A netlink socket that answers with what it is given."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, _size: int) -> bytes:
        if not self.answers:
            raise BlockingIOError
        return self.answers.pop(0)

    def close(self) -> None:
        pass


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(raw_netlink, "_open", lambda: kernel)
    return kernel


@pytest.fixture
def netlink(kernel: Kernel) -> Iterator[Netlink]:
    with closing(Netlink()) as netlink:
        yield netlink


@pytest.mark.parametrize(("fit", "found"), [(True, [1]), (False, [1, 3, 4, 5])])
def test_addresses_that_others_may_reach_and_all_of_them(kernel, netlink, fit, found):
    kernel.answers = [
        address(1) + address(2, DUPLICATE | TENTATIVE) + address(3, DEPRECATED),
        address(4, TENTATIVE) + address(5, scope=LINK),
        message(DONE, bytes(4)),
    ]
    assert netlink.addresses(fit=fit) == [OwnAddress(3, bytes((192, 168, 7, last)), 24) for last in found]


@pytest.mark.parametrize("end", [[], [message(ERROR, bytes(4))]])
@pytest.mark.parametrize("fit", [True, False])
def test_a_list_that_breaks_off_is_none(kernel, netlink, fit, end):
    kernel.answers = [address(1), *end]
    assert netlink.addresses(fit=fit) is None


def test_surroundings_are_looked_at_again_when_not_all_is_known(kernel):
    ports = {Carrier.UDP: 4500}
    kernel.answers = [address(1)]
    assert look_around(ports, network="net", remote=("192.0.2.1", 9000), tun="tun0") == Seen((), (), settled=False)
    kernel.answers = [message(DONE, bytes(4))]
    assert look_around(ports, network="net", remote=("192.0.2.1", 9000), tun="tun0") == Seen((), (), settled=True)
