"""Running a conformance suite by hand, to see which of its tests fail."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def failures() -> Callable[..., set[str]]:
    """Return a function that runs a suite with a descriptor and names the tests that fail."""

    def run(suite: type[Any], **attributes: Any) -> set[str]:
        derived = type("Derived", (suite,), attributes)
        failed = set()
        for name in dir(derived):
            if name.startswith("test_"):
                try:
                    getattr(derived(), name)()
                except Exception:  # noqa: BLE001 (whatever it is, the test failed)
                    failed.add(name)
        return failed

    return run
