"""Own and foreign addresses: which of them can be probed, and how they rank (RFC 8445, section 5.1.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ltunnel.plugin import (
    Address,
    Candidate,
    CandidateKind,
    Carrier,
    Limits,
    LocalAddress,
    is_private,
    read_target,
)

LAN = 126 << 24
GLOBAL = 120 << 24
MAPPED = 110 << 24
PREDICTED = 105 << 24
UNTRANSLATED = 104 << 24
"""As whom the hub saw us over the version that needs no NAT to be punched."""
OBSERVED = 100 << 24
BY_TCP = 40 << 24
"""Fake TCP ranks behind everything that UDP can do."""

MAX_LAN, MAX_PUBLIC = 3, 2
"""Of the own candidates at most so many are own addresses on a LAN, and public ones; IPv6 has many."""


def version_of(candidate: Candidate) -> int:
    """Return the IP version of a candidate: 4 or 6."""
    return 6 if ":" in candidate.address[0] else 4


def host_candidates(local: Iterable[LocalAddress], seen: Collection[str] = ()) -> list[Candidate]:
    """Return the addresses of the machine's own interfaces that a peer may reach: public ones, and those on a LAN.

    Of public ones those come first that the hub has `seen`: it passes no others on. They are for UDP: fake TCP has many
    ports, and only the hub sees which one it uses.
    """
    lan: list[Candidate] = []
    public: list[Candidate] = []
    for own in sorted(local, key=lambda own: own.address[0] not in seen):
        ip = read_target(own.address)
        if ip is None or ip.is_link_local or own.carrier is not Carrier.UDP:
            continue
        private = is_private(ip)
        if private and not own.network:
            continue
        candidate = Candidate(
            kind=CandidateKind.HOST, address=own.address, network=own.network if private else b"",
            priority=(LAN if private else GLOBAL) - len(lan) - len(public),
        )  # fmt: skip
        (lan if private else public).append(candidate)
    return lan[:MAX_LAN] + public[:MAX_PUBLIC]


def pick(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Return the best candidates, best first: each address once for a carrier, as many as the core takes."""
    best: dict[tuple[Address, Carrier], Candidate] = {}
    for candidate in sorted(candidates, key=lambda candidate: -candidate.priority):
        best.setdefault((candidate.address, candidate.carrier), candidate)
    return tuple(best.values())[: Limits.CANDIDATES]


def targets(candidates: Iterable[Candidate], local: Sequence[LocalAddress]) -> tuple[Candidate, ...]:
    """Return those of a peer's candidates that can be probed from here, best first.

    A private address that comes with a LAN counts only on that very LAN: the same address is somebody else behind
    another NAT. One without is in the hub's own network, as this machine is, or the hub would not have named it. Own
    addresses never count.
    """
    mine = {own.address[0] for own in local}
    networks = {own.network for own in local if own.network}
    return pick(
        candidate
        for candidate in candidates
        if read_target(candidate.address) is not None
        and candidate.address[0] not in mine
        and (not candidate.network or candidate.network in networks)
    )
