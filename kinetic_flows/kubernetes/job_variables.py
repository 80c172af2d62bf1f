"""What the work pool's job template is given for one run, as pure values."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kinetic_flows.accelerators import Accelerator
from kinetic_flows.naming import HEADLESS_SERVICE, kubernetes_job_name

COORDINATOR_PORT = 8476
"""Port of host 0 on which JAX's distributed service listens by default."""

DEFAULT_PREEMPTIONS_ON_SPOT = 3
DAY_SECONDS = 86_400

_HOST_VARIABLES = ("KINETIC_HOSTS", "KINETIC_HOSTNAMES", "KINETIC_COORDINATOR_ADDRESS")


@dataclass(frozen=True, kw_only=True)
class PodResources:
    """What each pod gets besides its accelerator, in Kubernetes quantities.

    Attributes:
        cpu: Requested CPU; None to request none.
        memory: Requested memory and its limit; None for neither.
        ephemeral_storage: Requested disk and its limit; None for neither.
        shared_memory: Size of `/dev/shm`; None for the work pool's default.
    """

    cpu: str | None = None
    memory: str | None = None
    ephemeral_storage: str | None = None
    shared_memory: str | None = None


@dataclass(frozen=True, kw_only=True)
class PodPlacement:
    """Where pods are made and under which rules of the cluster.

    Attributes:
        namespace: Kubernetes namespace.
        service_account: Kubernetes service account; None for the namespace's default.
        priority_class: Priority class; None for the cluster's default.
        queue: Kueue local queue that admits the Job; None for no queue.
        tolerations: Taints the pods put up with, besides those of the accelerator.
        labels: Further labels of the Job and its pods.
        annotations: Further annotations of the Job and its pods.
    """

    namespace: str = "default"
    service_account: str | None = None
    priority_class: str | None = None
    queue: str | None = None
    tolerations: tuple[Mapping[str, str], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PodRequest:
    """One run as Kubernetes is to run it.

    Attributes:
        run_id: The run's id.
        name: The function's name.
        image: The image, by digest.
        entrypoint: Program of the container and its first arguments.
        arguments: What follows the entrypoint.
        environment: Variables of the container; no secrets.
        secrets: Names of Secrets whose keys become variables.
        accelerator: What it runs on.
        resources: What each pod gets besides the accelerator.
        placement: Where pods are made.
        max_preemptions: How often a preempted, evicted or lost run starts again; None for 3
            on Spot VMs and 0 elsewhere.
        active_deadline_seconds: When Kubernetes ends the Job, its waiting included; None for
            never.
        finished_job_ttl_seconds: How long a finished Job stays to be looked at.
        grace_seconds: Time between SIGTERM and SIGKILL when a pod is stopped.
    """

    run_id: str
    name: str
    image: str
    accelerator: Accelerator
    entrypoint: tuple[str, ...] = ("python3", "-u")
    arguments: tuple[str, ...] = ("/app/remote_runner.py",)
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    resources: PodResources = field(default_factory=PodResources)
    placement: PodPlacement = field(default_factory=PodPlacement)
    max_preemptions: int | None = None
    active_deadline_seconds: int | None = None
    finished_job_ttl_seconds: int = DAY_SECONDS
    grace_seconds: int = 30

    @property
    def job_name(self) -> str:
        """Name of the Job, the same for every attempt to create it."""
        return kubernetes_job_name(self.name, self.run_id)

    @property
    def preemptions_tolerated(self) -> int:
        """How often the whole run may start again after it was disturbed."""
        if self.max_preemptions is not None:
            return self.max_preemptions
        return DEFAULT_PREEMPTIONS_ON_SPOT if self.accelerator.spot else 0


def job_variables(request: PodRequest) -> dict[str, Any]:
    """Return the variables of the `kinetic-gke` work pool's template for one run.

    Variables that are None are left out, so that the work pool's own defaults apply.
    """
    variables = {
        "job_name": request.job_name,
        "image": request.image,
        "entrypoint": list(request.entrypoint),
        "command": shlex.join(request.arguments),
        "env": {**request.environment, **_host_environment(request)},
        "env_from": [{"secretRef": {"name": name}} for name in request.secrets],
        "active_deadline_seconds": request.active_deadline_seconds,
        "finished_job_ttl": request.finished_job_ttl_seconds,
        "termination_grace_seconds": request.grace_seconds,
        **_accelerator_variables(request.accelerator),
        **_host_variables(request),
        **_resource_variables(request.resources),
        **_placement_variables(request.placement),
        "tolerations": [
            *_accelerator_tolerations(request.accelerator),
            *(dict(item) for item in request.placement.tolerations),
        ],
    }
    return {name: value for name, value in variables.items() if value is not None}


def _accelerator_variables(accelerator: Accelerator) -> dict[str, Any]:
    variables: dict[str, Any] = {"spot": "true" if accelerator.spot else None}
    if accelerator.category == "tpu":
        variables["tpu_accelerator"] = accelerator.label
        variables["tpu_topology"] = accelerator.topology
        variables["tpu_chips"] = accelerator.count_per_host
    elif accelerator.category == "gpu":
        variables["gpu_accelerator"] = accelerator.label
        variables["gpu_count"] = accelerator.count_per_host
    return variables


def _host_variables(request: PodRequest) -> dict[str, Any]:
    """Spell a slice of several hosts; each host's pod counts as a failure of its own."""
    hosts = request.accelerator.hosts
    several = hosts > 1
    return {
        "hosts": hosts,
        "completion_mode": "Indexed" if several else None,
        "subdomain": HEADLESS_SERVICE if several else None,
        "backoff_limit": request.preemptions_tolerated * hosts,
    }


def _host_environment(request: PodRequest) -> dict[str, str]:
    """Tell hosts of one another; Kubernetes itself sets `JOB_COMPLETION_INDEX`.

    https://kubernetes.io/docs/tasks/job/job-with-pod-to-pod-communication/
    """
    hosts = request.accelerator.hosts
    if hosts == 1:
        return {}
    names = [f"{request.job_name}-{index}.{HEADLESS_SERVICE}" for index in range(hosts)]
    values = (str(hosts), ",".join(names), f"{names[0]}:{COORDINATOR_PORT}")
    return dict(zip(_HOST_VARIABLES, values, strict=True))


def _resource_variables(resources: PodResources) -> dict[str, Any]:
    return {
        "cpu": resources.cpu,
        "memory": resources.memory,
        "ephemeral_storage": resources.ephemeral_storage,
        "shared_memory": resources.shared_memory,
    }


def _placement_variables(placement: PodPlacement) -> dict[str, Any]:
    return {
        "namespace": placement.namespace,
        "service_account_name": placement.service_account,
        "priority_class_name": placement.priority_class,
        "queue_name": placement.queue,
        "labels": dict(placement.labels) or None,
        "annotations": dict(placement.annotations) or None,
    }


def _accelerator_tolerations(accelerator: Accelerator) -> list[dict[str, str]]:
    """Put up with the taints that GKE sets on such nodes.

    https://cloud.google.com/kubernetes-engine/docs/concepts/spot-vms and
    https://cloud.google.com/kubernetes-engine/docs/how-to/prepare-arm-workloads-for-deployment
    """
    tolerations = [
        {"key": resource, "operator": "Exists", "effect": "NoSchedule"}
        for resource in accelerator.resources
    ]
    if accelerator.spot:
        tolerations.append(_tolerate("cloud.google.com/gke-spot", "true"))
    if accelerator.architecture != "amd64":
        tolerations.append(_tolerate("kubernetes.io/arch", accelerator.architecture))
    return tolerations


def _tolerate(key: str, value: str) -> dict[str, str]:
    return {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}
