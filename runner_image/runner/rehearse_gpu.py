"""Compiling a step for GPUs that are not there, with the compiler that is in jax's CUDA plugin.

The plugin takes a description of a GPU in place of one
(https://github.com/openxla/xla/pull/16913). It compiles what does not fit too, so that sizes are
compared here. Where it compiles nothing, the same step compiled for CPUs gives an estimate.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, MutableMapping
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from .rehearse_estimate import estimate
from .rehearse_gpu_memory import judge
from .rehearse_gpu_models import MODELS, target_config
from .rehearse_gpu_report import report_of
from .rehearse_hints import one_line
from .rehearse_steps import Around, NotKnown, Step

NEEDS_A_CLIENT = "Unknown backend"
"""In what jax says where lowering asks for a GPU that runs, as calls of Python in a step do."""

OPTIONS = {"xla_gpu_autotune_level": 0}
"""Which of several kernels is the fastest is not tried, as nothing is there to try it on; until
jax 0.9 a program with matrix products is not compiled at all otherwise."""

_PACKAGES = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin")
_DNN_PACKAGES = ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")
_DNN_VERSION = (9, 8)
"""The oldest that jax 0.10 takes."""


def set_variables(environ: MutableMapping[str, str], target: Mapping[str, Any]) -> None:
    """Set what must be set before `jax` is imported.

    Args:
        environ: The environment of this process.
        target: What is compiled for.
    """
    # The plugin would look for a driver, and tell at length that there is none.
    environ["JAX_PLATFORMS"] = "cpu"
    # Before jax 0.10 it looked for one all the same, and was not there where there was none.
    environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    # Of several flags of the same name, the last one counts.
    count = f"--xla_force_host_platform_device_count={target['devices']}"
    environ["XLA_FLAGS"] = f"{environ.get('XLA_FLAGS', '')} {count}".strip()


def devices_of(target: Mapping[str, Any]) -> list[Any]:
    """Return the devices of a target: GPUs, or as many CPUs where nothing compiles for GPUs.

    Raises:
        NotKnown: The environment has no jax.
    """
    if find_spec("jax") is None:
        what = "the environment has no jax, and nothing else compiles a step for what is not there"
        hint = "steps of torch and TensorFlow cannot be rehearsed; for one of jax add jax[cuda12]"
        raise NotKnown("no-compiler", what, hint)
    if _why_not(target["topology"]):
        return _cpus(target)
    return _gpus(target["topology"], target["hosts"], target["devices"] // target["hosts"])


def compile_for(step: Step, around: Around) -> dict[str, Any]:
    """Return what is known of a step on a target, as plain JSON values.

    Args:
        step: The step.
        around: What it is compiled with.
    """
    if around.devices[0].platform == "cpu":
        return estimate(step, around, _why_not(around.target["topology"]))
    try:
        return report_of(step, around, judge, OPTIONS)
    except RuntimeError as error:
        if NEEDS_A_CLIENT not in str(error):
            raise
        return _estimate_again(step, around)


def versions() -> dict[str, str]:
    """Return the versions of the packages that compile, by name."""
    found = {name: _version(name) for name in _PACKAGES}
    return {name: version for name, version in found.items() if version}


def _estimate_again(step: Step, around: Around) -> dict[str, Any]:
    """Return an estimate of a step that was made for GPUs, made again for CPUs."""
    cpus = _cpus(around.target)
    again = [each for each in around.steps_for(cpus) if each.name == step.name]
    why = "the step calls Python (jax.debug, io_callback), which takes a GPU that runs"
    return estimate(again[0], around._replace(devices=cpus), why)


def _cpus(target: Mapping[str, Any]) -> list[Any]:
    import jax

    return list(jax.devices("cpu")[: target["devices"]])


def _gpus(model: str, hosts: int, per_host: int) -> list[Any]:
    """Return GPUs of a model as jax knows devices, none of which exist."""
    from jax.experimental import topologies

    described = topologies.get_topology_desc(
        platform="cuda",
        target_config=target_config(model, _dnn_version()),
        topology=f"1x{hosts}x{per_host}",
    )
    return list(described.devices)


@functools.cache
def _why_not(model: str) -> str:
    """Return why nothing compiles here for a model of GPU; empty where something does."""
    import jax
    from jax.sharding import SingleDeviceSharding

    if model not in MODELS:
        return f"XLA must know more of {model} than its name"
    try:
        device = _gpus(model, 1, 1)[0]
        place = SingleDeviceSharding(device)
        shape = jax.ShapeDtypeStruct((256, 256), "bfloat16", sharding=place)
        compiled = jax.jit(lambda x: x @ x).lower(shape).compile(compiler_options=OPTIONS)
    except (ImportError, RuntimeError, ValueError) as error:
        return f"jax {_version('jax')} compiles for no GPU here ({one_line(error)})"
    if compiled.memory_analysis() is None:
        return f"jax {_version('jax')} does not say what programs for GPUs take"
    return ""


def _dnn_version() -> tuple[int, int]:
    found = next(filter(None, map(_version, _DNN_PACKAGES)), "")
    major, _, rest = found.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else _DNN_VERSION


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
