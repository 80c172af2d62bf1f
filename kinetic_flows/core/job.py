"""The contract between the client and the runner: what a job is, and what exit codes mean.

The runner (`runner_image/runner`) reads these shapes with the standard library alone and
imports nothing from here; `tests/unit/test_contract.py` holds the two sides together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NewType

from kinetic_flows.core.object_names import payload_object, result_object

JOB_VERSION = 1
"""Raised when a runner of the previous version could misread a job."""

JOB_VARIABLE = "KINETIC_JOB"
"""Environment variable by which a run's process is told where its job is."""

RUN_KEY_VARIABLE = "KINETIC_RUN_KEY"
"""Environment variable by which a run's process is handed its HMAC key."""

Sha256 = NewType("Sha256", str)
"""A SHA-256 in lower-case hexadecimal."""

EXIT_RETURNED = 0
EXIT_RAISED = 1
EXIT_BAD_LAUNCH = 40
EXIT_OBJECT_UNAVAILABLE = 41
EXIT_OBJECT_REFUSED = 42
EXIT_RUNTIME_UNFIT = 43
EXIT_CODE_NOT_RESTORED = 44
EXIT_REQUIREMENTS_FAILED = 45
EXIT_PAYLOAD_UNREADABLE = 46
EXIT_RESULT_NOT_WRITTEN = 47
EXIT_PARAMETERS_UNAVAILABLE = 48
EXIT_DEVICES_MISSING = 49
EXIT_CANCELLED = 130
EXIT_TERMINATED = 143

EXIT_MEANINGS: Mapping[int, str] = {
    EXIT_RETURNED: "the function returned",
    EXIT_RAISED: "the function raised",
    EXIT_BAD_LAUNCH: "the runner was started without a usable job",
    EXIT_OBJECT_UNAVAILABLE: "an object of the job could not be fetched from the store",
    EXIT_OBJECT_REFUSED: "an object of the job does not match its digest",
    EXIT_RUNTIME_UNFIT: "the image lacks what the runner needs, or its Python does not fit",
    EXIT_CODE_NOT_RESTORED: "the project's code could not be restored",
    EXIT_REQUIREMENTS_FAILED: "the project's requirements could not be installed",
    EXIT_PAYLOAD_UNREADABLE: "the function and its arguments could not be unpickled",
    EXIT_RESULT_NOT_WRITTEN: "the result could not be written to the store",
    EXIT_PARAMETERS_UNAVAILABLE: "the run's parameters could not be read from Prefect",
    EXIT_DEVICES_MISSING: "the chips that the run asked for are not there, or do not work",
    EXIT_CANCELLED: "the run was cancelled",
    EXIT_TERMINATED: "the run was terminated from outside (SIGTERM)",
}
"""Exit codes of the runner. Codes 40 to 49 name the infrastructure phase that failed."""


DispatchedBy = Literal["client", "worker"]


def sha256_hex(data: bytes) -> Sha256:
    """Return the SHA-256 of bytes as lower-case hexadecimal."""
    return Sha256(hashlib.sha256(data).hexdigest())


def canonical_json(value: Any) -> bytes:
    """Encode a value so that equal values give equal bytes (sorted keys, no white space)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


@dataclass(frozen=True, kw_only=True)
class ObjectRef:
    """An object in the store and the digest its content must have.

    Attributes:
        name: Name relative to the store's root.
        sha256: Digest of the object's bytes; for a code pack, of its uncompressed content.
        size_bytes: Size of the object's bytes; for a code pack, of its uncompressed content.
    """

    name: str
    sha256: Sha256
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class CodeSpec:
    """The project's code as shipped.

    Attributes:
        packs: Compressed tar archives (gzip), extracted one over the other into the workspace.
        manifest: JSON object in the store that lists every file (path, mode, size, sha256).
        sys_path: Entries put in front of `sys.path`, relative to the workspace, in order.
        late_sys_path: Entries put at its end, behind the standard library and what is installed.
        working_directory: Directory to run in, relative to the workspace.
        entry_module_file: The script that was `__main__` on the client, relative to the
            workspace; None when there was none.
        entry_module_name: What it is called as a module that was started with `python -m`; None
            for a script.
        root: The directory of the client that shipped, for file names in tracebacks; empty to
            name files by their place in the project.
        distributions: The project's own: texts of files, by `*.dist-info` directory and name.
    """

    packs: tuple[ObjectRef, ...]
    manifest: ObjectRef
    sys_path: tuple[str, ...] = (".",)
    late_sys_path: tuple[str, ...] = ()
    working_directory: str = "."
    entry_module_file: str | None = None
    entry_module_name: str | None = None
    root: str = ""
    distributions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RequirementsSpec:
    """What the runner installs before it runs (prebuilt mode only).

    Attributes:
        lock: The locked requirements with hashes.
        wheels: Wheels that come with the job, fetched and verified, then offered to uv.
        constraints: Path in the image of the accelerator runtime's constraints; None for none.
        offline: Whether every package comes from `wheels`, so that no index is asked.
    """

    lock: ObjectRef
    wheels: tuple[ObjectRef, ...] = ()
    constraints: str | None = None
    offline: bool = False


@dataclass(frozen=True, kw_only=True)
class PrefectSpec:
    """Where the runner reports; credentials come in its environment, never here.

    Attributes:
        api_url: The Prefect API as the runner reaches it, ending in `/api` or a workspace path;
            empty for the one that a Prefect worker names in `PREFECT_API_URL`.
        flow_run_id: The flow run that stands for this run; empty for the one that a Prefect
            worker names in `PREFECT__FLOW_RUN_ID`.
        parameters: Whether the function is called with the flow run's parameters, as it is in
            runs of a deployment, on top of the arguments in the payload.
        engine: Whether the function is a Prefect flow, which Prefect's engine runs there.
    """

    api_url: str
    flow_run_id: str
    parameters: bool = False
    engine: bool = False


@dataclass(frozen=True, kw_only=True)
class LaunchSpec:
    """What a run was started as; for clients that start it again, no business of the runner.

    Attributes:
        image: The fields of the image it ran in.
        accelerator: Canonical name of the accelerator.
        mode: How its image came to be.
        options: The function's options, by name.
    """

    image: Mapping[str, Any]
    accelerator: str
    mode: Literal["bundled", "prebuilt", "custom"]
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """Everything a runner needs, pinned by digest.

    Stored as `runs/{run id}/job.json` by who starts the run. A run that a Prefect worker starts
    has an id that nobody knows when its job is written: its job is stored by its content, and
    what depends on the id is left to the runner.

    Attributes:
        run_id: The run's id, which is its flow run's; empty for what `PREFECT__FLOW_RUN_ID` says.
        name: The function's name, for messages.
        python: The client's Python minor version, such as `3.11`.
        runner: The runner's zipapp.
        code: The project's code; None when nothing is shipped.
        payload: The pickled call, framed as `runner_image/runner/payload.py` documents.
        requirements: What to install first; None when the image has everything.
        prefect: Where to report; None to report nowhere.
        result: Name of the object the result envelope is written to; empty for the run's own.
        output_dir: What `KINETIC_OUTPUT_DIR` is set to: a directory, or a `gs://` URI. Without
            a run id, that in which each run has a directory of its own.
        retries: How often the function is called again after it raised.
        retry_delay_seconds: Pause before each retry.
        timeout_seconds: Limit for the function, all its tries together; None for none.
        grace_seconds: Time between SIGTERM and SIGKILL when the function is stopped.
        hosts: Hosts of the slice; the runner runs on each.
        pieces: Parts of the pickled call that are objects of their own.
        max_preemptions: How often a slice of several hosts starts again as a whole; what has
            one host is counted by Kubernetes.
        launch: What it was started as; None for jobs that nobody starts again.
    """

    run_id: str
    name: str
    python: str
    runner: ObjectRef
    code: CodeSpec | None
    payload: ObjectRef
    result: str
    output_dir: str
    requirements: RequirementsSpec | None = None
    prefect: PrefectSpec | None = None
    retries: int = 0
    retry_delay_seconds: float = 0.0
    timeout_seconds: float | None = None
    grace_seconds: float = 10.0
    hosts: int = 1
    pieces: tuple[ObjectRef, ...] = ()
    max_preemptions: int = 0
    launch: LaunchSpec | None = None
    version: int = field(default=JOB_VERSION)

    def of_run(self, run_id: str, *, output_dir: str) -> JobSpec:
        """Return the job of one run.

        Args:
            run_id: The run.
            output_dir: Where it keeps its outputs.
        """
        return replace(
            self,
            run_id=run_id,
            payload=replace(self.payload, name=payload_object(run_id)),
            result=result_object(run_id),
            output_dir=output_dir,
            prefect=self.prefect and replace(self.prefect, flow_run_id=run_id),
        )

    def content_digest(self) -> Sha256:
        """Return the digest of the job without what only one run of it has."""
        return sha256_hex(replace(self.of_run("", output_dir=""), prefect=None).to_json())

    def to_json(self) -> bytes:
        """Return the canonical bytes whose SHA-256 the launched process is given."""
        return canonical_json(asdict(self))


def read_job(data: bytes) -> JobSpec:
    """Read a job that `to_json` has written.

    Raises:
        ValueError: It is none, or one of another version.
    """
    try:
        found = json.loads(data)
        code, requirements = found["code"], found["requirements"]
        fields = {
            **found,
            "runner": ObjectRef(**found["runner"]),
            "payload": ObjectRef(**found["payload"]),
            "pieces": _references(found["pieces"]),
            "code": code and _read_code(code),
            "requirements": requirements
            and RequirementsSpec(
                **{
                    **requirements,
                    "lock": ObjectRef(**requirements["lock"]),
                    "wheels": _references(requirements["wheels"]),
                }
            ),
            "prefect": found["prefect"] and PrefectSpec(**found["prefect"]),
            "launch": found["launch"] and LaunchSpec(**found["launch"]),
        }
        return JobSpec(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no job of version {JOB_VERSION}: {error}") from error


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


@dataclass(frozen=True, kw_only=True)
class RunTicket:
    """What is needed to follow a run and to trust its result.

    Attributes:
        run_id: The run's id; also the id of its flow run.
        name: The function's name, for messages.
        run_key: The run's HMAC key, in hexadecimal.
        dispatch: Who starts it: its client, or a Prefect worker.
        result_run_id: The earlier run whose result is this one's; None when it has its own.
        place: Where its process is; empty for where the platform launches.
    """

    run_id: str
    name: str
    run_key: str
    dispatch: DispatchedBy = "client"
    result_run_id: str | None = None
    place: str = ""
