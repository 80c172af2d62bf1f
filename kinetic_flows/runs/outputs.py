"""Where runs keep their outputs: the files that their functions write to be kept."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.object_names import OUTPUTS
from kinetic_flows.runs.session import Session


def outputs_of(run_id: str, session: Session) -> str:
    """Return where a run keeps its outputs: a plain path where the store is a directory."""
    return f"{outputs_root(session)}/{run_id}"


def outputs_root(session: Session) -> str:
    """Return where runs keep their outputs: a plain path where the store is a directory.

    Raises:
        ConfigurationError: The outputs of runs on this machine were to go to a URI.
    """
    base = session.settings.output_dir
    if base and session.platform.store.uri.startswith("file:"):
        if "://" in base:
            raise ConfigurationError(
                f"KINETIC_OUTPUT_DIR is {base}, and runs on this machine write to a directory",
                value=base,
                hint="set it to a directory, or unset it to keep outputs under KINETIC_HOME",
            )
        # The function works in a copy of the project, which does not outlive it.
        return str(Path(base).expanduser().absolute())
    if base:
        return base.rstrip("/")
    uri = f"{session.platform.store.uri}/{OUTPUTS}"
    return unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri
