"""TCP port numbers, kept from other programs by sockets that are bound and never listen."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

from ltunnel.errors import HostError
from ltunnel.plugin import Endpoint


class Numbers:
    """Numbers that are ours as long as this is open."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        first = sockets[0]
        self.local: Endpoint = first.getsockname()
        self.all: Sequence[int] = tuple(sock.getsockname()[1] for sock in sockets)
        six = first.family == socket.AF_INET6
        self.versions: tuple[int, ...] = (4,)
        """IP versions in which they are kept."""
        if six:
            only = first.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            self.versions = (6,) if only else (4, 6)
        packed = socket.inet_pton(first.family, self.local[0])
        self.bound = packed if any(packed) else None
        """Packed local address, None for all."""

    def close(self) -> None:
        """Give the numbers back."""
        for sock in self._sockets:
            sock.close()


def keep_numbers(host: str, port: int, *, count: int = 1, dual_stack: bool = False) -> Numbers:
    """Keep a port number at a numeric address, or, with port 0, `count` numbers that the kernel chooses.

    Raises OSError as `socket` and `bind` do, and `HostError` when the address is not numeric.
    """
    try:
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[0]
    except socket.gaierror:
        raise HostError(f"cannot listen on {host!r}: give a numeric IP address, 0.0.0.0 or :: for all") from None
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(count):
            try:
                sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT and dual_stack and host == "::":
                    return keep_numbers("0.0.0.0", port, count=count)  # noqa: S104
                raise
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
            sock.bind(address)
            sockets.append(sock)
        stack.pop_all()
        return Numbers(sockets)
