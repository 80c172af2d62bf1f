"""Why an environment is new: the difference to the nearest earlier one of the same project.

A small history per project root is kept under `KINETIC_HOME`. It serves explanations alone;
deleting it costs nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.dependencies.lockfile import parse_lock

HISTORY_LENGTH = 20


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """An environment as it is remembered, to compare the next one with.

    Attributes:
        dependency_hash: Its identity.
        category: Kind of accelerator.
        python: Python minor version.
        platform: uv's name of the platform.
        base: Identity of its base.
        packages: Version of each package by name.
        contents: Digest of each package's allowed files by name.
    """

    dependency_hash: str
    category: str
    python: str
    platform: str
    base: str
    packages: Mapping[str, str]
    contents: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between two environments.

    Attributes:
        what: `package`, `python`, `category`, `platform` or `base`.
        name: The package's name; empty for the others.
        before: What it was; None when it was not there.
        after: What it is; None when it is gone.
    """

    what: str
    name: str = ""
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.what == "base":
            return "the base image changed"
        label = self.name or self.what
        if self.before is None:
            return f"+ {label} {self.after}"
        if self.after is None:
            return f"- {label} {self.before}"
        if self.before == self.after:
            return f"{label} {self.after}: same version, other files"
        return f"{label} {self.before} → {self.after}"


def remember(*, home: Path, project_root: Path, environment: EnvironmentSpec) -> None:
    """Note that a project's environment was made, for later explanations."""
    path = _history_file(home, project_root)
    snapshot = snapshot_of(environment)
    earlier = [item for item in _history(path) if item.dependency_hash != snapshot.dependency_hash]
    entries = [asdict(item) for item in [*earlier, snapshot][-HISTORY_LENGTH:]]
    write_atomically(path, canonical_json({"project": str(project_root), "entries": entries}))


def explain_change(
    *, home: Path, project_root: Path, environment: EnvironmentSpec
) -> tuple[str, ...]:
    """Say, a line each, what makes an environment differ from the nearest earlier one.

    Returns:
        The differences; one line that says so when the project has no earlier environment;
        nothing when it had exactly this one.
    """
    changes = changes_since(home=home, project_root=project_root, environment=environment)
    if changes is None:
        return ("first environment of this project on this machine",)
    return tuple(str(change) for change in changes)


def changes_since(
    *, home: Path, project_root: Path, environment: EnvironmentSpec
) -> tuple[Change, ...] | None:
    """Return the differences to the nearest earlier environment; None when there is none."""
    snapshot = snapshot_of(environment)
    history = _history(_history_file(home, project_root))
    differences = [tuple(difference(earlier, snapshot)) for earlier in reversed(history)]
    return min(differences, key=len, default=None)


def package_table(
    *, home: Path, project_root: Path, environment: EnvironmentSpec
) -> list[dict[str, str]]:
    """Return a row per package, for tables people read: what it is, was, and comes from.

    `before` is empty for a package that the nearest earlier environment did not have, and
    everywhere when there was none; a removed package is not in the table.
    """
    changes = changes_since(home=home, project_root=project_root, environment=environment)
    changed = {item.name: item.before or "" for item in changes or ()}
    shipped = {item.name for item in parse_lock(environment.lock) if item.wheel}
    return [
        {
            "package": package.name,
            "version": package.version,
            "before": "" if changes is None else changed.get(package.name, package.version),
            "from": "client" if package.name in shipped else "index",
        }
        for package in environment.packages
    ]


def snapshot_of(environment: EnvironmentSpec) -> Snapshot:
    """Return what is remembered of an environment."""
    packages = parse_lock(environment.lock)
    return Snapshot(
        dependency_hash=environment.dependency_hash,
        category=environment.category,
        python=environment.python,
        platform=environment.platform,
        base=environment.base_identity,
        packages={item.name: item.version for item in packages},
        contents={item.name: sha256_hex(canonical_json(item.hashes))[:16] for item in packages},
    )


def difference(before: Snapshot, after: Snapshot) -> Iterator[Change]:
    """Yield what differs: the surroundings first, then packages by name."""
    for what in ("python", "category", "platform", "base"):
        old, new = getattr(before, what), getattr(after, what)
        if old != new:
            yield Change(what=what, before=old, after=new)
    for name in sorted(before.packages.keys() | after.packages.keys()):
        old_version, new_version = before.packages.get(name), after.packages.get(name)
        same_files = before.contents.get(name) == after.contents.get(name)
        if old_version != new_version or not same_files:
            yield Change(what="package", name=name, before=old_version, after=new_version)


def _history_file(home: Path, project_root: Path) -> Path:
    digest = hashlib.sha256(str(project_root.resolve()).encode()).hexdigest()
    return home / "history" / f"{digest[:32]}.json"


def _history(path: Path) -> list[Snapshot]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        return [Snapshot(**item) for item in document["entries"]]
    except (OSError, ValueError, KeyError, TypeError):
        # It only serves explanations: one that cannot be read is one that is not there.
        return []
