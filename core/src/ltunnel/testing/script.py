"""Scenario scripts: what happens to the network, and when, written so that it can be read.

::

    script = Script(world.network)
    script.at(5).block(link, "up")
    script.at(10).unblock(link)
    script.at(12).change(link, loss=0.3)
    script.at(20).do("hub restarts", hub.restart)
    script.every(0.01, start=1, stop=3).do("ping", send_ping)

Times are seconds since the script was made. ``print(script)`` shows the plan, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ltunnel.testing.links import Direction, Link
from ltunnel.testing.network import Network


class Stateful(Protocol):
    """A NAT or firewall."""

    name: str

    def flush(self) -> None:
        """Forget the state."""
        ...


class Script:
    """A plan for a network, carried out as its time passes."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.start = network.clock.now
        self._lines: list[tuple[float, str]] = []

    def at(self, when: float) -> Moment:
        """Speak about one moment."""
        return Moment(self, (when,))

    def every(self, interval: float, *, start: float = 0.0, stop: float) -> Moment:
        """Speak about all moments from `start` on, `interval` apart, before `stop`."""
        if interval <= 0:
            raise ValueError(f"interval must be positive, not {interval}")
        times: list[float] = []
        while (when := start + len(times) * interval) < stop:
            times.append(when)
        return Moment(self, times)

    def plan(self, times: Sequence[float], text: str, action: Callable[[], object]) -> None:
        """Add an action. ValueError for a time that is gone."""
        for when in times:
            if self.start + when < self.network.clock.now:
                raise ValueError(f"at {when:g} s: {text}: it is {self.network.clock.now - self.start:g} s already")
            self.network.at(self.start + when, lambda: _run(action))
        if times:
            self._lines.append((times[0], text if len(times) == 1 else f"{text} ({len(times)} times)"))

    def __str__(self) -> str:
        return "\n".join(f"at {when:g} s: {text}" for when, text in sorted(self._lines, key=lambda line: line[0]))


def _run(action: Callable[[], object]) -> None:
    action()


class Moment:
    """What happens at one moment, or at several. Each method returns the script."""

    def __init__(self, script: Script, times: Sequence[float]) -> None:
        self._script = script
        self._times = times

    def do(self, text: str, action: Callable[..., object], *args: Any, **kwargs: Any) -> Script:
        """Call something; `text` says what it means."""
        self._script.plan(self._times, text, lambda: action(*args, **kwargs))
        return self._script

    def block(self, link: Link, direction: Direction = "both") -> Script:
        """Block a link in one direction or both."""
        return self.do(f"block {link} {direction}", link.block, direction)

    def unblock(self, link: Link, direction: Direction = "both") -> Script:
        """Undo `block`."""
        return self.do(f"unblock {link} {direction}", link.unblock, direction)

    def take_down(self, link: Link) -> Script:
        """Pull a cable."""
        return self.do(f"take down {link}", link.take_down)

    def bring_up(self, link: Link) -> Script:
        """Put a cable back."""
        return self.do(f"bring up {link}", link.bring_up)

    def change(self, link: Link, direction: Direction = "both", **quality: Any) -> Script:
        """Change a link's quality."""
        words = ", ".join(f"{name}={value}" for name, value in quality.items())
        return self.do(f"change {link} {direction}: {words}", link.change, direction, **quality)

    def flush(self, device: Stateful) -> Script:
        """Let a NAT or firewall forget its state."""
        return self.do(f"flush {device.name}", device.flush)
