"""What GKE adds to Kubernetes: what its admission webhooks write into pods.

The hosts of a TPU slice know one another by variables, from the Job's index and the headless
Service that the pods name as their subdomain; JAX's cluster detection for GKE
(`jax._src.clusters.cloud_tpu_cluster.GkeTpuCluster`) reads them, so that
`jax.distributed.initialize()` needs no arguments.
https://cloud.google.com/kubernetes-engine/docs/how-to/tpus

Pods tolerate what they ask for: the taints of GPUs and TPUs (`ExtendedResourceToleration`), of the
compute class that they select, and of queued provisioning where they consume a request.
https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#extendedresourcetoleration
https://cloud.google.com/kubernetes-engine/docs/concepts/about-custom-compute-classes
"""

from __future__ import annotations

from loopback.kubernetes.node_groups import COMPUTE_CLASS_LABEL, QUEUED_LABEL
from loopback.kubernetes.store import Object

TPU = "google.com/tpu"
GPU = "nvidia.com/gpu"
CONSUMES = "autoscaling.x-k8s.io/consume-provisioning-request"
CONSUMES_OF_CLASS = "autoscaling.x-k8s.io/provisioning-class-name"


def inject_tpu_variables(job: Object, pod: Object, index: str | None) -> None:
    """Tell a pod of a TPU slice which of its workers it is, and where the others are."""
    subdomain = pod["spec"].get("subdomain")
    for container in pod["spec"]["containers"]:
        if TPU not in container.get("resources", {}).get("limits", {}):
            continue
        hostnames = ["localhost"]
        if index is not None and subdomain:
            name, hosts = job["metadata"]["name"], job["spec"].get("completions", 1)
            hostnames = [f"{name}-{number}.{subdomain}" for number in range(hosts)]
        container.setdefault("env", []).extend(
            (
                {"name": "TPU_WORKER_ID", "value": index or "0"},
                {"name": "TPU_WORKER_HOSTNAMES", "value": ",".join(hostnames)},
            )
        )


def add_tolerations(pod: Object) -> None:
    """Have a pod tolerate what nodes are tainted with that have what it asks for."""
    spec = pod["spec"]
    limits = [each.get("resources", {}).get("limits") or {} for each in spec["containers"]]
    wanted = [
        {"key": name, "operator": "Exists", "effect": "NoSchedule"}
        for name in (TPU, GPU)
        if any(name in each for each in limits)
    ]
    if chosen := (spec.get("nodeSelector") or {}).get(COMPUTE_CLASS_LABEL):
        wanted.append(_equal(COMPUTE_CLASS_LABEL, chosen))
    if consumed_request(pod):
        wanted.append(_equal(QUEUED_LABEL, "true"))
    there = spec.get("tolerations") or []
    added = [each for each in wanted if each not in there]
    if added:
        spec["tolerations"] = [*there, *added]


def consumed_request(pod: Object) -> str:
    """Return the ProvisioningRequest whose nodes a pod is for; empty for none."""
    annotations = pod["metadata"].get("annotations") or {}
    return str(annotations.get(CONSUMES, ""))


def _equal(key: str, value: str) -> dict[str, str]:
    return {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}
