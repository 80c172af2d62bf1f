"""What GKE adds to Kubernetes: the variables by which the hosts of a TPU slice know one another.

GKE sets them by an admission webhook on pods that ask for TPUs, from the Job's index and the
headless Service that the pods name as their subdomain; JAX's cluster detection for GKE
(`jax._src.clusters.cloud_tpu_cluster.GkeTpuCluster`) reads them, so that
`jax.distributed.initialize()` needs no arguments.
https://cloud.google.com/kubernetes-engine/docs/how-to/tpus
"""

from __future__ import annotations

from loopback.kubernetes.store import Object

TPU = "google.com/tpu"


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
