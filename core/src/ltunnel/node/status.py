"""What a node says about itself: plain dictionaries, ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from ltunnel.control.candidates import Candidate
from ltunnel.control.engine import Control
from ltunnel.control.settings import ControlSettings
from ltunnel.node.accounts import describe_transports
from ltunnel.plugin import Transport
from ltunnel.session import Drop, Peer, Stats


def status(
    control: Control, settings: ControlSettings, names: Sequence[str], transports: Sequence[Transport], chosen: int,
    now: float,
) -> dict[str, Any]:  # fmt: skip
    """Describe a node: who it is, how it is, what has passed, and each peer.

    The first `chosen` of the transports are those of the configuration.
    """
    peers = [_peer(peer, control, names, transports, now) for peer in control.peers.values()]
    return {
        "role": settings.role.value,
        "name": settings.name,
        "network": settings.network,
        "key_check": settings.keys.check,
        "encrypted": settings.keys.keyed,
        "stack": {"transports": list(names[:chosen]), "cipher": settings.cipher},
        "state": control.state,
        "reason": control.reason,
        "counters": _totals([control.stats, *(peer.stats for peer in control.peers.values())]),
        "drops": _drops(control.stats.drops),
        "transports": describe_transports(list(zip(names[:chosen], transports[:chosen], strict=True))),
        "mesh": control.mesh(),
        "routes": [str(network) for network in settings.routes],
        "accepted_routes": [str(network) for network in control.networks],
        "refused_routes": [
            {"network": str(network), "peer": peer.name, "reason": reason}
            for network, peer, reason in control.refused_networks
        ],
        "peers": peers,
    }


def _peer(
    peer: Peer, control: Control, names: Sequence[str], transports: Sequence[Transport], now: float
) -> dict[str, Any]:
    path, epoch = peer.path, peer.epoch
    paths = control.paths(peer, now)
    used, via = next(((each["class"], each["via"]) for each in paths if each["used"]), (None, None))
    return {
        "name": peer.name,
        "key": peer.key.hex(),
        "hub": peer.is_hub,
        "addresses": sorted(str(ip_address(host)) for host in peer.hosts),
        "networks": [str(network) for network in peer.networks],
        "endpoint": transports[path.transport].describe(path.flow) if path and used not in ("hub", "mesh") else None,
        "transport": names[path.transport] if path else None,
        "path": used,
        "via": via,
        "chosen": control.why(peer),
        "paths": paths,
        "candidates": [_candidate(candidate, peer, control, now) for candidate in _candidates(control, peer)],
        "state": control.peer_state(peer),
        "last_handshake": _ago(peer.last_handshake, now),
        "last_seen": _ago(peer.last_rx if peer.last_rx >= 0 else None, now),
        "rtt_ms": round(peer.rtt * 1000, 3) if peer.rtt is not None else None,
        "loss": peer.quality.loss,
        "records": peer.quality.clean(now),
        "mtu": peer.mtu,
        "datagrams_sealed": epoch.counter if epoch else 0,
        "rx_bytes": peer.stats.rx_bytes,
        "tx_bytes": peer.stats.tx_bytes,
        "rx_packets": peer.stats.rx_packets,
        "tx_packets": peer.stats.tx_packets,
        "relayed_bytes": peer.stats.relayed_bytes,
        "relayed_datagrams": peer.stats.relayed_datagrams,
        "drops": _drops(peer.stats.drops),
    }


def _candidates(control: Control, peer: Peer) -> Sequence[Candidate]:
    return control.candidates if peer is control.hub else ()


def _candidate(candidate: Candidate, peer: Peer, control: Control, now: float) -> dict[str, Any]:
    """Describe one way to the hub; of the one in use more is known than what its trials have shown."""
    used = peer.path is not None and peer.path.transport == candidate.transport
    used = used and control.peer_state(peer) == "established"
    heard, rtt = (peer.last_rx, peer.rtt) if used else (candidate.heard, candidate.rtt)
    return {
        "transport": candidate.name,
        "address": candidate.place,
        "state": (control.standing if used else candidate.standing).value,
        "used": used,
        "last_answer": _ago(heard, now),
        "rtt_ms": round(rtt * 1000, 3) if rtt is not None else None,
    }


def _ago(then: float | None, now: float) -> float | None:
    return None if then is None else round(max(0.0, now - then), 3)


def _drops(drops: Mapping[Drop, int]) -> dict[str, int]:
    return {reason.value: count for reason, count in sorted(drops.items(), key=lambda item: item[0].value)}


def _totals(all_stats: Sequence[Stats]) -> dict[str, int]:
    return {
        name: sum(getattr(stats, name) for stats in all_stats)
        for name in ("rx_bytes", "tx_bytes", "rx_packets", "tx_packets")
    }
