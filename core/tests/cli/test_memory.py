import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from ltunnel.cli.main import main
from ltunnel.control.directory import Binding
from ltunnel.errors import HostError
from ltunnel.runtime.control_socket import ControlSocket
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.state import State

ALICE = Binding(key=b"a" * 32, addresses=(ip_address("10.0.0.2"),), name="alice")
BOB = Binding(key=b"b" * 32, addresses=(ip_address("10.0.0.3"), ip_address("fd00::3")), name="bob")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setenv("LTUNNEL_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("LTUNNEL_RUN_DIR", raising=False)
    made = State(tmp_path)
    made.load_identity()
    return made


@contextmanager
def _running(folder: Path, requests: list[dict[str, Any]], answer: dict[str, Any]) -> Iterator[None]:
    """Serve a control socket as a running ltunnel does, in a thread."""

    def respond(request: dict[str, Any], _now: float) -> dict[str, Any]:
        requests.append(request)
        if "error" in answer:
            raise HostError(answer["error"])
        return answer

    loop = Loop()
    control = ControlSocket(loop, folder, "lt9")
    control.serve(respond)
    thread = threading.Thread(target=loop.run, args=(lambda now: now + 0.02,))
    thread.start()
    try:
        yield
    finally:
        loop.stop()
        thread.join()
        control.close()
        loop.close()


def test_pins_are_listed(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    state.save_pin("hub.example:9000/ltunnel", b"h" * 32)
    assert main(["pins", "list"]) == 0
    out = capsys.readouterr().out
    assert "hub.example:9000/ltunnel" in out
    assert (b"h" * 32).hex() in out
    assert main(["pins", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"hub.example:9000/ltunnel": (b"h" * 32).hex()}


def test_no_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "never-used"
    monkeypatch.setenv("LTUNNEL_STATE_DIR", str(folder))
    assert main(["pins", "list"]) == 0
    assert capsys.readouterr().out == "nothing is pinned\n"
    assert not folder.exists(), "looking leaves nothing behind"


@pytest.mark.parametrize("label", ["hub.example:9000", "hub.example:9000/ltunnel"])
def test_a_pin_is_forgotten(state: State, label: str, capsys: pytest.CaptureFixture[str]) -> None:
    state.save_pin("hub.example:9000/ltunnel", b"h" * 32)
    state.save_pin("other:9000/ltunnel", b"o" * 32)
    assert main(["pins", "forget", label]) == 0
    assert capsys.readouterr().out == "forgot hub.example:9000/ltunnel\n"
    assert state.load_pins() == {"other:9000/ltunnel": b"o" * 32}


@pytest.mark.parametrize("label", ["site-b", "site-b@hub:1", "site-b@hub:1/home"])
def test_a_node_is_forgotten_and_its_server_is_not(state: State, label: str) -> None:
    state.save_pin("hub:1/home", b"h" * 32)
    state.save_pin("site-b@hub:1/home", b"b" * 32)
    assert main(["pins", "forget", label]) == 0
    assert state.load_pins() == {"hub:1/home": b"h" * 32}


def test_pins_that_are_not_there_or_not_clear(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    state.save_pin("hub:1/home", b"h" * 32)
    state.save_pin("hub:1/work", b"w" * 32)
    assert main(["pins", "forget", "bub:1"]) == 2
    assert capsys.readouterr().err == "ltunnel: no pin is called bub:1; see `ltunnel pins list`\n"
    assert main(["pins", "forget", "hub:1"]) == 2
    assert capsys.readouterr().err == (
        "ltunnel: hub:1 is pinned in several networks: say which (hub:1/home, hub:1/work)\n"
    )
    assert len(state.load_pins()) == 2


@pytest.mark.parametrize("answer", [{}, {"error": "a hub has no pins"}])
def test_a_running_node_is_told_of_a_forgotten_pin(state: State, answer: dict[str, Any]) -> None:
    state.save_pin("hub:1/home", b"h" * 32)
    requests: list[dict[str, Any]] = []
    with _running(state.folder, requests, answer):
        assert main(["pins", "forget", "hub:1"]) == 0
    assert requests == [{"command": "forget-pin", "name": "hub:1/home"}]
    assert state.load_pins() == {}


@pytest.mark.parametrize("who", ["bob", "BOB", "10.0.0.3", "fd00::3", "62" * 32])
def test_a_binding_is_forgotten_while_the_server_is_down(
    state: State, who: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state.save_bindings([ALICE, BOB])
    assert main(["forget", who]) == 0
    assert capsys.readouterr().out == "forgot bob\n"
    assert state.load_bindings() == (ALICE,)


def test_a_binding_that_is_not_there(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    state.save_bindings([ALICE])
    assert main(["forget", "10.0.0.77"]) == 2
    assert capsys.readouterr().err == "ltunnel: no client has the name, address or key 10.0.0.77\n"
    assert state.load_bindings() == (ALICE,)


def test_a_running_server_forgets_by_itself(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    state.save_bindings([ALICE, BOB])
    requests: list[dict[str, Any]] = []
    with state.held_by_hub(), _running(state.folder, requests, {"forgotten": BOB.to_dict()}):
        assert main(["forget", "10.0.0.3"]) == 0
    assert requests == [{"command": "forget", "peer": "10.0.0.3"}]
    assert capsys.readouterr().out == "forgot bob\n"
    assert state.load_bindings() == (ALICE, BOB), "the file is the running server's"


def test_forgetting_where_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LTUNNEL_STATE_DIR", str(tmp_path / "none"))
    monkeypatch.delenv("LTUNNEL_RUN_DIR", raising=False)
    assert main(["forget", "bob"]) == 2
    assert capsys.readouterr().err.startswith("ltunnel: no ltunnel is running")
    assert not (tmp_path / "none").exists()
