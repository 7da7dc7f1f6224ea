"""How it is measured: a measure runs traffic through one peer's arena and returns the figures of one or more rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.peers import HUB, OTHER, Peer
from bench.usage import cpu_seconds, memory_mb
from lab import traffic

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    title: str
    unit: str
    digits: int


ROWS = {
    "tcp": Row("one TCP stream", "Gbit/s", 2),
    "tcp_reverse": Row("one TCP stream, reverse", "Gbit/s", 2),
    "tcp_4": Row("4 TCP streams", "Gbit/s", 2),
    "tcp_segmented": Row("one TCP stream, tso/gso off, GRO on", "Gbit/s", 2),
    "tcp_segmented_no_gro": Row("one TCP stream, tso/gso off, GRO off", "Gbit/s", 2),
    "relay": Row("one TCP stream, node to node by the hub", "Gbit/s", 2),
    "relay_cpu": Row("CPU of the hub, node to node by it", "s/GB", 2),
    "direct": Row("one TCP stream, node to node directly", "Gbit/s", 2),
    "cpu": Row("CPU of both ends, one TCP stream", "s/GB", 2),
    "udp_100": Row("UDP 100 B, 100k/s offered, received", "%", 1),
    "udp_1300": Row("UDP 1300 B, 100k/s offered, received", "%", 1),
    "ping": Row("ping, average", "ms", 3),
    "rss": Row("memory of a node", "MB", 0),
    "rss_peak": Row("memory of a node at its peak", "MB", 0),
}


def tcp(peer: Peer, seconds: int) -> Figures:
    """Send one stream, and take the CPU time of the VPN processes at both ends."""
    arena = peer.arena
    pids = [program.pid for part in ("hub", "node") for program in arena.programs.get(part, [])]
    before = cpu_seconds(pids)
    result = traffic.tcp(arena.node, arena.hub, peer.address(HUB), seconds=seconds)
    used = cpu_seconds(pids) - before
    return {"tcp": result.gbit_s} | ({"cpu": used / result.gigabytes} if pids else {})


def tcp_reverse(peer: Peer, seconds: int) -> Figures:
    """Send one stream from the hub to the node."""
    return {"tcp_reverse": _stream(peer, seconds, reverse=True)}


def tcp_4(peer: Peer, seconds: int) -> Figures:
    """Send four streams at once."""
    return {"tcp_4": _stream(peer, seconds, streams=4)}


def tcp_segmented(peer: Peer, seconds: int) -> Figures:
    """Send one stream over links that carry no more than MTU-sized frames; the receiver joins them (GRO)."""
    return {"tcp_segmented": _segmented(peer, seconds, gro=True)}


def tcp_segmented_no_gro(peer: Peer, seconds: int) -> Figures:
    """Send one stream over links that carry no more than MTU-sized frames, each received by itself."""
    return {"tcp_segmented_no_gro": _segmented(peer, seconds, gro=False)}


def relay(peer: Peer, seconds: int) -> Figures:
    """Send one stream from node to node through the hub, and take the CPU time of the VPN processes there."""
    if not peer.relays:
        return {}
    arena = peer.arena
    pids = [program.pid for program in arena.programs.get("hub", [])]
    before = cpu_seconds(pids)
    result = traffic.tcp(arena.node, arena.other, peer.address(OTHER), seconds=seconds)
    used = cpu_seconds(pids) - before
    return {"relay": result.gbit_s} | ({"relay_cpu": used / result.gigabytes} if pids else {})


def direct(peer: Peer, seconds: int) -> Figures:
    """Send one stream between two nodes that are joined directly; for others that is what node and hub are."""
    if peer.neighbour is None:
        return {}
    arena = peer.arena
    host = arena.other if peer.neighbour == OTHER else arena.hub
    return {"direct": traffic.tcp(arena.node, host, peer.address(peer.neighbour), seconds=seconds).gbit_s}


def udp_100(peer: Peer, seconds: int) -> Figures:
    """Offer 100,000 small datagrams a second."""
    return {"udp_100": _datagrams(peer, seconds, 100)}


def udp_1300(peer: Peer, seconds: int) -> Figures:
    """Offer 100,000 large datagrams a second."""
    return {"udp_1300": _datagrams(peer, seconds, 1300)}


def ping(peer: Peer, seconds: int) -> Figures:
    """Ping the hub 100 times a second."""
    result = traffic.ping(peer.arena.node, peer.address(HUB), count=100 * seconds, interval=0.01)
    return {"ping": result.average}


def memory(peer: Peer, _seconds: int) -> Figures:
    """Read the memory of the node's processes."""
    pids = [program.pid for program in peer.arena.programs.get("node", [])]
    return {"rss": memory_mb(pids, "VmRSS"), "rss_peak": memory_mb(pids, "VmHWM")} if pids else {}


MEASURES: tuple[Callable[[Peer, int], Figures], ...] = (
    tcp,
    tcp_reverse,
    tcp_4,
    tcp_segmented,
    tcp_segmented_no_gro,
    relay,
    direct,
    udp_100,
    udp_1300,
    ping,
    memory,
)


def _stream(peer: Peer, seconds: int, *, streams: int = 1, reverse: bool = False) -> float:
    arena = peer.arena
    address = peer.address(HUB)
    return traffic.tcp(arena.node, arena.hub, address, seconds=seconds, streams=streams, reverse=reverse).gbit_s


def _segmented(peer: Peer, seconds: int, *, gro: bool) -> float:
    # tx-udp-segmentation is a switch of its own: with it on, UDP super-packets pass uncut.
    switches = ("tso", "gso", "tx-udp-segmentation")
    peer.arena.offload(dict.fromkeys(switches, False) | {"gro": gro})
    try:
        return _stream(peer, seconds)
    finally:
        peer.arena.offload(dict.fromkeys(switches, True) | {"gro": False})  # as a veth pair begins


def _datagrams(peer: Peer, seconds: int, size: int) -> float:
    arena = peer.arena
    return (
        100 * traffic.udp(arena.node, arena.hub, peer.address(HUB), size=size, packets_s=100_000, seconds=seconds).share
    )
