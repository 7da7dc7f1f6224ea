"""More VPNs, as Debian packages them and with their own defaults: measured with ``PEERS=all``."""

import time
from pathlib import Path

from bench.peers import HUB, NODE, OTHER, Peer
from lab import Host, LabError

_NAMES = {HUB: "hub", NODE: "node", OTHER: "other"}
_MASK = "255.255.255.0"


class _Others(Peer):
    """What these have in common: a folder of files per host, and an inner network of their own."""

    network: str

    def address(self, place: int) -> str:
        """Return an inner address."""
        return f"{self.network}.{place}"

    def _hosts(self) -> dict[int, Host]:
        return {HUB: self.arena.hub, NODE: self.arena.node, OTHER: self.arena.other}

    def _way_to_hub(self, place: int) -> str:
        return self.arena.hub_for_other if place == OTHER else self.arena.hub_for_node


class Nebula(_Others):
    """Nebula; the hub is lighthouse and relay."""

    name = "nebula"
    needs = ("nebula", "nebula-cert")
    package = "nebula"
    network = "10.80.0"

    def start(self) -> None:
        """Make a certificate for each host and start the three."""
        folder = self.arena.hub.folder
        authority: list[str | Path] = ["-ca-crt", folder / "ca.crt", "-ca-key", folder / "ca.key"]
        run = self.arena.hub.run
        run("nebula-cert", "ca", "-name", "bench", "-out-crt", folder / "ca.crt", "-out-key", folder / "ca.key")
        for place, host in self._hosts().items():
            out: list[str | Path] = ["-out-crt", host.folder / "host.crt", "-out-key", host.folder / "host.key"]
            address = f"{self.address(place)}/24"
            run("nebula-cert", "sign", *authority, "-name", _NAMES[place], "-ip", address, *out)
            config = host.folder / "nebula.yml"
            config.write_text(self._config(place, host.folder, folder / "ca.crt"))
            self.arena.start(host, "nebula", ["nebula", "-config", config])

    def _config(self, place: int, folder: Path, authority: Path) -> str:
        is_hub = "true" if place == HUB else "false"
        lighthouse = "[]" if place == HUB else f"['{self.address(HUB)}']"
        any_host = "[{port: any, proto: any, host: any}]"
        return f"""
pki: {{ca: {authority}, cert: {folder}/host.crt, key: {folder}/host.key}}
static_host_map: {{'{self.address(HUB)}': ['{self._way_to_hub(place)}:4242']}}
lighthouse: {{am_lighthouse: {is_hub}, hosts: {lighthouse}}}
relay: {{am_relay: {is_hub}, use_relays: true, relays: {lighthouse}}}
listen: {{host: 0.0.0.0, port: {4242 if place == HUB else 0}}}
tun: {{dev: nebula0}}
firewall: {{outbound: {any_host}, inbound: {any_host}}}
"""


class Tinc(_Others):
    """tinc 1.0; the nodes know the hub, and reach each other through it."""

    name = "tinc"
    needs = ("tincd",)
    package = "tinc"
    network = "10.81.0"

    def start(self) -> None:
        """Make keys, tell the hub and each node of the other, and start the three."""
        hosts = self._hosts()
        public = {}
        for place, host in hosts.items():
            folder = host.folder / "tinc"
            (folder / "hosts").mkdir(parents=True)
            connect = "" if place == HUB else "ConnectTo = hub\n"
            (folder / "tinc.conf").write_text(f"Name = {_NAMES[place]}\nInterface = tinc0\n{connect}")
            (folder / "hosts" / _NAMES[place]).write_text(f"Subnet = {self.address(place)}/32\n")
            host.run("tincd", "-c", folder, "-K2048", timeout=60)
            public[place] = (folder / "hosts" / _NAMES[place]).read_text()
        for place, host in hosts.items():
            for known in (NODE, OTHER) if place == HUB else (HUB,):
                address = f"Address = {self._way_to_hub(place)}\n" if known == HUB else ""
                (host.folder / "tinc/hosts" / _NAMES[known]).write_text(address + public[known])
        for place, host in hosts.items():
            folder = host.folder / "tinc"
            self.arena.start(host, "tinc", ["tincd", "-D", "-c", folder, f"--pidfile={folder}/pid"])
            _wait_for_device(host, "tinc0")
            host.add_address("tinc0", f"{self.address(place)}/24")
            host.up("tinc0")


class OpenVpn(_Others):
    """OpenVPN over UDP in user space; the hub forwards between clients."""

    name = "openvpn"
    needs = ("openvpn", "openssl")
    package = "openvpn openssl"
    network = "10.82.0"

    def start(self) -> None:
        """Make self-signed certificates that the others know by fingerprint, and start the three."""
        hosts = self._hosts()
        fingerprint = {place: self._certificate(host, _NAMES[place]) for place, host in hosts.items()}
        clients = self.arena.hub.folder / "clients"
        clients.mkdir()
        for place in (NODE, OTHER):
            (clients / _NAMES[place]).write_text(f"ifconfig-push {self.address(place)} {_MASK}\n")
        for place, host in hosts.items():
            known = [fingerprint[NODE], fingerprint[OTHER]] if place == HUB else [fingerprint[HUB]]
            own = (
                f"server {self.network}.0 {_MASK}\ntopology subnet\nport 1194\ndh none\nclient-to-client\n"
                f"client-config-dir {clients}\n"
                if place == HUB
                else f"client\nnobind\nremote {self._way_to_hub(place)} 1194\n"
            )
            config = host.folder / "openvpn.conf"
            config.write_text(
                f"dev tun\nproto udp4\ndisable-dco\nkeepalive 10 60\n{own}"
                f"cert {host.folder}/host.crt\nkey {host.folder}/host.key\n"
                + "<peer-fingerprint>\n" + "\n".join(known) + "\n</peer-fingerprint>\n"
            )  # fmt: skip
            self.arena.start(host, "openvpn", ["openvpn", "--config", config])

    def _certificate(self, host: Host, name: str) -> str:
        """Make a key and a certificate; returns its SHA-256 fingerprint."""
        certificate, key = host.folder / "host.crt", host.folder / "host.key"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        host.run("openssl", "req", "-x509", *curve, "-subj", f"/CN={name}", "-keyout", key, "-out", certificate)
        answer = host.run("openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256").stdout
        return answer.strip().partition("=")[2]


def _wait_for_device(host: Host, device: str) -> None:
    deadline = time.monotonic() + 10
    while not host.netlink.link_lookup(ifname=device):
        if time.monotonic() > deadline:
            raise LabError(f"{host.name} got no device {device}")
        time.sleep(0.05)


OTHERS: tuple[type[Peer], ...] = (Nebula, Tinc, OpenVpn)
