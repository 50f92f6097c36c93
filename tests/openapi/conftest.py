"""A running API for generated clients, and the option that forbids to skip."""

from collections.abc import Iterator

import pytest

from tests.e2e.runtime import Runtime, started


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with started(tmp_path_factory.mktemp("runtime")) as runtime:
        yield runtime
