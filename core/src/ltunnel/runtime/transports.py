"""Opening the transports of a node: one that cannot be had on this machine is left out, as long as another can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from ltunnel.errors import HostError, LtunnelError, PluginError
from ltunnel.plugin import Transport, TransportContext, TransportDescriptor
from ltunnel.registry import Part
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.ports import OpenPort, open_ports
from ltunnel.wire.text import escape


class Opened(NamedTuple):
    """A transport at work."""

    name: str
    transport: Transport
    ports: list[OpenPort]


def open_transports(
    parts: Sequence[Part[TransportDescriptor]],
    context: TransportContext,
    changes: HostChanges,
    stack: ExitStack,
    *,
    receive_buffer: int,
) -> tuple[list[Opened], list[str]]:
    """Open what can be opened, in order; their ports are closed by `stack`. Also return what an operator should hear.

    Raises `HostError` when none can be had, `PluginError` when a plugin's code fails.
    """
    opened: list[Opened] = []
    warnings: list[str] = []
    failures: dict[str, HostError] = {}
    for part in parts:
        with ExitStack() as own:
            try:
                found = _open(part, context, changes, own, receive_buffer)
            except HostError as error:
                failures[part.name] = error
                continue
            with set_up(part.name):
                warnings += part.descriptor.warnings(part.options, context)
            opened.append(found)
            stack.push(own.pop_all())
    if not opened:
        raise _joined(failures)
    return opened, [f"goes without {name}: {error}" for name, error in failures.items()] + warnings


def _joined(failures: Mapping[str, HostError]) -> HostError:
    """Say in one line why no transport can be had."""
    first, *others = failures.values()
    if all(str(other) == str(first) for other in others):
        return first
    return HostError("; ".join(f"{name}: {error}" for name, error in failures.items()))


def _open(
    part: Part[TransportDescriptor], context: TransportContext, changes: HostChanges, stack: ExitStack,
    receive_buffer: int,
) -> Opened:  # fmt: skip
    """Open a transport's ports, change the host as it needs, and make it."""
    with set_up(part.name):
        specs = part.descriptor.ports(part.options, context)
        ports = open_ports(specs, changes, receive_buffer=receive_buffer)
        for port in ports:
            stack.callback(port.close)
        changes.add_rules(part.descriptor.host_rules(part.options, ports))
        return Opened(part.name, part.descriptor.create(part.options, ports, context), ports)


@contextmanager
def set_up(name: str) -> Iterator[None]:
    """Turn what the code of a plugin raises into a `PluginError`, unless it is an error for the operator already."""
    try:
        yield
    except LtunnelError:
        raise
    except Exception as error:
        reason = escape(str(error)) or "no reason given"
        raise PluginError(f"plugin {name} cannot be set up: {type(error).__name__}: {reason}") from error
