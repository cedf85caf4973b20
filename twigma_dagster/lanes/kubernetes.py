"""GPU steps as jobs of a Kubernetes cluster, through dagster-k8s's step handler.

That handler takes what all jobs share (home folder, secrets) from Dagster's K8sRunLauncher, which its Helm
chart sets; without it a step fails with an error that says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from dagster._core.events import DagsterEvent
from dagster._core.executor.step_delegating import StepHandlerContext
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import UserDefinedDagsterK8sConfig

PASSED_ON = ("TWIGMA_", "AWS_ENDPOINT_URL", "AWS_REGION", "HF_")
"""Variables of the run that its steps get too, by the beginning of their names."""
SECRET = ("TWIGMA_DATABASE",)
"""Not those: a job's manifest is no place for a secret. The Helm chart names Secrets that hold them."""


class KubernetesHandler(K8sStepHandler):
    """dagster-k8s's step handler that says what it lacks."""

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


def handler(
    *, image: str, namespace: str, service_account: str, node_selector: Mapping[str, str], gpus: int
) -> KubernetesHandler:
    """Return a step handler whose jobs ask for `gpus` GPUs on the nodes that `node_selector` names.

    Raises:
        kubernetes.config.ConfigException: neither inside of a cluster nor with a kubeconfig.
    """
    container = {"resources": {"limits": {"nvidia.com/gpu": gpus}}} if gpus else {}
    wanted = {"container_config": container, "pod_spec_config": {"node_selector": dict(node_selector)}}
    return KubernetesHandler(
        image=image or None,
        container_context=K8sContainerContext(
            namespace=namespace,
            service_account_name=service_account or None,
            env_vars=sorted(name for name in os.environ if name.startswith(PASSED_ON) and name not in SECRET),
            run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(wanted),
        ),
        load_incluster_config="KUBERNETES_SERVICE_HOST" in os.environ,
        kubeconfig_file=os.environ.get("KUBECONFIG"),
        enable_owner_references="KUBERNETES_SERVICE_HOST" in os.environ,
    )
