"""The control socket: JSON lines over a unix socket, served from the data loop, for root and the own user alone."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from typing import Any

from ltunnel.errors import HostError
from ltunnel.runtime.folders import make_folder, socket_path
from ltunnel.runtime.loop import Loop

MAX_REQUEST = 4096
MAX_CLIENTS = 8
_BACKLOG = 64

_CREDENTIALS = Struct("3i")  # struct ucred: pid, uid, gid

Answer = Callable[[dict[str, Any], float], dict[str, Any]]
"""(request, now) -> response. Raises `HostError` with a text for whoever asked."""


class ControlSocket:
    """Serves requests such as ``{"command": "status"}``, one a line; every answer is one line too.

    From the start the name of the TUN device is taken; requests are answered once `serve` has said by whom. An error is
    answered as ``{"error": text}``. Of more than `MAX_CLIENTS` connections the oldest is closed.
    """

    def __init__(self, loop: Loop, folder: Path, tun_name: str) -> None:
        self._loop = loop
        self._answer: Answer | None = None
        self._clients: dict[int, _Client] = {}
        self._path = socket_path(make_folder(folder), tun_name)
        self._listener = _listen(self._path, tun_name)

    def serve(self, answer: Answer) -> None:
        """Answer requests by `answer` from now on."""
        if self._answer is None:
            self._loop.watch(self._listener.fileno(), self._accept)
        self._answer = answer

    def close(self) -> None:
        """Close all connections and remove the socket."""
        for client in list(self._clients.values()):
            self._drop(client)
        if self._answer is not None:
            self._loop.unwatch(self._listener.fileno())
        self._path.unlink(missing_ok=True)
        self._listener.close()

    def _accept(self, _now: float) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it left again, or we are out of descriptors
            return
        connection.setblocking(False)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid not in (0, os.geteuid()):
            connection.close()
            return
        if len(self._clients) >= MAX_CLIENTS:
            self._drop(next(iter(self._clients.values())))
        client = _Client(connection)
        fd = connection.fileno()
        self._clients[fd] = client
        self._loop.watch(fd, lambda now: self._serve(client, now))

    def _drop(self, client: _Client) -> None:
        fd = client.connection.fileno()
        del self._clients[fd]
        self._loop.unwatch(fd)
        client.connection.close()

    def _serve(self, client: _Client, now: float) -> None:
        """Do what can be done for a client without waiting: send what is pending, else read one request."""
        try:
            if client.pending:
                client.flush()
            else:
                line = client.read_line()
                if line is None:
                    return
                client.pending = json.dumps(self._respond(line, now)).encode() + b"\n"
                client.flush()
            self._loop.watch_output(client.connection.fileno(), wanted=bool(client.pending))
        except BlockingIOError:
            return
        except (OSError, _EndOfClientError):
            self._drop(client)

    def _respond(self, line: bytes, now: float) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "the request is not JSON"}
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            return {"error": 'the request is not an object with a "command"'}
        assert self._answer is not None, "no client is accepted before `serve`"  # noqa: S101
        try:
            return self._answer(request, now)
        except HostError as error:
            return {"error": str(error)}


class _EndOfClientError(Exception):
    """The client has gone, or does not keep to the rules."""


class _Client:
    """One connection: what came of the next request, and what is still to be sent of the last answer."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pending = b""
        self._received = b""

    def read_line(self) -> bytes | None:
        """Return one request, or None while it is incomplete."""
        data = self.connection.recv(MAX_REQUEST)
        if not data:
            raise _EndOfClientError
        self._received += data
        line, newline, rest = self._received.partition(b"\n")
        if rest or len(line) > MAX_REQUEST:  # a request waits for the answer to the one before it
            raise _EndOfClientError
        if not newline:
            return None
        self._received = b""
        return line

    def flush(self) -> None:
        """Send as much as the socket takes."""
        try:
            self.pending = self.pending[self.connection.send(self.pending) :]
        except BlockingIOError:
            return


def _listen(path: Path, tun_name: str) -> socket.socket:
    """Bind the socket. One that nobody answers on is the leftover of a crash and is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        with _locked(path.parent):
            if _is_answered(path):
                raise HostError(f"an ltunnel with the device {tun_name} is running already: choose another --tun-name")
            if path.is_socket():
                path.unlink()
            mask = os.umask(0o177)
            try:
                listener.bind(str(path))
            finally:
                os.umask(mask)
            listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise HostError(f"cannot create control socket {path}: {error.strerror or error}") from None
    except HostError:
        listener.close()
        raise
    return listener


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:  # somebody listens whose queue is full
            return True
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that of two that start at once one sees the other's socket."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
