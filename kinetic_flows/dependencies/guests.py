"""Other frameworks than JAX: what a project brings of them, and what that means for its image.

A framework such as PyTorch pins a CUDA of its own. Beside the CUDA of JAX that is a second set
of gigabytes at best, and no solution at worst. So a project that brings a framework and no jax
starts from a lean base, which has neither; one that brings both gets a jax for the framework's
CUDA.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.errors import LockError

GUESTS = frozenset({"torch", "tensorflow", "paddlepaddle-gpu", "cupy-cuda12x", "cupy-cuda13x"})
"""Packages that bring, or look for, an accelerator's runtime without jax."""

_CUDA_OF_JAX = re.compile(r"^jax-cuda(\d+)-plugin$")
# The two that everything of a CUDA release needs. NVIDIA's packages for CUDA 13 have no ending,
# and packages such as NCCL are asked for by others than frameworks.
_CUDA_BY_NAME = re.compile(r"^nvidia-(?:cublas|cuda-runtime)-cu(\d+)$")
_CUDA_BY_VERSION = frozenset({"nvidia-cublas", "nvidia-cuda-runtime"})

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch's builds without CUDA are (https://pytorch.org/get-started/locally/)."""


def cuda_releases(versions: Mapping[str, str]) -> frozenset[int]:
    """Return the major releases of CUDA that packages bring, by their names and versions."""
    named = (_CUDA_BY_NAME.match(name) or _CUDA_OF_JAX.match(name) for name in versions)
    found = {int(match[1]) for match in named if match}
    return frozenset(found | {_major(versions[name]) for name in _CUDA_BY_VERSION & set(versions)})


def brings_its_own(versions: Mapping[str, str], category: Category) -> bool:
    """Whether packages, resolved without any runtime of ours, want no base with jax.

    On GPUs that is so where they bring another framework or a CUDA and no jax, and where they
    bring both jax and a framework with a CUDA of its own. Elsewhere nothing of a framework gets
    in the way of jax.
    """
    if category != "gpu":
        return False
    has_guest = bool(GUESTS & set(versions))
    has_cuda = bool(cuda_releases(versions))
    if "jax" in versions:
        return has_guest and has_cuda
    return has_guest or has_cuda


def brings_runtime(versions: Mapping[str, str], category: Category) -> bool:
    """Whether packages bring all that the accelerator needs."""
    return category == "tpu" and "libtpu" in versions


def runtime_for_jax(versions: Mapping[str, str], category: Category) -> str | None:
    """Return the requirement that gives a project's own jax its accelerator; None for none."""
    if "jax" not in versions:
        return None
    if category == "tpu":
        return None if "libtpu" in versions else "jax[tpu]"
    if category == "gpu" and not any(_CUDA_OF_JAX.match(name) for name in versions):
        return f"jax[cuda{max(cuda_releases(versions), default=12)}]"
    return None


def refuse_what_cannot_work(versions: Mapping[str, str], category: Category) -> None:
    """Refuse packages that resolve and cannot work together.

    Raises:
        LockError: There are two releases of CUDA, or a torch-xla for another torch.
    """
    releases = sorted(cuda_releases(versions))
    if category == "gpu" and len(releases) > 1 and "jax" in versions:
        who = ", ".join(f"{name} {versions[name]}" for name in ("jax", *sorted(_guests(versions))))
        raise LockError(
            f"{who} bring CUDA {' and CUDA '.join(map(str, releases))}: one process has one CUDA",
            value=who,
            hint=f"ask for jax[cuda{releases[-1]}], or for releases of the others that come for"
            f" CUDA {releases[0]}; or give them functions of their own",
        )
    xla, torch = versions.get("torch-xla"), versions.get("torch")
    if xla and torch and _minor(xla) != _minor(torch):
        # Its releases are for the torch of the same number, which their metadata does not say:
        # https://github.com/pytorch/xla#installation
        raise LockError(
            f"torch-xla {xla} works with torch {_minor(xla)} alone, and torch {torch} was resolved",
            value=f"torch=={torch}",
            hint=f"ask for torch=={_minor(xla)}.*, or for a torch-xla {_minor(torch)} if there is"
            " one",
        )


def advice(versions: Mapping[str, str], category: Category) -> tuple[str, ...]:
    """Say what a person should know of the frameworks in a lock, a sentence each."""
    torch = versions.get("torch")
    if torch is None:
        return ()
    size = sum(name.startswith("nvidia-") for name in versions)
    if category == "cpu" and size:
        return (_without_cuda(torch, size),)
    if category == "tpu" and not {"torch-xla", "torchax", "torch-tpu"} & set(versions):
        told = f"torch {torch} does not see the TPU by itself: it needs torch-xla of its release"
        return (f"{told} (`torch-xla[tpu]`) or torchax",)
    return ()


def _without_cuda(torch: str, size: int) -> str:
    plain = torch.partition("+")[0]
    return (
        f"torch {torch} comes with {size} packages of CUDA, gigabytes that a CPU has no use for;"
        f" for its CPU build write into requirements.txt `--extra-index-url {TORCH_CPU_INDEX}` and"
        f' `torch=={plain}+cpu`, or into pyproject.toml `[[tool.uv.index]] name = "torch-cpu", '
        f'url = "{TORCH_CPU_INDEX}", explicit = true` and `[tool.uv.sources] torch = '
        '{ index = "torch-cpu" }`'
    )


def _guests(versions: Mapping[str, str]) -> frozenset[str]:
    return GUESTS & set(versions)


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _minor(version: str) -> str:
    return ".".join(version.partition("+")[0].split(".")[:2])
