import json
from typing import Any

import pytest

from ltunnel.cli.main import main
from ltunnel.errors import HostError
from ltunnel.runtime import client

STATE = {"plugin": "fec_rs", "mode": "fixed", "data": 20, "parity": 10, "deadline_ms": 8.0}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []

    def request(*arguments: Any) -> Any:
        calls.append(arguments)
        return {"fec": STATE}

    monkeypatch.setattr(client, "request", request)
    return calls


def test_an_order_says_only_what_was_given(asked: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "fec", "-data", "20", "--parity=10"]) == 0
    assert main(["ctl", "fec", "--mode", "auto", "--tun-name", "tun7"]) == 0
    assert asked == [
        ({"command": "fec", "data": 20, "parity": 10}, None),
        ({"command": "fec", "mode": "auto"}, "tun7"),
    ]
    assert capsys.readouterr().out == "fec_rs, mode fixed, groups of 20 + 10\n" * 2


def test_as_json(asked: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "fec", "--json"]) == 0
    assert asked == [({"command": "fec"}, None)]
    assert json.loads(capsys.readouterr().out) == STATE


def test_nonsense_is_refused(asked: list[tuple[Any, ...]]) -> None:
    assert main(["ctl", "fec", "--mode", "best"]) == 2
    assert main(["ctl", "fec", "--data", "many"]) == 2
    assert asked == []


def test_a_refusal_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: Any) -> Any:
        raise HostError("this ltunnel runs without a FEC plugin")

    monkeypatch.setattr(client, "request", refuse)
    assert main(["ctl", "fec", "--data", "3"]) == 2
    assert "without a FEC plugin" in capsys.readouterr().err
