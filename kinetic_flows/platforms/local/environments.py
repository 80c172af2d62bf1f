"""Virtual environments that stand in for images on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

from kinetic_flows.core.accelerators.model import Architecture
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.environment import EnvironmentSpec, ImageRequest
from kinetic_flows.core.errors import BuildError
from kinetic_flows.core.files import exclusive_lock, is_locked
from kinetic_flows.core.image_builder import OnBuild, unannounced
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.interruption import stopped_if_interrupted
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.dependencies.uv import find_uv
from kinetic_flows.dependencies.wheels import install_arguments
from kinetic_flows.dependencies.wheels import stored_wheels as fetch_wheels
from kinetic_flows.images.labels import (
    LABEL_DEPENDENCY_HASH,
    LABEL_LOCK_DIGEST,
    LABEL_PYTHON,
)

OUTPUT_TAIL_LINES = 15

_DESCRIPTION = "kinetic-environment.json"
DRAFT = ".making-"
"""Begins the name of an environment that is being made."""


class LocalEnvironments:
    """Registry and builder of the virtual environments under one directory.

    An environment appears under its final name complete or not at all, so its presence is
    proof that it can be used.

    Args:
        directory: Where the environments are.
        store: Where wheels that ship with the project are found.
        environ: Variables uv inherits: the user's own uv configuration counts.
    """

    def __init__(self, directory: Path, store: ArtifactStore, environ: Mapping[str, str]) -> None:
        self._directory = directory
        self._store = store
        self._environ = environ

    def python(self, image: ResolvedImage) -> Path:
        """Return the interpreter of an environment."""
        return self._path(image.reference) / "bin" / "python"

    def resolve(
        self,
        reference: str,
        *,
        architecture: Architecture = "amd64",  # noqa: ARG002 - an environment has this machine's
    ) -> ResolvedImage | None:
        """Return the environment a reference names, or None when it has to be made."""
        path = self._path(reference)
        # The link dangles when the interpreter that the environment was made with is gone.
        if not (path / "bin" / "python").exists():
            return None
        try:
            labels = json.loads((path / _DESCRIPTION).read_text())
            digest = f"sha256:{labels[LABEL_DEPENDENCY_HASH]}"
        except (OSError, ValueError, KeyError, TypeError):
            # Damaged: it is made again.
            return None
        return ResolvedImage(reference=reference, digest=digest, labels=labels)

    def build(
        self,
        request: ImageRequest,
        environment: EnvironmentSpec,
        on_output: Callable[[str], None],
        *,
        on_build: OnBuild = unannounced,  # noqa: ARG002 - made here, with no page of its own
    ) -> ResolvedImage:
        """Make the environment, or wait for the process that is making it.

        Raises:
            BuildError: uv could not make it; the message ends with uv's last lines.
        """
        path = self._path(request.reference)
        with exclusive_lock(_lock_of(path)):
            existing = self.resolve(request.reference)
            if existing:
                return existing
            self._remove_leftovers(path.name)
            draft = self._directory / f"{DRAFT}{path.name}-{uuid4().hex}"
            try:
                self._make(draft, environment, on_output)
                shutil.rmtree(path, ignore_errors=True)
                draft.rename(path)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        made = self.resolve(request.reference)
        if made is None:
            raise BuildError(
                f"the environment {path} vanished while it was being made",
                value=str(path),
                hint="run again; if something cleans up KINETIC_HOME, exclude `environments`",
            )
        return made

    def preview(
        self,
        request: ImageRequest,
        environment: EnvironmentSpec,
    ) -> None:
        """Say nothing: uv makes every environment."""

    def _path(self, reference: str) -> Path:
        return self._directory / reference.rpartition("/")[2]

    def _remove_leftovers(self, name: str) -> None:
        for leftover in self._directory.glob(f"{DRAFT}{name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _make(
        self, draft: Path, environment: EnvironmentSpec, on_output: Callable[[str], None]
    ) -> None:
        # A relocatable environment may be renamed once it is complete.
        create = ["venv", "--relocatable", "--no-project", "--python", _interpreter(), str(draft)]
        self._uv(create, on_output)
        lock_file = draft / "requirements.lock"
        lock_file.write_text(environment.lock)
        wheels = self._fetch_wheels(draft / "wheels", environment)
        install = install_arguments(lock_file, wheels)
        self._uv([*install, "--python", str(draft / "bin" / "python")], on_output)
        shutil.rmtree(draft / "wheels", ignore_errors=True)
        (draft / _DESCRIPTION).write_text(json.dumps(_labels(environment), indent=2))

    def _fetch_wheels(self, directory: Path, environment: EnvironmentSpec) -> Path:
        directory.mkdir()
        for name, data in fetch_wheels(self._store, environment).items():
            (directory / name).write_bytes(data)
        return directory

    def _uv(self, arguments: list[str], on_output: Callable[[str], None]) -> None:
        """Run uv, passing on what it prints as it prints it."""
        lines: list[str] = []
        with (
            subprocess.Popen(
                [find_uv(), *arguments],
                env={**self._environ, "UV_NO_PROGRESS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
            stopped_if_interrupted(process),
        ):
            for line in process.stdout or ():
                lines.append(line.rstrip())
                on_output(lines[-1])
        if process.returncode:
            raise BuildError(
                "\n".join(
                    [
                        f"uv could not make the environment (exit code {process.returncode})",
                        *(f"    {line}" for line in lines[-OUTPUT_TAIL_LINES:]),
                    ]
                ),
                value=arguments[0],
                hint="uv's own words above name the package; the project's dependency file "
                "is where to change it",
            )


def half_made(directory: Path) -> tuple[Path, ...]:
    """Return what is left of environments whose making was interrupted.

    Args:
        directory: Where environments are.
    """
    drafts = sorted(directory.glob(f"{DRAFT}*"))
    # Whoever makes one holds its lock.
    return tuple(draft for draft in drafts if not is_locked(_lock_of(_finished(draft))))


def damaged_environments(directory: Path) -> tuple[Path, ...]:
    """Return the environments whose interpreter is gone.

    Args:
        directory: Where environments are.
    """
    found = sorted(path for path in directory.glob("[!.]*") if path.is_dir())
    return tuple(path for path in found if not (path / "bin" / "python").exists())


def _finished(draft: Path) -> Path:
    """Return where an environment goes when it is complete."""
    return draft.with_name(draft.name.removeprefix(DRAFT).rpartition("-")[0])


def _lock_of(path: Path) -> Path:
    """Return the lock that whoever makes an environment holds."""
    return path.with_name(f".{path.name}.lock")


def _interpreter() -> str:
    """Return the interpreter that environments are made with: this one's, outside any venv."""
    executable: str = getattr(sys, "_base_executable", None) or sys.executable
    return os.path.realpath(executable)


def _labels(environment: EnvironmentSpec) -> dict[str, str]:
    return {
        LABEL_PYTHON: environment.python,
        LABEL_DEPENDENCY_HASH: environment.dependency_hash,
        LABEL_LOCK_DIGEST: f"sha256:{sha256_hex(environment.lock.encode())}",
    }
