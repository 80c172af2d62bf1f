"""Where the outputs of a sweep's inputs go: each somewhere else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.job_parts import OutputSpec
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.inputs import Arguments
from kinetic_flows.plans.outputs import output_spec


class SweepOutputs:
    """The directories that inputs of a sweep have named, each for one of them."""

    def __init__(self) -> None:
        # Of any number of inputs, no more than this is kept of each.
        self._inputs: dict[int, int] = {}

    def add(self, index: int, output: OutputSpec | None) -> None:
        """Take note of an input.

        Args:
            index: Its place, from 0.
            output: Where its outputs go; None for a directory of its own.

        Raises:
            UsageError: An input before it writes to its directory.
        """
        if output is None:
            return
        directory = output.place
        other = self._inputs.setdefault(hash(directory), index)
        if other != index:
            raise UsageError(
                f"inputs {other} and {index} would both write to {directory}",
                value=directory,
                hint="name in output_dir, in braces, an argument in which they differ, or "
                "{arguments_hash}",
            )


def check_sweep_outputs(draft: Draft, inputs: Iterable[Arguments]) -> None:
    """Refuse inputs that would write to one directory, before anything is made for them.

    Args:
        draft: A call of the function.
        inputs: Those inputs that are there already.

    Raises:
        UsageError: Two of them would, or a directory cannot be.
    """
    if draft.call.options.output_dir is None:
        return
    outputs = SweepOutputs()
    for index, each in enumerate(inputs):
        call = replace(draft.call, args=each.args, kwargs=each.kwargs)
        outputs.add(index, output_spec(call, draft.settings, draft.platform))
