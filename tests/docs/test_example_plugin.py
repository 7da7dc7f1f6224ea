"""The example of a third party's plugin, as an installed distribution: its own tests, the registry, real packets."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lab import Lab
from lab.network import KEY
from lab.traffic import ping
from lab.tunnel import PROGRAM, Tunnel


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the example is installed, with the metadata that its pyproject.toml asks for."""
    source = Path(__file__).parents[2] / "examples/cipher_chacha"
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    target = tmp_path_factory.mktemp("site")
    (package,) = (source / "src").iterdir()
    shutil.copytree(package, target / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    info = target / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["ltunnel"].items())
    (info / "entry_points.txt").write_text(f"[ltunnel]\n{lines}")
    return target


def run(site: Path, *command: str | Path) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)


def test_its_own_tests_pass(site, root):
    done = run(
        site, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", root / "examples/cipher_chacha/tests"
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 15


def test_it_is_listed(site):
    done = run(site, PROGRAM, "plugins", "info", "cipher_chacha")
    assert done.returncode == 0, done.stderr
    assert "ltunnel-cipher-chacha 1.0.0, plugin API 1.0" in done.stdout


@pytest.mark.netns
def test_it_carries_packets(site, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(site))
    with Lab() as lab:
        hosts = [lab.host(name) for name in ("hub", "node")]
        for host, address in zip(hosts, ("198.51.100.2/24", "198.18.0.2/24"), strict=True):
            lab.attach(host, address)
        hub = Tunnel.hub(hosts[0], "10.0.0.1/24", key=KEY, args=["-cipher", "cipher_chacha"])
        hub.wait_up()
        node = Tunnel.node(hosts[1], "198.51.100.2", "10.0.0.2/24", key=KEY, args=["-cipher=cipher_chacha"])
        status = node.wait_up()
        assert status["stack"]["cipher"] == "CHACHA20"
        assert ping(hosts[1], "10.0.0.1").received == 3
        other = lab.host("other")
        lab.attach(other, "198.18.1.2/24")
        stranger = Tunnel.node(other, "198.51.100.2", "10.0.0.3/24", key=KEY)
        hub.program.wait_for("event=other-cipher")
        assert stranger.status()["state"] == "connecting"
