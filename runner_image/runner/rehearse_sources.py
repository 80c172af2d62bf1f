"""Where in a person's own files something of a compiled program comes from."""

from __future__ import annotations

import os
from collections.abc import Iterable


class Sources:
    """Names lines of the project's files.

    Args:
        workspace: Where the project lies in the run.
        root: Where it lies on the client; empty for nowhere in particular.
    """

    def __init__(self, workspace: str, root: str = "") -> None:
        folders = dict.fromkeys((workspace, os.path.realpath(workspace), root))
        self._folders = tuple(os.path.join(each, "") for each in folders if each)

    def of(self, frames: Iterable[tuple[str, int]]) -> str:
        """Return the innermost line that is the project's.

        Args:
            frames: Files and lines, the innermost first.

        Returns:
            Such as `model.py:42`; empty where none of them is.
        """
        for file, line in frames:
            for folder in self._folders:
                if file.startswith(folder) and line > 0:
                    return f"{file[len(folder) :]}:{line}"
        return ""
