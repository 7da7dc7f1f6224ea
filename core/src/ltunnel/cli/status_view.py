"""A status answer for people. Some of what it holds was said by peers: it is escaped."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.text import Text

from ltunnel.cli.fec_view import fec_view
from ltunnel.cli.networks_view import networks_view
from ltunnel.cli.output import Fitting
from ltunnel.registry.text import printable

_COLOURS = {"up": "green", "established": "green", "connecting": "yellow", "denied": "red", "expired": "red",
            "working": "green", "trying": "yellow", "dead": "red", "refused": "red", "valid": "green",
            "probing": "yellow", "suspect": "yellow"}  # fmt: skip
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def view(answer: Mapping[str, Any]) -> RenderableType:
    """Return a few lines about the node and tables of its peers and of the networks behind them."""
    lines = [_title(answer), _stack(answer), _device(answer.get("tun") or {}), _traffic(answer)]
    lines += (
        _transport(entry) for entry in answer.get("transports") or () if entry.get("tallies") or entry.get("drops")
    )
    if answer.get("reason"):
        lines.append(Text(printable(str(answer["reason"])), style="red"))
    lines += (Text(printable(str(warning)), style="yellow") for warning in answer.get("warnings") or ())
    peers = answer.get("peers") or ()
    lines += (_ways(peer) for peer in peers if len(peer.get("candidates") or ()) > 1)
    lines += (_paths(peer) for peer in peers if len(peer.get("paths") or ()) > 1)
    lines += _mesh(answer.get("mesh") or {}, peers)
    parts = [*lines, _peers(peers)]
    networks = networks_view(answer)
    if networks is not None:
        parts.append(networks)
    if answer.get("fec") and peers:
        parts.append(fec_view(answer["fec"], peers))
    return Group(*parts)


def _title(answer: Mapping[str, Any]) -> Text:
    state = str(answer.get("state", ""))
    return Text.assemble(
        (f"{_word(answer, 'role')} {_word(answer, 'name')}", "bold"),
        f" of network {_word(answer, 'network')}: ",
        (state, _COLOURS.get(state, "")),
        f", running for {duration(answer.get('uptime'))} (ltunnel {_word(answer, 'version')})",
    )


def _stack(answer: Mapping[str, Any]) -> Text:
    stack = answer.get("stack") or {}
    names = ", ".join(map(str, [*stack.get("transports", ()), stack.get("cipher", ""), *_plugin(answer.get("fec"))]))
    if answer.get("encrypted"):
        return Text(f"stack {names}; key check {_word(answer, 'key_check')}")
    return Text.assemble(f"stack {names}; ", ("NOT ENCRYPTED: no key was given", "bold red"))


def _plugin(fec: Mapping[str, Any] | None) -> list[str]:
    return [str(fec.get("plugin", ""))] if fec else []


def _device(tun: Mapping[str, Any]) -> Text:
    addresses = " ".join(map(str, tun.get("addresses", ())))
    offload = "with" if tun.get("offload") else "without"
    return Text(f"device {_word(tun, 'name')} {addresses} mtu {_word(tun, 'mtu')}, {offload} offloads")


def _traffic(answer: Mapping[str, Any]) -> Text:
    counters = answer.get("counters") or {}
    dropped = _drops(answer.get("drops"))
    return Text(f"{_amounts(counters)}, dropped {dropped}" if dropped else _amounts(counters))


def _transport(entry: Mapping[str, Any]) -> Text:
    """Say what a transport has counted itself."""
    dropped = _drops(entry.get("drops"))
    parts = [_drops(entry.get("tallies")), f"dropped {dropped}" if dropped else ""]
    return Text(f"{_word(entry, 'name')}: {', '.join(filter(None, parts))}")


def _amounts(counters: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{verb} {decimal(int(counters.get(f'{way}_bytes', 0)))} in {counters.get(f'{way}_packets', 0)} packets"
        for verb, way in (("received", "rx"), ("sent", "tx"))
    )


def _ways(peer: Mapping[str, Any]) -> Text:
    """Say by what a peer can be reached, and why the one in use is."""
    text = Text(f"ways to {_word(peer, 'name') or 'the hub'}: ")
    for number, way in enumerate(peer["candidates"]):
        state, rtt = str(way.get("state", "")), way.get("rtt_ms")
        heard = f", {rtt:.1f} ms {_ago(way.get('last_answer'))}" if rtt is not None else ""
        text.append(f"{', ' if number else ''}{_word(way, 'transport')} ")
        text.append("in use" if way.get("used") else state, _COLOURS.get(state, ""))
        text.append(f" ({_word(peer, 'chosen')})" if way.get("used") and peer.get("chosen") else heard)
    return text


def _paths(peer: Mapping[str, Any]) -> Text:
    """Say over which paths another node can be reached, and why the one in use is."""
    text = Text(f"paths to {_word(peer, 'name')}: ")
    for number, path in enumerate(peer["paths"]):
        state, rtt = str(path.get("state", "")), path.get("rtt_ms")
        where = f" {_word(path, 'endpoint')}" if path.get("endpoint") else ""
        where = f" through {_word(path, 'via')}" if path.get("class") == "mesh" else where
        text.append(f"{', ' if number else ''}{_word(path, 'class')}{where} ")
        text.append("in use" if path.get("used") else state, _COLOURS.get(state, ""))
        text.append(f" ({_word(peer, 'chosen')})" if path.get("used") and peer.get("chosen") else "")
        text.append(f" {rtt:.1f} ms" if rtt is not None else "")
    return text


def _mesh(mesh: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    """Say who this node's neighbours in the mesh are, and what it has passed on for them."""
    links = ", ".join(printable(str(name)) for name in mesh.get("links") or ())
    relayed = sum(int(peer.get("relayed_bytes", 0)) for peer in peers)
    if links:
        yield Text(f"mesh: linked to {links}; passed on {decimal(relayed)}")


_COLUMNS = (
    "peer", "address", "path", "endpoint", "transport", "state", ">handshake", ">heard", ">rtt", ">received",
    ">packets", ">sent", ">packets", "drops",
)  # fmt: skip
_SPARE = (12, 10, 6, 13, 4, 3, 7, 2)  # columns a narrow terminal goes without, the first first


def _peers(peers: Any) -> RenderableType:
    return Fitting(_COLUMNS, list(map(_row, peers)), _SPARE) if peers else Text("no peers")


def _row(peer: Mapping[str, Any]) -> tuple[str | Text, ...]:
    state = str(peer.get("state", ""))
    rtt = peer.get("rtt_ms")
    return (
        _word(peer, "name") or str(peer.get("key", ""))[:8],
        "\n".join(map(str, peer.get("addresses", ()))),
        _word(peer, "path"),
        _word(peer, "endpoint") or _word(peer, "via"),
        _word(peer, "transport"),
        Text(state, style=_COLOURS.get(state, "")),
        _ago(peer.get("last_handshake")),
        _ago(peer.get("last_seen")),
        "" if rtt is None else f"{rtt:.1f} ms",
        decimal(int(peer.get("rx_bytes", 0))),
        str(peer.get("rx_packets", 0)),
        decimal(int(peer.get("tx_bytes", 0))),
        str(peer.get("tx_packets", 0)),
        _drops(peer.get("drops")),
    )


def _word(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return "" if value is None else printable(str(value))


def _drops(drops: Any) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in (drops or {}).items())


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{duration(seconds)} ago"


def duration(seconds: float | None) -> str:
    """Return seconds in the one or two units that matter: ``5 s``, ``2 min``, ``3 h 5 min``, ``4 d 2 h``."""
    if seconds is None:
        return "some time"
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"
