"""Moves random bytes over TCP and prints the SHA-256 of what was sent or received.

``bulk.py receive PORT`` prints ``ready`` when it listens; ``bulk.py send ADDRESS PORT BYTES``.
"""

import hashlib
import os
import socket
import sys

_CHUNK = 1 << 20
_TIMEOUT = 60.0


def send(address: str, port: int, size: int) -> str:
    """Send `size` random bytes; returns their digest."""
    digest = hashlib.sha256()
    with socket.create_connection((address, port), timeout=_TIMEOUT) as connection:
        while size:
            chunk = os.urandom(min(size, _CHUNK))
            connection.sendall(chunk)
            digest.update(chunk)
            size -= len(chunk)
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
    else:
        print(receive(int(sys.argv[2])))
