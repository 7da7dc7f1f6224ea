"""Plugins made up for one test: a module and a dist-info folder on `sys.path`, as a distribution would leave them."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a plugin `name` with the source of its module."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(name: str, source: str, distribution: str = "", version: str = "1.0", module: str = "") -> None:
        module = module or f"{name}_module_of_{tmp_path.name}"
        (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.delitem(sys.modules, module, raising=False)
        distribution = distribution or f"dist-{name}"
        info = tmp_path / f"{distribution}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[ltunnel]\n{name} = {module}\n")

    return put
