"""A lab: hosts, and an internet of one router between them."""

import atexit
import contextlib
import itertools
import shutil
import signal
import tempfile
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path
from types import TracebackType

from lab import owner
from lab.host import Host

_serial = itertools.count()


class Lab:
    """Builds hosts and takes everything away at its end. Use it in a `with` statement.

    Hosts are joined to the internet with `attach`: each gets a network of its own on a router that forwards between
    them, so that no two hosts share a link, as it is in life.
    """

    def __init__(self) -> None:
        owner.sweep()
        self.prefix = f"{owner.own_prefix()}{next(_serial)}."
        self.folder = Path(tempfile.gettempdir()) / f"{self.prefix}files"
        self.hosts: dict[str, Host] = {}
        atexit.register(self.close)  # before there is anything: an interrupt can fall anywhere
        self.folder.mkdir(mode=0o700)

    def __enter__(self) -> "Lab":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def host(self, name: str, *, ipv6: bool = False) -> Host:
        """Add a host: a namespace with nothing but its loopback. Without `ipv6` it speaks none."""
        self.hosts[name] = Host(name, self.prefix + name, self.folder / name, ipv6=ipv6)
        return self.hosts[name]

    @property
    def internet(self) -> Host:
        """The router between the hosts; made at first use."""
        if "internet" not in self.hosts:
            router = self.host("internet", ipv6=True)
            router.sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
        return self.hosts["internet"]

    def attach(self, host: Host, *addresses: str, device: str = "eth0", mtu: int = 1500) -> str:
        """Join a host to the internet with these addresses (with prefix); the router takes the first of each network.

        Returns the router's device towards the host: the place for loss, rate limits and counters.
        """
        outer = f"to-{host.name}"[:15]
        host.veth(device, self.internet, outer, mtu)
        for address in addresses:
            self.address(host, address, device)
        return outer

    def address(self, host: Host, address: str, device: str = "eth0") -> None:
        """Give an attached host a further address, in a network of the router, and its default route through it."""
        network = ip_interface(address).network
        gateway = f"{network[1]}/{network.prefixlen}"
        router_device = f"to-{host.name}"[:15]
        if gateway not in self.internet.addresses(router_device):
            self.internet.add_address(router_device, gateway)
        host.add_address(device, address)
        host.add_route("0.0.0.0/0" if network.version == 4 else "::/0", str(network[1]))

    def close(self) -> None:
        """Remove all hosts with their programs, and the folder with their files."""
        with _uninterrupted():
            for host in self.hosts.values():
                for program in host.programs:
                    program.kill()
                host.netlink.close()
            # By name, not by `hosts`: an interrupt can fall between making a namespace and remembering it.
            for namespace in owner.namespaces(self.prefix):
                owner.destroy_namespace(namespace)
            self.hosts.clear()
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C and its like, so that a second one does not stop the cleaning up half way."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
