"""What is known of NATs and direct paths, for people. Some of it was said by peers: it is escaped."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ltunnel.cli.output import table
from ltunnel.registry.text import printable

_METHODS = {
    "plain": "both at once",
    "open": "many ports opened here",
    "guess": "ports guessed there",
    "hopeless": "a few tries",
}
_ROUNDS = 3
"""So many of the last rounds are shown for each peer."""


def nat_view(answer: Mapping[str, Any]) -> RenderableType:
    """Return the NAT, the own candidates, and what was tried with each peer."""
    parts: list[RenderableType] = [Text(f"client {_word(answer, 'name')}", style="bold")]
    if not answer.get("enabled"):
        why = "p2p_enabled, discovery or routing is switched off, or no transport can carry them"
        parts.append(Text(f"direct paths are off: {why}", style="yellow"))
    else:
        parts += _nat(answer)
    peers = answer.get("peers") or ()
    for peer in peers:
        parts += _peer(peer)
    if not peers:
        parts.append(Text("no other clients yet"))
    return Group(*parts)


def _nat(answer: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield Text(f"NAT: {_word(answer, 'nat')}")
    behaviour = answer.get("behaviour") or {}
    yield Text("     " + ", ".join(f"{name}: {value}".replace("_", " ") for name, value in behaviour.items()))
    for mapped in answer.get("mapped") or ():
        host, port = mapped["address"]
        yield Text(f"mapped by a router: {printable(str(host))} port {port} ({mapped['carrier']})")
    for version in answer.get("versions") or ():
        seen = ", ".join(f"{printable(str(place))} ({carrier})" for carrier, place in version["seen"].items())
        way = "; the server is reached by it" if version.get("used") else ""
        yield Text(f"IPv{version['version']}: " + (f"seen as {seen}{way}" if seen else _word(version, "reason")))
    yield from _advice(answer)
    rows = table("own addresses", ">port", "carrier", "kind")
    for own in answer.get("candidates") or ():
        kind = "on this LAN" if own.get("lan") else {"srflx": "seen by the server", "prflx": "predicted"}.get(
            str(own.get("kind")), "own")  # fmt: skip
        rows.add_row(_word(own, "address"), str(own.get("port", "")), _word(own, "carrier"), kind)
    yield rows


def _peer(peer: Mapping[str, Any]) -> Iterator[RenderableType]:
    used: Mapping[str, Any] = next((path for path in peer.get("paths") or () if path.get("used")), {})
    way = f"by {_word(used, 'class')}" if used else _word(peer, "state")
    where = f" {_word(used, 'endpoint')}" if used.get("endpoint") else ""
    where = f" through {_word(used, 'via')}" if used.get("class") == "mesh" else where
    why = f": {_word(peer, 'chosen')}" if peer.get("chosen") else ""
    yield Text.assemble((f"{_word(peer, 'name')} ", "bold"), f"{way}{where}{why}")
    tried = peer.get("tried") or {}
    rounds = list(tried.get("rounds") or ())[-_ROUNDS:]
    if rounds:
        rows = table("round", "ago", "how", "tried", ">sent", "answer", "result")
        for number, round_ in enumerate(rounds):
            last = number == len(rounds) - 1
            for line in _round(round_):
                rows.add_row(*line, end_section=last)
        yield rows
    if tried.get("retry_in"):
        yield Text(f"  tried again in {tried['retry_in']:.0f} s")
    yield from _advice(tried)


def _round(round_: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    head = (str(round_["round"]), f"{round_['ago']:.0f} s", _METHODS.get(str(round_["method"]), ""))
    result = _word(round_, "result")
    lines = [
        (_word(pair, "to"), str(pair["sent"]), "yes" if pair["answered"] else "no") for pair in round_["pairs"]
    ]  # fmt: skip
    if round_.get("guesses"):
        lines.append(("guessed ports", str(round_["guesses"]), ""))
    if round_.get("opened"):
        lines.append((f"from {round_['opened']} fresh ports", "", ""))
    for number, line in enumerate(lines or [("nothing", "", "")]):
        yield (*(head if not number else ("", "", "")), *line, result if not number else "")


def _advice(of: Mapping[str, Any]) -> Iterator[RenderableType]:
    for text in of.get("advice") or ():
        yield Text(f"  what one could do: {printable(str(text))}", style="yellow")


def _word(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return "" if value is None else printable(str(value))
