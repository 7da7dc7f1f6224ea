import io
import json
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from ltunnel.cli.main import main
from ltunnel.cli.status_view import duration, view
from ltunnel.errors import HostError
from ltunnel.runtime import client

PEER: dict[str, Any] = {
    "name": "alice", "key": "ab" * 32, "addresses": ["10.0.0.2", "fd00::2"], "endpoint": "192.0.2.7:40122",
    "transport": "transport_udp", "state": "established", "last_handshake": 65.2, "last_seen": 0.4, "rtt_ms": 12.345,
    "mtu": 1400, "rx_bytes": 5_000_000, "tx_bytes": 1200, "rx_packets": 4321, "tx_packets": 12,
    "drops": {"replayed": 3},
}  # fmt: skip
ANSWER: dict[str, Any] = {
    "role": "hub", "version": "0.1.0", "name": "box", "network": "lan", "key_check": "QX7B", "encrypted": True,
    "stack": {"transports": ["transport_udp"], "cipher": "AESGCM"},
    "tun": {"name": "ltun0", "mtu": 1400, "addresses": ["10.0.0.1/24"], "offload": True}, "uptime": 7300.0,
    "state": "up", "reason": None, "warnings": [], "drops": {"wrong key": 9}, "peers": [PEER],
    "counters": {"rx_bytes": 5_000_000, "tx_bytes": 1200, "rx_packets": 4321, "tx_packets": 12},
}  # fmt: skip


def _text(answer: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=300, markup=False, highlight=False).print(view(answer))
    return out.getvalue()


def _requests(monkeypatch: pytest.MonkeyPatch, answers: Iterator[Any]) -> list[tuple[Any, ...]]:
    """Let `request` give these answers, raising those that are exceptions; return the arguments of its calls."""
    calls: list[tuple[Any, ...]] = []

    def request(*arguments: Any) -> Any:
        calls.append(arguments)
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(client, "request", request)
    return calls


FEC = {
    "mode": "auto", "data": 10, "parity": 3, "groups": 2, "why": "5.00% lost", "data_sent": 1001, "parity_sent": 302,
    "data_received": 903, "parity_received": 4, "lost_before": 55, "recovered": 54, "lost_after": 1,
    "parity_wasted": 66, "late": 0, "refused": 0, "delay_ms": 7.25, "longest_delay_ms": 9.0,
}  # fmt: skip


def test_the_view_shows_what_fec_does() -> None:
    fec = {"plugin": "fec_rs", "mode": "auto", "data": 10, "parity": 3}
    lines = _text({**ANSWER, "fec": fec, "peers": [{**PEER, "fec": FEC}]}).splitlines()
    assert lines[1].startswith("stack transport_udp, AESGCM, fec_rs;")
    assert "loss repair by fec_rs, mode auto" in [line.rstrip() for line in lines]
    cells = ["alice", "10+3, 2 groups in turn", "5.00% lost", "1001", "302", "903", "55", "54", "1", "66", "7.2 ms"]
    assert " ".join(cells) in " ".join(lines[-1].split())


def test_the_view_says_that_nothing_is_sent() -> None:
    fec = {"plugin": "fec_rs", "mode": "latency"}
    quiet = {**FEC, "data": 0, "parity": 0, "recovered": 0}
    assert "no parity" in _text({**ANSWER, "fec": fec, "peers": [{**PEER, "fec": quiet}]})
    assert "copies" in _text({**ANSWER, "fec": fec, "peers": [{**PEER, "fec": {**quiet, "mode": "latency"}}]})


def test_the_view_shows_what_matters() -> None:
    lines = _text(ANSWER).splitlines()
    assert lines[0].rstrip() == "hub box of network lan: up, running for 2 h 1 min (ltunnel 0.1.0)"
    assert lines[1].rstrip() == "stack transport_udp, AESGCM; key check QX7B"
    assert lines[2].rstrip() == "device ltun0 10.0.0.1/24 mtu 1400, with offloads"
    assert lines[3].rstrip() == "received 5.0 MB in 4321 packets, sent 1.2 kB in 12 packets, dropped wrong key 9"
    (row,) = [line for line in lines if "alice" in line]
    cells = ("10.0.0.2", "192.0.2.7:40122", "transport_udp", "established", "1 min ago", "0 s ago", "12.3 ms",
             "5.0 MB", "4321", "1.2 kB", "12", "replayed 3")  # fmt: skip
    position = 0
    for cell in cells:
        position = row.index(cell, position)
    assert any("fd00::2" in line for line in lines)


@pytest.mark.parametrize("width", [80, 100, 120, 160, 200])
def test_on_a_narrow_terminal_columns_are_left_out_and_no_cell_is_broken(width: int) -> None:
    out = io.StringIO()
    Console(file=out, width=width, markup=False, highlight=False).print(view(ANSWER))
    head, *rows = (line for line in out.getvalue().splitlines() if line.startswith(("peer ", "alice ")))
    assert len(head) <= width
    assert {"peer", "address", "path", "state", "rtt", "received", "sent"} <= set(head.split())
    assert rows
    assert all("established" in row and "…" not in row for row in rows)
    assert ("endpoint" in head) == (width > 80)


def test_the_view_shows_what_transports_count() -> None:
    faketcp = {"name": "transport_faketcp", "tallies": {"connections": 2, "resets seen": 1}, "drops": {"stray": 7}}
    silent = {"name": "transport_udp", "tallies": {}, "drops": {}}
    lines = [line.rstrip() for line in _text({**ANSWER, "transports": [silent, faketcp]}).splitlines()]
    assert "transport_faketcp: connections 2, resets seen 1, dropped stray 7" in lines
    assert not any(line.startswith("transport_udp") for line in lines)


def test_the_view_of_a_node_in_trouble() -> None:
    text = _text({
        **ANSWER, "role": "node", "state": "denied", "reason": "10.0.0.2 belongs to another key", "encrypted": False,
        "warnings": ["the passphrase is short"], "drops": {}, "peers": [],
    })  # fmt: skip
    for word in ("node box", "denied", "10.0.0.2 belongs to another key", "NOT ENCRYPTED", "the passphrase is short",
                 "no peers"):  # fmt: skip
        assert word in text
    assert "dropped" not in text


def test_a_peer_that_was_never_heard() -> None:
    silent = {**PEER, "endpoint": None, "transport": None, "state": "connecting", "last_handshake": None,
              "last_seen": None, "rtt_ms": None, "name": "", "drops": {}}  # fmt: skip
    text = _text({**ANSWER, "peers": [silent]})
    assert "abababab" in text, "without a name the key stands for it"
    assert text.count("never") == 2
    assert "None" not in text


def test_what_a_peer_says_cannot_move_the_cursor() -> None:
    text = _text({**ANSWER, "peers": [{**PEER, "name": "\x1b[2Jalice"}]})
    assert "\x1b" not in text
    assert "\\x1b[2Jalice" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h 0 min"), (86_399, "23 h 59 min"),
     (90_000, "1 d 1 h"), (None, "some time")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_the_ways_to_a_hub_are_shown_where_there_is_a_choice() -> None:
    def way(name: str, state: str, rtt: float | None = None, *, used: bool = False) -> dict[str, Any]:
        ago = None if rtt is None else 65.0
        return {"transport": name, "state": state, "used": used, "rtt_ms": rtt, "last_answer": ago}

    ways = [way("transport_udp", "dead"), way("transport_faketcp", "working", 20.0, used=True),
            way("transport_tls", "working", 31.25)]  # fmt: skip
    hub = {**PEER, "name": "hub\x1b", "chosen": "transport_udp did not answer", "candidates": ways}
    (line,) = [line for line in _text({**ANSWER, "peers": [hub]}).splitlines() if line.startswith("ways to")]
    assert line.rstrip() == (
        "ways to hub\\x1b: transport_udp dead, transport_faketcp in use (transport_udp did not answer), "
        "transport_tls working, 31.2 ms 1 min ago"
    )
    for peer in ({**hub, "candidates": ways[:1]}, {**hub, "candidates": []}, PEER):
        assert "ways to" not in _text({**ANSWER, "peers": [peer]})


def test_the_view_shows_networks_behind_machines() -> None:
    reason = "overlaps 192.168.8.0/24, which is behind bob\x1b[2J"
    answer = {
        **ANSWER, "routes": ["192.168.7.0/24"], "accepted_routes": ["172.16.0.0/12", "192.168.8.0/24"],
        "refused_routes": [{"network": "192.168.0.0/16", "peer": "eve\x1b", "reason": reason}],
        "peers": [{**PEER, "networks": ["172.16.0.0/12", "192.168.8.0/24"]}, {**PEER, "name": "", "networks": []}],
    }  # fmt: skip
    lines = [line.split() for line in _text(answer).splitlines()]
    assert [line for line in lines if line and "/" in line[0]] == [
        ["192.168.7.0/24", "this", "machine", "offered"],
        ["172.16.0.0/12", "alice", "accepted"],
        ["192.168.8.0/24", "alice", "accepted"],
        ["192.168.0.0/16", "eve\\x1b", *f"refused: {reason}".replace("\x1b", "\\x1b").split()],
    ]


def test_without_networks_behind_machines_there_is_no_table_of_them() -> None:
    empty = {"routes": [], "accepted_routes": [], "refused_routes": [], "peers": [{**PEER, "networks": []}]}
    for answer in (ANSWER, {**ANSWER, **empty}):
        assert "behind" not in _text(answer)


def test_json_is_what_the_node_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = _requests(monkeypatch, iter([ANSWER]))
    assert main(["status", "-json", "-tun-name", "lt3"]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWER
    assert calls == [("status", "lt3")]


def test_without_a_terminal_there_are_no_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = _requests(monkeypatch, iter([ANSWER]))
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "alice" in out
    assert "\x1b" not in out
    assert calls == [("status", None)]


def test_nobody_there_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["status"], ["status", "--watch"], ["status", "--json"]):
        _requests(monkeypatch, iter([HostError("no ltunnel is running")]))
        assert main(arguments) == 2
        assert capsys.readouterr() == ("", "ltunnel: no ltunnel is running\n")


def test_watching_without_a_terminal_gives_a_line_each_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    naps: list[float] = []
    monkeypatch.setattr("ltunnel.cli.status.time", types.SimpleNamespace(sleep=naps.append))
    _requests(monkeypatch, iter([ANSWER, {**ANSWER, "state": "connecting"}, KeyboardInterrupt()]))
    assert main(["status", "--watch", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["up", "connecting"]
    assert naps == [1.0, 1.0]


def test_watching_on_a_terminal_outlasts_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    terminal = Console(file=out, width=300, force_terminal=True)
    monkeypatch.setattr("ltunnel.cli.status.console", lambda: terminal)
    monkeypatch.setattr("ltunnel.cli.status.time", types.SimpleNamespace(sleep=lambda _seconds: None))
    again = {**ANSWER, "name": "back-again"}
    _requests(monkeypatch, iter([ANSWER, HostError("no ltunnel is running"), again, KeyboardInterrupt()]))
    assert main(["status", "--watch"]) == 0
    shown = out.getvalue()
    assert shown.index("alice") < shown.index("no ltunnel is running") < shown.index("back-again")
    assert sys.exc_info() == (None, None, None)


def test_the_paths_to_another_node_are_shown() -> None:
    hub = {"class": "hub", "state": "valid", "used": False, "endpoint": None, "rtt_ms": 41.0}
    lan = {"class": "lan", "state": "valid", "used": True, "endpoint": "192.168.1.7:9000", "rtt_ms": 0.5}
    peer = {**PEER, "path": "lan", "chosen": "the LAN before all else", "paths": [hub, lan]}
    lines = _text({**ANSWER, "peers": [peer]}).splitlines()
    told = "paths to alice: hub valid 41.0 ms, lan 192.168.1.7:9000 in use (the LAN before all else) 0.5 ms"
    assert told in [line.rstrip() for line in lines]
    assert not [line for line in _text({**ANSWER, "peers": [{**peer, "paths": [hub]}]}).splitlines() if "paths" in line]


def test_the_mesh_is_shown_where_there_is_one() -> None:
    path = {"class": "mesh", "state": "valid", "used": True, "rtt_ms": 41.0, "transport": "mesh", "via": "bo\x1bb"}
    hub = {**path, "class": "hub", "used": False, "transport": "relay", "via": "hub"}
    peer = {
        **PEER,
        "path": "mesh",
        "via": "bo\x1bb",
        "endpoint": None,
        "paths": [hub, path],
        "relayed_bytes": 2_000_000,
    }
    shown = _text({**ANSWER, "mesh": {"links": ["bo\x1bb", "carol"], "routes": []}, "peers": [peer, peer]})
    assert "mesh: linked to bo\\x1bb, carol; passed on 4.0 MB" in shown
    assert "mesh through bo\\x1bb in use" in shown
    for without in (None, {"links": [], "routes": []}):
        assert "mesh:" not in _text({**ANSWER, "mesh": without, "peers": [peer]})
