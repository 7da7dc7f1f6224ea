"""``ltunnel nat``: what people see, what programs get, and that nothing of a peer's is printed raw."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from ltunnel.cli.main import main
from ltunnel.cli.nat_view import nat_view
from ltunnel.runtime import client

PAIR = {"to": "192.0.2.2:4000", "carrier": "udp", "port": 0, "sent": 6, "answered": True}
PEER: dict[str, Any] = {
    "name": "bob", "key": "ab" * 32, "state": "established", "chosen": "a direct path comes first",
    "paths": [{"class": "hub", "used": False}, {"class": "public", "used": True, "endpoint": "192.0.2.2:4000"}],
    "tried": {
        "rounds": [
            {"round": 0, "ago": 9.0, "method": "plain", "pairs": [{**PAIR, "answered": False}], "guesses": 0,
             "opened": 0, "result": "no answer"},
            {"round": 1, "ago": 4.2, "method": "guess", "pairs": [PAIR], "guesses": 1024, "opened": 0,
             "result": "direct"},
        ],
        "retry_in": 31.6, "advice": ["forward a port"],
    },
}  # fmt: skip
ANSWER: dict[str, Any] = {
    "role": "node", "name": "alice", "enabled": True, "nat": "a NAT, easy: one port for all", "advice": ["open it"],
    "behaviour": {"mapping": "endpoint_independent", "hairpin": "no"}, "fresh_ports": 0, "mapping": {"udp": "PCP"},
    "mapped": [{"carrier": "udp", "address": ["192.0.2.1", 4500], "lifetime": 600}],
    "versions": [
        {"version": 4, "used": True, "seen": {"udp": "192.0.2.1:6000", "tcp": "192.0.2.1:6001"}, "reason": None},
        {"version": 6, "used": False, "seen": {}, "reason": "the server's answers do not arrive"},
    ],
    "candidates": [
        {"kind": "host", "carrier": "udp", "address": "192.168.1.2", "port": 5000, "lan": True},
        {"kind": "srflx", "carrier": "udp", "address": "192.0.2.1", "port": 6000, "lan": False},
    ],
    "peers": [PEER],
}  # fmt: skip


def text(answer: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=200, markup=False, highlight=False).print(nat_view(answer))
    return out.getvalue()


def test_the_view_tells_the_whole_story():
    shown = text(ANSWER)
    for part in (
        "client alice", "NAT: a NAT, easy: one port for all", "mapping: endpoint independent",
        "mapped by a router: 192.0.2.1 port 4500 (udp)", "what one could do: open it", "on this LAN",
        "seen by the server", "bob by public 192.0.2.2:4000: a direct path comes first", "no answer", "direct",
        "IPv4: seen as 192.0.2.1:6000 (udp), 192.0.2.1:6001 (tcp); the server is reached by it",
        "IPv6: the server's answers do not arrive",
        "guessed ports", "1024", "tried again in 32 s", "what one could do: forward a port",
    ):  # fmt: skip
        assert part in shown, part


@pytest.mark.parametrize(("changes", "said"), [
    ({"enabled": False}, "direct paths are off"),
    ({"peers": []}, "no other clients yet"),
    ({"peers": [{"name": "bob", "state": "expired"}]}, "bob expired"),
    (
        {"peers": [{"name": "bob", "chosen": "it is best", "paths": [{"class": "mesh", "used": True, "via": "eve"}]}]},
        "bob by mesh through eve: it is best",
    ),
    ({"peers": [{**PEER, "name": "b\x1b[31mob"}]}, "b\\x1b[31mob"),
    ({"nat": "\x07"}, "\\x07"),
])  # fmt: skip
def test_the_view_of_odd_answers(changes, said):
    assert said in text({**ANSWER, **changes})


def test_programs_get_the_answer_as_it_is(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(client, "request", lambda *arguments: asked.append(arguments) or ANSWER)
    assert main(["nat", "--json", "--tun-name", "tun7"]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWER
    assert main(["nat"]) == 0
    assert "client alice" in capsys.readouterr().out
    assert asked == [("nat", "tun7"), ("nat", None)]
