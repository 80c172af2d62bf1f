"""What a source declares, read completely: requirements, constraints, options, lock, warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.project import read_project, read_script
from kinetic_flows.dependencies.requirements_file import (
    Line,
    RequirementLines,
    read_requirements,
    requirement_list,
)
from kinetic_flows.dependencies.targets import ACCELERATOR_PACKAGES, Target


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """Everything a source declares.

    Attributes:
        lines: Requirements, local packages and options.
        constraints: Lines of constraint files.
        files: Every file that was read, in order.
        filtered: Accelerator packages that were left out, a sentence each.
        warnings: What the person should know.
        keeps_accelerator: Whether a line keeps its own accelerator package (`# kn:keep`).
    """

    lines: tuple[Line, ...] = ()
    constraints: tuple[Line, ...] = ()
    files: tuple[Path, ...] = ()
    filtered: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    keeps_accelerator: bool = False


def read_declaration(
    source: DependencySource, target: Target, *, environ: Mapping[str, str]
) -> Declaration:
    """Read what a source declares for a target.

    Raises:
        DependencyError: A file cannot be read, or declares what must not be used.
    """
    found, warnings = _read(source, environ)
    declared = Declaration(
        lines=found.lines,
        constraints=found.constraints,
        files=found.files,
        warnings=(*source.warnings, *warnings),
    )
    return declared if target.keep_accelerator_packages else _without_accelerator(declared)


def _read(
    source: DependencySource, environ: Mapping[str, str]
) -> tuple[RequirementLines, tuple[str, ...]]:
    if source.kind == "none":
        return RequirementLines(lines=()), ()
    if source.kind == "list":
        return requirement_list(source.requirements, base=source.project_root), ()
    assert source.path is not None
    if source.kind == "pyproject":
        return read_project(source.path, environ=environ)
    if source.kind == "script":
        return read_script(source.path, environ=environ)
    directory = source.working_directory or source.project_root
    return read_requirements(source.path, working_directory=directory, environ=environ), ()


def _without_accelerator(declared: Declaration) -> Declaration:
    left_out = [line for line in declared.lines if line.name in ACCELERATOR_PACKAGES]
    kept = [line for line in left_out if line.kept]
    dropped = [line for line in left_out if not line.kept]
    filtered = tuple(_filter_sentence(line) for line in dropped)
    return replace(
        declared,
        lines=_without(declared.lines, dropped),
        filtered=filtered,
        warnings=(*declared.warnings, *filtered, *(_keep_sentence(line) for line in kept)),
        keeps_accelerator=bool(kept),
    )


def _without(lines: Iterable[Line], dropped: list[Line]) -> tuple[Line, ...]:
    return tuple(line for line in lines if line not in dropped)


def _filter_sentence(line: Line) -> str:
    return (
        f"{line.origin}: {line.text} is left out, the image has the accelerator's own"
        " version; to keep yours, end the line with '# kn:keep'"
    )


def _keep_sentence(line: Line) -> str:
    return f"{line.origin}: {line.text} is kept instead of the image's own accelerator version"
