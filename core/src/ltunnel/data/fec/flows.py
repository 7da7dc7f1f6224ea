"""Telling the small packets of slow flows (keys, voice, pings, queries) from bulk: by size and rate, not by ports."""

from __future__ import annotations

from ltunnel.data.inet import TCP, UDP

SMALL = 300
"""Bytes of a packet at most. Voice has 60 to 200."""
RATE = 100.0
"""Packets a second of a flow, over time."""
BURST = 30.0
"""Packets that a flow may send at once."""
LIMIT = 1024
"""Flows remembered."""


class SlowFlows:
    """A token bucket for each flow of small packets."""

    __slots__ = ("_flows", "_large")

    def __init__(self) -> None:
        self._flows: dict[bytes, tuple[float, float]] = {}  # flow -> tokens, when
        self._large: set[bytes] = set()  # flows with a large packet in this batch

    def begin(self) -> None:
        """Begin a batch. In one batch packets of a flow are slow only as long as all of them are: order is kept."""
        self._large.clear()

    def has(self, data: bytearray, ip: int, stop: int, now: float) -> bool:
        """Whether the packet ``data[ip:stop]`` is small and its flow slow."""
        flow = _flow(data, ip)
        if stop - ip > SMALL:
            self._large.add(flow)
            return False
        if flow in self._large:
            return False
        flows = self._flows
        tokens, then = flows.pop(flow, (BURST, now))
        tokens = min(BURST, tokens + (now - then) * RATE)
        slow = tokens >= 1
        if len(flows) >= LIMIT:
            del flows[next(iter(flows))]
        flows[flow] = tokens - slow, now
        return slow


def _flow(data: bytearray, ip: int) -> bytes:
    """Name the flow of a packet: addresses, protocol, and ports where there are any."""
    if data[ip] >> 4 == 4:
        protocol, start, l4 = data[ip + 9], ip + 12, ip + (data[ip] & 15) * 4
        end = start + 8
    else:
        protocol, start, l4 = data[ip + 6], ip + 8, ip + 40
        end = start + 32
    ports = data[l4 : l4 + 4] if protocol in (TCP, UDP) else b""
    return bytes(data[start:end]) + bytes(ports) + bytes((protocol,))
