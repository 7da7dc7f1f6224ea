"""Flags, and the way they may be written: as Go programs take them.

``-mtu 1300``, ``-mtu=1300``, ``--mtu 1300`` and ``--mtu=1300`` are one; a flag that is a switch takes a value only
after ``=`` (``-multi-client=false``), any other takes the next argument whatever it looks like. What follows the first
argument that is no flag belongs to a subcommand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag of the program."""

    name: str
    """The long name, without dashes."""
    field: str | None
    """The field of `ltunnel.config.Config` that it sets."""
    letter: str = ""
    switch: bool = False
    """Takes no argument of its own."""
    metavar: str = "TEXT"

    @property
    def spelling(self) -> str:
        """The flag as the documents write it."""
        return f"-{self.letter or self.name}"


CONFIG_FILE = "config"
VERSION = "version"
HELP = "help"

FLAGS = (
    Flag(name="mode", field="mode", letter="m", metavar="server|client"),
    Flag(name="local-addr", field="local_addr", letter="l", metavar="ADDRESS:PORT"),
    Flag(name="remote-addr", field="remote_addr", letter="r", metavar="HOST:PORT"),
    Flag(name="tunnel-addr", field="tunnel_addr", letter="t", metavar="ADDRESS/PREFIX"),
    Flag(name="key", field="key", letter="k", metavar="KEY"),
    Flag(name="key-file", field="key_file", metavar="FILE"),
    Flag(name=CONFIG_FILE, field=None, letter="c", metavar="FILE"),
    Flag(name="name", field="name", metavar="NAME"),
    Flag(name="network", field="network", metavar="NAME"),
    Flag(name="mtu", field="mtu", metavar="BYTES"),
    Flag(name="tun-name", field="tun_name", metavar="NAME"),
    Flag(name="multi-client", field="multi_client", switch=True),
    Flag(name="max-clients", field="max_clients", metavar="N"),
    Flag(name="client-isolation", field="client_isolation", switch=True),
    Flag(name="send-queue", field="send_queue_size", metavar="PACKETS"),
    Flag(name="recv-queue", field="recv_queue_size", metavar="PACKETS"),
    Flag(name="transport", field="transport", metavar="PLUGIN[,PLUGIN]"),
    Flag(name="cipher", field="cipher", metavar="PLUGIN"),
    Flag(name="tls", field="tls_enabled", switch=True),
    Flag(name="tls-cert", field="tls_cert_file", metavar="FILE"),
    Flag(name="tls-key", field="tls_key_file", metavar="FILE"),
    Flag(name="tls-skip-verify", field="tls_skip_verify", switch=True),
    Flag(name="log-level", field="log_level", metavar="debug|info|warning|error"),
    Flag(name="log-format", field="log_format", metavar="text|json"),
    Flag(name=VERSION, field=None, letter="v", switch=True),
    Flag(name=HELP, field=None, letter="h", switch=True),
    Flag(name="fec", field="fec", metavar="PLUGIN|none"),
    Flag(name="fec-mode", field="fec_mode", metavar="off|fixed|auto|latency|spread"),
    Flag(name="fec-data", field="fec_data", metavar="K"),
    Flag(name="fec-parity", field="fec_parity", metavar="M"),
    Flag(name="fec-deadline", field="fec_deadline", metavar="MS"),
    Flag(name="fec-target", field="fec_target", metavar="SHARE"),
    Flag(name="fec-overhead", field="fec_overhead", metavar="SHARE"),
    Flag(name="p2p", field="p2p_enabled", switch=True),
    Flag(name="p2p-port", field="p2p_port", metavar="PORT"),
    Flag(name="discovery", field="discovery", metavar="PLUGIN|none"),
    Flag(name="routing", field="routing", metavar="PLUGIN|none"),
    Flag(name="mesh-routing", field="enable_mesh_routing", switch=True),
    Flag(name="max-hops", field="max_hops", metavar="N"),
    Flag(name="route-update", field="route_update_interval", metavar="SECONDS"),
    Flag(name="routes", field="routes", metavar="NETWORK[,NETWORK]"),
    Flag(name="accept-routes", field="accept_routes", metavar="all|NETWORK[,NETWORK]"),
    Flag(name="masquerade", field="masquerade", switch=True),
)

_BY_SPELLING = {spelling: flag for flag in FLAGS for spelling in (flag.name, flag.letter) if spelling}


def normalise(arguments: Sequence[str]) -> list[str]:
    """Return arguments in the one form that the parser knows: ``--name=value``, then those of a subcommand.

    Unknown flags and missing values are left to the parser, which has words for them.
    """
    return list(_normalised(list(arguments)))


def _normalised(rest: list[str]) -> Iterator[str]:
    while rest:
        argument = rest.pop(0)
        if len(argument) < 2 or not argument.startswith("-") or argument == "--":
            yield argument
            yield from _subcommand(rest)
            return
        spelling, equals, value = argument.removeprefix("-").removeprefix("-").partition("=")
        flag = _BY_SPELLING.get(spelling)
        if flag is None:
            yield f"--{spelling}{equals}{value}"
        elif equals:
            yield f"--{flag.name}={value}"
        elif flag.field is None and flag.switch:
            yield f"--{flag.name}"
        elif flag.switch:
            yield f"--{flag.name}=true"
        elif rest:
            yield f"--{flag.name}={rest.pop(0)}"
        else:
            yield f"--{flag.name}"


def _subcommand(arguments: list[str]) -> Iterator[str]:
    """Give the arguments of a subcommand; a long option may have one dash there too."""
    for index, argument in enumerate(arguments):
        if argument == "--":
            yield from arguments[index:]
            return
        name = argument[1:].partition("=")[0]
        is_long = argument.startswith("-") and len(name) > 1 and name[0].isalpha()
        yield f"-{argument}" if is_long else argument
