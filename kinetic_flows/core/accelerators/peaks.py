"""What a chip or GPU can do at most: operations, memory and links to its neighbours.

What is None here is not on the page that is named, and is not guessed. A program can come near
these figures, and never above them, unless it computes in fewer bits than bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kinetic_flows.core.accelerators.model import Accelerator

_TPU = "https://cloud.google.com/tpu/docs"
_NVIDIA = "https://www.nvidia.com/en-us/data-center"
_TERA, _GIGA = 1e12, 1e9


@dataclass(frozen=True, kw_only=True)
class Peak:
    """What one chip or GPU can do at most.

    Attributes:
        flops: Floating-point operations a second in bfloat16, of GPUs without it in float16,
            without sparsity; None where that is not known.
        memory_bandwidth: Bytes a second that it reads and writes of its memory; None as above.
        link_bandwidth: Bytes a second that it gives to other chips of its slice, all links
            together, in one direction; None as above.
        devices: How many jax devices it is.
        source: The page of its maker that says so.
    """

    flops: float | None = None
    memory_bandwidth: float | None = None
    link_bandwidth: float | None = None
    devices: int = 1
    source: str = ""


UNKNOWN = Peak()
"""Of an accelerator of which no figure is known."""


def _tpu(
    page: str, *, tflops: float, memory_gb: float, links_gb: float | None = None, devices: int = 1
) -> Peak:
    """Return the peak of a TPU chip in the units of Google's pages.

    Args:
        page: The page's name.
        tflops: "Peak compute per chip (bf16)".
        memory_gb: "HBM bandwidth per chip" in GB a second.
        links_gb: "Bidirectional inter-chip interconnect (ICI) bandwidth per chip" in GB a second,
            which is that of both directions together; None where the page does not say.
        devices: How many devices jax makes of it.
    """
    return Peak(
        flops=tflops * _TERA,
        memory_bandwidth=memory_gb * _GIGA,
        link_bandwidth=None if links_gb is None else links_gb * _GIGA / 2,
        devices=devices,
        source=f"{_TPU}/{page}",
    )


def _gpu(page: str, *, tflops: float | None, memory_gb: float | None) -> Peak:
    """Return the peak of a GPU in the units of NVIDIA's data sheets, without sparsity.

    Args:
        page: The page of the product.
        tflops: "BFLOAT16 Tensor Core"; FP16 before Ampere.
        memory_gb: "GPU memory bandwidth" in GB a second.
    """
    return Peak(
        flops=None if tflops is None else tflops * _TERA,
        memory_bandwidth=None if memory_gb is None else memory_gb * _GIGA,
        source=f"{_NVIDIA}/{page}/",
    )


_V3 = _tpu("v3", tflops=123, memory_gb=900, devices=2)
_HOPPER_TFLOPS = 989.5

PEAKS: Mapping[str, Peak] = {
    "tpu-v3-device": _V3,
    "tpu-v3-slice": _V3,
    "tpu-v4-podslice": _tpu("v4", tflops=275, memory_gb=1200),
    "tpu-v5-lite-podslice": _tpu("v5e", tflops=197, memory_gb=819, links_gb=400),
    "tpu-v5p-slice": _tpu("v5p", tflops=459, memory_gb=2765, links_gb=1200),
    "tpu-v6e-slice": _tpu("v6e", tflops=918, memory_gb=1640, links_gb=800),
    "tpu7x": _tpu("tpu7x", tflops=2307, memory_gb=7380, links_gb=1200, devices=2),
    "nvidia-tesla-t4": _gpu("tesla-t4", tflops=65, memory_gb=320),
    "nvidia-tesla-v100": _gpu("v100", tflops=125, memory_gb=900),
    "nvidia-l4": _gpu("l4", tflops=121, memory_gb=300),
    "nvidia-tesla-a100": _gpu("a100", tflops=312, memory_gb=1555),
    "nvidia-a100-80gb": _gpu("a100", tflops=312, memory_gb=2039),
    "nvidia-h100-80gb": _gpu("h100", tflops=_HOPPER_TFLOPS, memory_gb=3350),
    "nvidia-h100-mega-80gb": _gpu("h100", tflops=_HOPPER_TFLOPS, memory_gb=3350),
    "nvidia-h200-141gb": _gpu("h200", tflops=_HOPPER_TFLOPS, memory_gb=4800),
    "nvidia-b200": _gpu("hgx", tflops=2250, memory_gb=8000),
    "nvidia-gb200": _gpu("gb200-nvl72", tflops=2500, memory_gb=8000),
}
"""Peaks by GKE's label of the accelerator."""


def peak_of(accelerator: Accelerator) -> Peak:
    """Return what each chip or GPU of an accelerator can do at most; `UNKNOWN` where it is that."""
    return PEAKS.get(accelerator.label or "", UNKNOWN)
