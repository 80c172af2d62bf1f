"""What differs between the jobs of two runs: options, data, variables, accelerator, image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.job import JobTemplate
from kinetic_flows.core.job_parts import DataSpec, VolumeSpec
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.run_ids import short_id
from kinetic_flows.runs.compare.difference import Difference, Section
from kinetic_flows.runs.compare.numbers import Fields, compared
from kinetic_flows.runs.compare.subject import EXPIRED, Subject

SHORT_DIGEST = 12

SAID_ELSEWHERE = frozenset(
    {"accelerator", "secrets", "name", "tags", "capture_env_vars", "project", "zone", "cluster"}
)
"""Options that something else says, or that are of no run but of where it is to be found."""


def differences(one: Subject, other: Subject, unknown: dict[Section, str]) -> Iterator[Difference]:
    """Yield what differs between two jobs; what Prefect tells where a job cannot be read.

    Args:
        one: The first run.
        other: The second run.
        unknown: Where it is noted what cannot be compared, and why.
    """
    old, new = one.job, other.job
    if old is None or new is None:
        unknown["options"] = unknown["data"] = why_no_job(one, other)
        for section, name in _IN_PREFECT.items():
            yield from compared(section, _told(one, name), _told(other, name))
        return
    yield from compared("data", _data(old), _data(new))
    yield from compared("options", _options(old), _options(new))
    yield from compared("environment variables", _variables(old), _variables(new))
    yield from compared("accelerator", _accelerator(one, old), _accelerator(other, new))
    yield from _images(old, new)


_IN_PREFECT: Mapping[Section, str] = {
    "accelerator": "accelerator",
    "image": "image",
    "environment variables": "secrets",
}
"""What the flow run says, too."""


def why_no_job(one: Subject, other: Subject) -> str:
    """Say why the jobs of two runs cannot be compared."""
    told = [(each.record.id, each.unknown) for each in (one, other) if each.unknown]
    if len(told) == 2 and told[0][1] == told[1][1] == EXPIRED:
        return "what both were started with has expired"
    return "; ".join(f"of {short_id(run_id)}: {why}" for run_id, why in told)


def _told(subject: Subject, name: str) -> Fields:
    value = subject.told[name]
    return {"": str(value)} if value else {}


def options_of(job: JobTemplate) -> Mapping[str, Any]:
    """Return all options that a job was started with, as this version has them."""
    said = job.launch.options if job.launch else {}
    try:
        return RunOptions().updated(said).to_json()
    except KineticError:
        # A later version's, or none that can be any more.
        return said


def _options(job: JobTemplate) -> Fields:
    found = options_of(job)
    return {
        name: json.dumps(value, ensure_ascii=False)
        for name, value in found.items()
        if name not in SAID_ELSEWHERE
    }


def _variables(job: JobTemplate) -> Fields:
    """Return the variables that a run was given, by their names: values are nobody's business."""
    return {each.variable: f"{each.kind} {each.name}".strip() for each in job.secrets}


def _accelerator(subject: Subject, job: JobTemplate) -> Fields:
    named = subject.told["accelerator"] or (job.launch.accelerator if job.launch else "")
    return {"": str(named), **({"hosts": str(job.hosts)} if job.hosts > 1 else {})}


def _image(job: JobTemplate) -> Fields:
    launch = job.launch
    image = launch.image if launch else {}
    found = {
        "": str(image.get("reference") or ""),
        "mode": launch.mode if launch else "",
        "digest": _short(str(image.get("digest") or "")),
        "mounted": job.packages.image if job.packages else "",
        "python": job.python,
    }
    return {name: text for name, text in found.items() if text}


def _images(old: JobTemplate, new: JobTemplate) -> Iterator[Difference]:
    found = list(compared("image", _image(old), _image(new)))
    is_renamed = any(not each.name for each in found)
    # An image of another name has another digest, too.
    yield from (each for each in found if not (is_renamed and each.name == "digest"))


def _short(digest: str) -> str:
    kind, _, rest = digest.rpartition(":")
    return f"{kind}:{rest[:SHORT_DIGEST]}" if kind else rest[:SHORT_DIGEST]


def _data(job: JobTemplate) -> Fields:
    return {
        **{f"{number}: {each.source}": _contents(each) for number, each in enumerate(job.data)},
        **{each.path: _volume(each, job) for each in job.volumes},
    }


def _contents(spec: DataSpec) -> str:
    known = [spec.identity[:SHORT_DIGEST]]
    if spec.files is not None and not spec.is_file:
        known.append(f"{spec.files:,} files")
    if spec.size_bytes is not None:
        known.append(size_in_units(spec.size_bytes))
    return ", ".join(each for each in (*known, spec.mode if spec.mode != "copy" else "") if each)


def _volume(spec: VolumeSpec, job: JobTemplate) -> str:
    if spec.data is not None and spec.data < len(job.data):
        return job.data[spec.data].source
    what = f"{spec.claim}/{spec.sub_path}".rstrip("/") if spec.claim else spec.size
    return f"{spec.kind} {what}{' read-only' if spec.read_only and spec.claim else ''}".strip()
