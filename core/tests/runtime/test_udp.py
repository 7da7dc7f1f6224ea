import errno
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ltunnel.errors import HostError
from ltunnel.runtime.udp import UdpPort, open_udp


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[UdpPort, UdpPort]]:
    first = open_udp(request.param, 0, dual_stack=False)
    second = open_udp(request.param, 0, dual_stack=False)
    yield first, second
    first.close()
    second.close()


def fill(data: bytes, headroom: int = 128) -> tuple[memoryview, int, int]:
    buf = memoryview(bytearray(headroom + len(data)))
    buf[headroom:] = data
    return buf, headroom, headroom + len(data)


def receive(port: UdpPort, count: int, pos: int = 0) -> list[tuple[bytes, tuple]]:
    """Receive until `count` datagrams have come; each batch is cut by what `recv` says."""
    buf = memoryview(bytearray(pos + 65536))
    found = []
    while len(found) < count:
        assert select.select([port], [], [], 2)[0], f"{len(found)} of {count} came"
        start, end, seg, source = port.recv(buf, pos)
        assert start == pos
        found += [(bytes(buf[at : min(at + seg, end)]), source) for at in range(start, end, seg or 1)]
    return found


def test_a_single_datagram_arrives_with_its_source(pair):
    first, second = pair
    buf, start, end = fill(b"hello")
    assert first.send(buf, start, end, 5, second.local)
    assert receive(second, 1) == [(b"hello", first.local)]


def test_a_batch_arrives_as_equal_datagrams_and_a_shorter_last_one(pair):
    first, second = pair
    data = bytes(range(256)) * 50
    buf, start, end = fill(data)
    assert first.send(buf, start, end, 1000, second.local)
    found = receive(second, 13, pos=700)
    assert [len(piece) for piece, _ in found] == [1000] * 12 + [800]
    assert b"".join(piece for piece, _ in found) == data
    assert {source for _, source in found} == {first.local}


def test_a_batch_leaves_and_comes_in_one_call_each(pair):
    first, second = pair
    buf, start, end = fill(bytes(64 * 1000))
    assert first.send(buf, start, end, 1000, second.local)
    room = memoryview(bytearray(65536))
    assert second.recv(room, 0)[:3] == (0, 64000, 1000)
    with pytest.raises(BlockingIOError):
        second.recv(room, 0)


def test_many_segment_sizes_do_not_pile_up_in_the_cache(pair):
    first, second = pair
    buf, start, end = fill(bytes(3000))
    for seg in range(200, 2600):
        first.send(buf, start, end, seg, second.local)
    assert len(first._segments) <= 1024


def test_nothing_to_receive_blocks(pair):
    with pytest.raises(BlockingIOError):
        pair[0].recv(memoryview(bytearray(65536)), 0)


def test_an_empty_datagram_is_an_empty_range(pair):
    first, second = pair
    with socket.socket(first._socket.family, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"", second.local)
        assert select.select([second], [], [], 2)[0]
        start, end, seg, _ = second.recv(memoryview(bytearray(65536)), 9)
        assert (start, end, seg) == (9, 9, 0)


def test_dual_stack_takes_ipv4_as_mapped_addresses_and_answers_it():
    both = open_udp("::", 0, dual_stack=True)
    four = open_udp("127.0.0.1", 0, dual_stack=False)
    try:
        buf, start, end = fill(b"four")
        assert four.send(buf, start, end, 4, ("127.0.0.1", both.local[1]))
        ((data, source),) = receive(both, 1)
        assert data == b"four"
        assert source[:2] == ("::ffff:127.0.0.1", four.local[1])
        buf, start, end = fill(b"six!" * 3)
        assert both.send(buf, start, end, 4, source)
        assert [piece for piece, _ in receive(four, 3)] == [b"six!"] * 3
    finally:
        both.close()
        four.close()


def test_without_dual_stack_ipv4_is_left_to_others():
    six = open_udp("::", 0, dual_stack=False)
    four = open_udp("0.0.0.0", six.local[1], dual_stack=False)  # would clash otherwise
    four.close()
    six.close()


def test_a_kernel_without_ipv6_still_serves_the_wildcard(monkeypatch):
    real = socket.socket

    def without_ipv6(family: int, *args: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *args)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    port = open_udp("::", 0, dual_stack=True)
    assert port.local[0] == "0.0.0.0"
    port.close()
    with pytest.raises(OSError, match="not supported"):
        open_udp("::1", 0, dual_stack=False)


class Refusing:
    """A socket whose calls fail as a kernel's would, the first so many times."""

    def __init__(self, sock: socket.socket, sendmsg: list[int] = (), sendto: list[int] = (), recv: list[int] = ()):
        self._sock = sock
        self._errors = {"sendmsg": list(sendmsg), "sendto": list(sendto), "recvmsg_into": list(recv)}

    def __getattr__(self, name: str):
        real = getattr(self._sock, name)
        if name not in self._errors:
            return real

        def call(*args):
            if self._errors[name]:
                code = self._errors[name].pop(0)
                raise OSError(code, errno.errorcode[code])
            return real(*args)

        return call


def refusing(**errors: list[int]) -> tuple[UdpPort, UdpPort]:
    sender, receiver = (open_udp("127.0.0.1", 0, dual_stack=False) for _ in range(2))
    return UdpPort(Refusing(sender._socket, **errors)), receiver


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.EMSGSIZE])
def test_without_segmentation_each_datagram_goes_by_itself(code):
    sender, receiver = refusing(sendmsg=[code])
    buf, start, end = fill(bytes(2500))
    assert sender.send(buf, start, end, 1000, receiver.local)
    assert [len(piece) for piece, _ in receive(receiver, 3)] == [1000, 1000, 500]
    assert sender.drops == {}
    sender.close()
    receiver.close()


def test_a_device_without_checksums_is_asked_once():
    sender, receiver = refusing(sendmsg=[errno.EIO, errno.EBADF])  # a second attempt would raise
    buf, start, end = fill(bytes(2000))
    assert sender.send(buf, start, end, 1000, receiver.local)
    assert sender.send(buf, start, end, 1000, receiver.local)
    assert len(receive(receiver, 4)) == 4
    sender.close()
    receiver.close()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.EAGAIN, "queue full"),
        (errno.ENOBUFS, "queue full"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ECONNREFUSED, "unreachable"),
        (errno.EPERM, "unreachable"),
    ],
)
def test_refusals_are_counted_in_datagrams_and_swallowed(code, reason):
    sender, receiver = refusing(sendmsg=[code], sendto=[code])
    buf, start, end = fill(bytes(2500))
    assert not sender.send(buf, start, end, 1000, receiver.local)
    assert sender.drops == {reason: 3}
    assert not sender.send(buf, start, start + 10, 1000, receiver.local)
    assert sender.drops == {reason: 4}
    sender.close()
    receiver.close()


def test_a_datagram_larger_than_udp_takes_is_counted(pair):
    first, second = pair
    buf, start, end = fill(bytes(65536))
    assert not first.send(buf, start, end, 65536, second.local)
    assert first.drops == {"too big": 1}


def test_an_error_brought_by_icmp_is_counted_and_receiving_goes_on():
    receiver = open_udp("127.0.0.1", 0, dual_stack=False)
    flaky = UdpPort(Refusing(receiver._socket, recv=[errno.ECONNREFUSED]))
    with pytest.raises(BlockingIOError):
        flaky.recv(memoryview(bytearray(65536)), 0)
    assert flaky.drops == {"receive error": 1}
    buf, start, end = fill(b"x")
    assert flaky.send(buf, start, end, 1, flaky.local)
    assert receive(flaky, 1)[0][0] == b"x"
    flaky.close()


def test_a_closed_port_is_a_fault_of_ours_and_raises():
    port = open_udp("127.0.0.1", 0, dual_stack=False)
    port.close()
    buf, start, end = fill(b"x")
    with pytest.raises(OSError, match="Bad file descriptor"):
        port.send(buf, start, end, 1, ("127.0.0.1", 9))


def test_a_name_is_no_address_to_bind():
    with pytest.raises(HostError, match=r"'localhost'.*numeric"):
        open_udp("localhost", 0, dual_stack=False)


def test_receive_buffer_holds_many_batches():
    port = open_udp("127.0.0.1", 0, dual_stack=False)
    size = port._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    port.close()
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    assert size >= min(7 << 20, limit)


def test_hops_are_limited_and_as_usual_again(pair):
    first, _ = pair
    six = first._socket.family == socket.AF_INET6
    option = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if six else (socket.IPPROTO_IP, socket.IP_TTL)
    usual = first._socket.getsockopt(*option)
    first.limit_hops(2)
    assert first._socket.getsockopt(*option) == 2
    first.limit_hops(0)
    assert first._socket.getsockopt(*option) == usual
