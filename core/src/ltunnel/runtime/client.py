"""The other end of the control socket: what ``ltunnel status`` asks with."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from ltunnel.errors import HostError
from ltunnel.runtime.folders import SOCKET_SUFFIX, run_folder, socket_path

_TIMEOUT = 5.0


def request(command: dict[str, Any] | str, tun_name: str | None = None, folder: Path | None = None) -> dict[str, Any]:
    """Ask a running node and return its answer.

    `command` is a request (``{"command": "forget", "name": "alice"}``) or just its name. Without `tun_name` the only
    node that runs is asked. Raises `HostError` when there is none, when there are several, or with the node's own text
    when it refuses.
    """
    message = {"command": command} if isinstance(command, str) else command
    with _connect(folder or run_folder(), tun_name) as connection:
        try:
            connection.sendall(json.dumps(message).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except TimeoutError:
            raise HostError("ltunnel does not answer on its control socket") from None
        except OSError as error:
            raise HostError(f"ltunnel closed its control socket: {error.strerror}") from None
    if not line.endswith(b"\n"):
        raise HostError("ltunnel closed its control socket without an answer: it is stopping, or another user's")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise HostError(str(answer["error"]))
    return answer


def _connect(folder: Path, tun_name: str | None) -> socket.socket:
    if tun_name is not None:
        connection = _open(socket_path(folder, tun_name))
        if connection is None:
            raise HostError(f"no ltunnel with the device {tun_name} is running (looked in {folder})")
        return connection
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == SOCKET_SUFFIX)
    except FileNotFoundError:
        paths = []
    except OSError as error:
        raise HostError(f"cannot look into {folder}: {error.strerror}") from None
    running = [(path.stem, connection) for path in paths if (connection := _open(path)) is not None]
    if len(running) == 1:
        return running[0][1]
    for _, connection in running:
        connection.close()
    if running:
        names = ", ".join(name for name, _ in running)
        raise HostError(f"several ltunnels are running: say which with --tun-name ({names})")
    raise HostError(f"no ltunnel is running (looked in {folder})")


def _open(path: Path) -> socket.socket | None:
    """Connect to a control socket; None when nobody listens on it any more."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_TIMEOUT)
    try:
        connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except PermissionError:
        connection.close()
        raise HostError(f"no permission to ask ltunnel by {path}: run as the user it runs as, or as root") from None
    except BlockingIOError:  # its queue of connections is full
        connection.close()
        raise HostError(f"ltunnel does not answer on {path}") from None
    except OSError as error:
        connection.close()
        raise HostError(f"cannot ask ltunnel by {path}: {error.strerror or error}") from None
    return connection
