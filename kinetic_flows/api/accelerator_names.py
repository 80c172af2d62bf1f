"""Names that a function's project gives to accelerators, where its options say one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kinetic_flows.core.capacity_values import MaybeAlias
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.options import RunOptions

if TYPE_CHECKING:
    from kinetic_flows.code import project_settings, root
else:
    # Most functions name an accelerator, which needs no project.
    project_settings = LazyModule("kinetic_flows.code.project_settings")
    root = LazyModule("kinetic_flows.code.root")


def with_accelerator(options: RunOptions, function: Callable[..., Any]) -> RunOptions:
    """Return options that name an accelerator, in place of what its project calls it.

    Args:
        options: How the function runs.
        function: The function, whose file's project counts.

    Raises:
        AcceleratorError: It is neither an accelerator nor a name of the project's.
        ConfigurationError: The project's file cannot be read, or says what cannot be.
    """
    said = options.accelerator
    names = said if isinstance(said, tuple) else (said,)
    if not any(isinstance(name, MaybeAlias) for name in names):
        return options
    directory = root.source_directory(function, root.working_directory())
    named = tuple(
        project_settings.named_accelerator(name, directory)
        if isinstance(name, MaybeAlias)
        else name
        for name in names
    )
    return replace(options, accelerator=named if isinstance(said, tuple) else named[0])
