"""Where the programs that runs of a call compile are kept."""

from __future__ import annotations

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.compile_cache import DEFAULT_MAX_BYTES
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.job_parts import CompileCacheSpec, PackagesSpec, RequirementsSpec
from kinetic_flows.core.object_names import COMPILE_CACHE
from kinetic_flows.core.slug import slug

_DIGITS = 16


def compile_cache_spec(
    asked: bool | None, accelerator: Accelerator, environment: str, *, hosts: int, is_here: bool
) -> CompileCacheSpec | None:
    """Return where a run's programs are kept; None where they are not.

    Args:
        asked: The option: None for TPUs and GPUs alone.
        accelerator: What the run is on.
        environment: From `environment_digest`.
        hosts: How many processes it has.
        is_here: Whether it is on this machine, where it has no accelerator, whatever it names.
    """
    is_on = asked if asked is not None else accelerator.category != "cpu" and not is_here
    # Hosts with GPUs try out kernels together while they compile: one whose program is there would
    # not take part (https://github.com/openxla/xla/issues/28959).
    if not is_on or (accelerator.category == "gpu" and hosts > 1):
        return None
    # Spot VMs are the same machines as others.
    arranged = [accelerator.name, accelerator.topology or "", f"{hosts}-hosts" if hosts > 1 else ""]
    if accelerator.slices > 1:
        arranged.append(f"{accelerator.slices}-slices")
    place = slug("-".join(filter(None, arranged)))
    return CompileCacheSpec(
        prefix=f"{COMPILE_CACHE}{environment}/{place}/", max_bytes=DEFAULT_MAX_BYTES
    )


def environment_digest(
    image: ResolvedImage,
    python: str,
    requirements: RequirementsSpec | None,
    packages: PackagesSpec | None,
) -> str:
    """Return what tells a run's packages from others; another project's may be the same.

    Args:
        image: The image, or on this machine the environment.
        python: Its Python's minor version.
        requirements: What the run installs on top of it.
        packages: What is mounted in it.
    """
    told = {
        "image": image.digest or image.reference,
        "python": python,
        "requirements": requirements and requirements.lock.sha256,
        "packages": packages and packages.identity,
    }
    return sha256_hex(canonical_json(told))[:_DIGITS]
