"""The kinds of plugin: for each its hook, its descriptor, and what a descriptor must hold."""

from collections.abc import Callable
from enum import Enum
from typing import Any

from ltunnel.plugin import (
    CipherDescriptor,
    DiscoveryDescriptor,
    FecDescriptor,
    Options,
    RoutingDescriptor,
    TransportDescriptor,
)

Descriptor = TransportDescriptor | CipherDescriptor | FecDescriptor | DiscoveryDescriptor | RoutingDescriptor

_NOISE_KEY = 32  # sessions derive keys of this many bytes; a cipher may use fewer
_WIRE_NAME_LIMIT = 16


class Kind(Enum):
    """What a plugin can be."""

    TRANSPORT = "transport"
    CIPHER = "cipher"
    FEC = "fec"
    DISCOVERY = "discovery"
    ROUTING = "routing"

    @property
    def hook(self) -> str:
        """Name of the hook that provides it."""
        return f"ltunnel_{self.value}"

    @property
    def descriptor(self) -> type[Descriptor]:
        """What the hook must return."""
        return _DESCRIPTORS[self]


_DESCRIPTORS: dict[Kind, type[Descriptor]] = {
    Kind.TRANSPORT: TransportDescriptor,
    Kind.CIPHER: CipherDescriptor,
    Kind.FEC: FecDescriptor,
    Kind.DISCOVERY: DiscoveryDescriptor,
    Kind.ROUTING: RoutingDescriptor,
}


def fault(kind: Kind, descriptor: object) -> str | None:
    """Say what is wrong with what a hook returned, or None when it is right."""
    if not isinstance(descriptor, kind.descriptor):
        return f"{kind.hook} returned {type(descriptor).__name__}, not {kind.descriptor.__name__}"
    options: Any = descriptor.options
    if not (isinstance(options, type) and issubclass(options, Options)):
        return f"{kind.hook}: options is not a subclass of ltunnel.plugin.Options"
    if options.model_config.get("extra") != "forbid" or not options.model_config.get("frozen"):
        return f"{kind.hook}: the options model must forbid unknown fields and be frozen"
    makers: list[Callable[..., object]] = [descriptor.create]
    if isinstance(descriptor, TransportDescriptor):
        makers.append(descriptor.ports)
        if callable(descriptor.overhead):
            makers.append(descriptor.overhead)
        elif descriptor.overhead < 0:
            return f"{kind.hook}: overhead is negative"
    if not all(callable(maker) for maker in makers):
        return f"{kind.hook}: the descriptor holds something that cannot be called"
    if isinstance(descriptor, TransportDescriptor | CipherDescriptor | FecDescriptor) and not descriptor.wire_name:
        return f"{kind.hook}: wire_name is empty"
    if isinstance(descriptor, CipherDescriptor):
        if len(descriptor.wire_name.encode()) > _WIRE_NAME_LIMIT:
            return f"{kind.hook}: wire_name is longer than {_WIRE_NAME_LIMIT} bytes"
        if not 0 < descriptor.key_size <= _NOISE_KEY:
            return f"{kind.hook}: key_size is not between 1 and {_NOISE_KEY}"
    return None
