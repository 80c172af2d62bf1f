"""Resolving: what uv is given, and what its answer means."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from kinetic_flows.core.errors import LockError
from kinetic_flows.dependencies.closure import accelerator_extras, is_about_closure, is_held
from kinetic_flows.dependencies.declaration import Declaration
from kinetic_flows.dependencies.fetch import Fetcher, index_options
from kinetic_flows.dependencies.lines import Line, normalized
from kinetic_flows.dependencies.local_wheels import WheelBuilder
from kinetic_flows.dependencies.lockfile import LockedPackage
from kinetic_flows.dependencies.project_lock import locked_by_project
from kinetic_flows.dependencies.pylock import PylockPackage, read_pylock
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Uv, resolution_error
from kinetic_flows.dependencies.uv_settings import Index, UvSettings

CONCURRENT_PACKAGES = 8


@dataclass(frozen=True, kw_only=True)
class Question:
    """The requirements and constraints that uv is asked to resolve.

    Attributes:
        options: Option lines of requirements files.
        requirements: Requirements, in their normal form.
        constraints: Pins and ranges that hold wherever they apply.
        preferences: Pins to take where nothing asks for another version.
        indexed: Requirements that must come from one index, with its table.
        refresh: Whether to ask the indexes again about what uv has cached.
        without_dependencies: Whether only what is named is looked for.
    """

    options: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    indexed: tuple[Line, ...] = ()
    refresh: bool = False
    without_dependencies: bool = False


def find_packages(
    declared: Declaration, target: Target, *, uv: Uv, refresh: bool = False
) -> tuple[PylockPackage, ...]:
    """Resolve a declaration for a target.

    Args:
        declared: What to resolve.
        target: What for.
        uv: Resolves.
        refresh: Whether to ask the indexes again about what uv has cached.

    Raises:
        LockError: There is no solution; the message is uv's explanation.
    """
    if declared.lock_file is not None:
        return _from_project_lock(declared, target, uv=uv)
    asked = replace(question(declared, target), refresh=refresh)
    return ask(asked, declared, target, uv=uv)


def prepare_packages(
    found: tuple[PylockPackage, ...],
    declared: Declaration,
    target: Target,
    *,
    uv: Uv,
    home: Path,
    settings: UvSettings,
) -> tuple[LockedPackage, ...]:
    """Lock what was resolved, and prepare the wheels that ship.

    Args:
        found: What was resolved.
        declared: What it was resolved from.
        target: What for.
        uv: Builds.
        home: Directory of this machine's caches.
        settings: uv's configuration.

    Raises:
        LockError: A package is not what the project asks for, or cannot be had.
    """
    _refuse_unknown_directories(found, declared)
    options = index_options(line.text for line in declared.lines if line.kind == "option")
    direct = (Index(url=line.text.partition("@")[2].strip()) for line in _direct(declared.lines))
    indexes = (*options, *settings.indexes, *direct)
    fetcher = Fetcher(
        indexes=indexes, environ=uv.environ, asks_keyring=settings.asks_keyring, run=uv.run
    )
    builder = WheelBuilder(target=target, uv=uv, fetcher=fetcher, home=home)
    held = [_held_to_hashes(item, declared.lines) for item in found]
    with ThreadPoolExecutor(CONCURRENT_PACKAGES) as pool:
        return tuple(pool.map(lambda item: _locked(item, builder), held))


def may_ship(declared: Declaration, settings: UvSettings) -> bool:
    """Whether anything could come from elsewhere than the public index, and so ship as a wheel.

    Without a local package, a URL, an option, a lock or any configuration of uv, nothing can.
    """
    lines = (*declared.lines, *declared.constraints)
    return bool(
        declared.lock_file
        or settings.variables
        or settings.indexes
        or any(settings.tables)
        or any(line.kind == "option" or line.path or "://" in line.text for line in lines)
    )


def question(declared: Declaration, target: Target) -> Question:
    """Return what uv is asked for a declaration."""
    lines = [line for line in declared.lines if line.kind != "option"]
    own = declared.keeps_accelerator
    return Question(
        options=tuple(line.text for line in declared.lines if line.kind == "option"),
        requirements=_forms([line for line in lines if line.index is None])
        + _runtime(declared, target),
        constraints=_forms(declared.constraints) + (() if own else target.constraints),
        preferences=target.preferences,
        indexed=tuple(line for line in lines if line.index is not None),
    )


def _from_project_lock(
    declared: Declaration, target: Target, *, uv: Uv
) -> tuple[PylockPackage, ...]:
    """Take the project's own lock, and add what the environment needs besides."""
    pinned = locked_by_project(declared, target, uv=uv)
    if not target.keep_accelerator_packages and not declared.keeps_accelerator:
        pinned = tuple(item for item in pinned if not is_held(item.name, target))
    names = {item.name for item in pinned}
    runtime = _runtime(declared, target)
    beyond = [line for line in declared.lines if _is_beyond_lock(line, declared)]
    if not beyond and all(_is_covered(item, names) for item in runtime):
        return pinned
    public = [f"{item.name}=={item.version}" for item in pinned if item.version and item.is_public]
    asked = Question(
        options=tuple(line.text for line in beyond if line.kind == "option"),
        requirements=(*runtime, *public, *_forms(line for line in beyond if line.kind != "option")),
        constraints=() if declared.keeps_accelerator else target.constraints,
        preferences=target.preferences,
    )
    more = ask(asked, declared, target, uv=uv)
    return (*pinned, *(item for item in more if item.name not in names))


def _is_covered(requirement: str, names: Iterable[str]) -> bool:
    """Whether packages hold a requirement for certain: what its extras bring is not known."""
    asked = Requirement(requirement)
    return asked.name in names and not asked.extras


def _is_beyond_lock(line: Line, declared: Declaration) -> bool:
    """Whether a line comes from a file that the project's lock does not cover."""
    return line.origin.file != declared.project_file


def _runtime(declared: Declaration, target: Target) -> tuple[str, ...]:
    """Return what every environment has, unless the project says which runtime it wants."""
    own = [line for line in declared.lines if is_about_closure(line, target)]
    if not declared.keeps_accelerator or not any(accelerator_extras(line) for line in own):
        return target.runtime
    return tuple(item for item in target.runtime if not is_held(Requirement(item).name, target))


def ask(
    asked: Question, declared: Declaration, target: Target, *, uv: Uv
) -> tuple[PylockPackage, ...]:
    """Have uv resolve a question.

    Args:
        asked: The question.
        declared: What it was made from, for explanations.
        target: What it is resolved for.
        uv: Resolves.

    Raises:
        LockError: There is no solution.
    """
    with tempfile.TemporaryDirectory(prefix="kinetic-lock-") as name:
        scratch = Path(name)
        inputs = _written(asked, scratch)
        done = uv(
            "pip",
            "compile",
            "--quiet",
            "--no-header",
            "--generate-hashes",
            "--format=pylock.toml",
            *(["--refresh"] if asked.refresh else []),
            *(["--no-deps"] if asked.without_dependencies else []),
            *_target_arguments(target),
            "--output-file",
            scratch / "pylock.toml",
            "--constraints",
            scratch / "constraints.in",
            "--",
            *inputs,
        )
        if done.exit_code != 0:
            raise resolution_error(done.stderr, declared, target, scratch, uv.environ)
        text = (scratch / "pylock.toml").read_text(encoding="utf-8")
        found = read_pylock(text, markers=target.markers())
        return tuple(item.relative_to(scratch.resolve()) for item in found)


def _written(asked: Question, scratch: Path) -> list[Path]:
    """Write uv's input files; return those that hold requirements."""
    requirements = scratch / "requirements.in"
    _write(requirements, [*asked.options, *asked.requirements])
    _write(scratch / "constraints.in", asked.constraints)
    if asked.preferences:
        _write_preferences(scratch / "pylock.toml", asked.preferences)
    if not asked.indexed:
        return [requirements]
    project = scratch / "pyproject.toml"
    project.write_text(_project_for(asked.indexed), encoding="utf-8")
    return [requirements, project]


def _write_preferences(path: Path, pins: Iterable[str]) -> None:
    """Write versions where uv looks for those it should not change without need."""
    lines = ['lock-version = "1.0"', 'created-by = "kinetic"', ""]
    for pin in pins:
        name, _, version = pin.partition("==")
        lines += ["[[packages]]", f"name = {json.dumps(name)}", f"version = {json.dumps(version)}"]
    _write(path, lines)


def _project_for(lines: Sequence[Line]) -> str:
    """Return a project file for requirements that must come from a named index."""
    requirements = [normalized(line) for line in lines]
    text = ["[project]", 'name = "kinetic-requirements"', 'version = "0"']
    text.append(f"dependencies = {json.dumps(requirements)}")
    tables = {line.index["name"]: line.index for line in lines if line.index}
    text.append("[tool.uv.sources]")
    text += [
        f"{json.dumps(line.name)} = {{ index = {json.dumps(line.index['name'])} }}"
        for line in lines
        if line.index and line.name
    ]
    for table in tables.values():
        text.append("[[tool.uv.index]]")
        values = ((k, v) for k, v in table.items() if isinstance(v, str | bool | int))
        text += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in values]
    return "\n".join(text) + "\n"


def _target_arguments(target: Target) -> list[str]:
    if target.interpreter is not None:
        return ["--python", str(target.interpreter)]
    # Another Python than this one is only resolved for, not run: uv need not download it.
    asked = ["--python-version", target.python, "--python-platform", target.platform]
    return ["--no-python-downloads", *asked]


def _forms(lines: Iterable[Line]) -> tuple[str, ...]:
    return tuple(sorted({normalized(line) for line in lines}))


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _locked(package: PylockPackage, builder: WheelBuilder) -> LockedPackage:
    if package.version is not None and package.is_public:
        return LockedPackage(name=package.name, version=package.version, hashes=package.hashes)
    return builder.ship(package)


def _held_to_hashes(package: PylockPackage, lines: Iterable[Line]) -> PylockPackage:
    """Keep only the files that the requirement's own hashes allow."""
    for line in lines:
        if not line.hashes or not _is_about(line, package):
            continue
        allowed = package.allowed(line.hashes)
        if allowed is None:
            raise LockError(
                f"{line.origin}: none of its hashes belongs to {package.name} {package.version}",
                value=package.name,
                hint="the line pins other files than the index has: check its hashes",
            )
        package = allowed
    return package


def _is_about(line: Line, package: PylockPackage) -> bool:
    """Whether a line is what asked for a package: by its name, or by the file it names."""
    if line.name is not None:
        return line.name == package.name
    if package.archive is None:
        return False
    location = package.archive.location
    return location == str(line.path) if line.path else location.split("#")[0] in line.text


def _refuse_unknown_directories(found: Iterable[PylockPackage], declared: Declaration) -> None:
    """Refuse local packages that a lock's name does not depend on: it would go stale unseen."""
    known = set(declared.local_packages)
    for item in found:
        if item.directory is not None and Path(item.directory).resolve() not in known:
            raise LockError(
                f"{item.name} is in {item.directory}, which only another package's metadata names",
                value=item.directory,
                hint="name that directory in the project's own dependencies too",
            )


def _direct(lines: Iterable[Line]) -> Iterable[Line]:
    return (line for line in lines if line.kind == "requirement" and _has_url(line.text))


def _has_url(text: str) -> bool:
    try:
        return Requirement(text).url is not None
    except InvalidRequirement:
        return "://" in text
