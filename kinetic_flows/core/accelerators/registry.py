"""Every accelerator GKE offers, as frozen rows with the page each was taken from.

TPUs are counted in chips throughout, as GKE does. Google's accelerator types of generations
whose chips have two TensorCores (v3, v4, v5p, TPU7x) count TensorCores instead, so that its
`v5p-8` has four chips. Canonical names of those generations therefore spell the topology.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod

from kinetic_flows.core.accelerators.model import Accelerator, Architecture
from kinetic_flows.core.accelerators.runtime import (
    BEFORE_TURING,
    BLACKWELL,
    RuntimeRequirement,
    libtpu,
)

PLAN_TPUS = "https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus"
"""Google's "Plan TPUs in GKE": machine types, accelerator labels, topologies, chips per VM."""

GPUS_IN_GKE = "https://cloud.google.com/kubernetes-engine/docs/concepts/gpus"
"""Google's "About GPUs in GKE": which GPUs there are and how nodes are labelled."""

GPU_MACHINE_TYPES = "https://cloud.google.com/compute/docs/gpus"
"""Google's "GPU machine types": machine types and how many GPUs each has."""


@dataclass(frozen=True, kw_only=True)
class SliceShape:
    """One topology of a TPU generation and the machines it is made of."""

    topology: str
    machine_type: str
    label: str
    chips_per_host: int

    @property
    def chips(self) -> int:
        """Chips of the whole slice."""
        return chips_of(self.topology)

    @property
    def hosts(self) -> int:
        """Nodes of the slice."""
        return self.chips // self.chips_per_host


_ANY_LIBTPU = libtpu(
    ">=0.0.10.1", "libtpu 0.0.10.1, the oldest tried, compiles for every generation up to v6e"
)


@dataclass(frozen=True, kw_only=True)
class TpuGeneration:
    """One generation of TPU.

    Attributes:
        prefix: What canonical names start with.
        aliases: Other names of the generation, besides the prefix without `tpu-`.
        shapes: The documented slices, smallest first.
        default_topology: The slice meant when no size is given; it has one host.
        names_by_topology: Whether canonical names spell the topology and not the chips.
        large: What slices of more than 64 chips are made of: any `AxBxC` of multiples of 4
            in ascending order up to `max_chips`; None when only `shapes` exist.
        max_chips: Chips of the largest slice.
        memory_gb: High-bandwidth memory of each chip, as Google's pages of the generations
            count it (https://cloud.google.com/tpu/docs/system-architecture-tpu-vm).
        runtime: What it asks of libtpu.
        source: Google's page that documents the facts.
    """

    prefix: str
    aliases: tuple[str, ...] = ()
    shapes: tuple[SliceShape, ...]
    default_topology: str
    names_by_topology: bool = False
    large: SliceShape | None = None
    max_chips: int
    memory_gb: int
    runtime: RuntimeRequirement = _ANY_LIBTPU
    source: str = PLAN_TPUS

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of the generation, without the `tpu-` that may stand before it."""
        return (self.prefix.removeprefix("tpu-"), *self.aliases)


@dataclass(frozen=True, kw_only=True)
class GpuModel:
    """One model of GPU.

    Attributes:
        name: Canonical name.
        label: Value of GKE's accelerator label.
        machine_types: Machine type for each number of GPUs, fewest first.
        compute_capability: NVIDIA's number of its instruction set
            (https://developer.nvidia.com/cuda-gpus).
        memory_gb: Memory of each, in the GB of `GPU_MACHINE_TYPES`.
        architecture: Processor architecture of the machines.
        source: Google's page that documents the facts.
    """

    name: str
    label: str
    machine_types: tuple[tuple[int, str], ...]
    compute_capability: tuple[int, int]
    memory_gb: int
    aliases: tuple[str, ...] = ()
    architecture: Architecture = "amd64"
    source: str = GPUS_IN_GKE

    @property
    def runtime(self) -> tuple[RuntimeRequirement, ...]:
        """What it asks of NVIDIA's packages."""
        before = BEFORE_TURING if self.compute_capability < (7, 5) else ()
        return (*before, *(BLACKWELL if self.compute_capability >= (10, 0) else ()))


def chips_of(topology: str) -> int:
    """Return how many chips a topology such as `2x4` has."""
    return prod(int(side) for side in topology.split("x"))


def _shapes(label: str, machine_type: str, chips: int, topologies: str) -> tuple[SliceShape, ...]:
    """Make one shape of each topology, all of the same machines."""
    return tuple(
        SliceShape(topology=topology, machine_type=machine_type, label=label, chips_per_host=chips)
        for topology in topologies.split()
    )


_CUBES = "2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8 8x8x16 8x16x16"

TPUS: tuple[TpuGeneration, ...] = (
    TpuGeneration(
        prefix="tpu-v3",
        shapes=(
            *_shapes("tpu-v3-device", "ct3-hightpu-4t", 4, "2x2"),
            *_shapes("tpu-v3-slice", "ct3p-hightpu-4t", 4, "4x4 4x8 8x8 8x16 16x16 16x32 32x32"),
        ),
        default_topology="2x2",
        names_by_topology=True,
        max_chips=1024,
        memory_gb=32,
    ),
    TpuGeneration(
        prefix="tpu-v4",
        shapes=_shapes("tpu-v4-podslice", "ct4p-hightpu-4t", 4, f"{_CUBES} 12x16x16"),
        default_topology="2x2x1",
        names_by_topology=True,
        large=_shapes("tpu-v4-podslice", "ct4p-hightpu-4t", 4, "4x4x4")[0],
        max_chips=12 * 16 * 16,
        memory_gb=32,
    ),
    TpuGeneration(
        prefix="tpu-v5litepod",
        aliases=("v5e", "v5lite"),
        shapes=(
            *_shapes("tpu-v5-lite-podslice", "ct5lp-hightpu-1t", 1, "1x1"),
            *_shapes("tpu-v5-lite-podslice", "ct5lp-hightpu-4t", 4, "2x2"),
            *_shapes("tpu-v5-lite-podslice", "ct5lp-hightpu-8t", 8, "2x4"),
            *_shapes("tpu-v5-lite-podslice", "ct5lp-hightpu-4t", 4, "4x4 4x8 8x8 8x16 16x16"),
        ),
        default_topology="2x2",
        max_chips=256,
        memory_gb=16,
    ),
    TpuGeneration(
        prefix="tpu-v5p",
        shapes=_shapes("tpu-v5p-slice", "ct5p-hightpu-4t", 4, f"{_CUBES} 16x16x16 16x16x24"),
        default_topology="2x2x1",
        names_by_topology=True,
        large=_shapes("tpu-v5p-slice", "ct5p-hightpu-4t", 4, "4x4x4")[0],
        max_chips=16 * 16 * 24,
        memory_gb=95,
    ),
    TpuGeneration(
        prefix="tpu-v6e",
        aliases=("trillium",),
        # 2x4 also exists as two hosts of four chips; one host is simpler and as fast to get.
        shapes=(
            *_shapes("tpu-v6e-slice", "ct6e-standard-1t", 1, "1x1"),
            *_shapes("tpu-v6e-slice", "ct6e-standard-4t", 4, "2x2"),
            *_shapes("tpu-v6e-slice", "ct6e-standard-8t", 8, "2x4"),
            *_shapes("tpu-v6e-slice", "ct6e-standard-4t", 4, "4x4 4x8 8x8 8x16 16x16"),
        ),
        default_topology="2x4",
        max_chips=256,
        memory_gb=32,
    ),
    TpuGeneration(
        prefix="tpu7x",
        aliases=("7x", "v7x", "ironwood"),
        shapes=(
            *_shapes("tpu7x", "tpu7x-standard-1t", 1, "1x1x1"),
            *_shapes("tpu7x", "tpu7x-standard-4t", 4, f"{_CUBES} 16x16x16"),
        ),
        default_topology="2x2x1",
        names_by_topology=True,
        large=_shapes("tpu7x", "tpu7x-standard-4t", 4, "4x4x4")[0],
        max_chips=16 * 16 * 36,
        memory_gb=192,
        runtime=libtpu(
            ">=0.0.30", "libtpu 0.0.24 answers `Invalid TPU external name`, 0.0.30 compiles for it"
        ),
    ),
)

_N1 = ((1, "n1-standard-8"), (2, "n1-standard-16"), (4, "n1-standard-32"))
"""Machines that GPUs are attached to; each is within the vCPU limits of every such GPU."""

GPUS: tuple[GpuModel, ...] = (
    GpuModel(
        name="t4",
        label="nvidia-tesla-t4",
        machine_types=_N1,
        compute_capability=(7, 5),
        memory_gb=16,
    ),
    GpuModel(
        name="p4",
        label="nvidia-tesla-p4",
        machine_types=_N1,
        compute_capability=(6, 1),
        memory_gb=8,
    ),
    GpuModel(
        name="p100",
        label="nvidia-tesla-p100",
        machine_types=_N1,
        compute_capability=(6, 0),
        memory_gb=16,
    ),
    GpuModel(
        name="v100",
        label="nvidia-tesla-v100",
        compute_capability=(7, 0),
        memory_gb=16,
        machine_types=(*_N1, (8, "n1-standard-64")),
    ),
    GpuModel(
        name="l4",
        label="nvidia-l4",
        compute_capability=(8, 9),
        memory_gb=24,
        machine_types=(
            (1, "g2-standard-12"),
            (2, "g2-standard-24"),
            (4, "g2-standard-48"),
            (8, "g2-standard-96"),
        ),
    ),
    GpuModel(
        name="rtx-pro-6000",
        label="nvidia-rtx-pro-6000",
        compute_capability=(12, 0),
        memory_gb=96,
        machine_types=(
            (1, "g4-standard-48"),
            (2, "g4-standard-96"),
            (4, "g4-standard-192"),
            (8, "g4-standard-384"),
        ),
        source=GPU_MACHINE_TYPES,
    ),
    GpuModel(
        name="a100",
        label="nvidia-tesla-a100",
        compute_capability=(8, 0),
        memory_gb=40,
        machine_types=(
            (1, "a2-highgpu-1g"),
            (2, "a2-highgpu-2g"),
            (4, "a2-highgpu-4g"),
            (8, "a2-highgpu-8g"),
            (16, "a2-megagpu-16g"),
        ),
        aliases=("a100-40gb",),
    ),
    GpuModel(
        name="a100-80gb",
        label="nvidia-a100-80gb",
        compute_capability=(8, 0),
        memory_gb=80,
        machine_types=(
            (1, "a2-ultragpu-1g"),
            (2, "a2-ultragpu-2g"),
            (4, "a2-ultragpu-4g"),
            (8, "a2-ultragpu-8g"),
        ),
    ),
    GpuModel(
        name="h100",
        label="nvidia-h100-80gb",
        compute_capability=(9, 0),
        memory_gb=80,
        machine_types=(
            (1, "a3-highgpu-1g"),
            (2, "a3-highgpu-2g"),
            (4, "a3-highgpu-4g"),
            (8, "a3-highgpu-8g"),
        ),
        aliases=("h100-80gb",),
    ),
    GpuModel(
        name="h100-mega",
        label="nvidia-h100-mega-80gb",
        compute_capability=(9, 0),
        memory_gb=80,
        machine_types=((8, "a3-megagpu-8g"),),
        aliases=("h100-mega-80gb",),
    ),
    GpuModel(
        name="h200",
        label="nvidia-h200-141gb",
        compute_capability=(9, 0),
        memory_gb=141,
        machine_types=((8, "a3-ultragpu-8g"),),
        aliases=("h200-141gb",),
    ),
    GpuModel(
        name="b200",
        label="nvidia-b200",
        machine_types=((8, "a4-highgpu-8g"),),
        compute_capability=(10, 0),
        memory_gb=180,
    ),
    GpuModel(
        name="gb200",
        label="nvidia-gb200",
        compute_capability=(10, 0),
        memory_gb=186,
        machine_types=((4, "a4x-highgpu-4g"),),
        architecture="arm64",
    ),
)

CPU = Accelerator(category="cpu", name="cpu")


def tpu_accelerator(tpu: TpuGeneration, shape: SliceShape, *, spot: bool) -> Accelerator:
    """Say a slice in the words of GKE."""
    size = shape.topology if tpu.names_by_topology else str(shape.chips)
    return Accelerator(
        category="tpu",
        name=f"{tpu.prefix}-{size}",
        count=shape.chips,
        topology=shape.topology,
        hosts=shape.hosts,
        machine_type=shape.machine_type,
        label=shape.label,
        spot=spot,
        memory_gb=tpu.memory_gb,
        runtime=(tpu.runtime,),
        source=tpu.source,
    )


def gpu_accelerator(gpu: GpuModel, count: int, *, spot: bool) -> Accelerator:
    """Say a number of GPUs of one node in the words of GKE."""
    return Accelerator(
        category="gpu",
        name=gpu.name if count == 1 else f"{gpu.name}x{count}",
        count=count,
        machine_type=dict(gpu.machine_types)[count],
        label=gpu.label,
        spot=spot,
        architecture=gpu.architecture,
        memory_gb=gpu.memory_gb,
        runtime=gpu.runtime,
        source=gpu.source,
    )


@cache
def list_accelerators() -> tuple[Accelerator, ...]:
    """Return every documented accelerator and size, on demand (not Spot)."""
    gpus = (
        gpu_accelerator(gpu, count, spot=False) for gpu in GPUS for count, _ in gpu.machine_types
    )
    tpus = (tpu_accelerator(tpu, shape, spot=False) for tpu in TPUS for shape in tpu.shapes)
    return (CPU, *gpus, *tpus)
