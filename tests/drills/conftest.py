"""What the drills share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.drills.undisturbed import Ground, ground


@pytest.fixture(scope="session")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A month of the sample, built undisturbed, and the server that it came from."""
    with ground(tmp_path_factory.mktemp("month")) as built:
        yield built
