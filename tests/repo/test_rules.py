"""Rules for the whole repository, each with the reason beside it."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

import ltunnel
from ltunnel.plugin import hookspecs

ROOT = Path(__file__).parents[2]
LINES = 400
MEMBERS = sorted(path.parent for path in (ROOT / "core/pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")))
PLUGINS = [member for member in MEMBERS if member.name != "core"]


@cache
def tracked() -> tuple[Path, ...]:
    """Return the files of the repository; without git, those that a checkout has."""
    try:
        words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        skip = {".venv", ".git", "__pycache__", "results"}
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if not skip & set(path.parts)]
    return tuple(ROOT / name for name in names if name and (ROOT / name).is_file())


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


PYTHON = [path for path in tracked() if path.suffix == ".py"]
TEXT = [path for path in tracked() if path.suffix not in {".png", ".ico"} and path != Path(__file__)]


def project(member: Path) -> dict[str, object]:
    content: dict[str, object] = tomllib.loads(text_of(member / "pyproject.toml"))["project"]
    return content


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_files_are_short_enough_to_hold_one_idea() -> None:
    lengths = {name_of(path): len(text_of(path).splitlines()) for path in PYTHON}
    assert {name: length for name, length in lengths.items() if length > LINES} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        name_of(path)
        for path in PYTHON
        if text_of(path).strip() and ast.get_docstring(ast.parse(text_of(path))) is None and "tests" not in path.parts
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("paths of one machine", r"(?<![\w.])/(work|root|home)/\w"),
        ("hosts of package registries", r"pypi\.org|pythonhosted|deb\.debian\.org|npmjs|proxy\.golang"),
        ("how it is made", r"\bissues? #?\d|\b(claude|anthropic|openai|chatgpt|copilot|LLM)\b|\bAI[ -](gen|assist)"),
        ("unfinished work", r"\b(TODO|FIXME|XXX)\b"),
    ],
)
def test_nothing_speaks_of(what: str, pattern: str) -> None:
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in TEXT
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if re.search(pattern, line, re.IGNORECASE if what == "how it is made" else 0)
    ]
    assert found == [], what


def test_all_is_in_english() -> None:
    foreign = re.compile("[\u0400-\u04ff\u3040-\u30ff\u4e00-\u9fff]")
    found = [name_of(path) for path in TEXT if "tests" not in path.parts and foreign.search(text_of(path))]
    assert found == []  # tests need such letters as data


def test_names_say_what_a_thing_is() -> None:
    vague = re.compile(r"(^|_)(manager|helpers?|utils?|misc|data2)($|_)|Manager$|Helper$|Utils?$")
    found = []
    for path in PYTHON:
        if "src" not in path.parts:
            continue
        nodes = (node for node in ast.walk(ast.parse(text_of(path))))
        defined = [node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        found += [f"{name_of(path)}: {name}" for name in (path.stem, *defined) if vague.search(name)]
    assert found == []


def test_the_versions_of_all_members_agree() -> None:
    versions = {str(member.relative_to(ROOT)): project(member)["version"] for member in MEMBERS}
    assert set(versions.values()) == {ltunnel.__version__}, versions


@pytest.mark.parametrize("member", PLUGINS, ids=lambda member: member.name)
def test_a_plugin_has_one_name_everywhere(member: Path) -> None:
    content = project(member)
    assert content["name"] == f"ltunnel-{member.name.replace('_', '-')}"
    assert content["entry-points"] == {"ltunnel": {member.name: f"ltunnel_{member.name}"}}
    for path in (f"src/ltunnel_{member.name}/__init__.py", f"src/ltunnel_{member.name}/py.typed", "README.md", "tests"):
        assert (member / path).exists(), path


def test_every_plugin_is_known_where_it_must_be() -> None:
    extras = tomllib.loads(text_of(ROOT / "core/pyproject.toml"))["project"]["optional-dependencies"]
    assert set(extras["standard"]) == {str(project(member)["name"]) for member in PLUGINS}
    contracts = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]["importlinter"]
    modules = {f"ltunnel_{member.name}" for member in PLUGINS}
    assert set(contracts["root_packages"]) == {"ltunnel", *modules}
    by_name = {contract["name"]: contract for contract in contracts["contracts"]}
    assert set(by_name["The core knows no plugin"]["forbidden_modules"]) == modules
    assert set(by_name["Plugins import nothing of the core but its plugin package"]["source_modules"]) == modules


def test_the_import_rules_name_every_package_of_the_core() -> None:
    packages = {f"ltunnel.{path.parent.name}" for path in (ROOT / "core/src/ltunnel").glob("*/__init__.py")}
    contracts = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    ruled = {part.strip() for layer in layers for part in layer.split("|")}
    assert packages <= ruled


def documents() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def test_commands_in_the_documents_can_be_made() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    asked = {
        (name_of(path), target)
        for path in documents()
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", text_of(path), re.MULTILINE)
    }
    assert ("README.md", "demo") in asked
    assert ("README.md", "test") in asked
    assert {(name, target) for name, target in asked if target not in targets} == set()


@pytest.mark.parametrize("hook", [name for name in vars(hookspecs) if name.startswith("ltunnel_")])
def test_every_hook_is_documented_and_tested(hook: str) -> None:
    guide = text_of(ROOT / "docs/plugins.md")
    assert hook in guide
    tests = [path for path in PYTHON if "tests" in path.parts and path != Path(__file__)]
    tested = any(re.search(rf"\b{hook}\b", text_of(path)) for path in tests)
    assert tested or f"def {hook}(" in guide  # tests/docs runs the guide's examples
