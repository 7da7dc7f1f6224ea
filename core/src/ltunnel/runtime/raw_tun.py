"""TCP packets by way of a second TUN device, behind which the transport is a machine of its own.

    send   write to the device ─► kernel: route, translate to an address of ours, cut ─► out
    recv   in ─► kernel: translate our port numbers to the machine behind the device, forward ─► read from the device

The kernel does all that it does for others' packets, so any interface will do, and the host's firewall is passed. It
must forward for that: in IPv4 the device and every interface that packets come in by, in IPv6 too where the kernel can
say so for single interfaces (Linux 6.17), else only where the machine is a router already. An interface that forwards
only because of us forwards nothing else, until the machine becomes a router: then it is the operator who wants that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_interface
from struct import Struct

from ltunnel.errors import HostError
from ltunnel.plugin import Buffer, Endpoint, Route
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.host_rules import Forwarding
from ltunnel.runtime.netlink import configure_tun
from ltunnel.runtime.raw_join import ACK, Joiner
from ltunnel.runtime.raw_numbers import Numbers
from ltunnel.runtime.raw_routes import Routes
from ltunnel.runtime.tun import open_tun

Random = Callable[[int], bytes]
"""So many random bytes."""

_VNET_SIZE = 10
_SHORTEST = _VNET_SIZE + 40
_PLAIN = Struct("<4xH4xB8xB2x8s2x2s9xB")
"""What `recv` looks at, where the IP header is one of IPv4 without options: (gso_size, its first byte, protocol,
packed source and destination, port number, TCP's flags)."""
_FLAGS_AT = 13

_MTU = 65_535  # what comes in was cut by others
_QUEUE = 5000
_LARGEST_PACKET = 65_536
_NAME_LIMIT = 15
_SUFFIX = "-tcp"
_KEPT = 4096
_TURN = 256
_TURNS = range(_TURN)
_TCP = int(socket.IPPROTO_TCP)


class RoutedPort:
    """See `ltunnel.plugin.RawPort`. Raises `HostError`.

    The device is named after the node's own one. `drops` counts packets, cut ones by their
    segments: "queue full", and "refused" for what the device would not take.
    """

    def __init__(self, numbers: Numbers, secret: bytes, host: HostChanges, random: Random) -> None:
        self.local = numbers.local
        self.numbers: Sequence[int] = numbers.all
        self.secret = secret
        self.drops: dict[str, int] = {}
        self.changes = 0
        self._ports = frozenset(number.to_bytes(2, "big") for number in numbers.all)
        self._bound = None if numbers.bound is None else str(numbers.local[0])
        self._host = host
        self._sources: dict[bytes, Endpoint | None] = {}
        self._opened: dict[int, list[str]] = {4: [], 6: []}
        self._seen: set[tuple[int, str]] = set()
        self._routers: set[int] = set()
        self._left = _TURN
        self._served = False
        with contextlib.ExitStack() as stack:
            stack.callback(numbers.close)
            self._versions = tuple(version for version in numbers.versions if self._can_forward(version, numbers))
            self._inside = {version: choose_inside(version, random) for version in self._versions}
            self._packed = {address.packed for address in self._inside.values()}
            self._routes = stack.enter_context(contextlib.closing(Routes(self._versions, numbers.bound)))
            self._device = open_tun(host.device[: _NAME_LIMIT - len(_SUFFIX)] + _SUFFIX)
            stack.callback(self._device.close)
            self._fd = self._device.fileno()
            if not self._device.offload:
                raise HostError("backend tun needs TUN devices with offloads, which this kernel has not got")
            self._ignored = {"lo", host.device}
            self._routers = self._router_versions()
            self._configure()
            stack.callback(host.stop_forwarding)
            self._forward()
            self._epoll = stack.enter_context(select.epoll())
            self._joiner = stack.enter_context(contextlib.closing(Joiner()))
            self._epoll.register(self._routes, select.EPOLLIN)
            self._epoll.register(self._joiner.flag, select.EPOLLIN)
            self._epoll.register(self._fd, select.EPOLLIN)
            self._all = stack.pop_all()

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Remove the device and give the numbers back; what the host was asked to do is for `HostChanges` to undo."""
        self._all.close()

    # ---------------------------------------------------------------- as a RawPort

    def send(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:  # noqa: ARG002
        """Send one packet or super-packet; see `ltunnel.plugin.RawPort`."""
        try:
            os.write(self._fd, buf[start:end])
        except OSError as error:
            if error.errno in (errno.EBADF, errno.EBADFD):
                raise
            reason = "queue full" if isinstance(error, BlockingIOError) else "refused"
            count = max(1, -(-(end - start - _SHORTEST) // seg)) if seg else 1
            self.drops[reason] = self.drops.get(reason, 0) + count
            return False
        return True

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Receive a packet, or what GRO made of several; see `ltunnel.plugin.RawPort`."""
        joiner = self._joiner
        for _ in _TURNS:
            self._left -= 1
            if not self._left:
                self._look_around()
            try:
                size = joiner.take(buf, pos) if joiner.kept else os.readv(self._fd, (buf[pos:] if pos else buf,))
            except BlockingIOError:
                if not self._served:  # news of the network have woken the loop
                    self._look_around()
                self._served = False
                raise
            self._served = True
            seg, first, protocol, ends, port, flags = _PLAIN.unpack_from(buf, pos)
            if first != 0x45:
                protocol, ends, port, flags = _look(buf, pos + _VNET_SIZE)
            if protocol != _TCP or port not in self._ports or size < _SHORTEST:
                continue
            try:
                source = self._sources[ends]
            except KeyError:
                source = self._introduce(ends)
            if source is not None:
                end = pos + size
                if flags == ACK and not seg:
                    end, seg = joiner.join(self._fd, buf, pos, pos + _VNET_SIZE, end)
                return pos, end, seg, source
        raise BlockingIOError  # the loop comes back

    def route(self, host: str) -> Route | None:
        """Return how packets get to `host`: from the address behind the device; see `ltunnel.plugin.RawPort`."""
        found = self._routes.find(host)
        return None if found is None else found._replace(source=self._inside[6 if ":" in host else 4].packed)

    # ---------------------------------------------------------------- the host's part

    def _can_forward(self, version: int, numbers: Numbers) -> bool:
        """Whether packets of an IP version can be forwarded here. Raises `HostError` if there is no other version."""
        if version == 4:
            return True
        if self._host.setting("net/ipv6/conf/all/disable_ipv6") == "1":
            return False
        if self._is_router(6):
            return True
        if self._host.setting("net/ipv6/conf/default/force_forwarding") is not None:
            return True
        reason = "backend tun needs net.ipv6.conf.all.forwarding for IPv6 on this kernel: set it, or use backend packet"
        if 4 not in numbers.versions:
            raise HostError(reason)
        self._host.complain(f"serving IPv4 only: {reason}")
        return False

    def _configure(self) -> None:
        bits = {4: 30, 6: 126}
        addresses = [ip_interface(f"{address - 1}/{bits[version]}") for version, address in self._inside.items()]
        configure_tun(self._device.name, mtu=_MTU, queue=_QUEUE, addresses=addresses, gso_max_size=_LARGEST_PACKET)

    def _forward(self) -> None:
        """Let the kernel forward between the device and all others that there are now. Raises `HostError`.

        The rules come first, so that no interface forwards anything else for a moment.
        """
        self._seen = set(socket.if_nameindex())
        settings = []
        for version in self._versions:
            for _, name in sorted(self._seen):
                setting = self._closed(version, name)
                if setting is not None and name not in self._ignored:
                    settings.append(setting)
                    if name != self._device.name and name not in self._opened[version]:
                        self._opened[version].append(name)
        self._host.forward(
            Forwarding(
                device=self._device.name,
                inside={version: str(address) for version, address in self._inside.items()},
                numbers=self.numbers,
                bound=self._bound,
                opened={version: tuple(names) for version, names in self._opened.items()},
            )
        )
        for setting in settings:
            self._host.change_setting(setting, "1")

    def _closed(self, version: int, name: str) -> str | None:
        """Return the setting with which a device would forward; None if it does, or is gone."""
        setting = f"net/ipv{version}/conf/{name}/forwarding"
        if version == 6:
            if self._is_router(6):
                return None
            setting = f"net/ipv6/conf/{name}/force_forwarding"
        return setting if self._host.setting(setting) == "0" else None

    def _is_router(self, version: int) -> bool:
        return self._host.setting(f"net/ipv{version}/conf/all/forwarding") == "1"

    def _router_versions(self) -> set[int]:
        """Return the IP versions in which this machine forwards between any of its interfaces."""
        return {version for version in self._versions if self._is_router(version)}

    def _start_anew(self) -> bool:
        """Give up what was opened where forwarding has been switched on or off for the whole machine.

        Returns whether there is such an IP version. In IPv4 the switch has set every interface to the same.
        """
        before, self._routers = self._routers, self._router_versions()
        for version in before ^ self._routers:
            self._host.put_back(f"net/ipv{version}/")
            self._opened[version].clear()
        return before != self._routers

    # ---------------------------------------------------------------- what is known of the network

    def _look_around(self) -> None:
        self._left = _TURN
        if self._routes.fileno() not in (fd for fd, _ in self._epoll.poll(0)):
            return
        changed, _ = self._routes.take_news()
        self.changes += changed
        if changed and (self._start_anew() or not self._seen.issuperset(socket.if_nameindex())):
            try:
                self._forward()
            except HostError as error:
                self._host.complain(str(error))

    def _introduce(self, ends: bytes) -> Endpoint | None:
        """Name the source of a packet by its packed (source, destination); None if it is not sent to us."""
        size = len(ends) // 2
        family = socket.AF_INET if size == 4 else socket.AF_INET6
        source = (socket.inet_ntop(family, ends[:size]),) if ends[size:] in self._packed else None
        if len(self._sources) >= _KEPT:
            self._sources.clear()
        self._sources[ends] = source
        return source


def _look(buf: Buffer, ip: int) -> tuple[int, bytes, bytes, int]:
    """Return protocol, packed source and destination, port number and TCP's flags of any IP packet."""
    if buf[ip] >> 4 == 4:
        protocol, ends, tcp = buf[ip + 9], buf[ip + 12 : ip + 20], ip + (buf[ip] & 15) * 4
    else:
        protocol, ends, tcp = buf[ip + 6], buf[ip + 8 : ip + 40], ip + 40
    return protocol, bytes(ends), bytes(buf[tcp + 2 : tcp + 4]), buf[tcp + _FLAGS_AT]


def choose_inside(version: int, random: Random) -> IPv4Address | IPv6Address:
    """Choose an address that nobody else here has: link-local for IPv4 (RFC 3927), unique local for IPv6 (RFC 4193).

    The one before it is for the kernel's end of the device. Cloud services have 169.254.169.0/24 and 169.254.170.0/24.
    """
    if version == 6:
        return IPv6Address(b"\xfd" + random(7) + bytes(7) + b"\x02")
    while True:
        third, fourth = random(2)
        if 1 <= third <= 254 and third not in (169, 170):
            return IPv4Address(bytes((169, 254, third, fourth & 0xFC | 2)))
