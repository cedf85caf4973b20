"""GPU steps on Kubernetes, as far as the job: a server on loopback takes it and says how it ended."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dagster.test_lanes import Place, output, place
from tests.loopback import Quiet, listening


@dataclass
class Cluster:
    """A server that speaks the part of Kubernetes' API that a step's job needs.

    Attributes:
        kubeconfig: file that leads to it.
        ends: how each job has ended: "failed" or "succeeded".
        jobs: path and manifest of each job submitted so far.
    """

    kubeconfig: Path
    ends: str = "failed"
    jobs: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


class Api(Quiet):
    """Takes jobs and says how they ended."""

    cluster: Cluster

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.cluster.jobs.append((self.path, job))
        self._reply(201, job)

    def do_GET(self) -> None:
        if self.path.startswith("/version"):
            text = ("major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion")
            self._reply(200, dict.fromkeys((*text, "compiler", "platform"), "1"))
        else:
            self._reply(200, {"kind": "Job", "apiVersion": "batch/v1", "status": {self.cluster.ends: 1}})

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


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


def kubeconfig(folder: Path, url: str) -> Path:
    """Write a kubeconfig that leads to this address; return its path."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    class Bound(Api):
        pass

    with listening(Bound) as url:
        Bound.cluster = Cluster(kubeconfig(tmp_path, url))
        yield Bound.cluster


def launched_by_kubernetes(folder: Path, config: Path, **variables: str) -> Place:
    """Return a Dagster home whose instance launches its runs on Kubernetes, as the Helm chart sets it."""
    here = place(folder / "home", KUBECONFIG=str(config), TWIGMA_GPU_LANE="k8s", **variables)
    with open(Path(here.environment["DAGSTER_HOME"]) / "dagster.yaml", "a") as file:
        file.write(LAUNCHER.replace("KUBECONFIG", str(config)))
    return here


def test_the_job_asks_for_what_the_settings_say(tmp_path: Path, cluster: Cluster) -> None:
    here = launched_by_kubernetes(
        tmp_path,
        cluster.kubeconfig,
        TWIGMA_GPUS_PER_STEP="2",
        TWIGMA_K8S_IMAGE="registry.example/twigma:0.1.0",
        TWIGMA_K8S_NAMESPACE="pictures",
        TWIGMA_K8S_SERVICE_ACCOUNT="steps",
        TWIGMA_K8S_NODE_SELECTOR="gpu=h100,zone=a",
        X_BEARER_TOKEN="a-token-of-somebody",
        AWS_SECRET_ACCESS_KEY="a-key-of-somebody",
        HF_TOKEN="another-token-of-somebody",
    )
    printed = output(here.start("gpu_one", "cpu_one"), 90)
    assert here.note("cpu_one", "end"), "the CPU step stays here"
    assert "gpu_one: " in printed
    assert re.search(r"gpu_one: Kubernetes job pictures/\S+ has failed", printed)
    assert printed.endswith("FAILURE\n")
    ((path, job),) = cluster.jobs
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


def test_a_job_that_ended_without_a_word_is_a_failed_step(tmp_path: Path, cluster: Cluster) -> None:
    cluster.ends = "succeeded"
    here = launched_by_kubernetes(tmp_path, cluster.kubeconfig, TWIGMA_K8S_IMAGE="registry.example/twigma:1")
    printed = output(here.start("gpu_one"), 90)
    assert re.search(r"gpu_one: Kubernetes job default/\S+ has ended, but the step never did", printed)
    assert printed.endswith("FAILURE\n")


def test_part_of_a_gpu_is_refused(tmp_path: Path, cluster: Cluster) -> None:
    here = launched_by_kubernetes(tmp_path, cluster.kubeconfig, TWIGMA_GPUS_PER_STEP="0.5")
    printed = output(here.start("gpu_one"), 90)
    assert "gpu_one: asks for 0.5 GPUs; Kubernetes gives whole ones only" in printed
    assert cluster.jobs == []


def test_another_launcher_is_refused(tmp_path: Path, cluster: Cluster) -> None:
    here = place(tmp_path / "home", KUBECONFIG=str(cluster.kubeconfig), TWIGMA_GPU_LANE="k8s")
    assert "needs Dagster's K8sRunLauncher" in output(here.start("gpu_one"), 90)
    assert cluster.jobs == []


def test_no_cluster_fails_the_step_with_the_reason(tmp_path: Path) -> None:
    here = place(tmp_path / "home", KUBECONFIG=str(tmp_path / "none"), TWIGMA_GPU_LANE="k8s")
    printed = output(here.start("gpu_one", "cpu_one"), 90)
    assert here.note("cpu_one", "end")
    assert "gpu_one: could not be launched on Kubernetes: ConfigException" in printed


def test_a_cluster_that_does_not_answer_fails_the_step(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        config = kubeconfig(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
        here = launched_by_kubernetes(tmp_path, config, TWIGMA_K8S_IMAGE="registry.example/twigma:1")
        printed = output(here.start("gpu_one"), 90)
    assert re.search(r"gpu_one: could not be launched on Kubernetes: .*timed out", printed)
