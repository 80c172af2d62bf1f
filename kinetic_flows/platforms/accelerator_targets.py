"""What an accelerator's packages are locked for, on a cluster and for its compiler alone."""

from __future__ import annotations

from dataclasses import replace

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.dependencies.base_locks import make_base_lock
from kinetic_flows.dependencies.locking import Locker
from kinetic_flows.dependencies.targets import Target, cloud_target, lean_target
from kinetic_flows.images.bases import BaseInputs, base_pythons, lean_inputs, read_base_inputs


def base_inputs(category: Category, python: str, locker: Locker) -> BaseInputs:
    """Return the inputs of a base image, made here for a Python that none come for.

    Args:
        category: Kind of accelerator.
        python: Python minor version.
        locker: Makes and keeps the base's lock.
    """
    if python in base_pythons():
        return read_base_inputs(category, python)
    made = make_base_lock(category, python, locker)
    return read_base_inputs(category, python, made.text)


def accelerator_target(
    inputs: BaseInputs, accelerator: Accelerator, framework: str | None, template: str = ""
) -> Target:
    """Return what is locked for: the base that was asked for, or what the packages decide.

    Args:
        inputs: The inputs of the base of the accelerator's category.
        accelerator: The accelerator.
        framework: `jax` or `none`, for the base; None to let the packages decide.
        template: Text of the template that the project's image is built from; empty for none.
    """
    with_jax = cloud_target(
        inputs.category,
        inputs.python,
        base_lock=inputs.lock,
        base_identity=str(inputs.identity),
        template=template,
        needs=accelerator.runtime,
    )
    if not inputs.is_shipped:
        with_jax = replace(with_jax, made_base_lock=inputs.lock)
    lean = lean_inputs(inputs)
    without = lean_target(with_jax, base_lock=lean.lock, base_identity=str(lean.identity))
    if framework == "none":
        return without
    return replace(with_jax, otherwise=without) if framework is None else with_jax
