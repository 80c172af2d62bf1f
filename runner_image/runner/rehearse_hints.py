"""What a person does next where a step cannot be lowered or compiled.

Exceptions are known by their classes' names and by their messages: this module needs no jax. What
jax's own mean is explained at https://docs.jax.dev/en/latest/errors.html.
"""

from __future__ import annotations

from .outcome import safe_str, type_name

MESSAGE_CHARACTERS = 500


def one_line(error: BaseException) -> str:
    """Return an exception in one line: its class, and what its message begins with."""
    lines = [line.strip() for line in safe_str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2])
    cut = text if len(text) <= MESSAGE_CHARACTERS else f"{text[:MESSAGE_CHARACTERS]}…"
    # Where in jax a class is says nothing to anybody.
    name = type(error).__name__ if type_name(error).startswith("jax") else type_name(error)
    return f"{name}: {cut}" if cut else name


def hint_for(error: BaseException, devices: int) -> str:
    """Return what to do about an exception.

    Args:
        error: What the rehearsal, or the tracing or the compiling of a step raised.
        devices: How many devices the rehearsal was given.

    Returns:
        A sentence; empty where nobody knows.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = safe_str(error)
    for classes, words, hint in _HINTS:
        is_kind = not classes or bool(kinds.intersection(classes))
        if is_kind and all(word in text for word in words):
            return hint.format(devices=devices, s="" if devices == 1 else "s")
    return ""


_HINTS: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (
        ("UnexpectedTracerError",),
        (),
        (
            "a value of the step's trace was kept in Python (a list, a global, self): "
            "return it from the step"
        ),
    ),
    (
        ("ConcretizationTypeError", "TracerArrayConversionError", "TracerIntegerConversionError"),
        (),
        (
            "the step's Python needs the value of an argument, which is not there while it is "
            "compiled: use jax.lax.cond or jnp.where, or make it static (static_argnums)"
        ),
    ),
    (
        (),
        ("Number of devices 1 must",),
        "give the mesh the rehearsal's devices: jax.make_mesh(shape, names, devices=devices)",
    ),
    (
        ("AssertionError",),
        ("jax_devices=", "slice_id"),
        (
            "jax.make_mesh makes no mesh of several slices: "
            "jax.experimental.mesh_utils.create_hybrid_device_mesh does"
        ),
    ),
    (
        (),
        ("Number of devices", "mesh_shape"),
        "the accelerator has {devices} device{s}: make the mesh from len(devices)",
    ),
    (
        (),
        ("cannot reshape array of size",),
        "the accelerator has {devices} device{s}: make the mesh from len(devices)",
    ),
    (
        (),
        ("incompatible devices",),
        (
            "shardings of the step or its arguments name other devices: make all of them, and no "
            "arrays, from the devices that the rehearsal is given"
        ),
    ),
    (
        (),
        ("should be divisible by",),
        "the accelerator has {devices} device{s}: shapes must divide by the mesh's axes",
    ),
    (
        ("ShardingTypeError",),
        (),
        (
            "axes of jax.make_mesh are explicit since jax 0.9: name the output's sharding, or make "
            "them axis_types=(jax.sharding.AxisType.Auto,) * axes"
        ),
    ),
    (
        (),
        ("compile-only client",),
        (
            "the devices do not exist, so no array can be put there: give shapes "
            "(jax.ShapeDtypeStruct with a sharding, or jax.eval_shape)"
        ),
    ),
    (
        (),
        ("Cannot lower pallas_call on platform: gpu",),
        (
            "add absl-py to the function's dependencies: Pallas imports it for GPUs, and jax does "
            "not bring it along"
        ),
    ),
    (
        (),
        ("Unsupported algorithm on the current device",),
        "the GPU has no instructions for that: take another dtype or precision, or a later GPU",
    ),
    (
        ("MemoryError",),
        (),
        "give shapes (jax.eval_shape, jax.ShapeDtypeStruct) in place of arrays",
    ),
)
"""Classes of which it is one, words that its message has, and what to do."""
