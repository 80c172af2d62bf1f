"""What a source declares, read completely: requirements, constraints, options, lock, warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.lines import Line
from kinetic_flows.dependencies.project import Project, Selection, read_project, read_script
from kinetic_flows.dependencies.requirements_file import read_requirements, requirement_list
from kinetic_flows.dependencies.targets import ACCELERATOR_PACKAGES, Target
from kinetic_flows.dependencies.uv_sources import local_closure
from kinetic_flows.errors import DependencyError


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """Everything a source declares.

    Attributes:
        lines: Requirements, local packages and options.
        constraints: Lines of constraint files.
        files: Every file that was read, in order.
        project_file: The file that declares; None where there is none.
        lock_file: The lock to use instead of resolving; None for none.
        selection: What `[tool.kinetic]` selects.
        filtered: Accelerator packages that were left out, a sentence each.
        warnings: What the person should know.
        keeps_accelerator: Whether a line keeps its own accelerator package (`# kn:keep`).
    """

    lines: tuple[Line, ...] = ()
    constraints: tuple[Line, ...] = ()
    files: tuple[Path, ...] = ()
    project_file: Path | None = None
    lock_file: Path | None = None
    selection: Selection = field(default_factory=Selection)
    filtered: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    keeps_accelerator: bool = False

    @property
    def local_packages(self) -> tuple[Path, ...]:
        """Directories and archives on this machine that the lines lead to, in order."""
        paths = [path for line in self.lines if line.path for path in local_closure(line.path)]
        return tuple(sorted(set(paths)))


def read_declaration(
    source: DependencySource, target: Target, *, environ: Mapping[str, str]
) -> Declaration:
    """Read what a source declares for a target.

    Raises:
        DependencyError: A file cannot be read, or declares what must not be used.
    """
    project = _read(source, environ)
    _check_python(project, source, target)
    declared = Declaration(
        lines=project.found.lines,
        constraints=project.found.constraints,
        files=project.found.files,
        project_file=source.path,
        lock_file=source.lock_file,
        selection=project.selection,
        warnings=(*source.warnings, *project.warnings),
    )
    return declared if target.keep_accelerator_packages else _without_accelerator(declared)


def _read(source: DependencySource, environ: Mapping[str, str]) -> Project:
    if source.path is None:
        return Project(found=requirement_list(source.requirements, base=source.project_root))
    if source.kind == "pyproject":
        return read_project(source.path, environ=environ)
    if source.kind == "script":
        return read_script(source.path)
    directory = source.working_directory or source.project_root
    return Project(
        found=read_requirements(source.path, working_directory=directory, environ=environ)
    )


def _check_python(project: Project, source: DependencySource, target: Target) -> None:
    if project.requires_python is None:
        return
    try:
        allowed = SpecifierSet(project.requires_python)
    except InvalidSpecifier as error:
        raise DependencyError(
            f"{source.path}: requires-python is {project.requires_python!r}",
            value=project.requires_python,
            hint="write it as in '>=3.11'",
        ) from error
    # Only the minor version is known of an image: any of its patch releases may do.
    patches = (f"{target.python}.{patch}" for patch in range(40))
    if not any(allowed.contains(version) for version in patches):
        raise DependencyError(
            f"{source.path}: requires-python is {project.requires_python!r}, the environment"
            f" has Python {target.python}",
            value=project.requires_python,
            hint="run with a Python that the project allows, or widen requires-python",
        )


def _without_accelerator(declared: Declaration) -> Declaration:
    accelerator = [line for line in declared.lines if line.name in ACCELERATOR_PACKAGES]
    kept = [line for line in accelerator if line.kept]
    dropped = [line for line in accelerator if not line.kept]
    filtered = tuple(_filter_sentence(line) for line in dropped)
    return replace(
        declared,
        lines=_without(declared.lines, dropped),
        constraints=_without(
            declared.constraints,
            [
                line
                for line in declared.constraints
                if line.name in ACCELERATOR_PACKAGES and not kept
            ],
        ),
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
