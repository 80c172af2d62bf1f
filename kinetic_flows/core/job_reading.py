"""Reading the job of a run back, as this version's or an earlier client wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kinetic_flows.core.job import (
    JOB_VERSION,
    CodeSpec,
    Job,
    JobTemplate,
    LaunchSpec,
    StoredTemplate,
)
from kinetic_flows.core.job_parts import (
    CandidateSpec,
    CompileCacheSpec,
    CostLimit,
    DataSpec,
    DebugSpec,
    ObjectRef,
    OutputSpec,
    PackagesSpec,
    RequirementsSpec,
    SecretSpec,
    VolumeSpec,
)


def read_job(data: bytes) -> Job | StoredTemplate:
    """Read what a runner is given.

    Raises:
        ValueError: It is no job, or one of another version.
    """
    try:
        found = json.loads(data)
        template, prefect = _read_template(found), found["prefect"]
        if not found["run_id"]:
            name, outputs = found["payload"]["name"], found["output_dir"]
            return StoredTemplate(template=template, payload_name=name, outputs=outputs)
        return Job(
            template=template,
            run_id=found["run_id"],
            output_dir=found["output_dir"],
            api_url=prefect["api_url"] if prefect else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no job of version {JOB_VERSION}: {error}") from error


def _read_template(found: Mapping[str, Any]) -> JobTemplate:
    code, requirements, prefect = found["code"], found["requirements"], found["prefect"] or {}
    shared = {name: found[name] for name in found.keys() - _OF_RUN}
    return JobTemplate(
        **{
            **shared,
            "runner": ObjectRef(**found["runner"]),
            "payload_sha256": found["payload"]["sha256"],
            "payload_size_bytes": found["payload"]["size_bytes"],
            "is_flow": prefect.get("engine", False),
            "takes_parameters": prefect.get("parameters", False),
            "pieces": _references(found["pieces"]),
            "code": code and _read_code(code),
            "requirements": requirements and _read_requirements(requirements),
            "launch": found["launch"] and LaunchSpec(**found["launch"]),
            "packages": _read_packages(found.get("packages")),
            "data": tuple(map(_read_data, found.get("data", ()))),
            "volumes": tuple(VolumeSpec(**each) for each in found.get("volumes", ())),
            "secrets": tuple(SecretSpec(**each) for each in found.get("secrets", ())),
            "output": OutputSpec(**found["output"]) if found.get("output") else None,
            "candidate": CandidateSpec(**found["candidate"]) if found.get("candidate") else None,
            "cost": CostLimit(**found["cost"]) if found.get("cost") else None,
            "debug": _read_debug(found.get("debug")),
            "compile_cache": _read_compile_cache(found.get("compile_cache")),
            "drives": ObjectRef(**found["drives"]) if found.get("drives") else None,
        }
    )


_OF_RUN = {"run_id", "payload", "result", "output_dir", "prefect"}
"""Parts of the document that a template does not have, or not so."""


def _read_requirements(found: Mapping[str, Any]) -> RequirementsSpec:
    return RequirementsSpec(
        **{
            **found,
            "lock": ObjectRef(**found["lock"]),
            "wheels": _references(found["wheels"]),
        }
    )


def _read_packages(found: Mapping[str, Any] | None) -> PackagesSpec | None:
    # Jobs of earlier clients do not say.
    return PackagesSpec(**found) if found else None


def _read_compile_cache(found: Mapping[str, Any] | None) -> CompileCacheSpec | None:
    return CompileCacheSpec(**found) if found else None


def _read_debug(found: Mapping[str, Any] | None) -> DebugSpec | None:
    if not found:
        return None
    return DebugSpec(**{**found, "wheel": found["wheel"] and ObjectRef(**found["wheel"])})


def _read_data(found: Mapping[str, Any]) -> DataSpec:
    include, manifest = found["include"], found["manifest"]
    return DataSpec(
        **{
            **found,
            "include": None if include is None else tuple(include),
            "exclude": tuple(found["exclude"]),
            "manifest": manifest and ObjectRef(**manifest),
        }
    )


def _read_code(found: Mapping[str, Any]) -> CodeSpec:
    return CodeSpec(
        **{
            **found,
            "packs": _references(found["packs"]),
            "manifest": ObjectRef(**found["manifest"]),
            "sys_path": tuple(found["sys_path"]),
            "late_sys_path": tuple(found.get("late_sys_path", ())),
        }
    )


def _references(found: Iterable[Mapping[str, Any]]) -> tuple[ObjectRef, ...]:
    return tuple(ObjectRef(**each) for each in found)
