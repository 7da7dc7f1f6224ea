"""The simulator's strict firewall against the kernel's: what the kernel finds invalid, the model never lets pass."""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from contextlib import closing
from random import Random

import pytest
from pyroute2 import netns

from lab import Lab
from lab.host import Host
from ltunnel.testing import Network, Router, Segment, StrictFirewall, packets
from ltunnel.testing.packets import ACK, FIN, PSH, SYN, UDP
from ltunnel.testing.segments import make_payload

CONNECTIONS = 500
INSIDE, OUTSIDE = "10.0.1.50", "10.0.2.50"
RULES = """
    table ip wall { chain forward { type filter hook forward priority 0; policy drop;
        meta l4proto udp accept
        ct state invalid drop
        ct state established,related accept
        iifname "lan" ct state new accept
    }
    }
"""
_ETHERNET = 14
_TOLERATED = ("I:", "II:", "IV:")
"""Reasons that recent kernels do not see, or not so strictly."""


class Line:
    """A host's end of a wire, on which it can say anything, and the MAC address of the router at the other."""

    def __init__(self, host: Host, router: Host, device: str, address: str) -> None:
        host.veth("eth0", router, device)
        for one, name in ((host, "eth0"), (router, device)):
            one.offload(name, {"tx": False, "tso": False, "gso": False, "gro": False})
        router.add_address(device, f"{address.rpartition('.')[0]}.1/24")
        own, far = (_mac(*where) for where in ((host, "eth0"), (router, device)))
        router.run("ip", "neigh", "replace", address, "lladdr", own.hex(":"), "dev", device)
        self._header = far + own + b"\x08\x00"
        netns.pushns(host.namespace)
        try:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        finally:
            netns.popns()
        self.socket.bind(("eth0", 0))

    def say(self, packet: bytes) -> None:
        self.socket.send(self._header + packet)


def _mac(host: Host, device: str) -> bytes:
    return bytes.fromhex(host.run("cat", f"/sys/class/net/{device}/address").stdout.strip().replace(":", ""))


class Judges:
    """The kernel and the model, asked about the same packets."""

    def __init__(self, lab: Lab) -> None:
        router = lab.host("router")
        router.sysctl({"net.ipv4.ip_forward": 1})
        self.near = Line(lab.host("inside"), router, "lan", INSIDE)
        self.far = Line(lab.host("outside"), router, "wan", OUTSIDE)
        router.nft(RULES)
        router.run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
        network = Network()
        self.model = StrictFirewall(network, "model")
        self.model.attach(Router(network, "internet"))
        self._marks = 0

    def kernel(self, packet: bytes, *, up: bool) -> bool:
        """Whether the packet comes out at the other side, before a datagram that follows it."""
        self._marks += 1
        mark = self._marks.to_bytes(8, "big")
        here, there = (self.near, self.far) if up else (self.far, self.near)
        ends = (INSIDE, OUTSIDE) if up else (OUTSIDE, INSIDE)
        here.say(packet)
        here.say(packets.udp(*ends, 7, 7, mark))
        passed, deadline = False, time.monotonic() + 5
        while time.monotonic() < deadline:
            if select.select([there.socket], [], [], 1.0)[0]:
                frame = there.socket.recv(65_536)[_ETHERNET:]
                if frame[9] == UDP and frame[28:36] == mark:
                    return passed
                passed = passed or frame[20:] == packet[20:]
        raise AssertionError("the router passes nothing on")


def talk(judges: Judges, random: Random, number: int) -> list[tuple[bool, str | None]]:
    """Let two ends say this and that, until kernel and model differ; return both verdicts, segment by segment."""
    ends = ((INSIDE, number), (OUTSIDE, 443))
    begin = [random.getrandbits(32), random.getrandbits(32)]
    following = list(begin)
    orderly = random.random() < 0.6
    verdicts: list[tuple[bool, str | None]] = []
    for step in range(random.choice((10, 40, 80))):
        way = random.randrange(2)
        flags = random.choice([ACK] * 30 + [PSH | ACK] * 10 + [SYN, SYN | ACK, FIN | ACK, FIN, 0] * (not orderly))
        if step < 3 and random.random() < 0.95:
            way, flags = ((0, SYN), (1, SYN | ACK), (0, ACK))[step]
        seq, ack = following[way], following[1 - way]
        window = random.choice((65_535, 64_240, 2000, 64, 0) if not orderly else (65_535, 64_240, 2000))
        if not orderly or random.random() < 0.2:
            wide = random.randint(-(2**27), 2**27)
            seq += random.choice((0, 0, 0, 0, 1, -1, -1400, random.randint(-70_000, 70_000), wide, window, window + 1))
            ack += random.choice((0, 0, 0, 0, 1, -1, -1400, random.randint(-70_000, 1000), wide, -66_000, -66_001))
        elif random.random() < 0.3:
            seq += random.randint(0, 30_000)
        options = b""
        if flags & SYN:
            seq = begin[way]
            options = packets.mss_option(1460) + random.choice((b"", bytes((1, 3, 3, random.choice((0, 2, 7, 10))))))
        data = bytes(random.choice((0, 0, 1, 100, 1400)) * (not flags & SYN))
        seq, ack = seq % 2**32, ack % 2**32 if flags & ACK else 0
        source, target = ends[way], ends[1 - way]
        packet = packets.tcp(source[0], target[0], source[1], target[1], data, seq=seq, ack=ack, flags=flags,
                             window=window, options=options)  # fmt: skip
        passed = judges.kernel(packet, up=way == 0)
        segment = Segment(source, target, make_payload(seq, ack, flags, window, options, data))
        why = judges.model.judge(segment, inward=way == 1)
        verdicts.append((passed, why))
        if passed != (why is None):
            break
        end = (seq + len(data) + bool(flags & SYN) + bool(flags & FIN)) % 2**32
        if passed and 0 < (end - following[way]) % 2**32 < 2**31:
            following[way] = end
    return verdicts


@pytest.mark.netns
def test_the_model_is_as_strict_as_the_kernel(lab: Lab) -> None:
    """Thousands of segments, orderly and not; resets are left out, after which kernels differ from each other."""
    judges, random = Judges(lab), Random(1)
    found: Counter[tuple[bool, str | None]] = Counter()
    with closing(judges.near.socket), closing(judges.far.socket):
        for number in range(CONNECTIONS):
            found.update(talk(judges, random, 10_000 + number))
    too_lax = {why: count for (passed, why), count in found.items() if not passed and why is None}
    too_strict = {why for passed, why in found if passed and why is not None and not why.startswith(_TOLERATED)}
    assert not too_lax
    assert not too_strict
    assert found[True, None] > 1500
    assert sum(count for (passed, _), count in found.items() if not passed) > 300
