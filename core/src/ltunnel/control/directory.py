"""The hub's directory: which node key has which tunnel addresses and which name.

A binding outlives sessions and restarts (the runtime stores it), so an address belongs to the key that had it first
until somebody forgets the binding. Addresses and names are claimed together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from typing import Any

from ltunnel.wire.frames import DenyCode
from ltunnel.wire.text import valid_name

Interface = IPv4Interface | IPv6Interface
IpAddress = IPv4Address | IPv6Address

BINDING_LIMIT = 4096
"""A holder of the network's key can make as many bindings as it likes, up to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A node's key (32 bytes), tunnel addresses and name."""

    key: bytes
    addresses: tuple[IpAddress, ...]
    name: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as what JSON knows."""
        return {"key": self.key.hex(), "addresses": [str(address) for address in self.addresses], "name": self.name}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Binding:
        """Make it from what `to_dict` returned. ValueError, with what is wrong, for anything else."""
        key, addresses, name = data.get("key"), data.get("addresses"), data.get("name")
        if not isinstance(key, str) or not isinstance(name, str) or not isinstance(addresses, list):
            raise ValueError("a binding has a key, addresses and a name")
        if not valid_name(name):
            raise ValueError("name of a binding is not printable, or longer than 63 bytes")
        raw = bytes.fromhex(key)
        if len(raw) != 32:
            raise ValueError(f"key of a binding has {len(raw)} bytes instead of 32")
        return cls(key=raw, addresses=tuple(ip_address(address) for address in addresses), name=name)


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a node is not taken: a code for programs, a text that the node's owner reads."""

    code: DenyCode
    text: str


class Directory:
    """Bindings, and who gets what.

    `own` are the hub's tunnel addresses with the networks that nodes' addresses must lie in, `own_name` is taken.
    """

    __slots__ = ("_by_address", "_by_key", "_by_name", "_limit", "_own", "_own_name")

    def __init__(
        self, own: Sequence[Interface], own_name: str, bindings: Iterable[Binding] = (), limit: int = BINDING_LIMIT
    ) -> None:
        self._own = tuple(own)
        self._own_name = own_name
        self._limit = limit
        self._by_key: dict[bytes, Binding] = {}
        self._by_address: dict[IpAddress, bytes] = {}
        self._by_name: dict[str, bytes] = {}
        for binding in bindings:
            self._store(binding)

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """All bindings, the oldest first."""
        return tuple(self._by_key.values())

    def find(self, who: str) -> Binding | None:
        """Find a binding by name, tunnel address or hexadecimal key."""
        by_name = self._by_name.get(_same(who))
        if by_name is not None:
            return self._by_key[by_name]
        return next((b for b in self._by_key.values() if who == b.key.hex() or who in map(str, b.addresses)), None)

    def owner(self, address: IpAddress) -> bytes | None:
        """Return the key that an address belongs to, or None."""
        return self._by_address.get(address)

    def get(self, key: bytes) -> Binding | None:
        """Return a key's binding, or None."""
        return self._by_key.get(key)

    def claim(self, key: bytes, wanted: Sequence[Interface], name: str) -> Binding | Denial:
        """Bind a key to addresses and a name, instead of what it was bound to before."""
        if not wanted:
            return Denial(DenyCode.ADDRESS_OUTSIDE, "no tunnel address was asked for")
        for interface in wanted:
            denial = self._refuse_address(key, interface.ip)
            if denial is not None:
                return denial
        if _same(name) == _same(self._own_name) or self._by_name.get(_same(name), key) != key:
            return Denial(DenyCode.NAME_TAKEN, f"the name {name} belongs to another node: choose another")
        if key not in self._by_key and len(self._by_key) >= self._limit:
            return Denial(DenyCode.FULL, f"the hub's directory is full: it holds {self._limit} nodes")
        binding = Binding(key=key, addresses=tuple(dict.fromkeys(interface.ip for interface in wanted)), name=name)
        self._store(binding)
        return binding

    def forget(self, key: bytes) -> Binding | None:
        """Give a key's addresses and name free; return what it had."""
        binding = self._by_key.pop(key, None)
        if binding is not None:
            for address in binding.addresses:
                if self._by_address.get(address) == key:
                    del self._by_address[address]
            if self._by_name.get(_same(binding.name)) == key:
                del self._by_name[_same(binding.name)]
        return binding

    def _refuse_address(self, key: bytes, address: IpAddress) -> Denial | None:
        network = next((own.network for own in self._own if address in own.network), None)
        if network is None:
            networks = ", ".join(str(own.network) for own in self._own)
            return Denial(
                DenyCode.ADDRESS_OUTSIDE, f"{address} is not in this network: choose an address of {networks}"
            )
        if any(address == own.ip for own in self._own):
            return Denial(DenyCode.ADDRESS_TAKEN, f"{address} is the hub's own address: choose another")
        if network.num_addresses > 2 and address in (network.network_address, _broadcast(network)):
            return Denial(DenyCode.ADDRESS_OUTSIDE, f"{address} names the network {network} or all of it, not a node")
        if self._by_address.get(address, key) != key:
            other = self._by_key[self._by_address[address]].name
            return Denial(
                DenyCode.ADDRESS_TAKEN,
                f"{address} belongs to another node's key (named {other}): choose another, or release it on "
                f"the hub with `ltunnel forget {address}`",
            )
        return None

    def _store(self, binding: Binding) -> None:
        self.forget(binding.key)
        self._by_key[binding.key] = binding
        for address in binding.addresses:
            self._by_address[address] = binding.key
        self._by_name[_same(binding.name)] = binding.key


def _same(name: str) -> str:
    """Names that only differ in case are one name."""
    return name.casefold()


def _broadcast(network: Any) -> IpAddress | None:
    """Return an IPv4 network's broadcast address; IPv6 has none."""
    return network.broadcast_address if network.version == 4 else None
