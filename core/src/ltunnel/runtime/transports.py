"""Opening the transports of a node: one that cannot be had on this machine is left out, as long as another can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from ltunnel.errors import HostError, LtunnelError, PluginError
from ltunnel.node.sharing import can_share, same_number
from ltunnel.plugin import PortSpec, Transport, TransportContext, TransportDescriptor
from ltunnel.registry import Part
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.ports import OpenPort, open_ports, taken_by
from ltunnel.runtime.shared import Sharing
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
    asked: dict[str, Sequence[PortSpec]] = {}
    for part in parts:
        with set_up(part.name):
            asked[part.name] = part.descriptor.ports(part.options, context)
    sharing = Sharing(asked.values())  # before the first is opened: a socket is shared from the start, or never
    opened: list[Opened] = []
    warnings: list[str] = []
    failures: dict[str, HostError] = {}
    for part in parts:
        specs = asked[part.name]
        with ExitStack() as own:
            try:
                _check_numbers(specs, [(other.name, asked[other.name]) for other in opened])
                ports = open_ports(specs, changes, receive_buffer, sharing)
                for port in ports:
                    own.callback(port.close)
                found = _make(part, ports, context, changes)
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


def _check_numbers(specs: Sequence[PortSpec], opened: Sequence[tuple[str, Sequence[PortSpec]]]) -> None:
    """See that no transport that is open has one of these numbers for itself. Raises `HostError`."""
    for spec in specs:
        rivals = [(name, other) for name, others in opened for other in others if same_number(spec, other)]
        for name, other in rivals:
            if not can_share(spec, [other]):
                raise HostError(taken_by(spec, name))


def _make(
    part: Part[TransportDescriptor], ports: list[OpenPort], context: TransportContext, changes: HostChanges
) -> Opened:
    """Change the host as a transport needs, and make it. What a failure leaves are its ports."""
    with set_up(part.name):
        rules = part.descriptor.host_rules(part.options, ports)
        changes.add_rules(rules)
        try:
            return Opened(part.name, part.descriptor.create(part.options, ports, context), ports)
        except BaseException:
            changes.drop_rules(rules)
            raise


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
