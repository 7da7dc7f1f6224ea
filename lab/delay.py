"""A line with a rate, a delay, a queue and losses, between two hosts: what this kernel has no netem for."""

import json
import socket
from dataclasses import dataclass
from typing import Any

from lab.host import Host
from lab.internet import Lab
from lab.traffic import INSIDE

WHOLE = {"tx": False, "tso": False, "gso": False, "gro": False, "tx-udp-segmentation": False}
"""Offloads off: every packet a frame of its own with a checksum of its own, as on a real line."""
WAYS = ("there", "back")
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What one way of a line has seen."""

    frames: int
    """Frames that were sent into it, and their bytes with Ethernet headers."""
    bytes: int
    lost: int
    """Frames lost at random."""
    overflowed: int
    """Frames that found the queue full."""
    delivered: int
    delivered_bytes: int
    missed: int
    """Frames that the line itself had no room for: should be 0."""
    longest_wait: float
    """Seconds in the queue, of the frame that waited longest."""


class DelayLine:
    """Joins two hosts by a program in a namespace between them. It ends with the lab.

    Both ways are alike until `change` makes them differ. Rate in bit/s (0: no limit), delay, queue and jitter in
    seconds of one way, loss as a share. With jitter each frame takes up to that much longer, and may overtake another.
    """

    def __init__(
        self,
        lab: Lab,
        host: Host,
        other: Host,
        *,
        devices: tuple[str, str] = ("eth0", "eth0"),
        seed: int = 1,
        **settings: float,
    ) -> None:
        self._host = lab.host(f"line-{host.name}")
        self._path = str(self._host.folder / "control")
        for end, device, near in ((host, devices[0], "there"), (other, devices[1], "back")):
            end.veth(device, self._host, near)
            end.offload(device, WHOLE)
            self._host.offload(near, WHOLE)
        self.program = self._host.start("line", [*INSIDE["line"], *WAYS, self._path])
        self.program.wait_for("ready")
        self._ask({"seed": seed})
        self.change(**settings)

    @classmethod
    def attach(cls, lab: Lab, host: Host, address: str, **settings: Any) -> "DelayLine":
        """Join a host to the internet as `Lab.attach` does, by such a line. `there` is what the host sends."""
        devices = ("eth0", f"to-{host.name}"[:15])
        line = cls(lab, host, lab.internet, devices=devices, **settings)
        lab.address(host, address)
        return line

    def change(self, way: str = "", /, **settings: float) -> None:
        """Change settings of one way (`there` or `back`) or of both; frames that are under way are not touched."""
        if unknown := settings.keys() - {"rate", "delay", "queue", "loss", "jitter"}:
            raise TypeError(f"a line has no {', '.join(sorted(unknown))}")
        self._ask(dict.fromkeys([way] if way else WAYS, settings))

    def counts(self) -> tuple[Counts, Counts]:
        """Return what was seen on the way there and on the way back, since the start."""
        answer = self._ask({})
        there, back = (
            Counts(
                **{key: int(value) for key, value in answer[way].items() if key != "longest_wait"},
                longest_wait=answer[way]["longest_wait"],
            )
            for way in WAYS
        )
        return there, back

    def _ask(self, question: dict[str, Any]) -> dict[str, dict[str, float]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(_PATIENCE)
            control.connect(self._path)
            control.sendall(json.dumps(question).encode())
            answer = b""
            while part := control.recv(65_536):
                answer += part
        found: dict[str, dict[str, float]] = json.loads(answer)
        return found
