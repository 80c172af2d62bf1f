"""What a source declares, read completely: requirements, constraints, options, lock, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from kinetic_flows.core.errors import DependencyError
from kinetic_flows.dependencies.closure import closure_of, is_about_closure, judge, replaced_in_lock
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.lines import Line
from kinetic_flows.dependencies.project import Project, Selection, read_project, read_script
from kinetic_flows.dependencies.requirements_file import read_requirements, requirement_list
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv_sources import local_closure


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
    return declared if target.keep_accelerator_packages else _against_image(declared, target)


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


def _against_image(declared: Declaration, target: Target) -> Declaration:
    """Leave out what the image has, and refuse what it has in another version."""
    lines = (*declared.lines, *declared.constraints)
    keeps = any(line.kept and is_about_closure(line, target) for line in lines)
    asked = judge(declared.lines, target, held=not keeps)
    constraints = judge(declared.constraints, target, held=not keeps)
    kept = (*asked.kept, *constraints.kept)
    filtered = (*asked.sentences, *constraints.sentences)
    return replace(
        declared,
        lines=asked.lines,
        constraints=constraints.lines,
        filtered=filtered,
        warnings=(
            *declared.warnings,
            *filtered,
            *(_keep_sentence(item, target) for item in kept),
            *(() if keeps else _replaced(declared.lock_file, target)),
        ),
        keeps_accelerator=keeps,
    )


def _keep_sentence(line: Line, target: Target) -> str:
    has = closure_of(target).get(line.name or "")
    image = f"the image's {has}" if has else "what the image has"
    return f"{line.origin}: {line.text} is kept instead of {image}"


def _replaced(lock: Path | None, target: Target) -> tuple[str, ...]:
    """Say in one sentence what of the project's own lock gives way to the image's versions."""
    text = lock.read_text(encoding="utf-8", errors="replace") if lock else ""
    found = replaced_in_lock(text, target)
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return (f"{lock}: {', '.join(found[:3])}{more}",) if found else ()
