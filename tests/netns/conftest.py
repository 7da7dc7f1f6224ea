"""What the namespace tests share: a lab for each test."""

from collections.abc import Iterator

import pytest

from lab import Lab


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """An empty lab; when the test fails, the last output of its programs is in the report."""
    with Lab() as lab:
        yield lab
        for host in lab.hosts.values():
            for program in host.programs:
                request.node.add_report_section("teardown", program.name, program.last_lines(40))
