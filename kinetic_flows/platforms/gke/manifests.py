"""Manifests that stand beside the runs' Jobs, and the work pool's template, as pure values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

from kinetic_flows.core.job_parts import PackagesSpec
from kinetic_flows.platforms.gke.image_volumes import (
    MOUNT_VARIABLE,
    VOLUME_VARIABLE,
    packages_variables,
)
from kinetic_flows.platforms.gke.names import HEADLESS_SERVICE, RUN_ID_POD_LABEL
from kinetic_flows.platforms.gke.templates import marked

WORK_POOL_TYPE = "kubernetes"

TRIAL_IMAGE = "kinetic/preflight"
"""Image of a Job that is only tried: no node pulls it."""

_POD_ALONE = ("fsGroup", "fsGroupChangePolicy", "supplementalGroups", "sysctls")
"""What a pod's security context says that no container has."""


def base_job_template() -> dict[str, Any]:
    """Return the base job template of the `kinetic-gke` work pool, as it is installed."""
    template: dict[str, Any] = json.loads(_template_text())
    return template


@lru_cache(maxsize=1)
def _template_text() -> str:
    folder = resources.files("kinetic_flows.deployments")
    text = folder.joinpath("work_pools", "kinetic-gke.json").read_text(encoding="utf-8")
    return json.dumps(marked(json.loads(text)))


def headless_service(namespace: str) -> dict[str, Any]:
    """Return the Service by which hosts of slices find one another.

    It has no address of its own and selects no pods by run, so that one serves all runs of a
    namespace. Names resolve before the pods are ready, because they wait for one another.
    https://kubernetes.io/docs/concepts/services-networking/service/#headless-services
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": HEADLESS_SERVICE, "namespace": namespace},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"app.kubernetes.io/managed-by": "prefect"},
        },
    }


def trial_job(
    namespace: str,
    service_account: str | None,
    security_context: Mapping[str, Any],
    *,
    mounts_image: bool = False,
    nodes: Mapping[str, Any] | None = None,
    devices: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a Job like a run's, as far as those who admit Jobs judge them, to be tried only.

    Args:
        namespace: Where it is tried.
        service_account: Kubernetes service account of its pods; None for the default one.
        security_context: What its container may do on its node.
        mounts_image: Whether it has an image mounted as a volume.
        nodes: What of its pods' spec says which nodes they may be on; None for nothing.
        devices: Chips or GPUs of each pod; None for none.
    """
    container: dict[str, Any] = {
        "name": "prefect-job",
        "image": TRIAL_IMAGE,
        "securityContext": dict(security_context),
    }
    if devices:
        container["resources"] = {"limits": dict(devices)}
    account = {"serviceAccountName": service_account} if service_account else {}
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container], **account}
    pod |= nodes or {}
    if mounts_image:
        given = packages_variables(PackagesSpec(image=TRIAL_IMAGE, identity=""))
        pod["volumes"] = [given[VOLUME_VARIABLE]]
        container["volumeMounts"] = [given[MOUNT_VARIABLE]]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "kinetic-preflight-", "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def container_security(
    template: Mapping[str, Any], variables: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return what a template lets a run's container do on its node.

    Args:
        template: The work pool's base job template.
        variables: The template's variables for the run.
    """
    manifest = template["job_configuration"].get("job_manifest") or {}
    pod = ((manifest.get("spec") or {}).get("template") or {}).get("spec") or {}
    container: Mapping[str, Any] = next(iter(pod.get("containers") or ()), {})
    found: dict[str, Any] = {}
    places = {"pod_security_context": pod, "security_context": container}
    for variable, place in places.items():
        said = place.get("securityContext")
        # A text is the place of the variable.
        found |= (variables.get(variable) if isinstance(said, str) else said) or {}
    return {name: value for name, value in found.items() if name not in _POD_ALONE}


def run_secret(name: str, namespace: str, run_id: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the Secret that hands a run its keys; values are in plain text here."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {RUN_ID_POD_LABEL: run_id, "app.kubernetes.io/managed-by": "kinetic"},
        },
        "stringData": dict(values),
    }


def owned_by_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch that makes Kubernetes delete an object together with a Job."""
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }
    return {"metadata": {"ownerReferences": [owner]}}
