"""GPU steps on Kubernetes, as far as the job submitted: a server on loopback takes it and fails it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dagster.test_lanes import output, place


class Api(BaseHTTPRequestHandler):
    """The part of Kubernetes' API that a step's job needs; keeps what was submitted in `server.jobs`."""

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.jobs.append((self.path, job))  # type: ignore[attr-defined]
        self._reply(201, job)

    def do_GET(self) -> None:
        self._reply(200, {"kind": "Job", "apiVersion": "batch/v1", "status": {"failed": 1}})

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


LAUNCHER = """
run_launcher:
  module: dagster_k8s
  class: K8sRunLauncher
  config:
    service_account_name: runs
    dagster_home: /var/lib/twigma/dagster
    instance_config_map: instance
    postgres_password_secret: postgres
    load_incluster_config: false
    kubeconfig_file: KUBECONFIG
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """Give the path of a kubeconfig, and the jobs submitted so far."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.jobs = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    yield str(file), server.jobs  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def test_the_job_asks_for_what_the_settings_say(
    tmp_path: Path, cluster: tuple[str, list[tuple[str, dict[str, Any]]]]
) -> None:
    kubeconfig, jobs = cluster
    here = place(
        tmp_path / "home",
        KUBECONFIG=kubeconfig,
        TWIGMA_GPU_LANE="k8s",
        TWIGMA_GPUS_PER_STEP="2",
        TWIGMA_K8S_IMAGE="registry.example/twigma:0.1.0",
        TWIGMA_K8S_NAMESPACE="pictures",
        TWIGMA_K8S_SERVICE_ACCOUNT="steps",
        TWIGMA_K8S_NODE_SELECTOR="gpu=h100,zone=a",
        X_BEARER_TOKEN="a-token-of-somebody",
        AWS_SECRET_ACCESS_KEY="a-key-of-somebody",
    )
    with open(Path(here.environment["DAGSTER_HOME"]) / "dagster.yaml", "a") as file:
        file.write(LAUNCHER.replace("KUBECONFIG", kubeconfig))
    printed = output(here.start("gpu_one", "cpu_one"), 90)
    assert here.note("cpu_one", "end"), "the CPU step stays here"
    assert "gpu_one: " in printed
    assert "Discovered failed Kubernetes job" in printed
    assert printed.endswith("FAILURE\n")
    ((path, job),) = jobs
    assert path == "/apis/batch/v1/namespaces/pictures/jobs"
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "registry.example/twigma:0.1.0"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert pod["nodeSelector"] == {"gpu": "h100", "zone": "a"}
    assert pod["serviceAccountName"] == "steps"
    assert container["args"][1:] == ["-m", "twigma_dagster.lanes.remote", "api", "execute_step"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert variables["TWIGMA_GPU_LANE"] == "k8s"
    assert "of-somebody" not in json.dumps(job), "a manifest holds no secret"
    assert variables["DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS"]
    assert job["metadata"]["labels"]["dagster/op"] == "gpu_one"


def test_another_launcher_is_refused(
    tmp_path: Path, cluster: tuple[str, list[tuple[str, dict[str, Any]]]]
) -> None:
    here = place(tmp_path / "home", KUBECONFIG=cluster[0], TWIGMA_GPU_LANE="k8s")
    assert "needs Dagster's K8sRunLauncher" in output(here.start("gpu_one"), 90)
    assert cluster[1] == []


def test_no_cluster_fails_the_step_with_the_reason(tmp_path: Path) -> None:
    here = place(tmp_path / "home", KUBECONFIG=str(tmp_path / "none"), TWIGMA_GPU_LANE="k8s")
    printed = output(here.start("gpu_one", "cpu_one"), 90)
    assert here.note("cpu_one", "end")
    assert "gpu_one: could not be launched: ConfigException" in printed
