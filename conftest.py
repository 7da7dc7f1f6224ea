"""For all tests: those marked `netns` are skipped where the machine does not let them run, except in CI."""

import os
from collections.abc import Generator, Iterable

import pytest

from lab import missing_ability

IN_CI = os.environ.get("CI") == "true"


os.environ.pop("COLUMNS", None)  # workers have one; what is tested prints as where there is no terminal


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Skip what cannot run here. What runs on real time gets a second chance: a busy machine is no mistake."""
    reason = missing_ability()
    for item in items:
        if item.get_closest_marker("netns"):
            item.add_marker(pytest.mark.flaky(reruns=1) if reason is None else pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a skipped namespace test fail in CI: there, every one of them must have run."""
    report = yield
    if report.skipped and IN_CI and item.get_closest_marker("netns") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {report.longrepr}"
    return report
