"""Resolving: what uv is given, and what its answer means."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from kinetic_flows.dependencies.declaration import Declaration
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.lockfile import LockedPackage
from kinetic_flows.dependencies.pylock import PylockPackage, read_pylock
from kinetic_flows.dependencies.requirements_file import Line, normalized
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Uv
from kinetic_flows.dependencies.wheels import ship
from kinetic_flows.errors import LockError


def resolve(
    declared: Declaration, source: DependencySource, target: Target, *, uv: Uv, home: Path
) -> tuple[LockedPackage, ...]:
    """Resolve a declaration for a target, and prepare the wheels that ship.

    Raises:
        LockError: There is no solution; the message is uv's explanation.
    """
    with tempfile.TemporaryDirectory(prefix="kinetic-lock-") as scratch:
        answer = _compile(declared, target, uv=uv, scratch=Path(scratch))
    return tuple(_locked(item, target, uv=uv, home=home) for item in read_pylock(answer))


def _compile(declared: Declaration, target: Target, *, uv: Uv, scratch: Path) -> str:
    requirements = scratch / "requirements.in"
    constraints = scratch / "constraints.in"
    _write(requirements, [*_passed_on(declared.lines), *target.runtime])
    _write(constraints, [*_passed_on(declared.constraints), *target.constraints])
    done = uv(
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        "--generate-hashes",
        "--format=pylock.toml",
        *_target_arguments(target),
        "--constraints",
        constraints,
        "--",
        requirements,
    )
    if done.exit_code != 0:
        raise LockError(
            f"the dependencies cannot be resolved:\n{done.stderr}",
            hint="change the requirement that uv names",
        )
    return done.stdout


def _target_arguments(target: Target) -> list[str]:
    if target.interpreter is not None:
        return ["--python", str(target.interpreter)]
    return ["--python-version", target.python, "--python-platform", target.platform]


def _passed_on(lines: Iterable[Line]) -> list[str]:
    options = [line.text for line in lines if line.kind == "option"]
    return options + sorted({normalized(line) for line in lines if line.kind != "option"})


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _locked(package: PylockPackage, target: Target, *, uv: Uv, home: Path) -> LockedPackage:
    if package.version is not None and package.is_public:
        return LockedPackage(name=package.name, version=package.version, hashes=package.hashes)
    return ship(package, target, uv=uv, home=home)
