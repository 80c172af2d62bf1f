"""The directory of a run's outputs, as its handle has it: a text that files are listed below."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from kinetic_flows.clients.prefect.labels import OUTPUT_DIR_LABEL
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core import option_values as check
from kinetic_flows.core.api_boundary import at_api_boundary
from kinetic_flows.core.errors import RunNotFoundError
from kinetic_flows.core.output_files import OutputFile
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.runs.description import outputs_of
from kinetic_flows.runs.kept_session import KeptSession
from kinetic_flows.runs.output_download import Downloaded, download, matching


class Outputs(str):
    """Where a run keeps its outputs: a directory of this machine, or a `gs://` URI.

    It is a text, and as such what `KINETIC_OUTPUT_DIR` is set to in the run.

    Example:
        ```python
        for file in run.outputs.ls():
            print(file.name, file.size_bytes)
        run.outputs.download("results", "checkpoints/*")
        ```
    """

    _cloud: Mapping[str, str]
    _sessions: KeptSession

    def __new__(
        cls, directory: str, cloud: Mapping[str, str], sessions: KeptSession | None = None
    ) -> Self:
        """Return a directory whose files are read in sessions of a handle, or of its own."""
        made = super().__new__(cls, directory)
        made._cloud = dict(cloud)
        made._sessions = sessions or KeptSession(cloud)
        return made

    @at_api_boundary
    def ls(self, pattern: str | None = None) -> list[OutputFile]:
        """Return the files there are now, in the order of their names.

        Args:
            pattern: What their names match, such as `checkpoints/*` (as `fnmatch` has it: `*` goes
                beyond `/`); None (default) for all.

        Raises:
            StoreError: They cannot be listed.
        """
        with self._sessions.session() as session:
            return matching(session.platform.outputs(str(self)).list(), pattern)

    @at_api_boundary
    def download(self, to: str | os.PathLike[str], pattern: str | None = None) -> Path:
        """Copy the files there are now to a directory, several at a time.

        Each is checked against its checksum. What is there already is not read again, and what
        was broken off goes on. Nothing in the directory is removed.

        Args:
            to: The directory, which is made.
            pattern: What the names of files match; None (default) for all.

        Returns:
            The directory.

        Raises:
            UsageError: The directory cannot be written to.
            StoreError: A file cannot be read, or does not arrive as it is.
        """
        return self.fetch(to, pattern).directory

    def fetch(self, to: str | os.PathLike[str], pattern: str | None = None) -> Downloaded:
        """Do as `download` does, and return what came of it."""
        if not isinstance(to, str | os.PathLike) or not os.fspath(to):
            check.refuse("to", to, "give a directory")
        environ = process_environment()
        progress = terminal_progress(load_settings(environ).progress, environ)
        with self._sessions.session() as session:
            source = session.platform.outputs(str(self))
            files = matching(source.list(), pattern)
            return download(source, files, Path(to).expanduser().absolute(), progress)

    def __reduce__(self) -> tuple[Any, ...]:
        return Outputs, (str(self), self._cloud)


def found_outputs(record: RunRecord, cloud: Mapping[str, str], sessions: KeptSession) -> Outputs:
    """Return where a run keeps its outputs, as its flow run says.

    Args:
        record: Its flow run.
        cloud: What its function's options say of Google Cloud.
        sessions: Those of its handle.

    Raises:
        RunNotFoundError: It does not say: no version of this library that does made it.
    """
    directory = outputs_of(record)
    if directory is None:
        raise RunNotFoundError(
            f"run {record.id} does not say where it keeps its outputs",
            value=record.id,
            hint="look below `outputs/` in the store, where each run has a directory",
        )
    return Outputs(directory, cloud, sessions)


def are_certain(record: RunRecord) -> bool:
    """Whether a run's outputs stay where its flow run says: else its runner tells that yet."""
    return not record.deployment_id or record.is_final or OUTPUT_DIR_LABEL in record.labels
