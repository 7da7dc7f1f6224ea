"""What the tests of loop and service share."""

from collections.abc import Iterator

import pytest

from core.tests.runtime.around import Around
from ltunnel.runtime.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def around() -> Iterator[Around]:
    around = Around()
    yield around
    around.close()
