"""Moves random bytes over TCP and prints the SHA-256 of what was sent or received.

``bulk.py receive PORT`` prints ``ready`` when it listens; ``bulk.py send ADDRESS PORT BYTES``;
``bulk.py stream ADDRESS PORT BYTES_PER_SECOND`` sends at an even rate until SIGTERM.
"""

import hashlib
import os
import signal
import socket
import sys
import time

_CHUNK = 1 << 20
_TIMEOUT = 60.0
_TICK = 0.05


def send(address: str, port: int, size: int) -> str:
    """Send `size` random bytes; returns their digest."""
    digest = hashlib.sha256()
    with socket.create_connection((address, port), timeout=_TIMEOUT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        while size:
            chunk = os.urandom(min(size, _CHUNK))
            connection.sendall(chunk)
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()


def stream(address: str, port: int, rate: int) -> str:
    """Send random bytes until SIGTERM; returns their digest."""
    digest = hashlib.sha256()
    ended = False

    def end(_number: int, _frame: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    with socket.create_connection((address, port), timeout=_TIMEOUT) as connection:
        while not ended:
            chunk = os.urandom(int(rate * _TICK))
            connection.sendall(chunk)
            digest.update(chunk)
            time.sleep(_TICK)
    return digest.hexdigest()


def receive(port: int) -> str:
    """Receive until the sender ends; returns the digest."""
    digest = hashlib.sha256()
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.create_server(("", port), family=family, dualstack_ipv6=family == socket.AF_INET6) as server:
        print("ready", flush=True)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(_TIMEOUT)
            while chunk := connection.recv(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    if sys.argv[1] == "send":
        print(send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    elif sys.argv[1] == "stream":
        print(stream(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        print(receive(int(sys.argv[2])))
