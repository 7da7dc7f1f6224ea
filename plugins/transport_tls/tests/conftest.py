"""What the tests share: pairs of certificate and key in files, and ends in a simulated network."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ltunnel.plugin import TransportContext
from ltunnel.testing import Host, SimStreamPort
from ltunnel.testing.conformance.lab import End, Lab
from ltunnel_transport_tls import ltunnel_transport
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
        Path(self.key).chmod(0o600)

    @property
    def hub(self) -> dict[str, Any]:
        """Options of a hub that uses it."""
        return {"cert": self.cert, "key": self.key}

    @property
    def node(self) -> dict[str, Any]:
        """Options of a node that knows it."""
        return {"pin": self.pair.pin}


class Sim(Lab):
    """A hub and nodes over simulated streams; `node` is the first. `settings` are those of `SimStreamPort`."""

    def __init__(self, files: Files, *, settings: Mapping[str, Any] | None = None, **lab: Any) -> None:
        self.files = files
        self.settings = dict(settings or {})
        options = ltunnel_transport().options.model_validate(files.hub)
        super().__init__(ltunnel_transport(), options, self.open, **lab)

    def open(self, host: Host, spec: Any) -> SimStreamPort:
        """Open a port."""
        return SimStreamPort(host, spec, **self.settings)

    def add_node(self, *, name: str = "", **options: Any) -> End:
        """Add a node with these options, pinned when there are none; `name` is what its config calls the hub."""
        chosen = ltunnel_transport().options.model_validate(options or self.files.node)
        number = len(self._nodes) + 1
        host = self.add_host(f"node{number}", f"2001:db8::1:{number}" if self._ipv6 else f"198.51.100.{number}")
        context = TransportContext(listen=None, remote=self.hub_address, remote_name=name)
        end = End(host, ltunnel_transport(), chosen, context, self.open)
        self._nodes.append(end)
        return end

    def restart_hub(self) -> None:
        """End the hub's program and start it again."""
        self.hub.ports[0].close()
        options = ltunnel_transport().options.model_validate(self.files.hub)
        self.hub = End(self.hub.host, ltunnel_transport(), options, self.hub.context, self.open)

    def stranger(self, address: str) -> SimStreamPort:
        """Add a host that opens connections as it likes."""
        spec = ltunnel_transport().ports(None, TransportContext(listen=None, remote=self.hub_address))[0]
        return SimStreamPort(self.add_host(f"stranger {address}", address), spec)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Pair], Files]:
    """Write a pair into files of its own."""
    number = count(1)
    return lambda pair: Files(tmp_path / f"pair{next(number)}", pair)


@pytest.fixture
def make_sim(files: Files) -> Callable[..., Sim]:
    """Make a hub and a node in a simulated network."""
    return partial(Sim, files)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The certificate of the hub."""
    names = [NAME, "203.0.113.1", "2001:db8::1", "127.0.0.1"]
    return Files(tmp_path_factory.mktemp("pair"), make_pair(names, now=datetime.now(UTC), days=30))
