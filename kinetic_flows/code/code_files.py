"""The files that code comes from: where they lie in a run, and the lines of those that do not.

A traceback, `inspect` and `linecache` find source lines by a code object's file name. Code that
goes by value gets the name of the shipped file. What has no file that ships (a notebook's cell)
keeps its name, and its lines travel with the call.
"""

from __future__ import annotations

import linecache
import os
from pathlib import Path
from types import CodeType
from typing import Any

from kinetic_flows.code.modules import is_installed
from kinetic_flows.code.root import PackageRoot
from kinetic_flows.code.stand_ins import PathInRun

_FILENAME = 10
"""Where a code object's file name is among the arguments that make it, from Python 3.11 on."""


class CodeFiles:
    """The files of the code of one call.

    Args:
        root: The package root, which ships.
    """

    def __init__(self, root: PackageRoot) -> None:
        self._root = root
        self._working_directory = root.path / root.working_directory
        self._places: dict[str, PathInRun | None] = {}
        self._lines: dict[str, dict[int, str]] = {}

    @property
    def sources(self) -> dict[str, str]:
        """The lines of code whose files do not ship, by file name; other lines are empty."""
        return {
            name: "".join(lines.get(number, "\n") for number in range(1, max(lines) + 1))
            for name, lines in self._lines.items()
        }

    def place(self, name: str) -> PathInRun | None:
        """Return where a file lies in a run; None when it does not ship."""
        if name not in self._places:
            self._places[name] = self._find(name)
        return self._places[name]

    def relative(self, name: str) -> str | None:
        """Return where a file or directory that ships lies, seen from the working directory."""
        if not os.path.isabs(name):  # noqa: PTH117 - any text may come here
            return None
        path = Path(os.path.normpath(name))
        # Links above the root are no matter; the root itself is without.
        for given in (path, path.parent.resolve() / path.name):
            if given.is_relative_to(self._root.path):
                return os.path.relpath(given, self._working_directory)
        return None

    def named_for_run(self, code: CodeType, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a code object's reduction with the file name it has in a run.

        Args:
            code: The code object.
            reduced: What cloudpickle makes of it; from 3.1.3 on without the file name.
        """
        make, arguments, *rest = reduced
        place = self.place(code.co_filename)
        if place is None:
            self._take_lines(code)
        name = place or code.co_filename
        return make, (*arguments[:_FILENAME], name, *arguments[_FILENAME + 1 :]), *rest

    def _find(self, name: str) -> PathInRun | None:
        path = Path(name)
        if is_installed(path) or not path.is_file():
            return None
        relative = self.relative(name)
        return None if relative is None else PathInRun(relative)

    def _take_lines(self, code: CodeType) -> None:
        """Keep the lines of a code object; the rest of its cell is not needed."""
        if is_installed(Path(code.co_filename)):
            return
        lines = linecache.getlines(code.co_filename)
        last = max((end for _, end, _, _ in code.co_positions() if end), default=0)
        for number in range(code.co_firstlineno, min(last, len(lines)) + 1):
            self._lines.setdefault(code.co_filename, {})[number] = lines[number - 1]
