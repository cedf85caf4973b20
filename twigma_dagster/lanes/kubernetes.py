"""GPU steps as jobs of a Kubernetes cluster, through dagster-k8s's step handler.

That handler takes what all jobs share (home folder, secrets) from Dagster's K8sRunLauncher, which its Helm
chart sets; without it a step fails with an error that says so. It sets no limit on a request, tries each
again for long, and waits for ever for a job that ended without a word; all are mended here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes
from dagster._core.events import DagsterEvent
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext
from dagster_k8s import K8sRunLauncher
from dagster_k8s.client import DagsterKubernetesClient
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import UserDefinedDagsterK8sConfig

from twigma_dagster.lanes.local import step_of
from twigma_dagster.lanes.remote import REQUEST_S, UNREPORTED_S, passed_on


class Api(kubernetes.client.ApiClient):
    """Kubernetes' client with a time limit on each request, and no second try within it."""

    def __init__(self) -> None:
        configuration = kubernetes.client.Configuration.get_default_copy()
        configuration.retries = False
        super().__init__(configuration)

    def call_api(self, *arguments: Any, **options: Any) -> Any:
        """Send a request."""
        return super().call_api(
            *arguments, **{**options, "_request_timeout": options.get("_request_timeout") or REQUEST_S}
        )


class KubernetesHandler(K8sStepHandler):
    """dagster-k8s's step handler that says what it lacks, and notices a job that ended without a word.

    Raises:
        urllib3.exceptions.HTTPError, kubernetes.client.ApiException: the cluster does not answer, or refuses.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        api = Api()
        kubernetes.client.VersionApi(api).get_code()
        self._api_client = DagsterKubernetesClient.production_client(
            batch_api_override=kubernetes.client.BatchV1Api(api),
            core_api_override=kubernetes.client.CoreV1Api(api),
        )
        self._ended: dict[str, float] = {}

    def launch_step(self, context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Submit the step's job.

        Raises:
            RuntimeError: the instance does not launch its runs on Kubernetes.
        """
        if not isinstance(context.instance.run_launcher, K8sRunLauncher):
            raise RuntimeError(
                "TWIGMA_GPU_LANE=k8s needs Dagster's K8sRunLauncher in dagster.yaml; its Helm chart sets it"
            )
        return super().launch_step(context)

    def check_step_health(self, context: StepHandlerContext) -> CheckStepHealthResult:
        """Say whether Kubernetes still works on the step's job."""
        step, job = step_of(context), self._get_k8s_step_job_name(context)
        namespace = self._get_container_context(context).namespace
        try:
            status = self._api_client.batch_api.read_namespaced_job_status(job, namespace=namespace).status
        except kubernetes.client.ApiException as error:
            if error.status != 404:
                raise
            return CheckStepHealthResult.unhealthy(f"{step}: there is no Kubernetes job {namespace}/{job}")
        if status.failed:
            return CheckStepHealthResult.unhealthy(f"{step}: Kubernetes job {namespace}/{job} has failed")
        now = time.monotonic()
        if status.succeeded and now - self._ended.setdefault(job, now) > UNREPORTED_S:
            return CheckStepHealthResult.unhealthy(
                f"{step}: Kubernetes job {namespace}/{job} has ended, but the step never did: "
                "does its pod reach Dagster's database? See its log"
            )
        return CheckStepHealthResult.healthy()


def handler(
    *, image: str, namespace: str, service_account: str, node_selector: Mapping[str, str], gpus: float
) -> KubernetesHandler:
    """Return a step handler whose jobs ask for `gpus` GPUs on the nodes that `node_selector` names.

    Raises:
        kubernetes.config.ConfigException: neither inside of a cluster nor with a kubeconfig.
    """
    container = {"resources": {"limits": {"nvidia.com/gpu": int(gpus)}}} if gpus else {}
    wanted = {"container_config": container, "pod_spec_config": {"node_selector": dict(node_selector)}}
    return KubernetesHandler(
        image=image or None,
        container_context=K8sContainerContext(
            namespace=namespace,
            service_account_name=service_account or None,
            env_vars=passed_on(),
            run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(wanted),
        ),
        load_incluster_config="KUBERNETES_SERVICE_HOST" in os.environ,
        kubeconfig_file=os.environ.get("KUBECONFIG"),
        enable_owner_references="KUBERNETES_SERVICE_HOST" in os.environ,
    )


def refusal(_: StepHandler, gpus: float) -> str | None:
    """Return why Kubernetes can never run a step that asks for `gpus`, or None."""
    if gpus == int(gpus):
        return None
    return f"asks for {gpus:g} GPUs; Kubernetes gives whole ones only: set TWIGMA_GPUS_PER_STEP to 1 or more"
