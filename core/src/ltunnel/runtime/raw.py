"""Opening RAW ports: the numbers first, then the backend that was asked for."""

from __future__ import annotations

import errno
import os

from ltunnel.errors import HostError
from ltunnel.plugin import PortSpec
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.raw_filter import MAX_NUMBERS
from ltunnel.runtime.raw_numbers import keep_numbers
from ltunnel.runtime.raw_packet import PacketPort
from ltunnel.runtime.raw_tun import RoutedPort
from ltunnel.runtime.udp import RECEIVE_BUFFER

_TCP = 6
_SECRET_SIZE = 32


def open_raw(spec: PortSpec, host: HostChanges, receive_buffer: int = RECEIVE_BUFFER) -> PacketPort | RoutedPort:
    """Open a RAW port. Raises OSError and `HostError`.

    Backend "auto" is "packet": it needs no change to how the host forwards.
    """
    protocol, backend = spec.extra.get("protocol", _TCP), spec.extra.get("backend", "auto")
    count = spec.extra.get("numbers", 1)
    if protocol != _TCP or backend not in ("auto", "packet", "tun") or not 1 <= count <= MAX_NUMBERS:
        raise HostError(f"no such RAW port: protocol {protocol}, backend {backend}, {count} numbers")
    if count > 1 and spec.port:
        raise HostError(f"a RAW port has either a given number or several: {spec.port}, {count}")
    numbers = keep_numbers(spec.host, spec.port, count=count, dual_stack=spec.dual_stack)
    secret = os.urandom(_SECRET_SIZE)
    if backend == "tun":
        return RoutedPort(numbers, secret, host, os.urandom)
    try:
        return PacketPort(numbers, secret, receive_buffer)
    except PermissionError:
        raise HostError("no permission to open packet sockets: run as root, or give CAP_NET_RAW") from None
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT):
            raise HostError("this kernel lacks packet sockets (CONFIG_PACKET): use backend tun") from None
        raise
