"""Machine types of Compute Engine: how much they have, and how much of it GKE leaves to pods.

Memory is counted as Google's pages count it, whose GB are GiB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

GIB = 1 << 30
MIB = 1 << 20

ACCELERATOR_MACHINES: Mapping[str, tuple[int, float]] = {
    # https://cloud.google.com/compute/docs/accelerator-optimized-machines
    "a2-highgpu-1g": (12, 85),
    "a2-highgpu-2g": (24, 170),
    "a2-highgpu-4g": (48, 340),
    "a2-highgpu-8g": (96, 680),
    "a2-megagpu-16g": (96, 1360),
    "a2-ultragpu-1g": (12, 170),
    "a2-ultragpu-2g": (24, 340),
    "a2-ultragpu-4g": (48, 680),
    "a2-ultragpu-8g": (96, 1360),
    "a3-highgpu-1g": (26, 234),
    "a3-highgpu-2g": (52, 468),
    "a3-highgpu-4g": (104, 936),
    "a3-highgpu-8g": (208, 1872),
    "a3-edgegpu-8g": (208, 1872),
    "a3-megagpu-8g": (208, 1872),
    "a3-ultragpu-8g": (224, 2952),
    # Of a4 and g4 no page was read that states it: their figures are still to be checked.
    "a4-highgpu-8g": (224, 3968),
    "a4x-highgpu-4g": (140, 884),
    # https://cloud.google.com/tpu/docs/v3, /v4, /v5e, /v5p, /v6e and /tpu7x
    "ct3-hightpu-4t": (96, 340),
    "ct3p-hightpu-4t": (48, 340),
    "ct4p-hightpu-4t": (240, 407),
    "ct5lp-hightpu-1t": (24, 48),
    "ct5lp-hightpu-4t": (112, 192),
    "ct5lp-hightpu-8t": (224, 384),
    "ct5p-hightpu-4t": (208, 448),
    "ct6e-standard-1t": (44, 176),
    "ct6e-standard-4t": (180, 720),
    # Its cores have one thread each, so that it has as many vCPUs as that of 4 chips.
    "ct6e-standard-8t": (180, 1440),
    # A quarter of the one of 4 chips; its own page was not found.
    "tpu7x-standard-1t": (56, 240),
    "tpu7x-standard-4t": (224, 960),
}
"""vCPUs and memory of machines whose names do not say both."""

_BY_KIND = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}

GIB_PER_VCPU: Mapping[str, Mapping[str, float]] = {
    # https://cloud.google.com/compute/docs/general-purpose-machines
    "c3": {**_BY_KIND, "highcpu": 2.0},
    "c4": {"standard": 3.75, "highmem": 7.75, "highcpu": 2.0},
    "c4a": {**_BY_KIND, "highcpu": 2.0},
    "e2": _BY_KIND,
    "n1": {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9},
    "n2": _BY_KIND,
    "n2d": _BY_KIND,
    "n4": {**_BY_KIND, "highcpu": 2.0},
    "t2a": {"standard": 4.0},
    "t2d": {"standard": 4.0},
    # https://cloud.google.com/compute/docs/compute-optimized-machines
    "c2": {"standard": 4.0},
    "c2d": {**_BY_KIND, "highcpu": 2.0},
    # https://cloud.google.com/compute/docs/accelerator-optimized-machines
    "g2": {"standard": 4.0},
    "g4": {"standard": 3.75},
}
"""Memory for each vCPU, by a family and the word in the middle of a machine type."""

_SHARED_CORE: Mapping[str, float] = {"micro": 1, "small": 2, "medium": 4}
"""Memory of E2's shared-core machines, which have two vCPUs of which pods get 940 thousandths.

https://cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes#cpu_reservations
"""

_SHARED_CORE_MILLIS = 940

_NAMED = re.compile(r"(?P<family>[a-z]\d+[a-z]?)-(?P<kind>[a-z]+)-(?P<vcpus>\d+)(?:-lssd)?")
_CUSTOM = re.compile(r"(?:[a-z]\d+[a-z]?-)?custom-(?P<vcpus>\d+)-(?P<mib>\d+)(?:-ext)?")
_SHARED = re.compile(r"e2-(?P<size>micro|small|medium)")

_MEMORY_TIERS = ((4, 0.25), (4, 0.20), (8, 0.10), (112, 0.06))
_BEYOND = 0.02
_CPU_TIERS = ((1, 0.06), (1, 0.01), (2, 0.005))
_CPU_BEYOND = 0.0025
_EVICTION_BYTES = 100 * MIB
_KERNEL_SHARE = 1 / 64
_KERNEL_BYTES = 80 * MIB
_CORRECTION_SHARE = 0.00175
_MAX_CORRECTION_BYTES = 248 * MIB


@dataclass(frozen=True, kw_only=True)
class NodeSize:
    """What pods can have of one node together, when nothing is on it yet.

    Attributes:
        cpu_millis: Thousandths of a CPU.
        memory_bytes: Bytes of memory.
    """

    cpu_millis: int
    memory_bytes: int

    def part(self, share: float) -> NodeSize:
        """Return a share of it.

        Args:
            share: From 0 to 1.
        """
        return NodeSize(
            cpu_millis=int(self.cpu_millis * share), memory_bytes=int(self.memory_bytes * share)
        )


@cache
def node_size(machine_type: str) -> NodeSize | None:
    """Return what GKE leaves to pods of a machine; None where the machine is not known.

    GKE keeps part of the CPUs and of the memory for itself, and 100 MiB below which it evicts:
    https://cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes#memory_and_cpu_reservations
    What the kernel takes before is estimated as the cluster autoscaler does, which adds a node for
    a pod only where it believes that the pod fits:
    https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/cloudprovider/gce/gce_reserved.go

    Args:
        machine_type: Such as `e2-standard-4`, `n2-custom-8-16384` or `ct6e-standard-8t`.
    """
    if shared := _SHARED.fullmatch(machine_type):
        memory = _SHARED_CORE[shared["size"]]
        return NodeSize(cpu_millis=_SHARED_CORE_MILLIS, memory_bytes=_memory_left(memory))
    found = _vcpus_and_memory(machine_type)
    if found is None:
        return None
    vcpus, memory = found
    kept = _tiered(vcpus, _CPU_TIERS, _CPU_BEYOND)
    return NodeSize(cpu_millis=int((vcpus - kept) * 1000 + 1e-6), memory_bytes=_memory_left(memory))


def _vcpus_and_memory(machine_type: str) -> tuple[int, float] | None:
    if machine_type in ACCELERATOR_MACHINES:
        return ACCELERATOR_MACHINES[machine_type]
    if custom := _CUSTOM.fullmatch(machine_type):
        return int(custom["vcpus"]), int(custom["mib"]) / 1024
    named = _NAMED.fullmatch(machine_type)
    per_vcpu = GIB_PER_VCPU.get(named["family"], {}).get(named["kind"]) if named else None
    if named is None or per_vcpu is None:
        return None
    vcpus = int(named["vcpus"])
    return vcpus, vcpus * per_vcpu


def _memory_left(gib: float) -> int:
    total = gib * GIB
    kernel = total * _KERNEL_SHARE + _KERNEL_BYTES
    kernel += min(total * _CORRECTION_SHARE, _MAX_CORRECTION_BYTES)
    kept = _tiered(gib, _MEMORY_TIERS, _BEYOND) * GIB
    return max(int(total - kernel - kept - _EVICTION_BYTES), 0)


def _tiered(amount: float, tiers: tuple[tuple[int, float], ...], beyond: float) -> float:
    """Return the shares of the first parts of an amount, and of what is beyond them."""
    kept, left = 0.0, amount
    for size, share in tiers:
        kept += min(left, size) * share
        left = max(left - size, 0)
    return kept + left * beyond
