"""The part of the demo with two nodes behind NATs: they find a direct path, it is cut while they talk, and it heals."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from demo.screen import Screen, Step, amount
from lab import Lab, LabError, Program, ProgramError, Tunnel, traffic
from lab.nat import Site, cut, heal
from lab.pings import Pings
from lab.tunnel import Status

RATE, PORT = 1_000_000, 5300
"""What is sent while the path is cut, in bytes per second."""
CLOSED = 3
"""Seconds on the hub before the path is healed."""
PATIENCE = 65
"""Seconds until a path must have changed; one that was healed is looked for every 45 s at least."""
_TICK = 0.25
_CELLS = 60
_WORDS = {"": "no path", "hub": "through the hub", "public": "direct", "lan": "direct, on the LAN"}


@dataclass(frozen=True)
class Pair:
    """Two nodes that reach each other, each behind the router of a site of its own; `address` is the other's."""

    one: Tunnel
    other: Tunnel
    address: str
    sites: tuple[Site, Site]

    @property
    def name(self) -> str:
        """Who to whom."""
        return f"{self.one.host.name} → {self.other.host.name}"

    def ends(self) -> tuple[Status, Status]:
        """Return what each says of the other: of `one` to `other` first."""
        return _of(self.one, self.other), _of(self.other, self.one)

    def paths(self) -> tuple[str, str]:
        """Return the kinds of path in use, there and back: ``public``, ``hub``, or "" where there is none yet."""
        there, back = self.ends()
        return there["path"] or "", back["path"] or ""


def say_path(peer: Status) -> str:
    """Say by which path a node reaches a peer."""
    where = f" to {peer['endpoint']} over {peer['transport']}" if peer["path"] != "hub" else ""
    return f"{_WORDS[peer['path'] or '']}{where}"


def forwarded_by(hub: Tunnel, node: Tunnel) -> int:
    """Return how many sealed bytes of a node the hub has passed on."""
    count: int = _of(hub, node)["relayed_bytes"]
    return count


def show_meeting(screen: Screen, hub: Tunnel, pair: Pair) -> None:
    """Let one ping the other for the first time, and show how they find a direct path."""
    with screen.step(f"{pair.name}: two nodes behind NATs that have never met") as step:
        forwarded = forwarded_by(hub, pair.one)
        first = traffic.ping(pair.one.host, pair.address, count=1)
        if not first.received:
            raise LabError(f"the first ping of {pair.name} was not answered")
        forwarded = forwarded_by(hub, pair.one) - forwarded
        step.say(f"first ping answered after {first.average:.0f} ms; for that the hub forwarded {amount(forwarded)}")
        took = _wait(pair, "public", lambda passed: step.going_on(f"{_both(pair.paths())}, {passed:.1f} s"))
        there, back = pair.ends()
        step.say(f"{took:.1f} s later {pair.one.host.name} goes {say_path(there)}")
        step.say(f"{' ' * len(f'{took:.1f} s later')} {pair.other.host.name} goes {say_path(back)}")
        pings = traffic.ping(pair.one.host, pair.address, count=5, interval=0.1)
        step.say(f"{pings.received} of {pings.sent} pings answered, {pings.average:.2f} ms")
    with screen.step(f"what {pair.one.host.name} knows of it:   ltunnel nat") as step:
        answer = pair.one.run("nat")
        if answer.returncode:
            raise ProgramError(f"ltunnel nat: {answer.stderr.strip()}")
        for line in answer.stdout.splitlines():
            if line.strip():
                step.say(line.rstrip())


def show_healing(screen: Screen, lab: Lab, hub: Tunnel, pair: Pair) -> float:
    """Cut the direct path in the internet while one sends to the other, and heal it. Returns the silence in seconds."""
    title = f"{pair.name} at {amount(RATE)}/s; the path between them is cut in the internet, and healed"
    with screen.step(title) as step:
        receiver = pair.other.host.start("bulk", [*traffic.INSIDE["bulk"], "receive", str(PORT)])
        receiver.wait_for("ready")
        words = [*traffic.INSIDE["bulk"], "stream", pair.address, str(PORT), str(RATE)]
        sender = pair.one.host.start("stream", words)
        forwarded, sent = forwarded_by(hub, pair.one), pair.ends()[0]["tx_bytes"]
        line = _Timeline(step, pair, Pings(pair.one.host, pair.address))
        outside = [site.outside for site in pair.sites]
        line.watch(lambda _: line.passed >= 2)

        began, cut_at = time.time(), line.passed
        cut(lab, *outside)
        line.say("cut", f"nothing passes between {' and '.join(outside)}")
        line.watch(lambda paths: paths == ("hub", "hub"))
        line.say("on the hub", f"{pair.one.host.name}: {pair.ends()[0]['chosen']}")
        left = line.passed
        line.watch(lambda _: line.passed - left >= CLOSED)
        heal(lab)
        line.say("healed", "everything passes again")
        line.watch(lambda paths: paths == ("public", "public"))
        line.say("direct again", f"{pair.one.host.name}: {pair.ends()[0]['chosen']}")
        back = line.passed
        line.watch(lambda _: line.passed - back >= 1)

        silence = line.pings.longest_silence(since=began)
        sent = pair.ends()[0]["tx_bytes"] - sent
        forwarded = forwarded_by(hub, pair.one) - forwarded
        sender.stop(timeout=20)
        step.say(line.draw())
        step.say(f"(from {cut_at:.1f} s before the cut: █ direct, ▄ through the hub, blank: no answer to pings)")
        step.say(
            f"at most {silence:.1f} s between two answers; the hub forwarded {amount(forwarded)} of {amount(sent)}"
        )
        step.say(f"TCP has brought every byte: SHA-256 {_digest(sender, receiver)[:16]}… at both ends")
    return silence


class _Timeline:
    """What happens to a pair as it happens: their paths and the answers to pings, a character every quarter second."""

    def __init__(self, step: Step, pair: Pair, pings: Pings) -> None:
        self.pings = pings
        self._step = step
        self._pair = pair
        self._began = time.time()
        self._cells = ""
        self._drawn = self._began
        self._newest = "they talk"

    @property
    def passed(self) -> float:
        """Seconds since it began."""
        return time.time() - self._began

    def watch(self, enough: Callable[[tuple[str, str]], bool]) -> None:
        """Show what goes on until the paths are as wanted."""
        deadline = time.monotonic() + PATIENCE
        while True:
            paths = self._pair.paths()
            answers = self.pings.answers()
            now = time.time()
            last = answers[-1] if answers else self._began
            while self._drawn + _TICK <= now:
                answered = any(self._drawn <= moment < self._drawn + _TICK for moment in answers)
                self._cells += self._cell(paths, answered=answered)
                self._drawn += _TICK
            self._step.going_on(
                f"{self.draw()} {self._newest}: {_both(paths)}, last answer to a ping {now - last:.1f} s ago"
            )
            if enough(paths):
                return
            if time.monotonic() > deadline:
                raise LabError(f"{self._pair.name}: {_both(paths)} after {PATIENCE} s")
            time.sleep(0.05)

    def say(self, what: str, more: str) -> None:
        """Tell when something happened."""
        self._newest = what
        self._step.say(f"{self.passed:5.1f} s  {what:<12}  {more}")

    def draw(self) -> str:
        """Return the newest characters."""
        return self._cells[-_CELLS:]

    @staticmethod
    def _cell(paths: tuple[str, str], *, answered: bool) -> str:
        if not answered:
            return " "
        return "▄" if "hub" in paths else "█"


def _of(tunnel: Tunnel, other: Tunnel) -> Status:
    peer = tunnel.peer(other.host.name)
    if peer is None:
        raise LabError(f"{tunnel.host.name} has lost {other.host.name}")
    return peer


def _both(paths: tuple[str, str]) -> str:
    there, back = (_WORDS[path] for path in paths)
    return f"both {there}" if there == back else f"there {there}, back {back}"


def _wait(pair: Pair, kind: str, passing: Callable[[float], None]) -> float:
    began = time.monotonic()
    while pair.paths() != (kind, kind):
        passing(passed := time.monotonic() - began)
        if passed > PATIENCE:
            raise LabError(f"{pair.name}: {_both(pair.paths())} after {PATIENCE} s")
        time.sleep(0.05)
    return time.monotonic() - began


def _digest(sender: Program, receiver: Program) -> str:
    receiver.wait(timeout=20)
    sent, received = sender.output().split()[-1], receiver.output().split()[-1]
    if sent != received:
        raise LabError("what came is not what was sent")
    return sent
