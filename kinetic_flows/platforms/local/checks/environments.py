"""Whether environments on this machine are whole."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from kinetic_flows.core.display import counted
from kinetic_flows.core.findings import Finding
from kinetic_flows.platforms.local.environments import damaged_environments, half_made

HALF_MADE = "half-made environments"
DAMAGED = "damaged environments"


def environment_findings(directory: Path) -> Iterable[Finding]:
    """Return what interrupted calls have left of environments, and which can be used no more.

    Args:
        directory: Where environments are.
    """
    kinds = (
        (HALF_MADE, half_made, "that no process is making any more"),
        (DAMAGED, damaged_environments, "whose Python is gone; runs make them again"),
    )
    for subject, look, what in kinds:
        found = look(directory)
        if not found:
            yield Finding(subject=subject, level="ok", text="none")
            continue
        yield Finding(
            subject=subject,
            level="warning",
            text=f"{counted(len(found), 'environment')} {what}",
            command=f"rm -rf {shlex.join(map(str, found))}",
            fix=partial(_removed, look, directory),
        )


def _removed(look: Callable[[Path], tuple[Path, ...]], directory: Path) -> str:
    # A run may have made one again since.
    paths = look(directory)
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
    return f"removed {counted(sum(not path.exists() for path in paths), 'environment')}"
