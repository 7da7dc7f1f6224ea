"""A hub with several addresses answers from the one that it was asked at."""

import select
import socket
from collections.abc import Callable, Iterator

import pytest

from ltunnel.runtime import udp_sources
from ltunnel.runtime.udp import open_udp
from ltunnel.runtime.udp_sources import SourcedPort, has_choice

Open = Callable[..., SourcedPort]


@pytest.fixture
def open_hub() -> Iterator[Open]:
    opened = []

    def open_one(host: str, *, dual_stack: bool = False) -> SourcedPort:
        port = open_udp(host, 0, dual_stack=dual_stack, make=SourcedPort)
        assert isinstance(port, SourcedPort)
        opened.append(port)
        return port

    yield open_one
    for port in opened:
        port.close()


def receive(port: SourcedPort) -> tuple[list[bytes], tuple]:
    buf = memoryview(bytearray(70_000))
    assert select.select([port], [], [], 2)[0]
    start, end, seg, source = port.recv(buf, 3)
    assert start == 3
    return [bytes(buf[at : min(at + seg, end)]) for at in range(start, end, seg or 1)], source


def ask(port: SourcedPort, there: str, family: socket.AddressFamily = socket.AF_INET) -> tuple[tuple, tuple]:
    """Ask a hub at an address; return its name for the asker, and where the answers came from."""
    with socket.socket(family, socket.SOCK_DGRAM) as asker:
        asker.settimeout(2)
        asker.sendto(b"question", (there, port.local[1]))
        datagrams, source = receive(port)
        assert datagrams == [b"question"]
        assert source[1] == asker.getsockname()[1]
        answers = set()
        for data, seg in ((b"one", 3), (b"many" * 10, 4), (b"many" * 10 + b"x", 4)):
            assert port.send(memoryview(data), 0, len(data), seg, source)
            for at in range(0, len(data), seg):
                answer, origin = asker.recvfrom(100)
                assert answer == data[at : at + seg]
                answers.add(origin[:2])
        (origin,) = answers
    return source, origin


@pytest.mark.parametrize("there", ["127.0.0.1", "127.0.0.2", "127.77.7.7"])
def test_the_answer_comes_from_where_the_question_went(open_hub: Open, there: str) -> None:
    hub = open_hub("0.0.0.0")
    source, origin = ask(hub, there)
    assert origin == (there, hub.local[1])
    assert source[2] == socket.inet_aton(there)


def test_a_plain_socket_does_not_know_this() -> None:
    """What the rest of this file is about: the kernel takes the first address that fits."""
    plain = open_udp("0.0.0.0", 0, dual_stack=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind(("127.0.0.1", 0))
        asker.settimeout(2)
        asker.sendto(b"question", ("127.0.0.2", plain.local[1]))
        _, _, _, source = plain.recv(memoryview(bytearray(70_000)), 0)
        plain.send(memoryview(b"answer"), 0, 6, 6, source)
        _, origin = asker.recvfrom(100)
    plain.close()
    assert origin[0] == "127.0.0.1"


def test_over_ipv6_and_for_ipv4_in_it(open_hub: Open) -> None:
    hub = open_hub("::", dual_stack=True)
    source, origin = ask(hub, "::1", socket.AF_INET6)
    assert (origin[0], source[4]) == ("::1", socket.inet_pton(socket.AF_INET6, "::1"))
    source, origin = ask(hub, "127.0.0.2")
    assert origin[0] == "127.0.0.2"
    assert source[4] == socket.inet_pton(socket.AF_INET6, "::ffff:127.0.0.2")


def test_batches_come_in_one_call_as_ever(open_hub: Open) -> None:
    hub, node = open_hub("0.0.0.0"), open_udp("127.0.0.1", 0, dual_stack=False)
    data = bytes(range(250)) * 40
    assert node.send(memoryview(data), 0, len(data), 1000, ("127.0.0.2", hub.local[1]))
    datagrams, _ = receive(hub)
    assert datagrams == [data[at : at + 1000] for at in range(0, len(data), 1000)]
    node.close()


def test_one_far_end_at_one_address_is_one_endpoint(open_hub: Open) -> None:
    hub = open_hub("0.0.0.0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        seen = []
        for there in ("127.0.0.1", "127.0.0.1", "127.0.0.2"):
            asker.sendto(b"x", (there, hub.local[1]))
            seen.append(receive(hub)[1])
    assert seen[0] == seen[1] != seen[2]


def test_an_endpoint_of_a_transports_own_making_works(open_hub: Open) -> None:
    """Without a local address the kernel chooses."""
    hub = open_hub("0.0.0.0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind(("127.0.0.1", 0))
        asker.settimeout(2)
        assert hub.send(memoryview(b"hello"), 0, 5, 5, asker.getsockname())
        assert asker.recv(10) == b"hello"


def test_an_address_that_is_gone_costs_datagrams_and_nothing_else(open_hub: Open) -> None:
    hub = open_hub("0.0.0.0")
    to = ("127.0.0.1", hub.local[1], socket.inet_aton("192.0.2.77"))
    assert hub.send(memoryview(b"hello" * 3), 0, 15, 5, to) is False
    assert hub.drops == {"unreachable": 3}
    with pytest.raises(BlockingIOError):
        hub.recv(memoryview(bytearray(70_000)), 0)


def test_where_there_is_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    def machine(four: list[str], six: list[str]) -> None:
        monkeypatch.setattr(udp_sources, "_addresses4", lambda: iter(four))
        monkeypatch.setattr(udp_sources, "_addresses6", lambda: iter(six))

    machine(["192.0.2.1"], ["2001:db8::1"])
    assert not has_choice("0.0.0.0", dual_stack=False)
    assert not has_choice("::", dual_stack=True)
    machine(["192.0.2.1", "192.0.2.2"], ["2001:db8::1"])
    assert has_choice("0.0.0.0", dual_stack=False)
    assert has_choice("::", dual_stack=True)
    assert not has_choice("::", dual_stack=False)
    assert not has_choice("192.0.2.1", dual_stack=False)
    machine([], ["2001:db8::1", "2001:db8::2"])
    assert has_choice("::", dual_stack=False)


def test_this_machines_addresses_can_be_read() -> None:
    assert all(not address.is_loopback for address in udp_sources._addresses4())
    assert all(not address.is_link_local for address in udp_sources._addresses6())
