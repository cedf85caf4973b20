"""Fixtures that all tests share."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.model_hub import Hub, serve_hub
from tests.object_store import ObjectStoreServer, serve
from twigma_core.lake import Lake

# A loaded machine is slow; tests assert results, not seconds.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ("test_sample", "test_runs", "test_ui", "test_gallery", "test_deployment")
"""Files that share the built sample, which is made once in a process, in the order in which they run."""
FIRST = (*SAMPLE, "test_lanes")
"""The longest, so that no process ends with one of them alone."""
MONTH = ("test_kill", "test_disk_full", "test_two_at_once")
"""Drills that share a built month."""


class Together(LoadScopeScheduling):
    """Shares the tests between processes a file at a time, and keeps `SAMPLE` and `MONTH` in one of them.

    (pytest 9 leaves the groups of `--dist loadgroup` unread.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        groups = {"sample": SAMPLE, "month": MONTH}
        return next((group for group, stems in groups.items() if Path(file).stem in stems), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling | None:
    """Use it for `--dist loadscope`."""
    return Together(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest come first."""
    order = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(FIRST)))


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """Hold what only one process may have: Ray finds other clusters of its machine and joins them."""
    with (Path(tempfile.gettempdir()) / "twigma-tests-ray.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real posts, pictures and texts; its place is TWIGMA_SHARED or ../shared/data."""
    folder = Path(os.environ.get("TWIGMA_SHARED") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        message = f"no real data at {folder}; set TWIGMA_SHARED to run this test"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake in a folder of its own."""
    return Lake(tmp_path / "lake")


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStoreServer]:
    """A real S3 server on loopback."""
    with serve() as server:
        yield server


@pytest.fixture
def bucket(object_store: ObjectStoreServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, as s3:// address, with an environment in which it can be reached."""
    from fsspec import filesystem

    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    name = f"test-{uuid.uuid4().hex}"
    filesystem("s3", use_listings_cache=False).mkdir(name)
    object_store.asked.clear()
    return f"s3://{name}"


@pytest.fixture
def s3_lake(bucket: str) -> Lake:
    """An empty lake below a prefix of a bucket."""
    return Lake(f"{bucket}/some/lake")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty model hub, which the hub's own library takes for the real one."""
    with serve_hub() as served:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.base)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            served.base + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield served


@pytest.fixture(scope="session")
def browser_path() -> str:
    """A Chromium of the machine; without one the test says so."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        message = "no Chromium here: apt-get install chromium to run the browser tests"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
