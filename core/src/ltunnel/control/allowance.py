"""What a node may probe for a peer: only what the hub has named, and only so often. It binds any agent.

START names hosts. Ports of these may be named or, for the birthday method, guessed. A private address is probed only on
the LAN that it was told for; one without a LAN is in the hub's own network, or the hub would not have passed it on.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable

from ltunnel.plugin import Address, Candidate, Carrier, Limits, PathClass, Probe, read_target

ROUND = 60.0
"""Seconds for which a START holds."""
_MINUTE = 60.0


class Allowance:
    """One peer's."""

    __slots__ = ("_blind", "_minute", "_named", "_sent", "_until")

    def __init__(self) -> None:
        self._named: dict[str, dict[int, bool]] = {}  # host -> named port -> whether it is on the own LAN
        self._sent: Counter[tuple[int, int, Address]] = Counter()  # by carrier, local port, address
        self._blind = 0
        self._until = float("-inf")
        self._minute: deque[float] = deque()

    def start(
        self, candidates: Iterable[Candidate], *, own: Callable[[str], bool], lans: frozenset[bytes], now: float
    ) -> tuple[Candidate, ...]:
        """Begin a round; return the candidates that may be probed. `own`: whether a host is this machine."""
        self._named.clear()
        self._sent.clear()
        self._blind = 0
        self._until = now + ROUND
        good: list[Candidate] = []
        for candidate in candidates:
            ip = read_target(candidate.address)
            if ip is None or own(str(ip)) or (candidate.network and candidate.network not in lans):
                continue
            if len(good) == Limits.CANDIDATES:
                break
            good.append(candidate)
            self._named.setdefault(str(ip), {})[candidate.address[1]] = bool(candidate.network)
        return tuple(good)

    def take(self, probe: Probe, now: float) -> PathClass | None:
        """Say what kind of path a probe tries, and count it; None if it may not be sent."""
        ip = read_target(probe.to)
        ports = None if ip is None or now > self._until else self._named.get(str(ip))
        while self._minute and self._minute[0] <= now - _MINUTE:
            self._minute.popleft()
        if ports is None or len(self._minute) >= Limits.PER_MINUTE:
            return None
        lan = ports.get(probe.to[1])
        if lan is None:  # nobody's ports are guessed on a LAN, nor by opening connections
            if any(ports.values()) or probe.carrier is Carrier.TCP or self._blind >= Limits.BLIND_PROBES:
                return None
            self._blind += 1
        else:
            key = (int(probe.carrier), probe.port, probe.to)
            if self._sent[key] >= Limits.PROBES:
                return None
            self._sent[key] += 1
        self._minute.append(now)
        return PathClass.LAN if lan else PathClass.PUBLIC
