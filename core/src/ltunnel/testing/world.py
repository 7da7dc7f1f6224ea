"""A simulated internet with machines that run ltunnel: the code that runs outside, on simulated ports and devices.

::

    world = World({"transport_udp": transport}, cipher, seed=1)
    hub = world.add_hub()
    a = world.add_node("a", behind=world.add_nat("home"))
    b = world.add_node("b", quality=Quality(delay=0.02, loss=0.01))
    world.start()
    assert world.run(10, until=world.all_up)
    assert world.ping(a, b) is not None
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface
from itertools import count
from typing import Any

from ltunnel.constants import DEFAULT_MTU
from ltunnel.control import ControlSettings, Role
from ltunnel.control.discovery import Discovering, carriers
from ltunnel.keys.identity import Identity
from ltunnel.keys.psk import NetworkKeys, derive_keys, format_key
from ltunnel.plugin import (
    Address,
    Aead,
    Carrier,
    CipherDescriptor,
    DiscoveryDescriptor,
    Options,
    RoutingDescriptor,
    RoutingPolicy,
    TransportContext,
    TransportDescriptor,
    write_address,
)
from ltunnel.testing import packets
from ltunnel.testing.datagrams import version_of
from ltunnel.testing.host import Host
from ltunnel.testing.links import Quality
from ltunnel.testing.nat import Nat
from ltunnel.testing.network import Network, Router
from ltunnel.testing.nodes import PortSettings, SimNode
from ltunnel.testing.tun import SimTun

_TURNS = 10_000
"""Rounds at one moment before the simulation is held to be stuck."""


@dataclass
class World:
    """A simulated internet with machines that run ltunnel.

    `transports` are by plugin name, `options` are sections of a config by plugin name, ``cipher``, ``discovery`` and
    ``routing`` among them.
    """

    transports: Mapping[str, TransportDescriptor]
    cipher: CipherDescriptor
    seed: int | str = 0
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trace: bool = False
    """Whether `network.trace` is kept."""
    name: str = "simulation"
    """Name of the ltunnel network."""
    routing: RoutingDescriptor | None = None
    """What nodes choose paths by; without it everything between them goes through the hub."""
    discovery: DiscoveryDescriptor | None = None
    """What nodes find direct paths with."""

    def __post_init__(self) -> None:
        self.network = Network(self.seed, trace=self.trace)
        self.internet = Router(self.network, "internet")
        self.nodes: list[SimNode] = []
        """All machines, the hub first."""
        self.secret: str | None = (
            format_key(self.network.random("secret").randbytes(32)) if self.cipher.secure else None
        )
        self._idents = count(1)
        self._numbers = count(2)
        self._nats = count(1)
        self._keys: dict[str | None, NetworkKeys] = {}

    # ---------------------------------------------------------------- building

    def add_hub(self, name: str = "hub", *, address: str = "203.0.113.1", others: Sequence[str] = (), port: int = 9000,
                tunnel: Sequence[str] = ("10.0.0.1/24", "fd00::1/64"), **more: Any) -> SimNode:  # fmt: skip
        """Add the hub, which listens to the IP version of its address, or to both if that is 6; `others` it has, too.

        `more`: see `add_node`.
        """
        listen: Address = ("0.0.0.0" if version_of(address) == 4 else "::", port)  # noqa: S104 (simulated)
        context = TransportContext(listen=listen, remote=None)
        return self._add(name, Role.HUB, (address, *others), tunnel, context, **more)

    def add_node(self, name: str, *, addresses: Sequence[str] = (), tunnel: Sequence[str] = (),
                 hub: Address | None = None, **more: Any) -> SimNode:  # fmt: skip
        """Add a node.

        `addresses` are the machine's, `tunnel` its addresses in the tunnel with prefix; both are chosen when not given.
        `hub` is where it looks for the hub, that of this world by default. In `more`: `behind` (a router, NAT or
        firewall), `quality` and `up` (of its link), `offload` and `uso` (of its TUN device), `mtu`, `ports`
        (`PortSettings`), `secret`, and fields of `ControlSettings`.
        """
        number = next(self._numbers)
        if not addresses:
            addresses = (f"192.168.1.{number}",) if isinstance(more.get("behind"), Nat) else (f"198.51.100.{number}",)
        remote = hub or self.hub_address()
        context = TransportContext(listen=None, remote=remote, both_versions=self.discovery is not None)
        more = {"hub": remote, "hub_label": write_address(remote), **more}
        return self._add(name, Role.NODE, addresses, tunnel or (f"10.0.0.{number}/24", f"fd00::{number}/64"), context,
                         **more)  # fmt: skip

    def add_nat(self, name: str, external: str | None = None, *, behind: Router | None = None,
                quality: Quality | None = None, **settings: Any) -> Nat:  # fmt: skip
        """Add a NAT to the internet, or behind another router; `settings` are those of `Nat`."""
        nat = Nat(self.network, name, external or f"192.0.2.{next(self._nats)}", **settings)
        nat.attach(behind or self.internet, quality)
        return nat

    def hub_address(self) -> Address:
        """Return where the hub is reached."""
        hub = self.nodes[0]
        assert hub.context.listen is not None, "the hub is added first"
        return (hub.host.addresses[0], hub.context.listen[1])

    def start(self) -> None:
        """Start all programs, in the order in which they were added."""
        for node in self.nodes:
            node.start()

    # ---------------------------------------------------------------- running

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self.network.clock.now

    def run(self, seconds: float, *, until: Callable[[], object] | None = None) -> bool:
        """Let time pass, at most `seconds`; stop early and say True when `until` holds."""
        end = self.now + seconds
        while True:
            self._settle()
            if until is not None and until():
                return True
            times = [node.node.next_timeout() for node in self.nodes if node.node is not None]
            times.append(self.network.next_event())
            due = min((when for when in times if when is not None), default=end)
            self.network.clock.advance_to(max(self.now, min(due, end)))
            if due >= end:
                self._settle()
                return until is not None and bool(until())

    def all_up(self) -> bool:
        """Whether every program that runs is connected."""
        return all(node.state == "up" for node in self.nodes if node.node is not None)

    def meet(self, one: SimNode, other: SimNode, *, timeout: float = 10.0) -> bool:
        """Let two nodes begin a session with each other, through the hub; False if that takes too long.

        Their devices forget what they have seen of it.
        """
        end = self.now + timeout
        while self.ping(one, other, timeout=0.5) is None or self.ping(other, one, timeout=0.5) is None:
            if self.now >= end:
                return False
        one.tun.clear()
        other.tun.clear()
        return True

    def ping(self, source: SimNode, destination: SimNode | str, *, timeout: float = 2.0, version: int = 4,
             size: int = 56) -> float | None:  # fmt: skip
        """Ping a node through the tunnel, or an address behind one; return the round-trip time in seconds, or None."""
        ident, start = self.next_ident(), self.now
        if isinstance(destination, str):
            version, to = version_of(destination), destination
        else:
            to = destination.inner(version)
        source.tun.inject(packets.echo(source.inner(version), to, ident, 1, bytes(size)))
        return self.now - start if self.run(timeout, until=lambda: (ident, 1) in source.tun.replies) else None

    def next_ident(self) -> int:
        """Return an identifier for pings that nobody else uses."""
        return next(self._idents) & 0xFFFF

    def add_stranger(self, name: str = "stranger", address: str = "198.51.100.250") -> Host:
        """Add a host that runs nothing."""
        host = Host(self.network, name)
        host.attach(self.internet, address)
        return host

    def options_of(self, section: str, model: type[Options]) -> Options:
        """Return the validated options of a plugin."""
        return model.model_validate(dict(self.options.get(section, {})))

    def new_policy(self) -> RoutingPolicy | None:
        """Return a fresh routing policy for a node, None without a routing plugin."""
        if self.routing is None:
            return None
        return self.routing.create(self.options_of("routing", self.routing.options))

    def new_discovery(self) -> Discovering | None:
        """Make the discovery agent of one node, with the transports that carry direct paths."""
        if self.discovery is None:
            return None
        agent = self.discovery.create(self.options_of("discovery", self.discovery.options))
        return Discovering(agent, carriers([self.carrier(name) for name in self.transports]))

    def carrier(self, transport: str) -> Carrier | None:
        """Return what a transport is to direct paths."""
        descriptor = self.transports[transport]
        return descriptor.direct_with(self.options_of(transport, descriptor.options))

    def _settle(self) -> None:
        """Let everything happen that happens now."""
        for _ in range(_TURNS):
            self.network.run_due()
            busy = False
            for node in self.nodes:
                busy = node.pump() or busy
            event = self.network.next_event()
            if not busy and (event is None or event > self.now):
                return
        raise RuntimeError(f"at {self.now} s the simulation never comes to rest: a timer that does not move on?")

    def _add(
        self, name: str, role: Role, addresses: Sequence[str], tunnel: Sequence[str], context: TransportContext, *,
        behind: Router | None = None, quality: Quality | None = None, up: Quality | None = None, offload: bool = True,
        uso: bool = True, mtu: int = DEFAULT_MTU, ports: PortSettings | None = None, secret: str | None = None,
        **more: Any,
    ) -> SimNode:  # fmt: skip
        host = Host(self.network, name)
        host.attach(behind or self.internet, *addresses, quality=quality, up=up)
        interfaces = tuple(ip_interface(address) for address in tunnel)
        options = self.options_of("cipher", self.cipher.options)
        create, secret = self.cipher.create, secret or self.secret

        def new_aead(key: bytes) -> Aead:
            return create(options, key)

        settings = ControlSettings(
            role=role, name=name, network=self.name, keys=self._derive(secret), mtu=mtu,
            identity=Identity.from_private(self.network.random(f"{name}/identity").randbytes(32)),
            cipher=self.cipher.wire_name, new_aead=new_aead, stack=(f"cipher={self.cipher.wire_name}",),
            **{"addresses": interfaces, **more},
        )  # fmt: skip
        inner = [str(interface.ip) for interface in interfaces]
        tun = SimTun(mtu=mtu, offload=offload, uso=uso, addresses=inner)
        node = SimNode(self, host, tun, settings, context, ports or PortSettings())
        self.nodes.append(node)
        return node

    def _derive(self, secret: str | None) -> NetworkKeys:
        """Derive keys, once for each secret: a passphrase takes a third of a second."""
        if secret not in self._keys:
            self._keys[secret] = derive_keys(secret, self.name)
        return self._keys[secret]
