"""What the tests of the service share."""

from collections.abc import Iterator

import pytest

from core.tests.runtime.around import Around


@pytest.fixture
def around() -> Iterator[Around]:
    around = Around()
    yield around
    around.close()
