"""A client of a loopback server that answers as X does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.core.collect.fake_x import TOKEN, FakeX, serve
from twigma_core.collect.x_api import XClient


@pytest.fixture
def fake_x() -> Iterator[FakeX]:
    with serve(FakeX()) as world:
        yield world


@pytest.fixture
def client(fake_x: FakeX) -> XClient:
    return XClient(TOKEN, fake_x.url, timeout_s=5, pace_s=0, max_wait_s=5, backoff_s=0.002)


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
def after() -> datetime:
    """A day when the month of the posts is over."""
    return datetime(2023, 1, 1, tzinfo=UTC)
