import errno
import socket

import pytest

from ltunnel.errors import HostError
from ltunnel.runtime.raw_numbers import keep_numbers


def test_numbers_are_kept_until_they_are_given_back():
    numbers = keep_numbers("127.0.0.1", 0)
    (port,) = numbers.all
    assert numbers.local == ("127.0.0.1", port)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        numbers.close()
        other.bind(("127.0.0.1", port))


def test_several_differ():
    numbers = keep_numbers("0.0.0.0", 0, count=16)
    assert len(set(numbers.all)) == 16
    numbers.close()


@pytest.mark.parametrize(
    ("host", "dual", "versions", "bound"),
    [
        ("0.0.0.0", False, (4,), None),
        ("127.0.0.1", False, (4,), b"\x7f\0\0\1"),
        ("::", False, (6,), None),
        ("::", True, (4, 6), None),
        ("::1", False, (6,), bytes(15) + b"\1"),
    ],
)
def test_what_is_kept(host, dual, versions, bound):
    numbers = keep_numbers(host, 0, dual_stack=dual)
    assert (numbers.versions, numbers.bound) == (versions, bound)
    numbers.close()


def test_nobody_is_answered():
    numbers = keep_numbers("127.0.0.1", 0)
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(numbers.local)
    numbers.close()


def test_both_versions_are_kept_by_a_dual_stack_number():
    numbers = keep_numbers("::", 0, dual_stack=True)
    with socket.socket() as other:
        with pytest.raises(OSError, match="in use") as caught:
            other.bind(("0.0.0.0", numbers.all[0]))
        assert caught.value.errno == errno.EADDRINUSE
    numbers.close()


def test_a_number_in_use_raises_and_leaves_nothing_open():
    first = keep_numbers("127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        keep_numbers("127.0.0.1", first.all[0])
    first.close()


def test_without_ipv6_a_dual_stack_wildcard_is_that_of_ipv4(monkeypatch):
    real = socket.socket

    def refuse(family: int, *args: object, **kwargs: object) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return real(family, *args, **kwargs)

    monkeypatch.setattr(socket, "socket", refuse)
    numbers = keep_numbers("::", 0, dual_stack=True)
    assert (numbers.local[0], numbers.versions) == ("0.0.0.0", (4,))
    numbers.close()
    with pytest.raises(OSError, match="no IPv6"):
        keep_numbers("::", 0)


def test_a_name_is_no_address():
    with pytest.raises(HostError, match="give a numeric IP address"):
        keep_numbers("localhost", 9000)
