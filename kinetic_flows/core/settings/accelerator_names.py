"""The accelerator that a setting names, by its own name or by one that the project gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetic_flows.core.errors import AcceleratorError, ConfigurationError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.settings.table import ProjectSettings, Source, label

if TYPE_CHECKING:
    from kinetic_flows.core.accelerators import aliases
else:
    # Most calls leave it at the default, or name it in the decorator.
    aliases = LazyModule("kinetic_flows.core.accelerators.aliases")


def setting_meant(name: str, source: Source, project_file: ProjectSettings | None) -> str:
    """Return what the setting `accelerator` stands for.

    Args:
        name: Its value.
        source: Who gave it.
        project_file: What the project's file says; None for nothing.

    Raises:
        ConfigurationError: It is no accelerator, and no name that the project gives to one.
    """
    known = project_file.accelerators if project_file else {}
    try:
        return aliases.meant_by(name, known)
    except AcceleratorError as error:
        raise ConfigurationError(
            f"{label('accelerator', source)}: {error.message}", value=name, hint=error.hint
        ) from error
