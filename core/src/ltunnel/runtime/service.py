"""A node at work: descriptors to the node's methods, its events to log and state folder, requests to answers."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ltunnel import __version__
from ltunnel.control.events import Event, Level
from ltunnel.control.settings import Role
from ltunnel.errors import HostError, LtunnelError
from ltunnel.node import CloseOrder, Node, OpenOrder
from ltunnel.node.sharing import SharedPort
from ltunnel.runtime.fresh_ports import FreshPorts, Instance
from ltunnel.runtime.hub_address import HubAddress
from ltunnel.runtime.log import Log
from ltunnel.runtime.loop import Handler, Loop
from ltunnel.runtime.port_mapping import Mapped, PortMapping
from ltunnel.runtime.ports import OpenPort, name_address
from ltunnel.runtime.public_places import PublicPlaces
from ltunnel.runtime.shared import UdpBranch
from ltunnel.runtime.surroundings import Surroundings
from ltunnel.runtime.tun import Tun
from ltunnel.runtime.tunnel_routes import TunnelRoutes
from ltunnel.wire.text import escape

_RETRY_SAVE = 30.0
_TELL_AGAIN = 60.0
LOOK_AFTER = 0.05
"""Under load, what changes seldom is looked at this often (seconds), and when it is due.

What a handler may have set going there is due half a second later at least (`NetworkWatch`, `Surroundings`,
`HubAddress`), so that nothing is late; a network that was accepted is routed that much later.
"""

Save = Callable[[], None]


class Service:
    """Runs a node on a loop until the loop is stopped.

    `ports` are those of each transport, in the node's order. `savers` store what an event of that name says has
    changed; they raise OSError, and are then tried again until they succeed. `check` returns further warnings, which
    hold as long as it does.
    """

    def __init__(
        self,
        node: Node,
        loop: Loop,
        tun: Tun,
        ports: Sequence[Sequence[OpenPort]],
        *,
        log: Log,
        savers: dict[str, Save],
        warnings: Sequence[str] = (),
        check: Callable[[], list[str]] = list,
    ) -> None:
        self.node = node
        self.fresh_ports: FreshPorts | None = None
        self.hub_address: HubAddress | None = None
        self.surroundings: Surroundings | PublicPlaces | None = None
        """What watches this machine's addresses."""
        self.port_mapping: PortMapping | None = None
        self.tunnel_routes: TunnelRoutes | None = None
        self._loop = loop
        self._tun = tun
        self._ports = ports
        self._log = log
        self._savers = savers
        self._warnings = list(warnings)
        self._check = check
        self._mapping: dict[str, str | None] = {}
        """By which protocol a router maps the port of a carrier."""
        self._instances: dict[int, Instance] = {}  # opened on demand, by index of the transport
        self._tell_no_ports = float("-inf")
        self._unsaved: dict[str, float] = {}  # name of an event -> when to try again
        self._look_at = 0.0
        self._started = 0.0
        self._stumbles = 0
        self._tell_stumble = float("-inf")

    def run(self) -> None:
        """Start the node, serve, and say goodbye to its peers. Raises `HostError` when the device is taken away."""
        watched = [(self._tun.fileno(), self._guarded(self.node.handle_tun))]
        shared: dict[int, SharedPort] = {}
        for index, ports in enumerate(self._ports):
            for port in ports:
                serve = partial(self.node.handle_port, index, port)
                if isinstance(port, UdpBranch):
                    port.handle = serve
                    shared[port.fileno()] = port.shared
                else:
                    watched.append((port.fileno(), self._guarded(serve)))
        watched += [(fd, self._guarded(whole.serve)) for fd, whole in shared.items()]
        for fd, handler in watched:
            self._loop.watch(fd, handler)
        self._started = now = time.monotonic()
        self._announce()
        self._refresh_wall_clock(now)
        self.node.start(now)
        try:
            self._loop.run(self.tick, self.tick_between)
        except OSError as error:
            if error.errno in (errno.EBADF, errno.EBADFD):
                raise HostError(f"the device {self._tun.name} was taken away") from None
            raise
        finally:
            for fd, _ in watched:
                self._loop.unwatch(fd)
        now = time.monotonic()
        self.node.stop(now)
        self._take_events(now)

    def close(self) -> None:
        """Close the ports that were opened on demand; after `run`, whose goodbyes may go by them."""
        for index in tuple(self._instances):
            self._close_instance(index)

    def tick(self, now: float) -> float | None:
        """Do what is due, and return when to come again."""
        self._refresh_wall_clock(now)
        node = self.node
        look = None if self.surroundings is None else self.surroundings.check(now)
        due = node.next_timeout()
        if due is not None and due <= now:
            node.handle_timeout(now)
            due = node.next_timeout()
        if self._carry_out(now):
            due = node.next_timeout()
        routes = None
        if self.tunnel_routes is not None:
            routes = self.tunnel_routes.check(now)
            due = node.next_timeout()
        self._take_events(now)
        for name in [name for name, at in self._unsaved.items() if now >= at]:
            self._save(name, now)
        times = [look, routes, *self._unsaved.values()]
        if self.hub_address is not None:
            times.append(self.hub_address.check(now, connected=node.control.state != "connecting"))
        look = min((at for at in times if at is not None), default=None)
        self._look_at = now + LOOK_AFTER if look is None else min(look, now + LOOK_AFTER)
        return min((at for at in (due, look) if at is not None), default=None)

    def tick_between(self, now: float) -> None:
        """Do what is due while packets keep coming: as `tick`, but mostly for the node alone, at half the cost."""
        if now >= self._look_at:
            self.tick(now)
            return
        self.node.handle_timeout(now)
        self._carry_out(now)
        if self.node.control.events:
            self._take_events(now)

    def network_changed(self, now: float) -> None:
        """Take note that this machine is in another network."""
        self.node.network_changed(now)
        if self.port_mapping is not None:
            self.port_mapping.again()

    def add_other_port(self, transport: int, instance: Instance) -> None:
        """On a hub: serve a second port of a transport, before `run`."""
        number = instance.port.local[1]
        self._serve_instance(self.node.add_other_port(transport, instance.transport, number), instance)

    def add_port(self, transport: int, instance: Instance) -> None:
        """On a hub: serve a further port of a transport, before `run`."""
        self._serve_instance(self.node.add_port(transport, instance.transport), instance)

    def answer(self, request: dict[str, Any], now: float) -> dict[str, Any]:
        """Answer a request of the control socket. Raises `HostError` with a text for whoever asked.

        What has happened is stored first, so nobody hears of what a crash would undo.
        """
        self._take_events(now)
        match request["command"]:
            case "status":
                return self.status(now)
            case "nat":
                return self._nat(now)
            case "fec":
                return self._change_fec(request, now)
            case "forget":
                return self._forget_binding(str(request.get("peer")), now)
            case "forget-pin":
                return self._forget_pin(str(request.get("name")), now)
        raise HostError(f"no such command: {escape(request['command'])}")

    def status(self, now: float) -> dict[str, Any]:
        """Return what the node says of itself, and what only the runtime knows."""
        settings = self.node.settings
        return {
            **self.node.status(now),
            "version": __version__,
            "uptime": round(now - self._started, 3),
            "warnings": [*self._warnings, *self._check()],
            "internal_errors": self._stumbles,
            "tun": {
                "name": self._tun.name,
                "mtu": settings.mtu,
                "addresses": [str(address) for address in settings.addresses],
                "offload": self._tun.offload,
                "refused": self._tun.refused,
            },
            "ports": [
                {"transport": name, "local": name_address(port.local), "drops": dict(port.drops)}
                for name, ports in [
                    *zip(self.node.transport_names, self._ports, strict=True),
                    *((instance.name, [instance.port]) for instance in self._instances.values()),
                ]
                for port in ports
            ],
        }

    def _carry_out(self, now: float) -> bool:
        """Open and close ports as the node has ordered; False if it has not."""
        carried_out = False
        while orders := self.node.take_orders():
            carried_out = True
            for order in orders:
                if isinstance(order, CloseOrder):
                    self._close_instance(order.transport)
                else:
                    instances = self._open_instances(order, now)
                    indexes = self.node.ports_opened(order, [instance.transport for instance in instances], now)
                    for index, instance in zip(indexes, instances, strict=True):
                        self._serve_instance(index, instance)
        return carried_out

    def _open_instances(self, order: OpenOrder, now: float) -> list[Instance]:
        """Open as many ports as can be had; say so if that is not enough, once a minute."""
        instances: list[Instance] = []
        try:
            while self.fresh_ports is not None and len(instances) < order.count:
                instances.append(self.fresh_ports.open(order.transport))
        except LtunnelError as error:
            if now >= self._tell_no_ports:
                self._tell_no_ports = now + _TELL_AGAIN
                text = f"cannot open another port to look for direct paths with: {error}"
                self._log(Event(name="no-port", text=text, level=Level.WARNING))
        return instances

    def _serve_instance(self, index: int, instance: Instance) -> None:
        self._instances[index] = instance
        self._loop.watch(instance.port.fileno(), self._guarded(partial(self.node.handle_port, index, instance.port)))

    def _close_instance(self, index: int) -> None:
        assert self.fresh_ports is not None  # noqa: S101 (it has opened them)
        instance = self._instances.pop(index)
        self._loop.unwatch(instance.port.fileno())
        self.fresh_ports.close(instance)

    def _nat(self, now: float) -> dict[str, Any]:
        """Return what is known of the NAT in front of this machine, and of the ways to other nodes."""
        if self.node.settings.role is Role.HUB:
            raise HostError("this is a server: clients find out about their NATs by asking it")
        return {**self.node.nat(now), "mapping": self._mapping}

    def take_mapping(self, mapped: Mapped, now: float) -> None:
        """Take what has come of asking routers for a port."""
        before, name = self._mapping, mapped.carrier.name.lower()
        self._mapping = {**before, name: mapped.protocol or None}
        self.node.mapped(mapped.carrier, mapped.address, mapped.lifetime, now)
        if mapped.error:
            text = f"the discovery plugin cannot ask routers for a port: {escape(mapped.error)}"
            self._log(Event(name="port-mapping", text=text, level=Level.WARNING))
        elif before.get(name) != self._mapping[name]:
            where = None if mapped.address is None else name_address(mapped.address)
            text = (
                "no router maps a port any more"
                if where is None
                else f"a router maps {where} here, by {mapped.protocol}"
            )
            self._log(Event(name="port-mapping", text=text, fields={"address": where, "protocol": mapped.protocol}))

    def _guarded(self, handler: Handler) -> Handler:
        """Keep a packet that trips the node over from taking the tunnel down with it: say where, and go on."""

        def guarded(now: float) -> bool | None:
            try:
                return handler(now)
            except OSError:  # of the device or a port: `run` knows
                raise
            except Exception as error:  # noqa: BLE001
                self._stumbled(error, now)
                return None

        return guarded

    def _stumbled(self, error: Exception, now: float) -> None:
        """Log an error of ours, once a minute, without what is in the packet."""
        self._stumbles += 1
        if now < self._tell_stumble:
            return
        self._tell_stumble = now + _TELL_AGAIN
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
        what = f"{type(error).__name__} at {place}"
        text = f"a batch of packets was dropped because of a mistake in ltunnel ({what}): please report it"
        self._log(Event(name="internal-error", text=text, level=Level.ERROR, fields={"count": self._stumbles}))

    def _announce(self) -> None:
        """Say in one line what runs here, and each warning in one of its own."""
        node, settings = self.node, self.node.settings
        name = settings.name
        fields = {
            "role": settings.role.value,
            "name": name,
            "network": settings.network,
            "key_check": settings.keys.check,
            "transport": node.transport_names,
            "cipher": settings.cipher,
            "device": self._tun.name,
            "addresses": settings.addresses,
            "mtu": settings.mtu,
            "ports": [name_address(port.local) for ports in self._ports for port in ports],
        }
        text = f"{settings.role.value} {name} is running, key check {settings.keys.check}"
        self._log(Event(name="start", text=text, fields=fields))
        for warning in (*self._warnings, *self._check()):
            self._log(Event(name="warning", text=warning, level=Level.WARNING))

    def _change_fec(self, request: dict[str, Any], now: float) -> dict[str, Any]:
        """Change what is sent against losses, as far as the request says how; return what is in effect."""
        fec = self.node.fec
        if fec is None:
            raise HostError("this ltunnel runs without a FEC plugin: start it with -fec fec_rs, on all machines")
        order = {name: request[name] for name in ("mode", "data", "parity") if request.get(name) is not None}
        if any(type(order.get(name, 0)) is not int for name in ("data", "parity")):
            raise HostError("data and parity: should be numbers")
        if order:
            try:
                fec.change(now, **order)
            except ValueError as error:
                raise HostError(str(error)) from None
            self._log(Event(name="fec", text="FEC was changed by order", fields=fec.status()))
        return {"fec": fec.status()}

    def _forget_binding(self, who: str, now: float) -> dict[str, Any]:
        control = self.node.control
        if self.node.settings.role is not Role.HUB:
            raise HostError("this is a client: only a server keeps addresses and names for clients")
        binding = control.forget_binding(who, now)
        if binding is None:
            raise HostError(f"no client has the name, address or key {escape(who)}")
        self._after_order(now)
        return {"forgotten": binding.to_dict()}

    def _forget_pin(self, name: str, now: float) -> dict[str, Any]:
        if not self.node.control.forget_pin(name, now):
            raise HostError(f"no server is pinned as {escape(name)}")
        self._after_order(now)
        return {"forgotten": name}

    def _after_order(self, now: float) -> None:
        """Send and store what an order to the control side has led to."""
        self.node.handle_timeout(now)
        self._take_events(now)

    def _take_events(self, now: float) -> None:
        for event in self.node.take_events(now):
            self._log(event)
            if event.name in self._savers:
                self._save(event.name, now)

    def _save(self, name: str, now: float) -> None:
        """Store what changed. A full disk costs a warning, not the tunnel: what is in memory still holds."""
        failed_before = self._unsaved.pop(name, None) is not None
        try:
            self._savers[name]()
        except (OSError, HostError) as error:
            self._unsaved[name] = now + _RETRY_SAVE
            if not failed_before:
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                text = f"cannot store {name}: {reason}; trying again every {_RETRY_SAVE:.0f} s"
                self._log(Event(name="not-stored", text=text, level=Level.ERROR))
        else:
            if failed_before:
                self._log(Event(name="stored", text=f"{name} are stored again"))

    def _refresh_wall_clock(self, now: float) -> None:
        self.node.control.wall_offset = time.time() - now
