"""ltunnel as users run it: the installed program, started inside a host of a lab."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.host import Host
from lab.program import Program, ProgramError
from ltunnel.errors import HostError
from ltunnel.runtime.client import request

PROGRAM = Path(sys.executable).parent / "ltunnel"
PORT = 9000
UDP_ONLY = ("--transport", "transport_udp")

Status = dict[str, Any]


def config_file(path: Path, content: Mapping[str, object]) -> str:
    """Write a configuration file, readable by its owner alone; returns its name."""
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return str(path)


class Tunnel:
    """One hub or node. Its state folder stays when it is started again."""

    def __init__(self, host: Host, args: Sequence[str], *, key: str | None = None, device: str = "tun0") -> None:
        self.host = host
        self.device = device
        self.args = [*args, *(["-k", key] if key else []), "--tun-name", device, "--name", host.name]
        self.state = host.folder / f"state-{device}"
        self.env = {"LTUNNEL_STATE_DIR": str(self.state), "NO_COLOR": "1"}
        self.program = self.start()

    @classmethod
    def hub(
        cls, host: Host, *addresses: str, key: str | None, args: Sequence[str] = (), device: str = "tun0"
    ) -> "Tunnel":
        """Start a hub with these tunnel addresses (``10.0.0.1/24``)."""
        words = ["-m", "server", "-l", f"0.0.0.0:{PORT}", "-t", ",".join(addresses), *args]
        return cls(host, words, key=key, device=device)

    @classmethod
    def node(
        cls, host: Host, hub: str, *addresses: str, key: str | None, args: Sequence[str] = (), device: str = "tun0"
    ) -> "Tunnel":
        """Start a node of the hub at an outer address."""
        words = ["-m", "client", "-r", f"{hub}:{PORT}", "-t", ",".join(addresses), *args]
        return cls(host, words, key=key, device=device)

    def start(self) -> Program:
        """Start it, or start it again after its end."""
        self.program = self.host.start(f"ltunnel-{self.device}", [PROGRAM, *self.args], self.env)
        return self.program

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run the program for a command such as ``status --json`` beside the running one."""
        return self.host.run(PROGRAM, *args, check=False, env={**os.environ, **self.env})

    def status(self) -> Status:
        """Return what it says of itself over its control socket."""
        try:
            return request("status", self.device, self.state)
        except HostError as error:
            raise ProgramError(f"{self.program.name}: {error}") from None

    def fec(self, **order: str | int) -> None:
        """Change what it sends against losses, as `ltunnel ctl fec` does: ``fec(mode="fixed", data=10, parity=3)``."""
        request({"command": "fec", **order}, self.device, self.state)

    def peer(self, name: str) -> Status | None:
        """Return what its status says of the peer with a name or a tunnel address."""
        for peer in self.status()["peers"]:
            if name == peer["name"] or name in peer["addresses"]:
                found: Status = peer
                return found
        return None

    def wait_up(self, timeout: float = 15.0) -> Status:
        """Wait until its state is `up`, and return its status."""
        return self.wait_status(lambda status: bool(status["state"] == "up"), "come up", timeout)

    def wait_status(self, wanted: Callable[[Status], bool], what: str, timeout: float = 15.0) -> Status:
        """Wait until `wanted` holds for its status, and return that."""
        deadline = time.monotonic() + timeout
        while True:
            if (code := self.program.returncode) is not None:
                raise ProgramError(f"{self.program.name} ended ({code}):\n{self.program.last_lines()}")
            try:
                status = self.status()
            except ProgramError:
                status = {}  # its control socket is not there yet
            if status and wanted(status):
                return status
            if time.monotonic() > deadline:
                last = json.dumps(status)
                raise ProgramError(
                    f"{self.program.name} did not {what} in {timeout} s; status {last}\n{self.program.last_lines()}"
                )
            time.sleep(0.02)
