"""The plugin authors' guide: its files are written out, loaded through the registry, and their tests run."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from ltunnel.plugin import API_VERSION, PortKind, TransportDescriptor
from ltunnel.registry import Entry, Kind, load
from ltunnel.registry.load import Plugin

PLUGINS = {
    "transport_marked": Kind.TRANSPORT,
    "transport_lengths": Kind.TRANSPORT,
    "cipher_nearly": Kind.CIPHER,
    "fec_parity": Kind.FEC,
    "discovery_plain": Kind.DISCOVERY,
    "routing_nearest": Kind.ROUTING,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all files of the guide."""
    root = Path(__file__).parents[2]
    text = (root / "docs/plugins.md").read_text()
    folder = tmp_path_factory.mktemp("guide")
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        name = re.match(r"# (\S+\.py)\n", block)
        assert name, f"the block does not say which file it is: {block[:60]!r}"
        path = folder / name[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), name[1]
        path.write_text(block)
    return folder


def search_path(project: Path, root: Path) -> list[str]:
    return [str(project / "src"), str(root / "examples/cipher_chacha/src")]


def test_every_kind_has_an_example(project):
    assert {path.parent.name for path in project.rglob("__init__.py")} == {f"ltunnel_{name}" for name in PLUGINS}


@pytest.mark.parametrize("name", PLUGINS)
def test_the_registry_loads_it(name, project, root, monkeypatch):
    for folder in search_path(project, root):
        monkeypatch.syspath_prepend(folder)
    try:
        plugin = load(Entry(name=name, target=f"ltunnel_{name}", distribution=f"ltunnel-{name}", version="1.0"))
    finally:
        sys.modules.pop(f"ltunnel_{name}", None)
        sys.modules.pop("ltunnel_cipher_chacha", None)
    assert isinstance(plugin, Plugin)
    assert list(plugin.descriptors) == [PLUGINS[name]]
    assert plugin.info.api == API_VERSION


def test_their_tests_pass(project, root):
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(search_path(project, root)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib",
               "--rootdir", str(project), "-W", "error", "tests"]  # fmt: skip
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 50
    assert "skipped" not in done.stdout


def test_hooks_and_descriptors_are_described(document):
    """Every hook and every field of a descriptor that an author must set, and every suite, is in the guide."""
    text = document("docs/plugins.md").text
    for kind in Kind:
        assert f"## {kind.hook}\n" in text
        assert f"`{kind.descriptor.__name__}`" in text
    for word in ("wire_name", "overhead", "needs_root", "reliable", "key_size", "secure", "prefix"):
        assert f"`{word}`" in text
    assert f"now {API_VERSION}" in text
    described = document("docs/plugins.md").section("ltunnel_transport").words("field")
    assert set(described) == {field.name for field in fields(TransportDescriptor)}
    assert document("docs/plugins.md").words("`PortSpec.kind`") == [f"PortKind.{kind.name}" for kind in PortKind]


def test_the_example_of_an_error_is_true(project, root):
    text = (root / "docs/plugins.md").read_text()
    (promised,) = re.findall(r"`config\.json: (transport_marked\.mark: [^`]+)`", " ".join(text.split()))
    code = (
        "from ltunnel.registry import Entry, load\nfrom ltunnel.registry.options import read_options\n"
        "name = 'transport_marked'\n"
        "plugin = load(Entry(name=name, target='ltunnel_' + name, distribution='x', version='1'))\n"
        "try:\n    read_options(plugin, {'mark': 300})\nexcept Exception as error:\n    print(error)\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(search_path(project, root))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == promised
