"""Documents, taken apart: sections, tables, fenced blocks, links."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Document:
    """One Markdown file."""

    path: Path
    text: str

    def section(self, heading: str) -> "Document":
        """Return what stands under a heading, up to the next of its level or above."""
        prose = self._without_blocks()
        match = re.search(rf"^(#+) {re.escape(heading)}$", prose, re.MULTILINE)
        assert match, f"{self.path.name} has no heading {heading!r}"
        rest = self.text[match.end() :]
        end = re.search(rf"^#{{1,{len(match[1])}}} ", prose[match.end() :], re.MULTILINE)
        return Document(self.path, rest[: end.start()] if end else rest)

    def _without_blocks(self) -> str:
        """Return the text with fenced blocks blanked out, at unchanged offsets."""
        return _FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), self.text)

    def blocks(self, info: str) -> list[str]:
        """Return the fenced blocks with this info string."""
        return [match["text"] for match in _FENCE.finditer(self.text) if match["info"] == info]

    def rows(self, first: str) -> list[list[str]]:
        """Return the cells of all tables whose first column is headed `first`."""
        found: list[list[str]] = []
        inside = False
        for line in self._without_blocks().splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not line.startswith("|"):
                inside = False
            elif inside:
                found.append(cells)
            elif cells[0] == first:
                inside = True
        return [cells for cells in found if not set(cells[0]) <= {"-"}]

    def words(self, first: str) -> list[str]:
        """Return what stands in backticks in the first cells of such tables."""
        return [word for cells in self.rows(first) for word in re.findall(r"`([^`]+)`", cells[0])]

    def links(self) -> list[str]:
        """Return the targets of all links."""
        return re.findall(r"\]\(([^)\s]+)\)", self._without_blocks())

    def anchors(self) -> set[str]:
        """Return what its headings are linked by."""
        headings = re.findall(r"^#+ (.+)$", self._without_blocks(), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _documents() -> Iterator[Path]:
    yield from sorted(ROOT.glob("*.md"))
    for folder in ("docs", "core", "plugins", "examples"):
        yield from sorted(path for path in (ROOT / folder).rglob("*.md") if ".venv" not in path.parts)


DOCUMENTS = [str(path.relative_to(ROOT)) for path in _documents()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `document_name` on every document."""
    if "document_name" in metafunc.fixturenames:
        metafunc.parametrize("document_name", DOCUMENTS)


@pytest.fixture
def root() -> Path:
    """Return the repository's folder."""
    return ROOT


@pytest.fixture
def document() -> Callable[[str], Document]:
    """Return a function that reads a document by its path in the repository."""

    def read(name: str) -> Document:
        path = ROOT / name
        return Document(path, path.read_text(encoding="utf-8"))

    return read


@pytest.fixture
def guide(document: Callable[[str], Document]) -> Document:
    """Return the users' guide."""
    return document("docs/guide.md")
