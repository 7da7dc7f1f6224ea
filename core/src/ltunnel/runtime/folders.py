"""Where things lie: the state folder (identity, bindings, pins) and the run folder (control sockets)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ltunnel.errors import HostError

_STATE = Path("/var/lib/ltunnel")
_RUN = Path("/run/ltunnel")
SOCKET_SUFFIX = ".sock"


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the state folder: ``LTUNNEL_STATE_DIR`` or ``/var/lib/ltunnel``."""
    return Path(environ.get("LTUNNEL_STATE_DIR") or _STATE)


def run_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the run folder: ``LTUNNEL_RUN_DIR``, else ``LTUNNEL_STATE_DIR`` if set, else ``/run/ltunnel``."""
    return Path(environ.get("LTUNNEL_RUN_DIR") or environ.get("LTUNNEL_STATE_DIR") or _RUN)


def make_folder(path: Path) -> Path:
    """Create a folder for our eyes alone (0700) where there is none. Raises `HostError`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        hint = "run as root, or set LTUNNEL_STATE_DIR to a folder of your own"
        raise HostError(f"cannot create folder {path}: {error.strerror}; {hint}") from None
    return path


def socket_path(folder: Path, tun_name: str) -> Path:
    """Return where the control socket of the node with that TUN device is."""
    return folder / f"{tun_name}{SOCKET_SUFFIX}"
