"""docker-compose.yml: valid, one door to outside, and its services build what one process builds."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dagster.conftest import Built
from tests.dagster.deployment import NEEDED, ROOT, Deployment, deployed, interpolate, lacking

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
MONTHS = ["2021-01", "2021-02", "2021-03"]
ASSETS = """raw_tweets tweets tweet_media tweet_counts images embeddings fingerprints lookalikes captions
    nsfw_scores dataset drops""".split()
GPU_ASSETS = {"embeddings", "captions"}


def test_the_file_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


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
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
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
        "RAY_TOKEN": "a-token-of-ray-that-is-long-enough",
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
    request.add_header("Authorization", "Basic " + login)
try:
    reply = urllib.request.urlopen(request, timeout=60, context=ssl._create_unverified_context())
    print(reply.status, reply.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
LOGIN = base64.b64encode(b"researcher:open sesame").decode()


def fetch(running: Deployment, address: str, login: str = "", body: str = "") -> tuple[int, str]:
    done = running.run([sys.executable, "-c", FETCH, address, login, body], "proxy")
    assert done.returncode == 0, done.stderr
    status, _, text = done.stdout.partition(" ")
    return int(status), text


def graphql(running: Deployment, query: str, **variables: Any) -> dict[str, Any]:
    """Ask the webserver through the proxy, as the UI in a browser does."""
    body = json.dumps({"query": query, "variables": variables})
    status, text = fetch(running, "https://localhost/graphql", LOGIN, body)
    assert status == 200, text
    reply = json.loads(text)
    assert "errors" not in reply, reply
    data: dict[str, Any] = reply["data"]
    return data


def test_the_proxy_asks_for_a_login(running: Deployment) -> None:
    assert fetch(running, "https://localhost/server_info")[0] == 401
    wrong = base64.b64encode(b"researcher:guess").decode()
    assert fetch(running, "https://localhost/server_info", wrong)[0] == 401
    assert fetch(running, "https://localhost/server_info", LOGIN)[0] == 200


def test_ray_asks_for_its_token(running: Deployment) -> None:
    assert fetch(running, "http://ray:8265/api/version")[0] == 401


LAUNCH = """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATUS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status error { message } } } }"""
RUNS = """query { runsOrError { ... on Runs { results { runId status tags { key value } } } } }"""
READ = """
import json, sys
from twigma_core.lake import Lake
from twigma_dagster.settings import load_settings
from twigma_dagster.resources import build_resources
lake = build_resources(load_settings())["lake"].open()
pairs = [(a, m) for a in sys.argv[1].split() for m in sys.argv[2].split()]
print(json.dumps({f"{a} {m}": lake.provenance(a, m).data_version for a, m in pairs}))
"""
JOBS = """
import json
from ray.job_submission import JobSubmissionClient
jobs = JobSubmissionClient("http://ray:8265").list_jobs()
print(json.dumps([[job.status, job.entrypoint, job.metadata or {}] for job in jobs]))
"""


def backfill(running: Deployment, assets: list[str], months: list[str], seconds: float) -> None:
    """Launch a backfill as the UI does, and wait until it is complete."""
    parameters = {"assetSelection": [{"path": [name]} for name in assets], "partitionNames": months}
    launched = graphql(running, LAUNCH, p=parameters)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = graphql(running, STATUS, id=launched["backfillId"])["partitionBackfillOrError"]
        if state["status"] not in ("REQUESTED", "CANCELING"):
            break
        time.sleep(3)
    runs = graphql(running, RUNS)["runsOrError"]["results"]
    failed = [run for run in runs if run["status"] != "SUCCESS"]
    logs = "\n".join(f"{name}: {running.log(name)}" for name in ("daemon", "code", "ray"))
    assert state["status"] == "COMPLETED_SUCCESS" and not failed, f"{state} {failed}\n{logs}"


@pytest.mark.timeout(1200)
def test_a_backfill_of_three_months_gives_the_tables_of_an_embedded_run(
    running: Deployment, sample: Built
) -> None:
    command = (
        "-m twigma_dagster.cli exec dagster asset materialize -m twigma_dagster.definitions --select hashtags"
    )
    first = running.run([sys.executable, *command.split()])
    assert first.returncode == 0, first.stderr[-3000:]
    backfill(running, ASSETS, MONTHS, 900)
    done = running.run([sys.executable, "-c", READ, " ".join(ASSETS), " ".join(MONTHS)])
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    ours = {f"{a} {m}": sample.lake.provenance(a, m).data_version for a in ASSETS for m in MONTHS}
    assert theirs == ours
    jobs = running.run([sys.executable, "-c", JOBS], "ray")
    assert jobs.returncode == 0, jobs.stderr
    found = json.loads(jobs.stdout)
    on_ray = [name for _, entry, about in found for name in ASSETS if name in entry + json.dumps(about)]
    assert sorted(on_ray) == sorted([*GPU_ASSETS] * len(MONTHS)), "GPU steps, and only they, run on Ray"
    assert not list(Path(running.folder / "home").rglob("*.parquet")), "the lake is on S3, not here"
