"""GPU steps as jobs of a Kubernetes cluster, through dagster-k8s's step handler."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import UserDefinedDagsterK8sConfig

PASSED_ON = ("TWIGMA_", "AWS_", "X_BEARER_TOKEN", "HF_")
"""Variables of the run that its steps get too, by the beginning of their names."""


def handler(
    *, image: str, namespace: str, service_account: str, node_selector: Mapping[str, str], gpus: int
) -> K8sStepHandler:
    """Return a step handler whose jobs ask for `gpus` GPUs on the nodes that `node_selector` names.

    Raises:
        kubernetes.config.ConfigException: neither inside of a cluster nor with a kubeconfig.
    """
    container = {"resources": {"limits": {"nvidia.com/gpu": gpus}}} if gpus else {}
    wanted = {"container_config": container, "pod_spec_config": {"node_selector": dict(node_selector)}}
    return K8sStepHandler(
        image=image or None,
        container_context=K8sContainerContext(
            namespace=namespace,
            service_account_name=service_account or None,
            env_vars=sorted(name for name in os.environ if name.startswith(PASSED_ON)),
            run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(wanted),
        ),
        load_incluster_config="KUBERNETES_SERVICE_HOST" in os.environ,
        kubeconfig_file=os.environ.get("KUBECONFIG"),
        enable_owner_references="KUBERNETES_SERVICE_HOST" in os.environ,
    )
