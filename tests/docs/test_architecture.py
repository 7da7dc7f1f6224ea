"""ARCHITECTURE.md against the source: the diagram, the map, names and paths."""

import ast
import re

import pytest

import ltunnel
from ltunnel.control.states import diagram


@pytest.fixture
def architecture(document):
    return document("ARCHITECTURE.md")


def test_the_diagram_is_the_table(architecture):
    assert architecture.blocks("mermaid") == [diagram()]


def test_the_map_has_every_package(architecture, root):
    named = {word for line in architecture.section("Code map").text.splitlines() if line.startswith("**")
             for word in re.findall(r"`(ltunnel\.\w+)`", line)}  # fmt: skip
    source = root / "core/src/ltunnel"
    parts = {
        f"ltunnel.{path.stem}" for path in source.iterdir() if (path / "__init__.py").exists() or path.suffix == ".py"
    }
    assert named == parts - {"ltunnel.__init__"}
    tracked = {"plugins", "examples", "lab", "demo", "bench", "tests"}
    assert tracked <= set(re.findall(r"`(\w+)/`", architecture.section("Code map").text))
    folders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert folders - {"build", "dist"} == tracked | {"core", "docs", "scripts"}


def test_the_map_is_in_the_order_of_imports(architecture, root):
    named = re.findall(r"^\*\*`ltunnel\.(\w+)`", architecture.section("Code map").text, re.MULTILINE)
    contract = re.search(r"^layers = \[(.*?)\]", (root / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)[1]
    order = re.findall(r"ltunnel\.(\w+)", contract)
    assert named == [name for name in order if name != "constants"]


def test_classes_and_their_members_exist(architecture, root):
    """Words in backticks that look like a class, or like Class.member."""
    classes = {}
    for path in [*(root / "core/src").rglob("*.py"), *(root / "plugins").glob("*/src/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, set()).update(
                    member.name for member in node.body if isinstance(member, ast.FunctionDef)
                )
    named = re.findall(r"`([A-Z][a-z]\w+)(?:\.(\w+))?`", architecture.text)
    assert len(named) > 30
    for name, member in named:
        assert name in classes, name
        assert not member or member in classes[name], f"{name}.{member}"


def test_modules_named_in_the_map_exist(architecture, root):
    """In the paragraph of a package, small words in backticks are its modules, or names in its code."""
    for paragraph in architecture.section("Code map").text.split("\n\n"):
        match = re.match(r"\*\*`ltunnel\.(\w+)`", paragraph)
        if not match or match[1] == "errors":
            continue
        folder = root / "core/src/ltunnel" / match[1]
        source = "".join(path.read_text() for path in folder.rglob("*.py"))
        for word in re.findall(r"`([a-z_]+)`", paragraph):
            assert (folder / f"{word}.py").exists() or re.search(rf"\bdef {word}\b", source), f"{match[1]}: {word}"


def test_invariants_are_numbered_and_name_what_exists(architecture, root):
    rows = architecture.section("Invariants").rows("")
    assert [int(number) for number, *_ in rows] == list(range(1, len(rows) + 1))
    for number, _, where in rows:
        paths = re.findall(r"`([^`]+)`", where)
        assert paths, number
        assert all((root / path).is_file() for path in paths), where


def test_records_are_numbered_listed_and_titled(document, root):
    records = sorted((root / "docs/adr").glob("0*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    listed = {cells[0]: cells[1] for cells in document("docs/adr/README.md").rows("")}
    for path in records:
        number, title = re.match(r"# (\d+)\. (.*)", path.read_text()).groups()
        assert listed[f"[{number}]({path.name})"] == title
        assert int(number) == int(path.name[:4])


def test_the_changelog_knows_this_version(document):
    text = document("CHANGELOG.md").text
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    released = [tuple(map(int, heading.split("."))) for heading in headings[1:]]
    assert released == sorted(released, reverse=True)
    assert not released or tuple(map(int, ltunnel.__version__.split(".")[:3])) >= released[0]
