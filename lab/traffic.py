"""Measured traffic: iperf3 and ping between two hosts."""

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.host import Host, LabError
from lab.program import Program

PORT = 5201

INSIDE = {
    name: (sys.executable, str(Path(__file__).parent / "inside" / f"{name}.py"))
    for name in ("bulk", "capture", "flood", "gateway", "line", "spoof", "strangers")
}
"""Command lines of the programs in `lab.inside`."""


@dataclass(frozen=True, slots=True)
class Tcp:
    """What a TCP transfer came to."""

    gbit_s: float
    gigabytes: float
    seconds: float
    retransmits: int


@dataclass(frozen=True, slots=True)
class Udp:
    """What a stream of datagrams at a fixed rate came to."""

    sent: int
    received: int
    seconds: float

    @property
    def share(self) -> float:
        """Received of sent, 0 to 1."""
        return self.received / self.sent if self.sent else 0.0

    @property
    def sent_kpps(self) -> float:
        """Thousands of datagrams sent per second."""
        return self.sent / self.seconds / 1000

    @property
    def received_kpps(self) -> float:
        """Thousands of datagrams received per second."""
        return self.received / self.seconds / 1000


@dataclass(frozen=True, slots=True)
class Ping:
    """What a series of pings came to; times in milliseconds."""

    sent: int
    received: int
    average: float
    slowest: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """Random bytes that went over TCP: their SHA-256 at both ends."""

    sent: str
    received: str
    seconds: float


def transfer(source: Host, target: Host, address: str, megabytes: int, port: int = 5300) -> Transfer:
    """Send random bytes from source to the target's address over TCP."""
    receiver = target.start("bulk", [*INSIDE["bulk"], "receive", str(port)])
    receiver.wait_for("ready")
    began = time.monotonic()
    sent = source.run(*INSIDE["bulk"], "send", address, str(port), str(megabytes * 1_000_000), timeout=90)
    receiver.wait()
    received = receiver.output().split()[-1]
    return Transfer(sent.stdout.strip(), received, time.monotonic() - began)


def serve(server: Host, port: int = PORT) -> Program:
    """Start an iperf3 server for one test, listening."""
    program = server.start(f"iperf3-{port}", ["iperf3", "--server", "--one-off", "--forceflush", "--port", str(port)])
    program.wait_for("Server listening")
    return program


def tcp(
    client: Host,
    server: Host,
    address: str,
    *,
    seconds: int = 3,
    streams: int = 1,
    reverse: bool = False,
    congestion: str = "cubic",
    port: int = PORT,
) -> Tcp:
    """Send from client to server (`reverse`: the other way) over TCP, to the server's `address`."""
    program = serve(server, port)
    try:
        options = ["--time", str(seconds), "--parallel", str(streams), *(["--reverse"] if reverse else [])]
        end = _client(client, address, port, seconds, "--congestion", congestion, *options)["end"]
    finally:
        program.kill()
    received = end["sum_received"]
    return Tcp(
        gbit_s=received["bits_per_second"] / 1e9,
        gigabytes=received["bytes"] / 1e9,
        seconds=received["seconds"],
        retransmits=end["sum_sent"].get("retransmits", 0),
    )


def udp(
    client: Host, server: Host, address: str, *, size: int, packets_s: int, seconds: int = 3, port: int = PORT
) -> Udp:
    """Offer datagrams of `size` bytes at a fixed rate from client to server."""
    program = serve(server, port)
    try:
        rate = str(size * 8 * packets_s)
        options = ["--udp", "--length", str(size), "--bitrate", rate, "--time", str(seconds)]
        end = _client(client, address, port, seconds, *options)["end"]
    finally:
        program.kill()
    total = end["sum"]
    return Udp(sent=total["packets"], received=total["packets"] - total["lost_packets"], seconds=total["seconds"])


def watch(client: Host, address: str, seconds: int, seen: Callable[[float], None], port: int = PORT) -> float:
    """Send over TCP to a server started with `serve`, and tell `seen` the Gbit/s of each quarter second as it passes.

    Returns the Gbit/s that the receiver counted over the whole time.
    """
    options = ["--time", str(seconds), "--interval", "0.25", "--format", "m", "--congestion", "cubic", "--forceflush"]
    program = client.start("iperf3-client", ["iperf3", "--client", address, "--port", str(port), *options])
    deadline = time.monotonic() + seconds + 10
    shown = 0
    interval = re.compile(r"sec +[\d.]+ \w?Bytes +([\d.]+) Mbits/sec(.*)")
    while True:
        ended = program.returncode is not None
        lines = interval.findall(program.output())
        rates = [float(rate) / 1000 for rate, rest in lines if "sender" not in rest and "receiver" not in rest]
        for rate in rates[shown:]:
            seen(rate)
        shown = len(rates)
        if ended:
            break
        if time.monotonic() > deadline:
            program.kill()
            raise LabError(f"iperf3 from {client.name} to {address} does not end: {program.last_lines(3)}")
        time.sleep(0.05)
    totals = [float(rate) / 1000 for rate, rest in lines if "receiver" in rest]
    if program.returncode or not totals:
        raise LabError(f"iperf3 on {client.name}: {program.last_lines(3)}")
    return totals[0]


def ping(
    client: Host, address: str, *, count: int = 3, interval: float = 0.2, timeout: float = 1.0, size: int = 56
) -> Ping:
    """Ping an address; lost answers are no error."""
    options = ["-n", "-c", str(count), "-i", str(interval), "-W", str(timeout), "-s", str(size)]
    limit = count * (interval + timeout) + 10
    text = client.run("ping", *options, address, timeout=limit, check=False).stdout
    counts = re.search(r"(\d+) packets transmitted, (\d+) received", text)
    times = re.search(r"= [\d.]+/([\d.]+)/([\d.]+)/", text)
    return Ping(
        sent=int(counts[1]) if counts else count,
        received=int(counts[2]) if counts else 0,
        average=float(times[1]) if times else float("inf"),
        slowest=float(times[2]) if times else float("inf"),
    )


def _client(client: Host, address: str, port: int, seconds: int, *options: str) -> dict[str, Any]:
    words = ["iperf3", "--client", address, "--port", str(port), "--connect-timeout", "5000", "--json", *options]
    done = client.run(*words, timeout=seconds + 20, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        answer = {"error": done.stdout + done.stderr}
    if "error" in answer:
        raise LabError(f"iperf3 from {client.name} to {address}: {answer['error']}")
    return answer
