"""What XLA must know of a GPU to compile for it where there is none.

A GPU that is there says this itself. XLA takes it as a `GpuTargetConfigProto` in text; the figures
besides memory only steer how work is cut in pieces, and change hardly anything in what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

MIB = 1 << 20


class GpuModel(NamedTuple):
    """A model of GPU, as its driver describes it.

    Memory and clocks of P100, V100, A100, H100, B200 and GB200 are what drivers report, as XLA
    keeps it (https://github.com/openxla/xla/tree/main/xla/backends/gpu/target_config/specs). The
    others have NVIDIA's data sheets for all but memory, of which drivers keep some. What programs
    found of a T4 (14.56 GiB), an L4 (22.03) and an RTX PRO 6000 (94.97) is told in
    https://github.com/Zheng-Chong/CatVTON/issues/133,
    https://github.com/ArcInstitute/evo2/issues/190 and https://github.com/antirez/ds4/issues/431.
    Of P4 and H200 no source was found: theirs are guesses from what nvidia-smi calls their total.

    Attributes:
        capability: Compute capability.
        cores: Streaming multiprocessors.
        memory_bytes: What a program finds, which is less than the maker says.
        bytes_per_second: How fast its memory is.
        cache_bytes: Its L2 cache.
        gigahertz: Its highest clock.
    """

    capability: tuple[int, int]
    cores: int
    memory_bytes: int
    bytes_per_second: int
    cache_bytes: int
    gigahertz: float


class Capability(NamedTuple):
    """What all GPUs of a compute capability have in common.

    From the table of technical specifications in
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#compute-capabilities.

    Attributes:
        shared_kib: Shared memory of a multiprocessor.
        block_kib: The largest part of it that one block may have.
        threads: Threads of a multiprocessor.
        lanes: Operations in 32-bit floating point that it begins in a clock.
    """

    shared_kib: int
    block_kib: int
    threads: int
    lanes: int


CAPABILITIES = {
    (6, 0): Capability(64, 48, 2048, 64),
    (6, 1): Capability(96, 48, 2048, 128),
    (7, 0): Capability(96, 96, 2048, 64),
    (7, 5): Capability(64, 64, 1024, 64),
    (8, 0): Capability(164, 163, 2048, 64),
    (8, 9): Capability(100, 99, 1536, 128),
    (9, 0): Capability(228, 227, 2048, 128),
    (10, 0): Capability(228, 227, 2048, 128),
    (12, 0): Capability(100, 99, 1536, 128),
}

_H100 = GpuModel((9, 0), 132, 84_942_979_072, 3_352_320_000_000, 50 * MIB, 1.98)

MODELS = {
    "t4": GpuModel((7, 5), 40, 14_910 * MIB, 320_000_000_000, 4 * MIB, 1.59),
    "p4": GpuModel((6, 1), 20, 7_606 * MIB, 192_000_000_000, 2 * MIB, 1.11),
    "p100": GpuModel((6, 0), 56, 17_066_885_120, 732_160_000_000, 4 * MIB, 1.48),
    "v100": GpuModel((7, 0), 80, 16_935_682_048, 898_048_000_000, 6 * MIB, 1.53),
    "l4": GpuModel((8, 9), 58, 22_560 * MIB, 300_000_000_000, 48 * MIB, 2.04),
    "rtx-pro-6000": GpuModel((12, 0), 188, 97_249 * MIB, 1_597_000_000_000, 128 * MIB, 2.6),
    "a100": GpuModel((8, 0), 108, 42_298_834_944, 1_555_200_000_000, 40 * MIB, 1.41),
    "a100-80gb": GpuModel((8, 0), 108, 85_100_068_864, 2_039_040_000_000, 40 * MIB, 1.41),
    "h100": _H100,
    "h100-mega": _H100,
    "h200": _H100._replace(memory_bytes=143_150 * MIB, bytes_per_second=4_800_000_000_000),
    "b200": GpuModel((10, 0), 148, 191_514_411_008, 7_672_320_000_000, 132_644_864, 1.965),
    "gb200": GpuModel((10, 0), 152, 197_897_748_480, 7_928_064_000_000, 135_528_448, 2.062),
}
"""By the names of `kinetic_flows/core/accelerators/registry.py`."""

UNKNOWN_SHARE = 0.91
"""Of a maker's figure, what a program finds of the GPUs that keep most for themselves."""


def memory_of(target: Mapping[str, Any]) -> int:
    """Return how many bytes of memory a program finds on each GPU of a target.

    Args:
        target: A `RehearsalTarget` as plain JSON values.
    """
    model = MODELS.get(target["topology"])
    return model.memory_bytes if model else int(UNKNOWN_SHARE * target["device_memory_bytes"])


def target_config(name: str, dnn_version: tuple[int, int]) -> str:
    """Return what XLA must know of a model, as its protocol buffer in text.

    Args:
        name: The model's name.
        dnn_version: Major and minor version of cuDNN, which decides what is left to it.

    Raises:
        KeyError: Nothing is known of the model.
    """
    model = MODELS[name]
    common = CAPABILITIES[model.capability]
    device: dict[str, Any] = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 48 << 10,
        "shared_memory_per_block_optin": common.block_kib << 10,
        "shared_memory_per_core": common.shared_kib << 10,
        "threads_per_core_limit": common.threads,
        "core_count": model.cores,
        "fpus_per_core": common.lanes,
        "block_dim_limit_x": (1 << 31) - 1,
        "block_dim_limit_y": (1 << 16) - 1,
        "block_dim_limit_z": (1 << 16) - 1,
        "registers_per_core_limit": 1 << 16,
        "registers_per_block_limit": 1 << 16,
        "memory_bandwidth": model.bytes_per_second,
        "l2_cache_size": model.cache_bytes,
        "clock_rate_ghz": model.gigahertz,
        "device_memory_size": model.memory_bytes,
        "cuda_compute_capability": dict(zip(("major", "minor"), model.capability, strict=True)),
    }
    return _text(
        {
            "gpu_device_info": device,
            "platform_name": '"CUDA"',
            "dnn_version_info": dict(zip(("major", "minor"), dnn_version, strict=True)),
            "device_description_str": f'"NVIDIA {name.upper()}"',
        }
    )


def _text(message: Mapping[str, Any]) -> str:
    """Return a protocol buffer as its text format has it."""
    return " ".join(
        f"{key} {{ {_text(value)} }}" if isinstance(value, dict) else f"{key}: {value}"
        for key, value in message.items()
    )
