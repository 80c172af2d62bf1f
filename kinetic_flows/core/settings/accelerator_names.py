"""The accelerators that a setting names, by their own names or by those the project gives them."""

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

MAX_CANDIDATES = 20
"""How many accelerators a list may name."""


def names_in(text: str) -> tuple[str, ...]:
    """Return what a text lists, each once, with commas between them: `tpu-v6e-8:spot,l4`."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, text.split(","))))) or (text,)


def names_in_words(names: tuple[str, ...]) -> str:
    """Return accelerators as people read them, one name or several with `or` between them."""
    return " or ".join(names)


def setting_meant(text: str, source: Source, project_file: ProjectSettings | None) -> str:
    """Return what the setting `accelerator` stands for: one name, or several with commas between.

    Args:
        text: Its value.
        source: Who gave it.
        project_file: What the project's file says; None for nothing.

    Raises:
        ConfigurationError: It names none, too many, or what is no accelerator and no name that
            the project gives to one.
    """
    known = project_file.accelerators if project_file else {}
    names = names_in(text)
    if len(names) > MAX_CANDIDATES:
        raise ConfigurationError(
            f"{label('accelerator', source)} names {len(names)} accelerators",
            value=text,
            hint=f"name {MAX_CANDIDATES} at most",
        )
    try:
        return ",".join(dict.fromkeys(aliases.meant_by(name, known) for name in names))
    except AcceleratorError as error:
        raise ConfigurationError(
            f"{label('accelerator', source)}: {error.message}", value=text, hint=error.hint
        ) from error
