import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.wire.text import escape, valid_name


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("Büro 東京 😀", "Büro 東京 😀"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines\r\t", r"two\x0alines\x0d\x09"),
        ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
        ("abc\u202edcba", r"abc\u202edcba"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("private \ue000 lone \ud800", r"private \ue000 lone \ud800"),
        ("tag \U000e0041", r"tag \U000e0041"),
    ],
)
def test_escape(text: str, safe: str) -> None:
    assert escape(text) == safe


def test_long_text_is_cut() -> None:
    assert escape("x" * 200) == "x" * 200
    assert escape("x" * 201) == "x" * 200 + "…"
    assert escape("\x1b" * 100, limit=10) == r"\x1b\x1b…"


@given(st.text())
def test_escaped_text_is_safe_and_stays(text: str) -> None:
    safe = escape(text)
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for character in safe)
    assert len(safe) <= 201
    assert escape(safe, limit=201) == safe


@pytest.mark.parametrize("name", ["a", "hub", "node-1.example", "x" * 63, "Küche", "two words"])
def test_names(name: str) -> None:
    assert valid_name(name)


@pytest.mark.parametrize("name", ["", " a", "a ", "x" * 64, "ü" * 32, "a\nb", "a\x1b", "a\u202eb", "\ud800"])
def test_what_is_no_name(name: str) -> None:
    assert not valid_name(name)
