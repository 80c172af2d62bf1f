"""Compiling a step for TPUs that are not there, with the compiler that is in libtpu.

`jax.experimental.topologies` describes them (https://docs.jax.dev/en/latest/aot.html), and the
compiler refuses what does not fit their memory, as it would where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from .rehearse_steps import Around, NotKnown, Step

_WITHOUT_CHIPS = {
    # The process itself computes on the CPU, and leaves the chips of a host that has some alone.
    "JAX_PLATFORMS": "cpu",
    # There is nobody to ask which TPU this is; libtpu would wait for an answer.
    "TPU_SKIP_MDS_QUERY": "1",
}


def set_variables(environ: MutableMapping[str, str], _target: Mapping[str, Any]) -> None:
    """Set what must be set before `jax` is imported.

    Args:
        environ: The environment of this process.
        _target: What is compiled for.
    """
    environ.update(_WITHOUT_CHIPS)


def devices_of(target: Mapping[str, Any]) -> list[Any]:
    """Return the devices of a target.

    Raises:
        NotKnown: They cannot be described here.
    """
    try:
        from jax.experimental import topologies
    except ImportError as error:
        hint = "add jax[tpu] to the function's dependencies"
        raise NotKnown("no-compiler", f"jax cannot be imported: {error}", hint) from None
    bounds = {"chips_per_host_bounds": tuple(target["chips_per_host"])}
    described = topologies.get_topology_desc(
        target["topology"],
        platform="tpu",
        **(bounds if target["chips_per_host"] else {}),
        num_slices=target["slices"],
    )
    return list(described.devices)


def compile_for(step: Step, around: Around) -> dict[str, Any]:
    """Return what is known of a step on a target, as plain JSON values.

    Args:
        step: The step.
        around: What it is compiled with.
    """
    import jax

    # What says of no device where it is goes to the first one, as it does where they are.
    with jax.default_device(around.devices[0]):
        lowered = step.function.lower(*step.args, **step.kwargs)
    lowered.compile()
    return {"name": step.name, "verdict": "fits"}


def versions() -> dict[str, str]:
    """Return the versions of the packages that compile, by name."""
    from importlib import metadata

    found = {}
    for name in ("jax", "jaxlib", "libtpu"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
