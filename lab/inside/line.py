"""A long, narrow, bad line between two devices: ``line.py DEVICE DEVICE CONTROL``.

Frames that arrive on one device leave by the other. On the way a frame may be lost at random, then waits until those
before it have left at the rate of the line, or is dropped where that would take longer than the queue is, and is under
way for the delay. So lost frames take nothing of the rate, as with netem(8).

CONTROL is the path of a Unix socket: who connects sends one JSON object, which changes settings of one or both ways
(``{"there": {"loss": 0.05}, "back": {}, "seed": 1}``), and gets the counts of both. Prints ``ready`` first. Ends when
it is stopped.

A frame's time is that of its arrival in the kernel, so a process that gets its turn late makes no frame later than its
own lateness, and no rate lower.
"""

import contextlib
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time

_ALL = 0x0003  # ETH_P_ALL
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_SOL_PACKET = 263  # packet(7); the socket module has names for none of these
_PACKET_STATISTICS = 6
_PACKET_QDISC_BYPASS = 20
_PACKET_IGNORE_OUTGOING = 23
_BUFFER = 8 << 20
_LONGEST = 65_536
_TIMESPEC = struct.Struct("@qq")
_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)
_BATCH = 64
_PATIENCE = 1.0
_OLDEST = 0.5  # seconds that a frame may have waited for this process; more is a clock that was set
_NICE = -15


class Way:
    """One direction: what it does to frames, and what it has done."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.settings: dict[str, float] = {"rate": 0.0, "delay": 0.0, "queue": 0.05, "loss": 0.0, "jitter": 0.0}
        self.counts = dict.fromkeys(
            ("frames", "bytes", "lost", "overflowed", "delivered", "delivered_bytes", "missed", "longest_wait"), 0.0
        )
        self.dice = random.Random(1)  # noqa: S311 # repeatable, not secret
        self.free = 0.0
        """When the last frame has left the queue."""

    def due(self, size: int, now: float) -> float | None:
        """Say when a frame that came at `now` arrives, None if it does not."""
        settings, counts = self.settings, self.counts
        counts["frames"] += 1
        counts["bytes"] += size
        if self.dice.random() < settings["loss"]:
            counts["lost"] += 1
            return None
        leaves = max(now, self.free)
        if settings["rate"]:
            if leaves - now > settings["queue"]:
                counts["overflowed"] += 1
                return None
            counts["longest_wait"] = max(counts["longest_wait"], leaves - now)
            leaves = self.free = leaves + size * 8 / settings["rate"]
        jitter = self.dice.random() * settings["jitter"] if settings["jitter"] else 0.0
        return leaves + settings["delay"] + jitter

    def statistics(self) -> dict[str, float]:
        """Return the counts; `missed` are frames that the kernel had no room for."""
        answer = self.source.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self.counts["missed"] += struct.unpack("=II", answer)[1]  # the kernel begins anew at each question
        return self.counts


def opened(device: str) -> socket.socket:
    """Open a packet socket that takes what arrives on a device."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with contextlib.suppress(PermissionError):  # older kernels grant it to nobody in a user namespace
        wire.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    wire.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    wire.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    wire.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
    wire.bind((device, _ALL))
    wire.setblocking(False)
    return wire


def answer(control: socket.socket, ways: dict[str, Way]) -> None:
    """Take one change and answer with the counts."""
    connection, _ = control.accept()
    with connection, contextlib.suppress(OSError, ValueError):
        connection.settimeout(_PATIENCE)
        change = json.loads(connection.recv(_LONGEST))
        for name, way in ways.items():
            way.settings.update(change.get(name, {}))
            if "seed" in change:
                way.dice.seed(f"{change['seed']} {name}")
        connection.sendall(json.dumps({name: way.statistics() for name, way in ways.items()}).encode())


def main(device: str, other: str, path: str) -> None:
    """Carry frames until the end."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)  # a line does not wait for its turn
    left, right = opened(device), opened(other)
    ways = {"there": Way(left, right), "back": Way(right, left)}
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.bind(path)
    control.listen()
    print("ready", flush=True)
    sources = [left, right, control]
    flying: list[tuple[float, int, Way, bytes]] = []
    serial = 0
    while True:
        wait = max(0.0, flying[0][0] - time.monotonic()) if flying else None
        readable = select.select(sources, [], [], wait)[0]
        if control in readable:
            answer(control, ways)
        for way in ways.values():
            if way.source not in readable:
                continue
            offset = time.time() - time.monotonic()
            for _ in range(_BATCH):
                try:
                    frame, about, _, _ = way.source.recvmsg(_LONGEST, _ROOM)
                except BlockingIOError:
                    break
                now = time.monotonic()
                for _, _, stamp in about:
                    seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                    now -= min(_OLDEST, max(0.0, now + offset - seconds - nanoseconds / 1e9))
                due = way.due(len(frame), now)
                if due is not None:
                    serial += 1
                    heapq.heappush(flying, (due, serial, way, frame))
        now = time.monotonic()
        while flying and flying[0][0] <= now:
            _, _, way, frame = heapq.heappop(flying)
            way.target.send(frame)
            way.counts["delivered"] += 1
            way.counts["delivered_bytes"] += len(frame)


if __name__ == "__main__":
    main(*sys.argv[1:])
