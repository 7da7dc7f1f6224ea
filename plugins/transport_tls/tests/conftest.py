"""What the tests share: pairs of certificate and key in files, and two ends in a simulated network."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ltunnel_transport_tls.certificate import Pair, make_pair

NAME = "hub.example"


class Files:
    """A pair in files."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        folder.mkdir(exist_ok=True)
        self.pair = pair
        self.cert, self.key = str(folder / "cert.pem"), str(folder / "key.pem")
        Path(self.cert).write_bytes(pair.certificate)
        Path(self.key).write_bytes(pair.key)

    @property
    def hub(self) -> dict[str, Any]:
        """Options of a hub that uses it."""
        return {"cert": self.cert, "key": self.key}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The certificate of the hub."""
    names = [NAME, "203.0.113.1", "2001:db8::1", "127.0.0.1"]
    return Files(tmp_path_factory.mktemp("pair"), make_pair(names, now=datetime.now(UTC), days=30))
