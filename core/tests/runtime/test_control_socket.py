import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ltunnel.errors import HostError
from ltunnel.runtime.client import request
from ltunnel.runtime.control_socket import MAX_CLIENTS, MAX_REQUEST, ControlSocket
from ltunnel.runtime.loop import Loop, make_event


def answer(question: dict[str, Any], _now: float) -> dict[str, Any]:
    match question["command"]:
        case "echo":
            return {"got": question}
        case "big":
            return {"data": "x" * 3_000_000}
    raise HostError(f"no such command: {question['command']}")


class Running:
    """Control sockets served by a loop in a thread, until closed."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.loop = Loop()
        self._end = make_event()
        self.loop.watch(self._end, lambda _now: self.loop.stop())
        self.sockets = [ControlSocket(self.loop, folder, name) for name in names]
        for each in self.sockets:
            each.serve(answer)
        self._thread = threading.Thread(target=self.loop.run, args=(lambda _now: None,))
        self._thread.start()

    def close(self) -> None:
        os.eventfd_write(self._end, 1)
        self._thread.join(5)
        for each in self.sockets:
            each.close()
        self.loop.close()
        os.close(self._end)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started = []

    def start(*names: str) -> Running:
        started.append(Running(tmp_path, *names))
        return started[-1]

    yield start
    for running in started:
        running.close()


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(str(path))
    return connection


def test_a_request_is_answered(serve, tmp_path):
    serve("tun0")
    assert request("echo", folder=tmp_path) == {"got": {"command": "echo"}}
    assert request({"command": "echo", "x": 1}, "tun0", tmp_path)["got"]["x"] == 1


def test_only_the_owner_may_speak(serve, tmp_path):
    serve("tun0")
    assert stat.S_IMODE((tmp_path / "tun0.sock").stat().st_mode) == 0o600


def test_an_answer_larger_than_the_sockets_buffer_arrives_whole(serve, tmp_path):
    serve("tun0")
    assert len(request("big", folder=tmp_path)["data"]) == 3_000_000


def test_a_refusal_is_told_in_the_nodes_words(serve, tmp_path):
    serve("tun0")
    with pytest.raises(HostError, match="no such command: dance"):
        request("dance", folder=tmp_path)


def test_one_connection_takes_several_requests_also_in_pieces(serve, tmp_path):
    serve("tun0")
    with connect(tmp_path / "tun0.sock") as connection, connection.makefile("rb") as lines:
        for number in range(3):
            line = json.dumps({"command": "echo", "n": number}).encode() + b"\n"
            connection.sendall(line[:9])
            connection.sendall(line[9:])
            assert json.loads(lines.readline())["got"]["n"] == number


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[1]", b'{"command": 7}', b"[" * 3000, b"null", b"1e999"])
def test_nonsense_is_answered_with_an_error(serve, tmp_path, line):
    serve("tun0")
    with connect(tmp_path / "tun0.sock") as connection, connection.makefile("rb") as lines:
        connection.sendall(line + b"\n")
        assert "error" in json.loads(lines.readline())
    assert request("echo", folder=tmp_path)


def test_an_endless_request_is_cut_off(serve, tmp_path):
    serve("tun0")
    with connect(tmp_path / "tun0.sock") as connection, pytest.raises(OSError, match=r"Broken pipe|reset"):
        connection.sendall(b"x" * 1000 * MAX_REQUEST)
    assert request("echo", folder=tmp_path)


def test_idle_clients_cannot_keep_others_out(serve, tmp_path):
    running = serve("tun0")
    idle = [connect(tmp_path / "tun0.sock") for _ in range(MAX_CLIENTS + 3)]
    assert request("echo", folder=tmp_path)
    assert len(running.sockets[0]._clients) <= MAX_CLIENTS
    for connection in idle:
        connection.close()


def test_a_client_that_leaves_without_its_answer_is_forgotten(serve, tmp_path):
    running = serve("tun0")
    with connect(tmp_path / "tun0.sock") as connection:
        connection.sendall(b'{"command": "big"}\n')
        connection.recv(1)
    for _ in range(3):
        assert request("echo", folder=tmp_path)
    assert len(running.sockets[0]._clients) <= 1


def test_a_client_that_sends_and_does_not_read_costs_nothing(serve, tmp_path):
    running = serve("tun0")
    with connect(tmp_path / "tun0.sock") as connection:
        connection.sendall(b'{"command": "big"}\n')
        time.sleep(0.1)
        connection.sendall(b'{"command": "echo"}\n')
        before = time.clock_gettime(time.pthread_getcpuclockid(running._thread.ident))
        time.sleep(0.3)
        assert time.clock_gettime(time.pthread_getcpuclockid(running._thread.ident)) - before < 0.1
    assert request("echo", folder=tmp_path)


def test_with_one_running_nobody_needs_to_say_which(serve, tmp_path):
    serve("tun0", "tun1")
    with pytest.raises(HostError, match=r"several.*tun0, tun1"):
        request("echo", folder=tmp_path)
    assert request("echo", "tun1", tmp_path)


def test_with_none_running_the_folder_is_named(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(HostError, match=f"no ltunnel is running.*{folder}"):
            request("status", folder=folder)
        with pytest.raises(HostError, match="no ltunnel with the device tun7"):
            request("status", "tun7", folder)


def test_a_second_one_of_the_same_name_is_refused(serve, tmp_path):
    serve("tun0")
    with pytest.raises(HostError, match="device tun0 is running already"):
        ControlSocket(Loop(), tmp_path, "tun0")
    assert request("echo", folder=tmp_path)


def test_the_leftover_of_a_crash_is_replaced(serve, tmp_path):
    path = tmp_path / "tun0.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with pytest.raises(HostError, match="no ltunnel"):
        request("echo", folder=tmp_path)
    serve("tun0")
    assert request("echo", folder=tmp_path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    (tmp_path / "tun0.sock").write_text("precious")
    with pytest.raises(HostError, match="cannot create control socket"):
        ControlSocket(Loop(), tmp_path, "tun0")
    assert (tmp_path / "tun0.sock").read_text() == "precious"


def test_nothing_is_left_after_closing(tmp_path):
    folder = tmp_path / "run"
    Running(folder, "tun0").close()
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_path_too_long_for_a_socket_is_explained(tmp_path):
    with pytest.raises(HostError, match="cannot create control socket"):
        ControlSocket(Loop(), tmp_path / ("x" * 120), "tun0")


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
def test_another_user_is_not_heard(serve, tmp_path):
    serve("tun0")
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    (tmp_path / "tun0.sock").chmod(0o666)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setresuid(65534, 65534, 65534)
            request("echo", "tun0", tmp_path)
        except HostError as error:
            status = 0 if "closed its control socket" in str(error) or "Broken pipe" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
