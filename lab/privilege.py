"""What a lab needs of the machine: being root, or a user namespace in which it may act as root."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_CAP_NET_ADMIN = 12
_CAP_SYS_ADMIN = 21
_INSIDE = "LTLAB_USER_NAMESPACE"
PROGRAMS = {"ip": "iproute2", "nft": "nftables", "ethtool": "ethtool", "ping": "iputils-ping", "setpriv": "util-linux"}


def missing_ability() -> str | None:
    """Say why this process cannot build a lab; None: it can."""
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"the program {program!r} is missing (Debian package {package})"
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun is missing (modprobe tun)"
    if not _may_administer():
        return "it needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)"
    return None


def become_root() -> None:
    """Start this program anew in a user, network and mount namespace of its own unless it may administer networks.

    Returns when this process has the rights. Ends the process with a line on stderr when the system allows neither.
    """
    if _may_administer():
        if os.environ.get(_INSIDE) == "new":
            _private_run()
            os.environ[_INSIDE] = "ready"  # for programs started from here
        return
    if os.environ.get(_INSIDE) or not user_namespaces_work():
        sys.exit("This needs root, and the system allows no user namespaces (unshare -Urnm): run it with sudo.")
    unshare = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
    os.execvpe("unshare", [*unshare, sys.executable, *sys.orig_argv[1:]], os.environ | {_INSIDE: "new"})


def _may_administer() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    return bool(effective >> _CAP_SYS_ADMIN & 1 and effective >> _CAP_NET_ADMIN & 1)


def user_namespaces_work() -> bool:
    """Whether this process may make itself root in a user namespace."""
    try:
        subprocess.run(["unshare", "-Urnm", "true"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _private_run() -> None:
    """Give the mount namespace a /run of its own: `ip netns` and control sockets live there."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    Path("/run/netns").mkdir()
