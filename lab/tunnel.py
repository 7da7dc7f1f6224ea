"""ltunnel as users run it: the installed program, started inside a host of a lab."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.host import Host
from lab.program import Program, ProgramError

PROGRAM = Path(sys.executable).parent / "ltunnel"
PORT = 9000


class Tunnel:
    """One hub or node. Its state folder stays when it is started again."""

    def __init__(self, host: Host, args: Sequence[str], *, key: str | None = None, device: str = "tun0") -> None:
        self.host = host
        self.device = device
        self.args = [*args, *(["-k", key] if key else []), "--tun-name", device]
        self.state = host.folder / f"state-{device}"
        self.env: dict[str, str] = {"LTUNNEL_STATE_DIR": str(self.state), "NO_COLOR": "1"}
        self.program = self.start()

    @classmethod
    def hub(
        cls, host: Host, *addresses: str, key: str | None, args: Sequence[str] = (), device: str = "tun0"
    ) -> "Tunnel":
        """Start a hub with these tunnel addresses (``10.0.0.1/24``)."""
        return cls(host, ["-m", "server", "-l", f"0.0.0.0:{PORT}", *_tunnel(addresses), *args], key=key, device=device)

    @classmethod
    def node(
        cls, host: Host, hub: str, *addresses: str, key: str | None, args: Sequence[str] = (), device: str = "tun0"
    ) -> "Tunnel":
        """Start a node of the hub at an outer address."""
        return cls(host, ["-m", "client", "-r", f"{hub}:{PORT}", *_tunnel(addresses), *args], key=key, device=device)

    def start(self) -> Program:
        """Start it (again)."""
        self.program = self.host.start(f"ltunnel-{self.device}", [PROGRAM, *self.args], self.env)
        return self.program

    def run(self, *args: str, timeout: float = 30) -> Any:
        """Run the program for a command such as ``status --json`` beside the running one, and return what it did."""
        return self.host.run(PROGRAM, *args, timeout=timeout, check=False, env={**os.environ, **self.env})

    def status(self) -> dict[str, Any]:
        """Return what ``ltunnel status --json`` says."""
        done = self.run("status", "--json")
        if done.returncode:
            raise ProgramError(f"ltunnel status on {self.host.name}: {done.stderr.strip() or done.stdout.strip()}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def wait_up(self, timeout: float = 15.0) -> dict[str, Any]:
        """Wait until its state is `up`, and return its status."""
        return self.wait_status(lambda status: bool(status["state"] == "up"), "come up", timeout)

    def wait_status(self, wanted: Callable[[dict[str, Any]], bool], what: str, timeout: float = 15.0) -> dict[str, Any]:
        """Wait until `wanted` holds for its status, and return that."""
        deadline = time.monotonic() + timeout
        status: dict[str, Any] | None = None
        while True:
            if self.program.returncode is not None:
                raise ProgramError(
                    f"{self.program.name} ended ({self.program.returncode}):\n{self.program.last_lines()}"
                )
            try:
                status = self.status()
            except ProgramError:
                status = None  # its control socket is not there yet
            if status is not None and wanted(status):
                return status
            if time.monotonic() > deadline:
                last = json.dumps(status, indent=1)
                raise ProgramError(
                    f"{self.program.name} did not {what} in {timeout} s; status {last}\n{self.program.last_lines()}"
                )
            time.sleep(0.1)


def _tunnel(addresses: Sequence[str]) -> list[str]:
    return ["-t", ",".join(addresses)]
