"""What a rehearsal is of: the function's own code, and accelerators as compilers name them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kinetic_flows.code.internals import without_class_ids
from kinetic_flows.code.payload import pack_call
from kinetic_flows.code.project_metadata import project_name
from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.errors import RehearsalError
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.job_parts import RehearsalTarget
from kinetic_flows.plans.draft import Draft

COMPILER_NAMES = {"tpu-v5litepod": "v5e"}
"""What libtpu calls generations that have another name in Google Cloud."""

DEVICES_PER_CHIP = {"tpu-v3": 2, "tpu7x": 2}
"""Generations whose chips are two devices of jax each (libtpu 0.0.42.1)."""

CHIP_CONFIGS = {"tpu-v4": "megacore"}
"""Generations whose two cores are one device on real chips, and for libtpu only if it is told.

https://cloud.google.com/tpu/docs/v4 counts devices by chips; deviceless, libtpu 0.0.42.1 gives two
a chip without it. It joins those of v5p by itself.
"""

CHIPS_OF_HOST = {1: (1, 1, 1), 4: (2, 2, 1), 8: (2, 4, 1)}
"""How the chips of a host are arranged in a slice, by their number."""

HEEDED_VARIABLES = ("JAX_", "LIBTPU_", "XLA_")
"""How the names of variables begin that change what is compiled."""


def target_for(accelerator: Accelerator) -> RehearsalTarget:
    """Return what a rehearsal on an accelerator compiles for.

    Args:
        accelerator: A TPU slice, or several, or GPUs of one node or several.

    Raises:
        RehearsalError: Nothing is compiled ahead for it.
    """
    if accelerator.category == "cpu":
        raise RehearsalError(
            "rehearsals are for TPUs and GPUs, and cpu has neither",
            value="cpu",
            hint="name what to rehearse for, such as train.rehearse('tpu-v6e-8'), or "
            "--accelerator tpu-v6e-8",
        )
    if accelerator.category == "gpu":
        return _gpu(accelerator)
    generation = accelerator.name.rpartition("-")[0]
    per_chip = DEVICES_PER_CHIP.get(generation, 1)
    name = COMPILER_NAMES.get(generation, generation.removeprefix("tpu-"))
    return RehearsalTarget(
        accelerator=accelerator.name,
        kind="tpu",
        topology=f"{name}:{accelerator.topology}",
        devices=accelerator.count * per_chip,
        # Google's pages say GB for what is powers of two.
        device_memory_bytes=(accelerator.memory_gb << 30) // per_chip,
        chips_per_host=CHIPS_OF_HOST[accelerator.count_per_host],
        hosts=accelerator.hosts,
        slices=accelerator.slices,
        chip_config=CHIP_CONFIGS.get(generation, ""),
    )


def _gpu(accelerator: Accelerator) -> RehearsalTarget:
    model, _, count = accelerator.name.rpartition("x")
    return RehearsalTarget(
        accelerator=accelerator.name,
        kind="gpu",
        topology=model if count.isdigit() and model else accelerator.name,
        devices=accelerator.count,
        device_memory_bytes=accelerator.memory_gb * 10**9,
        hosts=accelerator.hosts,
    )


def function_id(function: Callable[..., Any], root: Path) -> str:
    """Return what tells a function from others: `project/module:qualified.name`.

    A script's own functions have the name of its file, by which others would import it.

    Args:
        function: The function.
        root: The directory of its project, whose path is another on each machine.
    """
    module = getattr(function, "__module__", None) or "__main__"
    if module == "__main__":
        file = getattr(sys.modules.get("__main__"), "__file__", None)
        # What is read from standard input has a name in angle brackets.
        module = Path(file).stem if file and not file.startswith("<") else module
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{project_name(root)}/{module}:{name}"


def code_digest(draft: Draft) -> str:
    """Return the digest of what a rehearsal is made of, besides its environment.

    That is all of the project's files that ship, the rehearsal as it is pickled (with the values
    that it uses, where it is a script's or a notebook's, and for a method with the instance), and
    the variables taken along that compilers heed.

    Raises:
        LookupError: The draft's function has no rehearsal.
        UnpicklableError: The rehearsal cannot be pickled.
    """
    if draft.rehearsal is None:
        raise LookupError(f"{draft.name} has no rehearsal")
    payload = pack_call(draft.rehearsal, draft.call.bound, {}, root=draft.root)
    heeded = {
        name: value for name, value in draft.captured.items() if name.startswith(HEEDED_VARIABLES)
    }
    return sha256_hex(
        canonical_json(
            {
                "code": sha256_hex(draft.snapshot.manifest),
                "rehearsal": sha256_hex(without_class_ids(payload.content)),
                "pieces": [piece.sha256 for piece in payload.pieces],
                "variables": heeded,
            }
        )
    )
