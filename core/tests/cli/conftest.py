"""What the tests of the command line share: an environment that says nothing of a terminal."""

import pytest


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    """Let output be as wide as where there is no terminal, whatever runs the tests."""
    monkeypatch.delenv("COLUMNS", raising=False)
