"""A wire in memory between `Control` objects, with just enough of a data path to seal, open and count.

Everything is driven by one seed and one clock, so a test that fails once fails always.
"""

import heapq
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from ipaddress import IPv4Network, ip_address, ip_interface
from itertools import count
from random import Random

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ltunnel.control import Control, ControlSettings, Role
from ltunnel.control.candidates import Dial
from ltunnel.keys.identity import Identity
from ltunnel.keys.psk import NetworkKeys, derive_keys, format_key
from ltunnel.wire.relay import node_name
from ltunnel.wire.types import STAYING, FrameType, MessageType

HUB_FLOW = ("198.51.100.1", 9000)
WALL = 1_700_000_000.0
KEY = format_key(bytes(range(32)))
OTHER_KEY = format_key(bytes(range(1, 33)))


class Gcm:
    """AES-GCM, the message half of `Aead`."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        return self._aead.encrypt(nonce, data, associated)

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        try:
            return self._aead.decrypt(nonce, data, associated)
        except InvalidTag:
            return None


class Bare:
    """No cipher: what crypto_plain does."""

    def __init__(self, key: bytes) -> None:
        pass

    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        return data + bytes(16)

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        return data[:-16] if data[-16:] == bytes(16) else None


def network_keys(secret: str | None) -> NetworkKeys:
    return derive_keys(secret, "test")


def identity(name: str) -> Identity:
    return Identity.from_private(sha256(name.encode()).digest())


class Host:
    """A machine on the wire: one `Control`, one address, and what its applications got."""

    def __init__(self, net: "Net", name: str, control: Control, flow: tuple[str, int]) -> None:
        self.net = net
        self.name = name
        self.control = control
        self.flow = flow
        self.alive = True
        self.relay: int | None = None
        """Number of the transport that goes through the hub to other nodes."""
        self.got: list[bytes] = []
        self.events: list = []
        self.sent = 0  # bytes that left

    def __getattr__(self, item: str):
        return getattr(self.control, item)

    def texts(self, name: str) -> list[str]:
        return [event.text for event in self.events if event.name == name]

    def send(self, to: str, payload: bytes) -> bool:
        """Send an application's packet as the data path would; False if there is no way."""
        now = self.net.now
        peer = self.control.fib.lookup(ip_address(to).packed)
        if peer is None or peer.epoch is None or peer.path is None or not peer.epoch.usable(now):
            if peer is not None:
                self.control.want(peer, now)
                self.net.drain(self)
            return False
        datagram = peer.epoch.seal_frame(FrameType.BUNDLE, payload)
        if peer.path.budget is not None:
            if len(datagram) > peer.path.budget:
                return False
            peer.path.budget -= len(datagram)
        peer.last_tx = now
        if peer.unanswered_since is None:
            peer.unanswered_since = now
        peer.stats.tx_packets += 1
        self.net.transmit(self, peer.path.flow, datagram, peer.path.transport)
        return True

    def receive(self, flow: tuple[str, int], data: bytes, transport: int = 0) -> None:
        now = self.net.now
        if data[:1] != bytes((MessageType.DATA,)):
            self.control.receive(transport, flow, data, now)
            return
        epoch = self.control.sessions.get(int.from_bytes(data[1:4], "big"))
        if epoch is None:
            return
        confirmed = epoch.confirmed
        opened = epoch.open_frame(data)
        if opened is None:
            return
        peer = epoch.peer
        peer.last_rx = now
        peer.unanswered_since = None
        here = peer.path is not None and (peer.path.transport, peer.path.flow) == (transport, flow)
        if here and peer.path.budget is not None:
            peer.path.budget += 3 * len(data)
        newest = int.from_bytes(data[4:12], "big") == epoch.window.top and opened[0] not in STAYING
        if not confirmed or epoch is not peer.epoch or not here:
            self.control.notice(epoch, transport, flow, len(data), newest, now)
        if opened[0] >= FrameType.PING:
            self.control.receive_frame(epoch, opened[0], opened[1], transport, flow, len(data), now)
        elif self.control.session_in_use(epoch):
            peer.stats.rx_packets += 1
            self.got.append(opened[1])


class Net:
    """Hosts, the wire between them, and the clock."""

    def __init__(self, seed: int = 1) -> None:
        self.random = Random(seed)
        self.now = 1000.0
        self.loss = 0.0
        self.duplicate = 0.0
        self.delay = 0.02
        self.jitter = 0.0
        self.cut: Callable[[Host, Host | None, bytes], bool] | None = None
        """What never arrives: (from, to, datagram) -> bool."""
        self.shut: set[int] = set()
        """Transports by which nothing arrives."""
        self.closed: set[int] = set()
        """Transports that do not send, as if their flows were opening."""
        self.calls: list = []
        """Flows that were opened and closed: (when, host, call)."""
        self.walls: set[tuple[str, str]] = set()
        """Between whom nothing passes directly: (from, to)."""
        self.largest = 65_535
        """The largest datagram that passes directly; larger ones are lost without a word."""
        self.hosts: list[Host] = []
        self.log: list[tuple[float, str, str, str, bytes]] = []
        """(when, from, to, kind of message, datagram), everything that was sent."""
        self._queue: list = []
        self._serial = count()

    # -------------------------------------------------------------- making hosts

    def settings(self, who: str, role: Role, address: str, /, **changes) -> ControlSettings:
        settings = ControlSettings(
            role=role,
            name=who,
            network="test",
            keys=network_keys(KEY),
            identity=identity(who),
            cipher="AESGCM",
            new_aead=Gcm,
            stack=("cipher=AESGCM",),
            addresses=(ip_interface(address),),
            hub_label="hub.example:9000",
        )
        return replace(settings, **changes)

    def randbytes(self, size: int) -> bytes:
        return self.random.randbytes(size)

    def hub(self, *, bindings=(), wall: float = WALL, transports=("udp", "tcp", "tls"), **changes) -> Host:
        settings = self.settings("hub", Role.HUB, "10.0.0.1/24", **changes)
        control = ControlUnderTest(
            settings, random=self.randbytes, now=self.now, wall_offset=wall - self.now, bindings=bindings,
            transports=transports,
        )  # fmt: skip
        return self._add(Host(self, "hub", control, HUB_FLOW))

    def node(
        self, who: str, address: str, /, *, pins=None, wall: float = WALL, flow=None, transports=("udp",),
        relay: bool = False, in_mesh: bool = False, routing=None, discovery=None, **changes,
    ) -> Host:  # fmt: skip
        settings = self.settings(who, Role.NODE, address, **changes)
        ways = len(transports)
        control = ControlUnderTest(
            settings, random=self.randbytes, now=self.now, wall_offset=wall - self.now, pins=pins or {},
            transports=(*transports, "relay", "mesh") if relay else transports, relay=ways if relay else None,
            mesh=ways + 1 if in_mesh else None, routing=routing, discovery=discovery,
        )  # fmt: skip
        host = Host(self, who, control, flow or (f"203.0.113.{len(self.hosts) + 1}", 40000))
        host.relay = ways if relay else None
        self._add(host)
        control.set_hub_paths([(i, HUB_FLOW) for i in range(ways)], self.now)
        self.drain(host)
        return host

    def _add(self, host: Host) -> Host:
        self.hosts.append(host)
        host.control.start(self.now)
        self.drain(host)
        return host

    def kill(self, host: Host) -> None:
        """SIGKILL: not a byte more."""
        host.alive = False
        self.hosts.remove(host)

    # -------------------------------------------------------------- the wire

    def connected(self, host: Host) -> bool:
        """Whether the hub has a session with a node, as far as the node knows."""
        hub = host.control.hub
        return hub is not None and hub.epoch is not None

    def transmit(self, source: Host, flow, data: bytes, transport: int = 0) -> None:
        if transport == source.relay:
            self._relay(source, flow, data)
            return
        target = next((host for host in self.hosts if host.flow == flow), None)
        kind = MessageType(data[0]).name if data[0] in MessageType.__members__.values() else "?"
        self.log.append((self.now, source.name, target.name if target else "nobody", kind, data))
        source.sent += len(data)
        if transport in self.shut or target is None or (self.cut is not None and self.cut(source, target, data)):
            return
        if (source.name, target.name) in self.walls or len(data) > self.largest:
            return
        for _ in range(2 if self.random.random() < self.duplicate else 1):
            if self.random.random() >= self.loss:
                when = self.now + self.delay + self.jitter * self.random.random()
                heapq.heappush(self._queue, (when, next(self._serial), target, source.flow, data, transport))

    def _relay(self, source: Host, name: bytes, data: bytes) -> None:
        """Forward as a hub does: between nodes that it has sessions with, with the sender's true name."""
        hub = next((host for host in self.hosts if host.flow == HUB_FLOW), None)
        there = [] if hub is None else [key for key in hub.control.peers if hub.control.connected(key)]
        keys = {node_name(key): key for key in there}
        target = next((host for host in self.hosts if host.relay and host.settings.identity.public == keys.get(name)),
                      None)  # fmt: skip
        own = source.settings.identity.public
        kind = MessageType(data[0]).name if data[0] in MessageType.__members__.values() else "?"
        self.log.append((self.now, source.name, f"{target.name if target else 'nobody'} by relay", kind, data))
        if target is None or own not in there or 0 in self.shut:
            return
        if (self.cut is not None and self.cut(source, target, data)) or self.random.random() < self.loss:
            return
        when = self.now + 2 * self.delay
        heapq.heappush(self._queue, (when, next(self._serial), target, node_name(own), data, target.relay))

    def inject(self, target: Host, flow: tuple[str, int], data: bytes, transport: int = 0) -> None:
        """Put a datagram into a host's socket at once."""
        target.receive(flow, data, transport)
        self.drain(target)

    def drain(self, host: Host) -> None:
        control = host.control
        while control.calls or control.outbox:
            for call in _take(control.calls):
                self.calls.append((self.now, host.name, call))
                if isinstance(call, Dial):
                    control.dialled(call, call.address, self.now)
            for transport, flow, data in _take(control.outbox):
                if transport in self.closed or (transport == host.relay and not self.connected(host)):
                    control.refused(transport, flow, self.now)
                else:
                    self.transmit(host, flow, data, transport)
        host.events += host.control.events
        host.control.events.clear()

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass, at most `seconds`, until something holds; whether it does."""
        end = self.now + seconds
        while until is None or not until():
            timers = [(when, host) for host in self.hosts if (when := host.control.next_timeout()) is not None]
            due, host = min(timers, key=lambda item: item[0], default=(end, None))
            if self._queue and self._queue[0][0] <= min(due, end):
                when, _, target, flow, data, transport = heapq.heappop(self._queue)
                self.now = max(self.now, when)
                if target.alive:
                    target.receive(flow, data, transport)
                    self.drain(target)
            elif host is not None and due <= end:
                self.now = max(self.now, due)
                host.control.handle_timeout(self.now)
                self.drain(host)
            else:
                self.now = end
                break
        return until is not None and until()

    def kinds(self, since: float = 0.0) -> list[str]:
        return [f"{source}>{kind}" for when, source, _, kind, _ in self.log if when >= since]


def _take(items: list) -> list:
    taken = list(items)
    items.clear()
    return taken


class ControlUnderTest(Control):
    """`Control` with a look behind."""

    def session_in_use(self, epoch) -> bool:
        session = self._ctx.session_of(epoch)
        return session is not None and session.in_use

    def _rekey(self, session, now: float) -> None:
        self._deadlines.rekey(session, now)

    def connected(self, key: bytes) -> bool:
        session = self._ctx.sessions.get(key)
        return session is not None and session.in_use

    def session_with(self, key: bytes):
        return self._ctx.sessions.get(key)


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def make_net() -> type[Net]:
    return Net


@pytest.fixture
def plain() -> dict:
    """Settings of a host without a key."""
    return {"keys": network_keys(None), "cipher": "PLAIN", "new_aead": Bare, "stack": ("cipher=PLAIN",)}


@pytest.fixture
def other_key() -> dict:
    """Settings of a host with another key."""
    return {"keys": network_keys(OTHER_KEY)}


@pytest.fixture
def lan() -> IPv4Network:
    return IPv4Network("192.168.7.0/24")
