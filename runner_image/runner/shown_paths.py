"""File names in tracebacks, as the person who called has them.

The project lies in a workspace of the run, which is gone when somebody reads its log. Lines that
name a file of it, as Python prints them for a frame, name the file that shipped.
"""

from __future__ import annotations

import os

from .marks import bytes_of


class ShownPaths:
    """Rewrites the files of frames in what a run prints.

    Args:
        workspace: Where the project lies in the run.
        root: Where it lies on the client; empty for nowhere in particular, so that files are
            named by their place in the project.
    """

    def __init__(self, workspace: str, root: str) -> None:
        here, shown = os.path.join(workspace, ""), os.path.join(root, "") if root else ""
        self._here = f'File "{here}'.encode(errors="surrogateescape")
        self._shown = f'File "{shown}'.encode(errors="surrogateescape")
        self._held = b""
        self._folders = here, shown

    def file(self, name: str) -> str:
        """Return the name of a file."""
        here, shown = self._folders
        return shown + name[len(here) :] if name.startswith(here) else name

    def text(self, text: str) -> str:
        """Return a text that is whole."""
        data = bytes_of(text)
        return data.replace(self._here, self._shown).decode(errors="surrogateescape")

    def feed(self, data: bytes) -> bytes:
        """Return what can be shown of output as it arrives, in pieces cut anywhere."""
        data = (self._held + data).replace(self._here, self._shown)
        size = self._begun(data)
        self._held = data[len(data) - size :]
        return data[: len(data) - size]

    def flush(self) -> bytes:
        """Return what was held back because more might have followed."""
        held, self._held = self._held, b""
        return held

    def _begun(self, data: bytes) -> int:
        """Return how many bytes at the end may be the beginning of a file's name."""
        for size in range(min(len(self._here) - 1, len(data)), 0, -1):
            if data.endswith(self._here[:size]):
                return size
        return 0
