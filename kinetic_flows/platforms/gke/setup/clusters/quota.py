"""Whether a project may have so many accelerators, as far as Compute Engine tells.

Each GPU of before H100, and TPU v4 and v5e, has a quota of its own in a region, once more for Spot
VMs; all GPUs together have one for all regions, which is 0 in many new projects. Of later ones the
quota is by family, which these calls do not tell.
https://cloud.google.com/compute/resource-usage
https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus#ensure-quota
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.errors import CloudError
from kinetic_flows.platforms.gke.setup.request import PoolRequest

if TYPE_CHECKING:
    from kinetic_flows.clients.google.apis import GoogleApis

ALL_GPUS = "GPUS_ALL_REGIONS"

_METRICS: Mapping[str, str] = {
    "nvidia-l4": "NVIDIA_L4_GPUS",
    "nvidia-tesla-a100": "NVIDIA_A100_GPUS",
    "nvidia-a100-80gb": "NVIDIA_A100_80GB_GPUS",
    "nvidia-tesla-p100": "NVIDIA_P100_GPUS",
    "nvidia-tesla-p4": "NVIDIA_P4_GPUS",
    "nvidia-tesla-t4": "NVIDIA_T4_GPUS",
    "nvidia-tesla-v100": "NVIDIA_V100_GPUS",
    "tpu-v4-podslice": "TPU_PODSLICE_V4",
    "tpu-v5-lite-podslice": "TPU_LITE_PODSLICE_V5",
}
"""The quota of a region by GKE's label of the accelerator."""

_ONLY_PREEMPTIBLE = {"nvidia-h100-80gb": "NVIDIA_H100_GPUS"}
"""Those of which only the quota of Spot VMs is told."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """A quota of a project.

    Attributes:
        metric: What is counted: `NVIDIA_L4_GPUS`.
        limit: How many there may be.
        used: How many there are.
        region: Where; None for all regions together.
    """

    metric: str
    limit: int
    used: int
    region: str | None

    @property
    def free(self) -> int:
        """How many more there may be."""
        return max(self.limit - self.used, 0)


def quotas_page(project: str) -> str:
    """Return where one asks for more."""
    return f"https://console.cloud.google.com/iam-admin/quotas?project={project}"


def metric_of(accelerator: Accelerator) -> str | None:
    """Return the name of an accelerator's quota in a region; None for one that is not told."""
    label = accelerator.label or ""
    metric = _METRICS.get(label)
    # Flex-start takes from what Spot VMs are counted in:
    # https://cloud.google.com/compute/docs/instances/about-flex-start-vms
    if accelerator.spot or accelerator.flex:
        metric = metric or _ONLY_PREEMPTIBLE.get(label)
        return f"PREEMPTIBLE_{metric}" if metric else None
    return metric


def read_quotas(apis: GoogleApis, region: str) -> tuple[Quota, ...] | None:
    """Return the quotas of a region and of all; None where they cannot be read.

    They are for a warning only, so nothing fails without them.

    Args:
        apis: Google's APIs.
        region: The region.
    """
    try:
        answered = apis.read(
            f"read the quotas of {region}", lambda: apis.compute.region(region).get("quotas") or ()
        )
        of_all = apis.read("read the project's quotas", lambda: apis.compute.project_quotas())
    except CloudError:
        return None
    return (*_quotas(answered, region), *_quotas(of_all, None))


def shortages(
    pools: Sequence[PoolRequest], quotas: Iterable[Quota], project: str
) -> Iterator[tuple[PoolRequest, str]]:
    """Yield the node pools that a quota has no room for, and what is to be said of each.

    Args:
        pools: The node pools.
        quotas: The project's quotas.
        project: The project.
    """
    by_metric = {quota.metric: quota for quota in quotas}
    for pool in pools:
        if pool.reservation:
            continue  # what is reserved counts already
        wanted = [metric_of(pool.accelerator)]
        wanted += [ALL_GPUS] if pool.accelerator.category == "gpu" else []
        short = [by_metric[name] for name in wanted if name in by_metric]
        tightest = min(short, key=lambda quota: quota.free, default=None)
        if tightest is not None and tightest.free < _chips(pool):
            yield pool, _in_words(pool, tightest, project)


def _chips(pool: PoolRequest) -> int:
    return pool.accelerator.count_per_host * pool.max_nodes


def _in_words(pool: PoolRequest, quota: Quota, project: str) -> str:
    where = f"in {quota.region}" if quota.region else "in all regions together"
    nodes = quota.free // pool.accelerator.count_per_host
    enough = f"enough for {nodes} of {pool.max_nodes} nodes" if nodes else "too few for a node"
    if pool.accelerator.hosts > 1:
        enough = "too few for the slice"
    used = f", {quota.used} of them in use" if quota.used else ""
    return (
        f"quota {quota.metric} {where} is {quota.limit}{used}: {enough}; ask for more at "
        f"{quotas_page(project)}"
    )


def _quotas(answered: Iterable[Mapping[str, Any]], region: str | None) -> Iterator[Quota]:
    for each in answered:
        yield Quota(
            metric=str(each["metric"]),
            limit=int(each.get("limit") or 0),
            used=int(each.get("usage") or 0),
            region=region,
        )
