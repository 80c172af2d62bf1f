"""What differs between two runs: asked of Prefect and of their stores, and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from kinetic_flows.clients.prefect.labels import ORIGIN_LABELS, PLATFORM_LABEL
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.code.stored_code import read_manifest
from kinetic_flows.core.errors import KineticError, ObjectNotFoundError, UsageError
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.moments import took
from kinetic_flows.runs.compare import jobs
from kinetic_flows.runs.compare.difference import SECTIONS, Difference, RunDiff, Section
from kinetic_flows.runs.compare.files import FileChange, Side, changed_files
from kinetic_flows.runs.compare.numbers import Fields, by_how_much, compared
from kinetic_flows.runs.compare.packages import (
    OWN_IMAGE,
    UNKNOWN,
    InstalledPackages,
    versions_of_both,
)
from kinetic_flows.runs.compare.results import result_fields
from kinetic_flows.runs.compare.subject import Subject, look_at
from kinetic_flows.runs.compare.usage import ABOUT_THE_SAME, usage_differences, used_by
from kinetic_flows.runs.session import Session

LEAST_SECONDS = 1.0
SHOWN = ("id", "name", "function", "state", "created", "started", "ended", "url")


def diff_runs(before: RunRecord, after: RunRecord, session: Session) -> RunDiff:
    """Return what differs between two runs; what is not known is said to be.

    Nothing is unpickled: of arguments and of what was returned their short texts are compared.

    Args:
        before: The first run's flow run.
        after: The second run's.
        session: Who is asked.

    Raises:
        UsageError: Both are the same run.
    """
    if before.id == after.id:
        raise UsageError(
            f"both are run {before.id}",
            value=before.id,
            hint="name two runs: `kinetic runs ls` lists them",
        )
    one, other = in_threads(partial(look_at, session=session), (before, after), threads=2)
    unknown: dict[Section, str] = {}
    used = used_by(one), used_by(other)
    differences = [
        *_arguments(one, other),
        *jobs.differences(one, other, unknown),
        *_packages(one, other, session, unknown),
        *_results(one, other, unknown),
        *_times(one, other),
        *usage_differences((one, other), used, unknown),
        *_callers(one, other),
    ]
    files = _files(one, other, unknown)
    differing = {each.section for each in differences} | ({"code"} if files else set())
    if not all(used):
        differing.add("metrics")
    ordered = sorted(differences, key=lambda each: SECTIONS.index(each.section))
    return RunDiff(
        before={name: one.told[name] for name in SHOWN},
        after={name: other.told[name] for name in SHOWN},
        differences=tuple(ordered),
        files=files,
        same=tuple(each for each in SECTIONS if each not in differing and each not in unknown),
        unknown=unknown,
    )


def _arguments(one: Subject, other: Subject) -> Iterator[Difference]:
    old, new = (_texts(each.told["arguments"]) for each in (one, other))
    yield from compared("arguments", old, new)
    if one.frame is None or other.frame is None or old != new:
        return
    if one.frame.function != other.frame.function:
        yield Difference(
            section="arguments",
            name="function",
            before=one.frame.function or "the script's own",
            after=other.frame.function or "the script's own",
        )
    elif one.frame.function and one.frame.call != other.frame.call:
        note = "they look the same, and are pickled differently"
        yield Difference(section="arguments", name="", before=None, after=None, note=note)


def _texts(fields: Mapping[str, Any]) -> Fields:
    return {name: text if isinstance(text, str) else repr(text) for name, text in fields.items()}


def _packages(
    one: Subject, other: Subject, session: Session, unknown: dict[Section, str]
) -> Iterator[Difference]:
    if not (one.job and other.job and one.store and other.store):
        unknown["packages"] = jobs.why_no_job(one, other)
        return
    installed = (
        InstalledPackages(one.source, one.job, one.store, session),
        InstalledPackages(other.source, other.job, other.store, session),
    )
    found = versions_of_both(*installed)
    if found is None:
        modes = {job.launch.mode for job in (one.job, other.job) if job.launch}
        unknown["packages"] = OWN_IMAGE if "custom" in modes else UNKNOWN
        return
    yield from compared("packages", *found)


def _files(one: Subject, other: Subject, unknown: dict[Section, str]) -> tuple[FileChange, ...]:
    if one.job is None or other.job is None or one.store is None or other.store is None:
        unknown["code"] = jobs.why_no_job(one, other)
        return ()
    if one.job.code is None and other.job.code is None:
        return ()
    if one.job.code and other.job.code and one.job.code.manifest == other.job.code.manifest:
        return ()
    try:
        return changed_files(_side(one), _side(other))
    except ObjectNotFoundError:
        unknown["code"] = "it has expired"
    except KineticError as error:
        unknown["code"] = error.message
    return ()


def _side(subject: Subject) -> Side:
    assert subject.job is not None
    assert subject.store is not None
    code = subject.job.code
    entries = read_manifest(code, subject.store) if code else {}
    return Side(code=code, entries=entries, store=subject.store)


def _results(one: Subject, other: Subject, unknown: dict[Section, str]) -> Iterator[Difference]:
    over = [each for each in (one, other) if not each.record.is_final]
    if over:
        names = " and ".join(each.record.id for each in over)
        unknown["result"] = f"{names} {'has' if len(over) == 1 else 'have'} not ended"
        return
    yield from compared("result", result_fields(one), result_fields(other), by_how_much)


def _times(one: Subject, other: Subject) -> Iterator[Difference]:
    for name, old, new in _phases(one, other):
        if abs(old - new) >= max(LEAST_SECONDS, ABOUT_THE_SAME * max(old, new)):
            note = by_how_much(str(old), str(new))
            yield Difference(
                section="time", name=name, before=took(old), after=took(new), note=note
            )


def _phases(one: Subject, other: Subject) -> Iterator[tuple[str, float, float]]:
    """Yield how long both runs took, all in all and for what both of them did."""
    if one.told["seconds"] is not None and other.told["seconds"] is not None:
        yield "took", one.told["seconds"], other.told["seconds"]
    old, new = one.told["timings"], other.told["timings"]
    yield from ((phase, took_old, new[phase]) for phase, took_old in old.items() if phase in new)


def _callers(one: Subject, other: Subject) -> Iterator[Difference]:
    told = (
        {
            "platform": str(each.record.labels.get(PLATFORM_LABEL) or ""),
            **{name: _shown(each.told["origin"][name]) for name in ORIGIN_LABELS},
            "value of": str(each.told["cached_from"] or ""),
            "deployment": str(each.told["deployment"] or ""),
        }
        for each in (one, other)
    )
    old, new = ({name: text for name, text in each.items() if text} for each in told)
    yield from compared("caller", old, new)


def _shown(value: Any) -> str:
    return "" if value is None else str(value)
