"""The contract between the client and the runner: the job, and the meaning of exit codes.

The runner (`runner_image/runner`) reads these shapes with the standard library alone and
imports nothing from here; `tests/unit/test_contract.py` holds the two sides together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from kinetic_flows.core.job_parts import (
    CandidateSpec,
    CompileCacheSpec,
    CostLimit,
    DataSpec,
    DebugSpec,
    ObjectRef,
    OutputSpec,
    PackagesSpec,
    RehearsalSpec,
    RequirementsSpec,
    SecretSpec,
    Sha256,
    VolumeSpec,
)
from kinetic_flows.core.object_names import payload_object, result_object

JOB_VERSION = 1
"""Raised when a runner of the previous version could misread a job."""

FUNCTION_GRACE_SECONDS = 10.0
"""Time between SIGTERM and SIGKILL that a runner leaves its function when it is stopped."""

CANCEL_GRACE_SECONDS = FUNCTION_GRACE_SECONDS + 5.0
"""Time between SIGTERM and SIGKILL that a cancellation leaves the runner."""

JOB_VARIABLE = "KINETIC_JOB"
"""Environment variable by which a run's process is told where its job is."""

PACKAGES_VARIABLE = "KINETIC_PACKAGES"
"""Environment variable by which a run's process is told where its packages are mounted."""

PACKAGES_MARKER = "kinetic.json"
"""File at the root of an image with packages, whose `identity` says what is in it."""

RUN_KEY_VARIABLE = "KINETIC_RUN_KEY"
"""Environment variable by which a run's process is handed its HMAC key."""

SEAL_KEY_VARIABLE = "KINETIC_SEAL_KEY"
"""Environment variable by which it is handed what its secret values were sealed with."""

SEAL_BLOCK_VARIABLE = "KINETIC_SEAL_BLOCK"
"""Environment variable that names the Prefect block with that, for what a worker starts."""

COMPILE_CACHE_KEY_VARIABLE = "KINETIC_COMPILE_CACHE_KEY"
"""Environment variable by which it is handed what compiled programs are signed with."""

COMPILE_CACHE_BLOCK_VARIABLE = "KINETIC_COMPILE_CACHE_BLOCK"
"""Environment variable that names the Prefect block with that, for what a worker starts."""

SECRET_REFERENCE_PREFIX = "KINETIC_VALUE_OF_"  # noqa: S105 - the beginning of a name
"""What the variables begin with in which a pod has values of Kubernetes Secrets."""

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
EXIT_OUTPUT_DIR_UNAVAILABLE = 50
EXIT_SECRETS_UNAVAILABLE = 51
EXIT_DATA_UNAVAILABLE = 52
EXIT_STOOD_DOWN = 53
EXIT_MOVED_ON = 54
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
    EXIT_DATA_UNAVAILABLE: "data of the run could not be had, or has no room",
    EXIT_SECRETS_UNAVAILABLE: "values of the run's secrets could not be had",
    EXIT_DEVICES_MISSING: "the chips that the run asked for are not there, or do not work",
    EXIT_OUTPUT_DIR_UNAVAILABLE: "its output directory cannot be made, or another run that has "
    "not ended writes to it",
    EXIT_STOOD_DOWN: "another accelerator of the run's list was faster, or was chosen meanwhile",
    EXIT_MOVED_ON: "the function ran out of memory, and the run goes on with a larger accelerator",
    EXIT_CANCELLED: "the run was cancelled",
    EXIT_TERMINATED: "the run was terminated from outside (SIGTERM)",
}
"""Exit codes of the runner. Codes 40 to 52 name the infrastructure phase that failed."""

DispatchedBy = Literal["client", "worker"]


def sha256_hex(data: bytes) -> Sha256:
    """Return the SHA-256 of bytes as lower-case hexadecimal."""
    return Sha256(hashlib.sha256(data).hexdigest())


def canonical_json(value: Any) -> bytes:
    """Encode a value so that equal values give equal bytes (sorted keys, no white space)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


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
class LaunchSpec:
    """What a run was started as; for clients that start it again, the runner does not read it.

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
class JobTemplate:
    """Everything that the runs of one call have in common, pinned by digest.

    Attributes:
        name: The function's name, for messages.
        python: The client's Python minor version, such as `3.11`.
        runner: The runner's zipapp.
        code: The project's code; None when nothing is shipped.
        payload_sha256: Digest of the pickled call, framed as `runner_image/runner/payload.py`
            documents.
        payload_size_bytes: Its size.
        requirements: What to install first; None when the image has everything.
        is_flow: Whether the function is a Prefect flow, which Prefect's engine runs there.
        takes_parameters: Whether the function is called with the flow run's parameters, as it is
            in runs of a deployment, on top of the arguments in the payload.
        retries: How often the function is called again after it raised.
        retry_delay_seconds: Pause before each retry.
        timeout_seconds: Limit for the function, all its tries together; None for none.
        grace_seconds: Time between SIGTERM and SIGKILL when the function is stopped.
        hosts: Hosts of the slice; the runner runs on each.
        pieces: Parts of the pickled call that are objects of their own.
        max_preemptions: How often a slice of several hosts starts again as a whole; what has
            one host is counted by Kubernetes.
        launch: What it was started as; None for jobs that cannot be started again.
        packages: The project's packages where they are mounted; None where they are not.
        data: Data of the call and of its volumes; the pickled call names them by their place here.
        volumes: What the run finds at paths of its file system.
        secrets: Variables whose values are secret.
        output: Where outputs go; None for a directory of each run's own.
        candidate: Its place among the accelerators that the run may go on; None where there is one.
        drives: What lists the accelerators of the run whose launches its process has started, in
            the place of calling the function; None for any other process.
        idle_timeout_seconds: How long its chips may do nothing; None for ever.
        stuck_after_seconds: How long it may be silent and idle before its stacks are logged.
        debug: How each host waits for a debugger before it calls the function; None: not at all.
        profile: Whether a profile of the function is put among its outputs.
        cost: What it may cost before it is ended; None for no limit.
        compile_cache: Where compiled programs are kept; None where they are not.
        rehearsal: What its function, a rehearsal, is compiled for; None for any other function.
    """

    name: str
    python: str
    runner: ObjectRef
    code: CodeSpec | None
    payload_sha256: Sha256
    payload_size_bytes: int
    requirements: RequirementsSpec | None = None
    is_flow: bool = False
    takes_parameters: bool = False
    retries: int = 0
    retry_delay_seconds: float = 0.0
    timeout_seconds: float | None = None
    grace_seconds: float = FUNCTION_GRACE_SECONDS
    hosts: int = 1
    pieces: tuple[ObjectRef, ...] = ()
    max_preemptions: int = 0
    launch: LaunchSpec | None = None
    packages: PackagesSpec | None = None
    data: tuple[DataSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    secrets: tuple[SecretSpec, ...] = ()
    output: OutputSpec | None = None
    candidate: CandidateSpec | None = None
    drives: ObjectRef | None = None
    idle_timeout_seconds: float | None = None
    stuck_after_seconds: float | None = None
    debug: DebugSpec | None = None
    profile: bool = False
    cost: CostLimit | None = None
    compile_cache: CompileCacheSpec | None = None
    rehearsal: RehearsalSpec | None = None
    version: int = field(default=JOB_VERSION)

    def content_digest(self) -> Sha256:
        """Return the digest of what does not depend on a run."""
        payload, result = payload_object(""), result_object("")
        document = self.document(
            run_id="", payload_name=payload, result=result, output_dir="", prefect=None
        )
        return sha256_hex(document)

    def document(self, *, payload_name: str, **of_run: Any) -> bytes:
        """Return the canonical bytes that the runner reads; their SHA-256 is given to its process.

        Args:
            payload_name: Name of the payload's object.
            of_run: `run_id`, `result`, `output_dir` and `prefect`.
        """
        shared = {name: value for name, value in asdict(self).items() if name not in _NESTED}
        for name in _LATER:
            if not shared[name]:
                # So that jobs of earlier clients keep their digests.
                del shared[name]
        payload = ObjectRef(
            name=payload_name, sha256=self.payload_sha256, size_bytes=self.payload_size_bytes
        )
        return canonical_json({**shared, **of_run, "payload": asdict(payload)})

    def reports_to(self, api_url: str, flow_run_id: str) -> Mapping[str, Any]:
        """Return the document's `prefect`; credentials come in the environment, never here."""
        return {
            "api_url": api_url,
            "flow_run_id": flow_run_id,
            "parameters": self.takes_parameters,
            "engine": self.is_flow,
        }


_NESTED = ("payload_sha256", "payload_size_bytes", "is_flow", "takes_parameters")
"""Fields of a template that are parts of `payload` and `prefect` in the document."""

_LATER = (
    *("packages", "data", "volumes", "secrets", "output", "candidate", "drives"),
    *("idle_timeout_seconds", "stuck_after_seconds", "debug", "profile", "cost"),
    *("compile_cache", "rehearsal"),
)
"""Fields that jobs of earlier clients do not have; they are left out where they say nothing."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one run's runner needs, stored as `runs/{run id}/job.json` by who starts the run.

    Attributes:
        template: What it has in common with other runs of the call.
        run_id: The run's id, which is its flow run's.
        output_dir: What `KINETIC_OUTPUT_DIR` is set to: a directory, or a `gs://` URI.
        api_url: The Prefect API as the runner reaches it, ending in `/api` or a workspace path;
            None to report nowhere.
    """

    template: JobTemplate
    run_id: str
    output_dir: str
    api_url: str | None

    @property
    def payload_name(self) -> str:
        """Name of the payload's object."""
        return payload_object(self.run_id)

    def to_json(self) -> bytes:
        """Return the canonical bytes whose SHA-256 the launched process is given."""
        run_id, url = self.run_id, self.api_url
        return self.template.document(
            run_id=run_id,
            payload_name=self.payload_name,
            result=result_object(run_id),
            output_dir=self.output_dir,
            prefect=url and self.template.reports_to(url, run_id),
        )


@dataclass(frozen=True, kw_only=True)
class StoredTemplate:
    """What the runner of each run needs that a Prefect worker starts, stored before its run is.

    Which run it is, its worker says in the pod (`PREFECT__FLOW_RUN_ID`); the runner reports to
    the API of the worker (`PREFECT_API_URL`), with the worker's credentials: those of the client
    never leave its machine.

    Attributes:
        template: What the runs have in common.
        payload_name: Name of the payload's object.
        outputs: Where each run has a directory of its own for its outputs.
    """

    template: JobTemplate
    payload_name: str
    outputs: str

    def to_json(self) -> bytes:
        """Return the canonical bytes whose SHA-256 the launched process is given."""
        return self.template.document(
            run_id="",
            payload_name=self.payload_name,
            result="",
            output_dir=self.outputs,
            prefect=self.template.reports_to("", ""),
        )


@dataclass(frozen=True, kw_only=True)
class RunTicket:
    """A run's id and key, with which its client waits for it and trusts its result.

    Attributes:
        run_id: The run's id; also the id of its flow run.
        name: The run's name, for messages.
        run_key: The run's HMAC key, in hexadecimal.
        dispatch: Who starts it: its client, or a Prefect worker.
        result_run_id: The earlier run whose result is this one's; None when it has its own.
        place: Where its process is; empty for where the platform launches.
        function: The function's name; empty where that is not known apart from the run's.
        candidates: Digest of what lists the accelerators that it may go on; empty for one alone.
        slices: How many TPU slices it has.
    """

    run_id: str
    name: str
    run_key: str
    dispatch: DispatchedBy = "client"
    result_run_id: str | None = None
    place: str = ""
    function: str = ""
    candidates: str = ""
    slices: int = 1

    @property
    def has_candidates(self) -> bool:
        """Whether it may go on one of several accelerators."""
        return bool(self.candidates)
