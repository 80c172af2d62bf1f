"""What differs between two runs, as changes that can be taken over one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.code.payload_frame import payload_frame
from kinetic_flows.code.stored_code import Entries, read_manifest
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import ConfigurationError, RunNotFoundError
from kinetic_flows.core.job import CodeSpec, JobTemplate, LaunchSpec
from kinetic_flows.dependencies.lockfile import LockedPackage, parse_lock
from kinetic_flows.runs.compare.files import differing_paths
from kinetic_flows.runs.compare.jobs import options_of
from kinetic_flows.runs.compare.packages import InstalledPackages
from kinetic_flows.runs.compare.subject import Subject
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.stored_run import read_payload

Kind = Literal["packages", "accelerator", "options", "code", "arguments"]

ENVIRONMENT_OPTIONS = (
    *("container_image", "base_image_repo", "ship_wheels", "requirements", "framework"),
)
ACCELERATOR_OPTIONS = (
    *("hosts", "slices", "cpu", "memory", "reservation", "compute_class", "node_pool", "zones"),
    *("max_run_duration_seconds", "job_variables", "max_preemptions"),
)
CALL_OPTIONS = (
    *("retries", "retry_delay_seconds", "timeout_seconds", "idle_timeout_seconds"),
    *("stuck_after_seconds", "capture_env_vars", "secrets", "max_cost"),
)
CALL_FIELDS = (
    *("retries", "retry_delay_seconds", "timeout_seconds", "idle_timeout_seconds"),
    *("stuck_after_seconds", "grace_seconds", "secrets"),
)
"""Fields of a job that follow from those options."""

SCRIPT = "the script's own functions"
"""They are no file of the code, but part of the pickled call."""

WHERE_FOUND = "where modules are found"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that can be taken from the bad run.

    Attributes:
        kind: What kind of thing it is.
        name: What it is called: a file's path, a package's name.
        shown: What people are told of it, such as `numpy 2.1.0 → 2.2.0`.
    """

    kind: Kind
    name: str
    shown: str


@dataclass(frozen=True)
class Side:
    """One of the two runs, as something that can be taken apart.

    Attributes:
        subject: What is known of it.
        job: Its job.
        launch: What it was started as.
        store: Where its objects are.
        session: Who asks.
    """

    subject: Subject
    job: JobTemplate
    launch: LaunchSpec
    store: ArtifactStore
    session: Session

    @property
    def record(self) -> RunRecord:
        """The flow run that was called."""
        return self.subject.source

    @cached_property
    def payload(self) -> bytes:
        """Its pickled call."""
        assert self.subject.stored is not None
        return read_payload(self.subject.stored, self.record, self.store)

    @property
    def has_own_function(self) -> bool:
        """Whether the function itself is part of the pickled call."""
        return payload_frame(self.payload).function is None

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """All its options."""
        return options_of(self.job)

    @cached_property
    def installed(self) -> InstalledPackages:
        """Its packages."""
        return InstalledPackages(self.record, self.job, self.store, self.session)

    @property
    def locked(self) -> Mapping[str, LockedPackage]:
        """The packages of its lock, by name; empty where the lock was not kept."""
        lock = self.installed.lock
        return {} if lock is None else {each.name: each for each in parse_lock(lock)}

    @cached_property
    def entries(self) -> Entries:
        """What its code's manifest lists; empty where nothing was shipped."""
        return read_manifest(self.job.code, self.store) if self.job.code else {}


def side_of(subject: Subject, session: Session) -> Side:
    """Return a run as something that can be taken apart.

    Raises:
        RunNotFoundError: What it was started with has expired, or was never told.
        ConfigurationError: Its objects are not where runs go that are started here.
    """
    run_id = subject.record.id
    if subject.stored is None or subject.job is None or subject.job.launch is None:
        why = subject.unknown or "its job does not say how it was started"
        raise RunNotFoundError(
            f"run {run_id} cannot be taken apart: {why}",
            value=run_id,
            hint="call the function again, and take that run",
        )
    store = subject.store
    if store is None or store.uri != session.platform.store.uri:
        there = store.uri if store else subject.unknown
        raise ConfigurationError(
            f"run {run_id} has its objects in {there}, and runs that are started here have "
            f"theirs in {session.platform.store.uri}",
            value=run_id,
            hint="set KINETIC_PROJECT, KINETIC_CLUSTER or KINETIC_PROFILE as where the run was "
            "started; runs of two platforms can be compared by `kinetic runs diff` alone",
        )
    return Side(subject, subject.job, subject.job.launch, store, session)


def changes_between(good: Side, bad: Side, *, by_package: bool) -> tuple[Change, ...]:
    """Return what the bad run has that the good one has not, in the order it is taken over.

    Packages come first, since older code mostly runs with newer ones, and arguments last, since
    newer code mostly takes older ones.

    Args:
        good: The good run.
        bad: The bad run.
        by_package: Whether mixtures of both runs' packages can be made.
    """
    return (
        *_packages(good, bad, by_package=by_package),
        *_accelerator(good, bad),
        *_options(good, bad),
        *_code(good, bad),
        *_arguments(good, bad),
    )


def by_kind(changes: Sequence[Change]) -> dict[Kind, list[Change]]:
    """Return changes by their kinds, in the same order."""
    found: dict[Kind, list[Change]] = {}
    for each in changes:
        found.setdefault(each.kind, []).append(each)
    return found


def is_bound(good: Side, bad: Side) -> bool:
    """Whether images go with accelerators, so that neither can be taken without the other."""
    categories = {parse_accelerator(each.launch.accelerator).category for each in (good, bad)}
    return len(categories) > 1


def _packages(good: Side, bad: Side, *, by_package: bool) -> Iterator[Change]:
    if is_bound(good, bad) or not environment_differs(good, bad):
        return
    old, new = good.locked, bad.locked
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    if by_package and names:
        for name in names:
            shown = _package_shown(name, old.get(name), new.get(name))
            yield Change(kind="packages", name=name, shown=shown)
        return
    yield Change(kind="packages", name="", shown="packages and image")


def environment_differs(good: Side, bad: Side) -> bool:
    """Whether two runs found something else installed."""
    found = [
        (
            each.launch.image.get("digest") or each.launch.image.get("reference"),
            each.launch.mode,
            each.job.requirements,
            each.job.packages,
            each.job.python,
        )
        for each in (good, bad)
    ]
    return found[0] != found[1]


def _package_shown(name: str, old: LockedPackage | None, new: LockedPackage | None) -> str:
    if old is None or new is None:
        sign, there = ("+", new) if old is None else ("-", old)
        return f"{sign} {name} {there.version if there else ''}"
    if old.version == new.version:
        return f"{name} {new.version}, other files"
    return f"{name} {old.version} → {new.version}"


def _accelerator(good: Side, bad: Side) -> Iterator[Change]:
    old, new = good.launch.accelerator, bad.launch.accelerator
    picked = [_picked(each, ACCELERATOR_OPTIONS) for each in (good, bad)]
    if old == new and picked[0] == picked[1] and good.job.hosts == bad.job.hosts:
        return
    shown = f"{old} → {new}" if old != new else f"what {new} is asked for with"
    also = ", with its image and packages" if is_bound(good, bad) else ""
    yield Change(kind="accelerator", name="", shown=f"{shown}{also}")


def _options(good: Side, bad: Side) -> Iterator[Change]:
    picked = [_picked(each, CALL_OPTIONS) for each in (good, bad)]
    names = [name for name in picked[0] if picked[0][name] != picked[1][name]]
    names += [
        name
        for name in CALL_FIELDS
        if name not in picked[0] and getattr(good.job, name) != getattr(bad.job, name)
    ]
    if names:
        yield Change(kind="options", name="", shown=f"options: {', '.join(names)}")


def _picked(side: Side, names: Sequence[str]) -> dict[str, Any]:
    return {name: side.options.get(name) for name in names}


def _code(good: Side, bad: Side) -> Iterator[Change]:
    old, new = good.job.code, bad.job.code
    if (old is None) != (new is None):
        yield Change(kind="code", name="", shown="code")
    elif old is not None and new is not None:
        if _places(old) != _places(new):
            yield Change(kind="code", name=WHERE_FOUND, shown=WHERE_FOUND)
        for path in _ordered(good, bad):
            yield Change(kind="code", name=path, shown=path)
    if _script_alone_differs(good, bad):
        yield Change(kind="code", name=SCRIPT, shown=SCRIPT)


def _places(code: CodeSpec) -> tuple[object, ...]:
    return (
        *(code.sys_path, code.late_sys_path, code.working_directory),
        *(code.entry_module_file, code.entry_module_name, code.distributions),
    )


def _ordered(good: Side, bad: Side) -> list[str]:
    """Return the paths that differ: new files first, what uses them then, gone ones last."""

    def place(path: str) -> tuple[int, int, str]:
        if path not in good.entries:
            return 0, 0, path
        if path not in bad.entries:
            return 3, 0, path
        is_main = bad.job.code is not None and path == bad.job.code.entry_module_file
        return (2 if is_main else 1), -path.count("/"), path

    return sorted(differing_paths(good.entries, bad.entries), key=place)


def _script_alone_differs(good: Side, bad: Side) -> bool:
    """Whether pickled calls differ by the functions in them alone, as far as can be told."""
    is_own = good.has_own_function and bad.has_own_function
    return is_own and _calls_differ(good, bad) and not _arguments_seem_different(good, bad)


def _calls_differ(good: Side, bad: Side) -> bool:
    found = [
        (each.job.payload_sha256, each.job.pieces, each.job.data, each.job.volumes)
        for each in (good, bad)
    ]
    return found[0] != found[1]


def _arguments_seem_different(good: Side, bad: Side) -> bool:
    return good.record.parameters != bad.record.parameters or good.job.data != bad.job.data


def _arguments(good: Side, bad: Side) -> Iterator[Change]:
    seem_different = _arguments_seem_different(good, bad)
    if not (_calls_differ(good, bad) or seem_different) or _script_alone_differs(good, bad):
        return
    is_sent_anew = good.job.payload_sha256 != bad.job.payload_sha256
    is_own = is_sent_anew and (good.has_own_function or bad.has_own_function)
    old, new = good.record.parameters, bad.record.parameters
    names = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    shown = f"arguments: {', '.join(names)}" if names else "arguments"
    also = f", with {SCRIPT}" if is_own else ""
    yield Change(kind="arguments", name="", shown=f"{shown}{also}")
