"""docker-compose.yml: valid, one door to outside; its services start, ask who is there, do the work."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dagster.conftest import Built
from tests.dagster.deployment import NEEDED, ROOT, Deployment, deployed, interpolate, lacking

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
RAY_TOKEN = "a-token-of-ray-that-is-long-enough"
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_the_files_follow_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    files = [ROOT / "docker-compose.yml", ROOT / "deploy" / "cpu-box.yml", ROOT / "deploy" / "gpu-box.yml"]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_gpu_box_runs_the_ray_node_of_the_one_machine() -> None:
    apart: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "gpu-box.yml").read_text())["services"]["ray"]
    beside = SERVICES["ray"]
    for key in ("image", "command", "restart", "shm_size", "deploy", "healthcheck", "volumes"):
        assert apart[key] == beside[key], key
    same = {key: value for key, value in beside["environment"].items() if key in apart["environment"]}
    assert apart["environment"] == same
    for address in apart["ports"]:
        assert address.startswith("${PRIVATE_ADDRESS:?"), "never on a public address"


def test_only_the_proxy_can_be_reached_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if service.get("ports")] == ["proxy"]
    assert all(service.get("network_mode") is None for service in SERVICES.values())
    assert COMPOSE["networks"]["inside"]["internal"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_watched_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":\d+\.\d+", service["image"]), "an image without a version changes by itself"
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"


def test_secrets_come_from_the_environment_only() -> None:
    example = (ROOT / "deploy" / "env.example").read_text()
    for secret in ("POSTGRES_PASSWORD", "STORE_KEY", "STORE_SECRET", "RAY_TOKEN", "UI_PASSWORD_HASH"):
        assert re.search(rf"^{secret}=(?:'')?$", example, re.MULTILINE), (
            f"{secret} has no default in the example"
        )
        with pytest.raises(KeyError, match=r"set it in \.env"):
            interpolate(f"${{{secret}:?set it in .env}}", {})
    text = (ROOT / "docker-compose.yml").read_text()
    for line in text.splitlines():
        if re.search(r"PASSWORD|SECRET|TOKEN|_KEY", line.partition(":")[0]):
            assert "${" in line, f"a secret in the file: {line.strip()}"


@pytest.fixture(scope="module")
def running(one_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """All services of the compose file, up; needs root, PostgreSQL's programs, Caddy and iproute2."""
    if why := lacking(*NEEDED):
        message = f"the services of docker-compose.yml cannot run here: {why}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    hashed = subprocess.run(
        ["caddy", "hash-password", "--plaintext", "open sesame"], capture_output=True, text=True, check=True
    )
    variables = {
        "POSTGRES_PASSWORD": "a-password-of-postgres",
        "STORE_KEY": "a-key",
        "STORE_SECRET": "a-secret-of-the-store",
        "RAY_TOKEN": RAY_TOKEN,
        "GPUS": "2",
        "UI_ADDRESS": "localhost",
        "UI_USER": "researcher",
        "UI_PASSWORD_HASH": hashed.stdout.strip(),
    }
    with deployed(tmp_path_factory.mktemp("deployment"), variables) as services:
        yield services


FETCH = """
import json, ssl, sys, urllib.request
address, login, body = sys.argv[1:]
request = urllib.request.Request(address, body.encode() or None, {"Content-Type": "application/json"})
if login:
    request.add_header("Authorization", login)
try:
    reply = urllib.request.urlopen(request, timeout=60, context=ssl._create_unverified_context())
    print(reply.status, reply.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
LOGIN = "Basic " + base64.b64encode(b"researcher:open sesame").decode()


def fetch(running: Deployment, address: str, login: str = "", body: str = "") -> tuple[int, str]:
    done = running.run([sys.executable, "-c", FETCH, address, login, body], "proxy")
    assert done.returncode == 0, done.stderr
    status, _, text = done.stdout.partition(" ")
    return int(status), text


def test_the_proxy_asks_for_a_login(running: Deployment) -> None:
    assert fetch(running, "https://localhost/server_info")[0] == 401
    wrong = "Basic " + base64.b64encode(b"researcher:guess").decode()
    assert fetch(running, "https://localhost/server_info", wrong)[0] == 401
    assert fetch(running, "https://localhost/server_info", LOGIN)[0] == 200


def test_ray_asks_for_its_token(running: Deployment) -> None:
    assert fetch(running, "http://ray:8265/api/version")[0] == 401


TWIGMA = [sys.executable, "-m", "twigma_dagster.cli"]
MONTHS = ["2021-01", "2021-02", "2021-03"]
TABLES = """raw_tweets tweets tweet_media tweet_counts snapshots images embeddings captions
    fingerprints lookalikes nsfw_scores dataset drops""".split()
LAUNCH = """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATE = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
    status runs(limit: 100) { runId status tags { key value } } } } }"""
ENDED = ("COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED")
RUN = """mutation($p: ExecutionParams!) { launchRun(executionParams: $p) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
STOP = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
STEPS = (
    """query($id: ID!) { runOrError(runId: $id) { ... on Run { status stepStats { stepKey status } } } }"""
)
TAKEN = """
import dagster as dg
with dg.DagsterInstance.get() as instance:
    print(instance.event_log_storage.get_concurrency_info("gpu").active_slot_count)
"""
VERSIONS = """
import json, sys
from twigma_core.lake import Lake
from twigma_dagster.settings import load_settings
lake, tables, months = Lake(load_settings().lake_root), *map(json.loads, sys.argv[1:])
assert str(lake.root).startswith("s3://")
made = {f"{t}/{m}": lake.provenance(t, m) for t in tables for m in months}
read = {key: [[up.asset, up.partition] for up in found.upstream] for key, found in made.items()}
print(json.dumps({key: [found.data_version, read[key]] for key, found in made.items()}))
"""


def ask(running: Deployment, query: str, **variables: Any) -> dict[str, Any]:
    """Ask the UI's GraphQL, through the proxy."""
    body = json.dumps({"query": query, "variables": variables})
    status, text = fetch(running, "https://localhost/graphql", LOGIN, body)
    assert status == 200, text
    reply: dict[str, Any] = json.loads(text)
    assert "errors" not in reply, reply
    found: dict[str, Any] = reply["data"]
    return found


@pytest.fixture(scope="module")
def ready(running: Deployment) -> Deployment:
    """The services, with the list of hashtags that all months need."""
    select = ["--select", "hashtags", "-m", "twigma_dagster.definitions"]
    done = running.run([*TWIGMA, "exec", "dagster", "asset", "materialize", *select])
    assert done.returncode == 0, done.stderr[-3000:]
    return running


def ray_jobs(running: Deployment) -> list[dict[str, Any]]:
    """Return the jobs that Ray's own list shows."""
    status, text = fetch(running, "http://ray:8265/api/jobs/", f"Bearer {RAY_TOKEN}")
    assert status == 200, text
    found: list[dict[str, Any]] = json.loads(text)
    return found


def test_three_months_through_all_services_give_the_tables_of_an_embedded_run(
    ready: Deployment, sample: Built
) -> None:
    running = ready
    params = {"assetSelection": [{"path": [name]} for name in TABLES], "partitionNames": MONTHS}
    launched = ask(running, LAUNCH, p=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    deadline = time.monotonic() + 540
    while True:
        state = ask(running, STATE, id=launched["backfillId"])["partitionBackfillOrError"]
        if state["status"] in ENDED:
            break
        assert time.monotonic() < deadline, f"{state} {running.log('daemon')}"
        time.sleep(2)
    of = {
        next(t["value"] for t in run["tags"] if t["key"] == "dagster/partition"): run for run in state["runs"]
    }
    assert {month: run["status"] for month, run in of.items()} == dict.fromkeys(MONTHS, "SUCCESS"), (
        running.log("code") + running.log("ray")
    )
    assert len(state["runs"]) == 3, "a run a month, and no other month"

    done = running.run([sys.executable, "-c", VERSIONS, json.dumps(TABLES), json.dumps(MONTHS)])
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    for name in TABLES:
        for month in MONTHS:
            here = sample.lake.provenance(name, month)
            read = [[up.asset, up.partition] for up in here.upstream if up.asset != "archive_files"]
            assert there[f"{name}/{month}"] == [here.data_version, read], f"{name}/{month}"

    ids = {run["runId"] for run in state["runs"]}
    jobs = [job for job in ray_jobs(running) if job["metadata"]["dagster/run-id"] in ids]
    assert sorted(job["metadata"]["dagster/op"] for job in jobs) == ["captions"] * 3 + ["embeddings"] * 3
    assert {job["status"] for job in jobs} == {"SUCCEEDED"}

    counted = running.run([*TWIGMA, "sql", "select month, count(*) from dataset group by 1 order by 1"])
    assert counted.returncode == 0, counted.stderr
    for month in MONTHS:
        rows = sample.lake.read("dataset", month).height
        assert re.search(rf"{month} \W+{rows}\b", counted.stdout), counted.stdout


def test_terminate_in_the_ui_stops_a_gpu_step_and_frees_its_slot(ready: Deployment) -> None:
    names = ["raw_tweets", "tweets", "tweet_media", "images", "embeddings"]
    params = {
        "selector": {
            "repositoryLocationName": "twigma",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": [name]} for name in names],
            "assetCheckSelection": [],
        },
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": "2021-04"}]},
        "runConfigData": {},
    }
    launched = ask(ready, RUN, p=params)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]

    def state() -> tuple[str, dict[str, str]]:
        run = ask(ready, STEPS, id=run_id)["runOrError"]
        return run["status"], {step["stepKey"]: step["status"] for step in run["stepStats"]}

    def wait_until(reached: Callable[[str, dict[str, str]], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not reached(*(seen := state())):
            assert time.monotonic() < deadline, f"{seen} {ready.log('daemon')} {ready.log('code')}"

    wait_until(lambda _, steps: steps.get("embeddings") == "IN_PROGRESS", 240)
    (step,) = remote_steps(ready)
    os.kill(step, signal.SIGSTOP)  # as if it hung, so that it does not end before it is looked at
    assert taken(ready) == 1
    assert ask(ready, STOP, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    wait_until(lambda status, _: status == "CANCELED", 90)
    deadline = time.monotonic() + 60
    while remote_steps(ready):
        assert time.monotonic() < deadline, ready.log("ray")
        time.sleep(0.5)
    (job,) = [job for job in ray_jobs(ready) if job["metadata"]["dagster/run-id"] == run_id]
    assert job["status"] == "STOPPED"
    assert taken(ready) == 0


def remote_steps(running: Deployment) -> list[int]:
    """Return the processes of steps on Ray."""
    network = Path(f"/proc/{running.processes['ray'].pid}/ns/net").readlink()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"twigma_dagster.lanes.remote" in words and (process / "ns/net").readlink() == network:
                found.append(int(process.name))
    return found


def taken(running: Deployment) -> int:
    """Return how many slots of the GPU lane Dagster holds for steps."""
    done = running.run([*TWIGMA, "exec", "python", "-c", TAKEN])
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)
