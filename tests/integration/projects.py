"""Small projects on disk, as people have them: imported here, or run on their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, invalidate_caches
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest


@dataclass(frozen=True, kw_only=True)
class Project:
    """A directory of source files."""

    root: Path

    def write(self, files: Mapping[str, str]) -> None:
        """Write files, with the indentation of the test taken off."""
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text).lstrip("\n"))

    def module(self, name: str) -> ModuleType:
        """Import a module of the project."""
        invalidate_caches()
        return import_module(name)

    def python(
        self, *arguments: str, timeout_seconds: float = 120, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run Python in the project's directory to its end."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start Python in the project's directory."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.root,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def make_project(root: Path, monkeypatch: pytest.MonkeyPatch, files: Mapping[str, str]) -> Project:
    """Write a project and make it the current directory and importable."""
    project = Project(root=root)
    root.mkdir(parents=True, exist_ok=True)
    project.write({"requirements.txt": "", **files})
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root))
    return project
