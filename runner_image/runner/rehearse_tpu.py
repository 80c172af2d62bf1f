"""Compiling a step for TPUs that are not there, with the compiler that is in libtpu.

`jax.experimental.topologies` describes them (https://docs.jax.dev/en/latest/aot.html), and the
compiler refuses what does not fit their memory, as it would where they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from .rehearse_arguments import largest_arguments, warnings_of
from .rehearse_compiled import describe, devices_used, fitting
from .rehearse_hints import one_line
from .rehearse_refusal import Refusal, read_refusal
from .rehearse_sources import Sources
from .rehearse_steps import Around, NotKnown, Step

VARIABLES = {
    # The process itself computes on the CPU, and leaves the chips of a host that has some alone.
    "JAX_PLATFORMS": "cpu",
    # There is nobody to ask which TPU this is; libtpu would wait for an answer.
    "TPU_SKIP_MDS_QUERY": "1",
    # Without it libtpu takes a lock of the whole machine, as if a process had its chips.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # What it reads from there is for devices that are there.
    "JAX_ENABLE_COMPILATION_CACHE": "false",
}
FRAMES_VARIABLE, FRAMES = "JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "50"
"""How many frames jax keeps of each operation: layers of a library may hide the person's own."""

TOO_LARGE_BYTES = 1 << 36
"""Two arrays of this size no device has room for; libtpu until 0.0.17 ends the process, or tells of
something else, where a single one is larger."""

LESS = (
    "divide its arguments among more devices, donate those it replaces (donate_argnums), make "
    "what is large again in place of keeping it (jax.checkpoint), or give it smaller batches"
)

LARGER = (("v5p", (2, 2, 1), 1), ("tpu7x", (2, 2, 1), 2))
"""What names the largest buffers of what does not fit: generation, chips of a host, and devices of
a chip. libtpu 0.0.42 gives a program 95.74 GiB a device on the first, 94.75 GiB on the other."""


def set_variables(environ: MutableMapping[str, str], _target: Mapping[str, Any]) -> None:
    """Set what must be set before `jax` is imported.

    Args:
        environ: The environment of this process.
        _target: What is compiled for.
    """
    environ.update(VARIABLES)
    environ.setdefault(FRAMES_VARIABLE, FRAMES)


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


def devices_of(target: Mapping[str, Any]) -> list[Any]:
    """Return the devices of a target.

    Raises:
        NotKnown: They cannot be described here.
    """
    _have_compiler()
    bounds = target["chips_per_host"]
    try:
        config = target.get("chip_config", "")
        return _devices(target["topology"], tuple(bounds), target["slices"], config)
    except Exception as error:  # noqa: BLE001 - its class is not the same in all versions
        known = ", ".join(f"{name} {version}" for name, version in versions().items())
        text = str(error)
        if "Invalid TPU" in text or "not divisible" in text or "opology" in text:
            what = f"{known} do not know {target['topology']}: {one_line(error)}"
            hint = "take a newer jax[tpu] into the function's dependencies"
            raise NotKnown("unknown-topology", what, hint) from None
        what = f"{known} cannot describe {target['topology']}: {one_line(error)}"
        raise NotKnown("no-compiler", what, "take a newer jax[tpu]") from None


def _have_compiler() -> None:
    """Have jax and libtpu.

    Raises:
        NotKnown: One is missing, or is too old.
    """
    from importlib.util import find_spec

    hint = "add jax[tpu] to the function's dependencies"
    for name in ("jax", "libtpu"):
        if find_spec(name) is None:
            what = f"the environment has no {name}, so it cannot compile for TPUs"
            raise NotKnown("no-compiler", what, hint)
    try:
        from jax.experimental import topologies  # noqa: F401
    except ImportError as error:
        what = f"jax {versions().get('jax')} cannot compile for what is not there: {error}"
        raise NotKnown("no-compiler", what, "take a newer jax[tpu]") from None


def _devices(
    topology: str, chips_per_host: tuple[int, ...], slices: int, chip_config: str = ""
) -> list[Any]:
    from jax.experimental import topologies

    options: dict[str, Any] = {"num_slices": slices}
    if chip_config:
        options["chip_config_name"] = chip_config
    if chips_per_host:
        # It wants three sides, also of what has two.
        options["chips_per_host_bounds"] = (*chips_per_host, 1, 1)[:3]
    return list(topologies.get_topology_desc(topology, platform="tpu", **options).devices)


def compile_for(step: Step, around: Around) -> dict[str, Any]:
    """Return what is known of a step on a target, as plain JSON values.

    Args:
        step: The step.
        around: What it is compiled with.
    """
    begun = time.monotonic()
    known: dict[str, Any] = {"name": step.name, "warnings": warnings_of(step)}
    try:
        compiled = _compile(step, around.devices)
    except Exception as error:
        refusal = read_refusal(str(error), around.sources)
        if refusal is None:
            raise
        known["compile_seconds"] = round(time.monotonic() - begun, 2)
        return _exceeds(step, around, known, refusal, one_line(error))
    known["compile_seconds"] = round(time.monotonic() - begun, 2)
    used = devices_used(compiled)
    if not used.issubset(around.devices):
        message = "the step was compiled for other devices than the accelerator's"
        hint = "make its mesh and shardings of the devices that the rehearsal is given"
        return {**known, "verdict": "failed", "message": message, "hint": hint}
    if 0 < len(used) < len(around.devices):
        known["warnings"].append(
            f"it uses {len(used)} of {len(around.devices)} devices: nothing says how its "
            "arguments are divided among more"
        )
    described = describe(compiled, around.sources)
    available = available_bytes(around.devices[0])
    memory, tight = fitting(compiled, described["memory"], available)
    warnings = known["warnings"] + described["warnings"] + tight
    return {**known, **described, "memory": memory, "warnings": warnings, "verdict": "fits"}


def _compile(step: Step, devices: list[Any]) -> Any:
    import jax

    # What says of no device where it is goes to the first one, as it does where they are.
    with jax.default_device(devices[0]):
        return step.function.lower(*step.args, **step.kwargs).compile()


def available_bytes(device: Any) -> int | None:
    """Return how much memory a program may use of a device, as its compiler says.

    It is asked with a program that fits nowhere, which it refuses at once.

    Args:
        device: The device.
    """
    import jax

    place = jax.sharding.SingleDeviceSharding(device)
    shape = jax.ShapeDtypeStruct((TOO_LARGE_BYTES,), "int8", sharding=place)
    try:
        jax.jit(lambda x, y: (x + 1, y + 1)).lower(shape, shape).compile()
    except Exception as error:  # noqa: BLE001 - its class is not the same in all versions
        refusal = read_refusal(str(error), Sources(""))
        return refusal.memory.get("available_bytes") if refusal else None
    return None


def _exceeds(
    step: Step, around: Around, known: dict[str, Any], refusal: Refusal, message: str
) -> dict[str, Any]:
    """Return what is known of a step that does not fit, and what it is full of.

    Where the compiler only says that it does not, one for chips with more memory is asked.
    """
    if "available_bytes" not in refusal.memory:
        refusal.memory["available_bytes"] = available_bytes(around.devices[0])
    known |= {"verdict": "exceeds", "message": message, "hint": LESS, "memory": refusal.memory}
    if refusal.buffers:
        return {**known, "buffers": refusal.buffers}
    known["buffers"] = largest_arguments(step)
    around.later(lambda: _filled(step, around, known, refusal))
    return known


def _filled(step: Step, around: Around, known: dict[str, Any], refusal: Refusal) -> dict[str, Any]:
    """Return what is known of a step that does not fit, with all that it is full of."""
    for generation, chips, per_chip in LARGER:
        described = _elsewhere(step, around, generation, chips, per_chip)
        if described is None:
            continue
        message = (
            f"{known['message']} (The largest buffers, and all sizes but these two, are those of "
            f"the same step on {generation}, which has more memory.)"
        )
        memory = {**described["memory"], **refusal.memory}
        warnings = known["warnings"] + described["warnings"]
        changes = {"message": message, "memory": memory, "warnings": warnings}
        return {**known, **described, **changes}
    return known


def _elsewhere(
    step: Step, around: Around, generation: str, chips: tuple[int, ...], per_chip: int
) -> dict[str, Any] | None:
    """Return what is known of a step on as many devices with more memory; None for nothing."""
    try:
        devices = _devices(*_larger(around, generation, chips, per_chip))
        # Its shardings are of devices, so it names its shapes again; it has printed all before.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            steps = around.steps_for(devices)
            same = next(each for each in steps if each.name == step.name)
            return describe(_compile(same, devices), around.sources)
    except Exception:  # noqa: BLE001 - what is missing then is only what it is full of
        return None


def _larger(
    around: Around, generation: str, chips: tuple[int, ...], per_chip: int
) -> tuple[str, tuple[int, ...], int]:
    """Return a topology of as many devices and slices, the chips of its hosts, and the slices.

    Raises:
        ValueError: There is none.
    """
    slices = around.target["slices"]
    count, rest = divmod(len(around.devices), per_chip * slices)
    if rest or not count or (count > 4 and count % 4):
        raise ValueError(len(around.devices))
    if count < 4:
        return f"{generation}:1x{count}x1", (1, count, 1), slices
    return f"{generation}:2x2x{count // 4}", chips, slices
