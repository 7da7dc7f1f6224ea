"""The handshake patterns of the Noise protocol framework, revision 34: sections 7.4 (one-way), 7.5 and 18.1 (deferred).

ltunnel speaks XXpsk0 alone; the others are here so that published vectors can hold the same state machine to account.
"""

from typing import NamedTuple

# name, pre-messages (> initiator's static key is known, < responder's), messages separated by "/", the initiator first
_TABLE = """
N     <    e es
K     ><   e es ss
X     <    e es s ss
NN    -    e / e ee
NK    <    e es / e ee
NX    -    e / e ee s es
XN    -    e / e ee / s se
XK    <    e es / e ee / s se
XX    -    e / e ee s es / s se
KN    >    e / e ee se
KK    ><   e es ss / e ee se
KX    >    e / e ee se s es
IN    -    e s / e ee se
IK    <    e es s ss / e ee se
IX    -    e s / e ee se s es
NK1   <    e / e ee es
NX1   -    e / e ee s / es
X1N   -    e / e ee / s / se
X1K   <    e es / e ee / s / se
XK1   <    e / e ee es / s se
X1K1  <    e / e ee es / s / se
X1X   -    e / e ee s es / s / se
XX1   -    e / e ee s / es s se
X1X1  -    e / e ee s / es s / se
K1N   >    e / e ee / se
K1K   ><   e es / e ee / se
KK1   ><   e / e ee se es
K1K1  ><   e / e ee es / se
K1X   >    e / e ee s es / se
KX1   >    e / e ee se s / es
K1X1  >    e / e ee s / se es
I1N   -    e s / e ee / se
I1K   <    e es s / e ee / se
IK1   <    e s / e ee se es
I1K1  <    e s / e ee es / se
I1X   -    e s / e ee s es / se
IX1   -    e s / e ee se s / es
I1X1  -    e s / e ee s / se es
"""


class Pattern(NamedTuple):
    """What is known before, and the tokens of each message."""

    initiator_known: bool
    responder_known: bool
    messages: tuple[tuple[str, ...], ...]


def _read_table() -> dict[str, Pattern]:
    patterns = {}
    for line in _TABLE.strip().splitlines():
        name, known, tokens = line.split(maxsplit=2)
        messages = tuple(tuple(message.split()) for message in tokens.split("/"))
        patterns[name] = Pattern(">" in known, "<" in known, messages)
    return patterns


_PATTERNS = _read_table()


def find_pattern(name: str) -> Pattern:
    """Return the pattern for a name with psk modifiers (``XXpsk0``, ``NNpsk0+psk2``). ValueError for an unknown one.

    ``psk0`` puts a psk token in front of the first message, ``pskN`` at the end of message N (section 9.4).
    """
    base, *modifiers = name.replace("+psk", "psk").split("psk")
    if base not in _PATTERNS:
        raise ValueError(f"no Noise pattern {name!r}")
    pattern = _PATTERNS[base]
    messages = [list(message) for message in pattern.messages]
    for modifier in modifiers:
        place = int(modifier)
        if place > len(messages):
            raise ValueError(f"no message {place} in Noise pattern {name!r}")
        if place == 0:
            messages[0].insert(0, "psk")
        else:
            messages[place - 1].append("psk")
    return pattern._replace(messages=tuple(tuple(message) for message in messages))
