"""Using the lock that a project or a script keeps beside itself instead of resolving."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kinetic_flows.core.errors import LockError
from kinetic_flows.dependencies.declaration import Declaration
from kinetic_flows.dependencies.discovery import SCRIPT_LOCK_SUFFIX
from kinetic_flows.dependencies.fit import unsatisfied
from kinetic_flows.dependencies.pylock import PylockPackage, read_pylock
from kinetic_flows.dependencies.requirements_file import decode
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Uv


def locked_by_project(
    declared: Declaration, target: Target, *, uv: Uv
) -> tuple[PylockPackage, ...]:
    """Return the packages that a project's lock has for a target.

    Raises:
        LockError: The lock does not match its project, or cannot be read.
    """
    assert declared.lock_file is not None
    path = declared.lock_file
    if path.name == "uv.lock" or path.name.endswith(f".py{SCRIPT_LOCK_SUFFIX}"):
        return _exported(declared, path, target, uv=uv)
    found = _read(decode(path.read_bytes(), path), path, declared, target)
    _check_satisfied(found, declared, path, target)
    return tuple(item.relative_to(path.parent) for item in found)


def _exported(
    declared: Declaration, path: Path, target: Target, *, uv: Uv
) -> tuple[PylockPackage, ...]:
    selected = ["--no-emit-project", "--project", str(uv.cwd)]
    selected += [f"--extra={name}" for name in declared.selection.extras]
    selected += [f"--group={name}" for name in declared.selection.groups]
    if path.name != "uv.lock":
        selected = ["--script", str(declared.project_file)]
    with tempfile.TemporaryDirectory(prefix="kinetic-export-") as scratch:
        out = Path(scratch) / "pylock.toml"
        done = uv(
            "export",
            "--quiet",
            "--locked",
            "--format=pylock.toml",
            "--no-default-groups",
            *selected,
            "--output-file",
            out,
        )
        if done.exit_code != 0:
            raise _export_error(path, declared, done.stderr)
        found = _read(out.read_text(encoding="utf-8"), path, declared, target)
        # uv writes paths relative to the file it writes.
        return tuple(item.relative_to(out.parent.resolve()) for item in found)


def _export_error(path: Path, declared: Declaration, stderr: str) -> LockError:
    command = f"uv lock` in {path.parent}"
    if path.name != "uv.lock":
        command = f"uv lock --script {declared.project_file}`"
    if "needs to be updated" in stderr:
        return LockError(
            f"{path} does not match {declared.project_file}:\n{stderr}",
            value=str(path),
            hint=f"run `{command}",
        )
    return LockError(f"{path} cannot be used:\n{stderr}", value=str(path), hint=f"run `{command}")


def _read(
    text: str, path: Path, declared: Declaration, target: Target
) -> tuple[PylockPackage, ...]:
    selection = declared.selection
    try:
        found = read_pylock(
            text,
            markers=target.markers(),
            extras=selection.extras,
            groups=selection.groups,
        )
    except LockError as error:
        raise LockError(f"{path}: {error.message}", value=str(path), hint=error.hint) from error
    return found


def _check_satisfied(
    found: tuple[PylockPackage, ...], declared: Declaration, path: Path, target: Target
) -> None:
    """Refuse a lock that lacks what the project asks for: nothing else ties it to the project."""
    versions = {item.name: item.version for item in found}
    covered = [line for line in declared.lines if line.origin.file == declared.project_file]
    line = unsatisfied(covered, versions, target)
    if line is None:
        return
    version = versions.get(line.name or "")
    has = f"has {line.name} {version}" if version else f"has no {line.name}"
    raise LockError(
        f"{path} does not match {line.origin}: {line.text} is asked for, the lock {has}",
        value=str(path),
        hint="lock the project again",
    )
