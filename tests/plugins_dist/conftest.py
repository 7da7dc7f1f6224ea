"""Distributions of plugins, good and bad, built as wheels and installed by pip into a folder of their own."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PREAMBLE = """
from typing import Any
from pydantic import Field
from ltunnel.plugin import CipherDescriptor, NoOptions, Options, PluginInfo, hookimpl

def make(options: Any, key: bytes) -> Any:
    raise NotImplementedError("the tests never seal")

def descriptor(model=NoOptions, name="TEST"):
    return CipherDescriptor(options=model, wire_name=name, create=make)
"""

INFO = """
@hookimpl
def ltunnel_plugin_info():
    return PluginInfo(name="{name}", summary="a cipher for tests", api={api})
"""

CIPHER = """
@hookimpl
def ltunnel_cipher():
    return descriptor()
"""


@dataclass(frozen=True)
class Dist:
    """A distribution with one plugin and the module that holds it."""

    name: str
    version: str
    plugin: str
    source: str

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")


def _dist(plugin: str, *parts: str, api: tuple[int, int] = (1, 0), version: str = "1.0", name: str = "") -> Dist:
    """Make a distribution whose module holds the preamble, an identity for `plugin`, and the parts."""
    source = PREAMBLE + INFO.format(name=plugin, api=api) + "".join(textwrap.dedent(part) for part in parts)
    return Dist(name or plugin.replace("_", "-") + "-dist", version, plugin, source)


DISTS = (
    _dist(
        "cipher_good",
        """
        class GoodOptions(Options):
            rounds: int = Field(3, ge=1, lt=128, description="how often to do it")

        @hookimpl
        def ltunnel_cipher():
            return descriptor(GoodOptions)
        """,
    ),
    _dist("cipher_import", "raise RuntimeError('the moon is\\nin the wrong house')", CIPHER, version="0.3"),
    _dist("cipher_exit", "raise SystemExit(0)", CIPHER),
    _dist("cipher_needs", "import a_module_that_nobody_has", CIPHER),
    _dist("cipher_future", CIPHER.replace("cipher", "cipher_of_tomorrow"), api=(2, 0)),
    _dist("cipher_minor", CIPHER, api=(1, 99)),
    _dist("cipher_twin", CIPHER, name="twin-one"),
    _dist("cipher_twin", CIPHER, name="twin-two", version="2.0"),
    Dist("cipher-alias-dist", "1.0", "cipher_alias", PREAMBLE + INFO.format(name="cipher_other", api=(1, 0)) + CIPHER),
    _dist("cipher_signature", CIPHER.replace("ltunnel_cipher()", "ltunnel_cipher(key)")),
    _dist("cipher_misspelt", CIPHER.replace("ltunnel_cipher()", "ltunnel_chipher()")),
    _dist("cipher_raises", "@hookimpl\ndef ltunnel_cipher():\n    return 1 // 0"),
    _dist("cipher_untyped", "@hookimpl\ndef ltunnel_cipher():\n    return {'wire_name': 'X'}"),
    _dist("cipher_idle"),
    Dist("cipher-nameless-dist", "1.0", "cipher_nameless", PREAMBLE + CIPHER),
    _dist("cipher_crash", "import os, sys\nos.kill(os.getpid(), 9) if 'list' in sys.argv else None", CIPHER),
    _dist("cipher_noisy", "print('hello from a plugin')", CIPHER),
)


def _wheel(dist: Dist, folder: Path) -> Path:
    """Write a wheel (PyPA binary distribution format) without a build backend."""
    info = f"{dist.module}-{dist.version}.dist-info"
    files = {
        f"{dist.module}.py": dist.source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {dist.name}\nVersion: {dist.version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[ltunnel]\n{dist.plugin} = {dist.module}\n",
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text.encode())}\n"
    path = folder / f"{dist.module}-{dist.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip installed all of `DISTS`."""
    wheels = tmp_path_factory.mktemp("wheels")
    target = tmp_path_factory.mktemp("site")
    paths = [str(_wheel(dist, wheels)) for dist in DISTS]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile",
               "--disable-pip-version-check", "--target", str(target), *paths]  # fmt: skip
    subprocess.run(command, check=True, timeout=100)
    return target


@pytest.fixture(scope="session")
def torn_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a distribution whose metadata an interrupted update left unreadable."""
    target = tmp_path_factory.mktemp("torn")
    torn = target / "torn_dist-1.0.dist-info"
    torn.mkdir()
    (torn / "METADATA").write_text("Metadata-Version: 2.1\nName: torn-dist\nVersion: 1.0\n")
    (torn / "entry_points.txt").write_text("[ltunnel]\nthis is no entry point\n")
    return target


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return where the state folder of the program under test would be."""
    return tmp_path / "state"


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def python(site: Path, state: Path) -> Run:
    """Return a function that runs Python code in a process that sees the distributions."""

    def run(code: str, *arguments: str, more: Path | None = None) -> "subprocess.CompletedProcess[str]":
        path = os.pathsep.join(map(str, filter(None, [site, more])))
        environ = {**os.environ, "PYTHONPATH": path, "LTUNNEL_STATE_DIR": str(state), "COLUMNS": "500"}
        environ.pop("LTUNNEL_KEY", None)
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, check=False)

    return run


@pytest.fixture
def ltunnel(python: Run) -> Run:
    """Return a function that runs the program with arguments."""

    def run(*arguments: str, more: Path | None = None) -> "subprocess.CompletedProcess[str]":
        return python("from ltunnel.cli.main import run; run()", *arguments, more=more)

    return run


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a config which selects a cipher."""

    def write(cipher: str, **fields: object) -> Path:
        path = tmp_path / "config.json"
        values: Mapping[str, object] = {"mode": "server", "key": "correct horse battery", "cipher": cipher, **fields}
        path.write_text(json.dumps(values))
        path.chmod(0o600)
        return path

    return write
