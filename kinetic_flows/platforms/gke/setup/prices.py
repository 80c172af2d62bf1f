"""Google's list prices of the few things that a setup is made of, in US dollars.

They are those of us-central1 without any discount (of H100s, of us-east4), and differ from region
to region by up to a third. They were put down in November 2026 from copies of Google's price lists,
which may have been older. Spot prices change every month, so none is here. What is not here is not
known, and said to be so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kinetic_flows.core.accelerators import Accelerator

AS_OF = "November 2026"
REGION = "us-central1"

HOURS_A_MONTH = 730

CLUSTER_HOURLY = 0.10
"""The management fee of every cluster: https://cloud.google.com/kubernetes-engine/pricing."""

FREE_TIER_MONTHLY = 74.40
"""What each billing account is given back of the fees of its zonal and Autopilot clusters, which
is one of them."""

NAT_HOURLY_A_NODE = 0.0014
NAT_ADDRESS_HOURLY = 0.005
NAT_A_GIB = 0.045
NAT_MOST_NODES = 32
"""https://cloud.google.com/nat/pricing: of more nodes than these, 32 are paid."""

DISK_MONTHLY_A_GB = 0.10
"""A balanced persistent disk, as nodes have them: https://cloud.google.com/compute/disks-image-pricing."""

STORAGE_MONTHLY_A_GB = 0.020
"""Standard storage in a region: https://cloud.google.com/storage/pricing."""

REGISTRY_MONTHLY_A_GB = 0.10
REGISTRY_FREE_GB = 0.5
"""Images, of which the first half GB is free: https://cloud.google.com/artifact-registry/pricing."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of machines that is paid by the vCPU and the GB.

    Attributes:
        vcpu_hourly: Price of a vCPU for an hour.
        gb_hourly: Price of a GB of memory for an hour.
        gb_by_kind: GB for each vCPU, by the word in the middle of a machine type.
    """

    vcpu_hourly: float
    gb_hourly: float
    gb_by_kind: Mapping[str, float]


_BY_FOUR = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}

_FAMILIES: Mapping[str, Family] = {
    "e2": Family(vcpu_hourly=0.021811, gb_hourly=0.002923, gb_by_kind=_BY_FOUR),
    "n1": Family(
        vcpu_hourly=0.031611,
        gb_hourly=0.004237,
        gb_by_kind={"standard": 3.75, "highmem": 6.5, "highcpu": 0.9},
    ),
    "n2": Family(vcpu_hourly=0.031611, gb_hourly=0.004237, gb_by_kind=_BY_FOUR),
    "n2d": Family(vcpu_hourly=0.027502, gb_hourly=0.003686, gb_by_kind=_BY_FOUR),
    "g2": Family(vcpu_hourly=0.024988, gb_hourly=0.002927, gb_by_kind={"standard": 4.0}),
}

_MACHINES: Mapping[str, float] = {
    **{f"a2-highgpu-{count}g": 0.73948 * count for count in (1, 2, 4, 8)},
    **{f"a3-highgpu-{count}g": 1.18251 * count for count in (1, 2, 4, 8)},
    "a2-megagpu-16g": 8.79698,
}
"""Machines without their GPUs: https://cloud.google.com/compute/vm-instance-pricing."""

_GPUS: Mapping[str, float] = {
    "nvidia-l4": 0.56004,
    "nvidia-tesla-t4": 0.35,
    "nvidia-tesla-a100": 2.93391,
    "nvidia-h100-80gb": 9.79655,
}
"""A GPU for an hour, by GKE's label: https://cloud.google.com/compute/gpus-pricing."""

_TPUS: Mapping[str, float] = {
    "tpu-v5-lite-podslice": 1.20,
    "tpu-v5p-slice": 4.20,
    "tpu-v6e-slice": 2.70,
}
"""A TPU chip for an hour with its share of the machine, by GKE's label.

https://cloud.google.com/tpu/pricing
"""

_TYPE = re.compile(r"(?P<family>[a-z]\d[a-z]?)-(?P<kind>[a-z]+)-(?P<vcpus>\d+)")


def machine_hourly(machine_type: str) -> float | None:
    """Return what a machine costs an hour, without GPUs; None where that is not known.

    Args:
        machine_type: Such as `e2-standard-4`.
    """
    if machine_type in _MACHINES:
        return _MACHINES[machine_type]
    found = _TYPE.fullmatch(machine_type)
    family = _FAMILIES.get(found["family"]) if found else None
    if found is None or family is None or found["kind"] not in family.gb_by_kind:
        return None
    vcpus = int(found["vcpus"])
    gb = vcpus * family.gb_by_kind[found["kind"]]
    return vcpus * family.vcpu_hourly + gb * family.gb_hourly


def node_hourly(accelerator: Accelerator) -> float | None:
    """Return what a node with an accelerator costs an hour; None where that is not known.

    Args:
        accelerator: What it has. The price of a Spot VM, or by flex-start, is never known.
    """
    if accelerator.spot or accelerator.flex or accelerator.label is None:
        return None
    return on_demand_hourly(accelerator)


def on_demand_hourly(accelerator: Accelerator) -> float | None:
    """Return what a node with an accelerator costs an hour where it is no Spot VM."""
    label = accelerator.label or ""
    if accelerator.category == "tpu":
        chip = _TPUS.get(label)
        return None if chip is None else chip * accelerator.count_per_host
    gpu, machine = _GPUS.get(label), machine_hourly(accelerator.machine_type or "")
    return None if gpu is None or machine is None else machine + gpu * accelerator.count
