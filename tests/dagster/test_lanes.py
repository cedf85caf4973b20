"""Lanes of steps: on this machine, and on a Ray cluster that pretends GPUs. Processes are really killed."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.dagster.deployment import ROOT, end, lacking, namespace
from twigma_dagster.cli import prepare
from twigma_dagster.declare import GPU_POOL
from twigma_dagster.executors import set_pools
from twigma_dagster.settings import load_settings

TOKEN = "a-token-of-ray-that-is-long-enough"


@dataclass
class Place:
    """Where runs execute: a Dagster home and the environment and namespace of their processes."""

    folder: Path
    environment: dict[str, str]
    prefix: tuple[str, ...] = ()

    def start(self, *assets: str, **variables: str) -> subprocess.Popen[str]:
        """Start a run of these assets in a process of its own."""
        return subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "tests.dagster.lane_job", *assets],
            cwd=ROOT,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=open(self.folder / "runs.log", "a"),
            text=True,
            start_new_session=True,
        )

    def hold(self, *steps: str) -> None:
        """Let these steps wait until `release`."""
        for step in steps:
            (self.folder / f"{step}.json").unlink(missing_ok=True)
            (self.folder / f"hold-{step}").touch()

    def release(self, *steps: str) -> None:
        """Let these steps end."""
        for step in steps:
            (self.folder / f"hold-{step}").unlink(missing_ok=True)

    def note(self, step: str, of: str = "begin", seconds: float = 90) -> dict[str, Any]:
        """Wait until a step has written down that it began (or ended, `of` "end"); return what it wrote."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(OSError, ValueError):
                found: dict[str, Any] = json.loads((self.folder / f"{step}.json").read_text())
                if of in found:
                    return found
            time.sleep(0.1)
        raise AssertionError(
            f"{step} did not {of} in {seconds} s: {(self.folder / 'runs.log').read_text()[-3000:]}"
        )

    def slots_taken(self) -> int:
        """Return how many slots of the GPU lane Dagster holds for steps."""
        with dg.DagsterInstance.from_config(self.environment["DAGSTER_HOME"]) as instance:
            return instance.event_log_storage.get_concurrency_info(GPU_POOL).active_slot_count


def output(run: subprocess.Popen[str], seconds: float) -> str:
    """Return what a run printed; it must end within `seconds`."""
    return run.communicate(timeout=seconds)[0]


def alive(pid: int) -> bool:
    """Say whether a process runs (a zombie does not)."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until_gone(pid: int, seconds: float) -> float:
    """Wait until a process has ended; return the seconds that it took."""
    begin = time.monotonic()
    while alive(pid):
        assert time.monotonic() - begin < seconds, f"process {pid} still runs after {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - begin


def place(folder: Path, **variables: str) -> Place:
    """Return a new Dagster home below `folder` with these settings."""
    home = folder / "dagster"
    home.mkdir(parents=True)
    shutil.copyfile(ROOT / "dagster.yaml", home / "dagster.yaml")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TWIGMA_", "DAGSTER_"))}
    ours = {
        "DAGSTER_HOME": str(home),
        "TWIGMA_HOME": str(folder),
        "LANE_TEST": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_runs(limit=1)  # several processes opening a new home at once would break it
    return Place(folder, {**clean, **ours, **variables})


# ---------------------------------------------------------------- this machine


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return place(tmp_path)


def test_gpu_steps_share_a_process_and_other_steps_go_on_beside_it(here: Place) -> None:
    here.hold("gpu_one")
    run = here.start("cpu_one", "gpu_one", "gpu_two", "cpu_two", "gpu_other")
    cpu = here.note("cpu_one", "end")
    gpu = here.note("gpu_one")
    assert "end" not in gpu, "the CPU step ended while the GPU step was at work"
    here.release("gpu_one")
    assert output(run, 120) == "SUCCESS\n"
    notes = {
        name: here.note(name, "end") for name in ("gpu_one", "gpu_two", "gpu_other", "cpu_one", "cpu_two")
    }
    assert len({notes[name]["pid"] for name in notes if name.startswith("gpu")}) == 1
    assert notes["gpu_one"]["pid"] != notes["cpu_one"]["pid"] == cpu["pid"]
    assert run.pid not in {note["pid"] for note in notes.values()}
    spans = sorted((n["begin"], n["end"]) for name, n in notes.items() if name.startswith("gpu"))
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans)), "one slot"


def test_a_killed_worker_fails_its_step_and_frees_the_slot(here: Place) -> None:
    here.hold("gpu_one")
    run = here.start("gpu_one", "gpu_two", "gpu_other", "cpu_one")
    os.kill(here.note("gpu_one")["pid"], signal.SIGKILL)
    printed = output(run, 60)
    assert "gpu_one: " in printed
    assert "died (SIGKILL)" in printed
    assert printed.endswith("FAILURE\n")
    assert here.note("gpu_other", "end"), "a new worker took the lane's next step"
    assert here.note("cpu_one", "end")
    assert not (here.folder / "gpu_two.json").exists(), "what depends on it did not run"
    assert here.slots_taken() == 0


def test_a_killed_run_leaves_no_worker(here: Place) -> None:
    here.hold("gpu_one")
    run = here.start("gpu_one")
    pid = here.note("gpu_one")["pid"]
    run.kill()
    run.wait()
    wait_until_gone(pid, 10)


def test_terminating_a_run_stops_its_step(here: Place) -> None:
    here.hold("gpu_one")
    run = here.start("gpu_one", "gpu_two")
    pid = here.note("gpu_one")["pid"]
    run.send_signal(signal.SIGTERM)
    wait_until_gone(pid, 15)
    run.wait(30)
    assert here.slots_taken() == 0
    assert not (here.folder / "gpu_two.json").exists()


def test_there_are_runs_enough_to_keep_all_gpus_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = str(tmp_path)
    for name, value in {"TWIGMA_HOME": home, "DAGSTER_HOME": "", "TWIGMA_GPU_SLOTS": "3"}.items():
        monkeypatch.setenv(name, value)
    prepare()
    with dg.DagsterInstance.get() as instance:
        limits = instance.get_concurrency_config()
        assert limits.run_queue_config
        assert limits.run_queue_config.max_concurrent_runs == 4
        set_pools(instance, load_settings())
        pools = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert pools == {"gpu": 3, "x_api": 1, "download": 1, "release": 1}


# ---------------------------------------------------------------- a Ray cluster


RAY = """ray start --head --block --port 6379 --dashboard-host 127.0.0.1 --dashboard-port 8265
    --num-cpus 4 --num-gpus 2"""


@pytest.fixture(scope="module")
def inside(one_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """The command prefix of a network that has only loopback: Ray listens on every address it finds."""
    if why := lacking("unshare", "nsenter", "ip"):
        message = f"Ray cannot be shut in here: {why}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with namespace(tmp_path_factory.mktemp("ray"), ()) as prefix:
        yield tuple(prefix)


def start_ray(far: Place) -> subprocess.Popen[bytes]:
    """Start a Ray node with two pretended GPUs; wait until it answers."""
    command = [*far.prefix, str(Path(sys.executable).with_name("ray")), *RAY.split()[1:]]
    with open(far.folder / "ray.log", "ab") as log:
        node = subprocess.Popen(
            command, cwd=ROOT, env=far.environment, stdout=log, stderr=log, start_new_session=True
        )
    asked = "from ray.job_submission import JobSubmissionClient as C; C('http://127.0.0.1:8265').list_jobs()"
    deadline = time.monotonic() + 120
    while subprocess.run(
        [*far.prefix, sys.executable, "-c", asked], env=far.environment, capture_output=True
    ).returncode:
        assert time.monotonic() < deadline, (far.folder / "ray.log").read_text()[-3000:]
        time.sleep(1)
    return node


@pytest.fixture(scope="module")
def far(inside: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A Dagster home whose GPU lane is a Ray cluster that `ray` starts."""
    found = place(
        tmp_path_factory.mktemp("far"),
        TWIGMA_GPU_LANE="ray",
        TWIGMA_GPU_SLOTS="2",
        TWIGMA_RAY_ADDRESS="http://127.0.0.1:8265",
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=TOKEN,
    )
    found.prefix = inside
    return found


@pytest.fixture(scope="module")
def ray(far: Place) -> Iterator[subprocess.Popen[bytes]]:
    """The running Ray node."""
    node = start_ray(far)
    yield node
    end(node)


def test_an_absent_cluster_fails_the_step_at_once(far: Place) -> None:
    run = far.start("gpu_one", "cpu_one")
    far.note("cpu_one", "end")
    began = time.monotonic()
    printed = output(run, 60)
    assert time.monotonic() - began < 30
    assert "gpu_one: " in printed
    assert "could not be launched on Ray at http://127.0.0.1:8265: " in printed


@pytest.mark.parametrize("unset", ["RAY_AUTH_MODE", "RAY_AUTH_TOKEN"])
def test_ray_without_a_token_is_refused(far: Place, unset: str) -> None:
    printed = output(far.start("gpu_one", "cpu_one", **{unset: ""}), 60)
    assert far.note("cpu_one", "end"), "what does not need Ray goes on"
    assert "gpu_one: could not be launched on Ray at http://127.0.0.1:8265: SettingsError: " in printed
    assert "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in printed


def test_only_gpu_steps_run_on_ray(far: Place, ray: object) -> None:
    """With the settings of the run, none of its secrets, and at the address of the setting."""
    far.release("gpu_one")
    names = ("cpu_one", "gpu_one", "gpu_two", "cpu_two")
    elsewhere = {"RAY_ADDRESS": "http://127.0.0.1:9", "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9"}
    ours = {"TWIGMA_SEED": "7", "X_BEARER_TOKEN": "a-token-of-x", "HF_TOKEN": "a-token-of-a-hub"}
    run = far.start(*names, **ours, **elsewhere)
    assert output(run, 150) == "SUCCESS\n"
    notes = {name: far.note(name, "end") for name in names}
    on_ray = {name for name, note in notes.items() if note["on_ray"]}
    assert on_ray == {"gpu_one", "gpu_two"}
    assert {note["seed"] for note in notes.values()} == {7}, (
        "a setting of the run's process reaches all steps"
    )
    assert {name for name, note in notes.items() if note["told"]} == set(names) - on_ray, "a secret does not"


def test_two_runs_side_by_side_and_a_killed_worker_fails_its_step_only(far: Place, ray: object) -> None:
    far.hold("gpu_one", "gpu_other")
    first, second = far.start("gpu_one", "gpu_two"), far.start("gpu_other")
    one, other = far.note("gpu_one"), far.note("gpu_other")
    assert one["pid"] != other["pid"], "both wait at once, each on a pretended GPU of its own"
    assert one["on_ray"]
    assert other["on_ray"]
    (far.folder / "gpu_two.json").unlink(missing_ok=True)
    os.kill(one["pid"], signal.SIGKILL)
    printed = output(first, 60)
    assert "gpu_one: " in printed
    assert printed.endswith("FAILURE\n")
    assert not (far.folder / "gpu_two.json").exists()
    assert far.slots_taken() == 1, "the other run's step holds its slot, the killed one's is free"
    far.release("gpu_other")
    assert output(second, 60) == "SUCCESS\n"


def test_terminating_a_run_stops_its_ray_job(far: Place, ray: object) -> None:
    far.hold("gpu_one")
    run = far.start("gpu_one")
    pid = far.note("gpu_one")["pid"]
    assert far.slots_taken() == 1
    run.send_signal(signal.SIGTERM)
    wait_until_gone(pid, 30)
    run.wait(30)
    assert far.slots_taken() == 0


def test_a_request_that_no_node_can_meet_is_refused(far: Place, ray: object) -> None:
    printed = output(far.start("gpu_one", TWIGMA_GPUS_PER_STEP="4"), 60)
    assert "asks for 4 GPUs; no node of the Ray cluster at http://127.0.0.1:8265 has more than 2" in printed


def test_a_killed_run_leaves_no_orphan_on_the_gpu(far: Place, ray: object) -> None:
    far.hold("gpu_one")
    run = far.start("gpu_one")
    pid = far.note("gpu_one")["pid"]
    run.kill()
    run.wait()
    assert alive(pid), "Ray knows nothing of the run"
    wait_until_gone(pid, 60)


def test_a_killed_cluster_fails_the_step_and_the_next_attempt_succeeds(
    far: Place, ray: subprocess.Popen[bytes]
) -> None:
    far.hold("gpu_one")
    run = far.start("gpu_one", TWIGMA_GPU_SLOTS="4")  # no daemon here frees the slots of the runs above
    far.note("gpu_one")
    os.killpg(ray.pid, signal.SIGKILL)
    began = time.monotonic()
    printed = output(run, 60)
    assert time.monotonic() - began < 30
    assert "Ray at http://127.0.0.1:8265 does not know it or does not answer since" in printed
    assert printed.endswith("FAILURE\n")
    far.release("gpu_one")
    again = start_ray(far)
    try:
        assert output(far.start("gpu_one", TWIGMA_GPU_SLOTS="4"), 150) == "SUCCESS\n"
    finally:
        end(again)
