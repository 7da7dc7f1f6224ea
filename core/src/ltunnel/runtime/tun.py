"""The TUN device: opened with virtio-net headers and offloads, so that one read brings up to 64 KB (a super-packet).

The device is not persistent: it vanishes with the process, however that ends. Kernels without the header
(IFF_VNET_HDR) get `PlainTun`, which does in software what the kernel would have done.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pytun

from ltunnel.errors import HostError
from ltunnel.plugin import Buffer

if TYPE_CHECKING:
    from ltunnel.data.virtio import TunPort

_TUNSETOFFLOAD = 0x400454D0
_CSUM = 0x01
_TSO = 0x02 | 0x04 | 0x08  # TSO4, TSO6, TSO_ECN
_USO = 0x20 | 0x40  # USO4, USO6; Linux 6.2

_VNET_SIZE = 10
_NO_OFFLOAD = bytes(_VNET_SIZE)

Parts = Sequence[Buffer | bytes | bytearray]


class _Tun:
    """What both kinds share: descriptor, name, count of refused packets."""

    __slots__ = ("_device", "_fd", "name", "refused")

    def __init__(self, device: pytun.TunTapDevice) -> None:
        self._device = device
        self._fd: int = device.fileno()
        self.name: str = device.name
        self.refused = 0
        """Packets that the kernel would not take: malformed, or the device is down."""
        os.set_blocking(self._fd, False)
        os.set_inheritable(self._fd, False)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._fd

    def close(self) -> None:
        """Remove the device."""
        self._device.close()


class OffloadTun(_Tun):
    """A TUN with virtio-net headers; see `ltunnel.data.virtio.TunPort`."""

    __slots__ = ("offload", "uso")

    def __init__(self, device: pytun.TunTapDevice, *, offload: bool, uso: bool) -> None:
        super().__init__(device)
        self.offload = offload
        """Whether reads bring super-packets."""
        self.uso = uso

    def read(self, buf: Buffer, pos: int) -> int:
        """Read one packet with its header; see `TunPort`."""
        return os.readv(self._fd, (buf[pos:],))

    def write(self, parts: Parts) -> bool:
        """Write one packet, super-packets too; see `TunPort`."""
        try:
            os.writev(self._fd, parts)
        except OSError as error:
            return self._refuse(error)
        return True

    def _refuse(self, error: OSError) -> bool:
        if error.errno in (errno.EBADF, errno.EBADFD):  # the device is gone
            raise error
        self.refused += 1
        return False


class PlainTun(_Tun):
    """A TUN without virtio-net headers: reads get an empty one, writes go through `ltunnel.data.plain`."""

    __slots__ = ("_complete", "offload", "uso")

    def __init__(self, device: pytun.TunTapDevice) -> None:
        from ltunnel.data.plain import complete

        super().__init__(device)
        self.offload = False
        self.uso = False
        self._complete: Callable[[Parts], Iterator[bytearray]] = complete

    def read(self, buf: Buffer, pos: int) -> int:
        """Read one packet behind an empty header; see `TunPort`."""
        size = os.readv(self._fd, (buf[pos + _VNET_SIZE :],))
        buf[pos : pos + _VNET_SIZE] = _NO_OFFLOAD
        return size + _VNET_SIZE

    def write(self, parts: Parts) -> bool:
        """Write one packet, a super-packet as its segments; see `TunPort`. False if any was refused."""
        taken = True
        for packet in self._complete(parts):
            try:
                os.write(self._fd, packet)
            except OSError as error:
                if error.errno in (errno.EBADF, errno.EBADFD):
                    raise
                self.refused += 1
                taken = False
        return taken


Tun = OffloadTun | PlainTun

if TYPE_CHECKING:  # both are what the core asks for
    _offload_is_port: type[TunPort] = OffloadTun
    _plain_is_port: type[TunPort] = PlainTun


def open_tun(name: str, *, vnet: bool = True) -> Tun:
    """Create a TUN device with the most offloads that the kernel knows. `vnet` False asks for the plain kind.

    An empty name, or one with ``%d`` in it, lets the kernel choose. Raises `HostError`.
    """
    flags = pytun.IFF_TUN | pytun.IFF_NO_PI | pytun.IFF_TUN_EXCL
    try:
        if vnet:
            try:
                device = pytun.TunTapDevice(name, flags=flags | pytun.IFF_VNET_HDR)
            except pytun.Error as error:
                if error.errno != errno.EINVAL:
                    raise
            else:
                return _negotiate(device)
        return PlainTun(pytun.TunTapDevice(name, flags=flags))
    except pytun.Error as error:
        raise HostError(_explain(error, name)) from None


def _negotiate(device: pytun.TunTapDevice) -> OffloadTun:
    """Ask for offloads, fewer each time. Without any, writes may still be super-packets: the kernel cuts them."""
    for wanted in (_CSUM | _TSO | _USO, _CSUM | _TSO):
        try:
            fcntl.ioctl(device.fileno(), _TUNSETOFFLOAD, wanted)
        except OSError:
            continue
        return OffloadTun(device, offload=True, uso=bool(wanted & _USO))
    return OffloadTun(device, offload=False, uso=False)


def _explain(error: OSError, name: str) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return "/dev/net/tun is missing: load the module with `modprobe tun` (in a container: pass the device in)"
    if error.errno in (errno.EPERM, errno.EACCES):
        return "no permission to create a TUN device: run as root, or give CAP_NET_ADMIN"
    if error.errno == errno.EBUSY:
        return f"there is a network interface named {name} already: choose another name with --tun-name"
    if error.errno == errno.EINVAL or error.errno is None:  # None: pytun found the name too long
        return f"{name!r} cannot name a network interface: at most 15 characters, no slash, no blank (--tun-name)"
    return f"cannot create TUN device {name}: {error.strerror}"
