"""Turning a result envelope into the value returned, or the exception raised."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from kinetic_flows.code.remote_traceback import RemoteFrames, split_frames
from kinetic_flows.code.unpickling import load_raised, load_returned
from kinetic_flows.core.api_boundary import raise_what_function_raised
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.envelope import (
    COSTLY,
    IDLE,
    RESULT_TOO_LARGE,
    EnvelopeRefused,
    ResultEnvelope,
    ResultHeader,
    open_result,
)
from kinetic_flows.core.errors import (
    DevicesMissing,
    ObjectNotFoundError,
    ObjectRefusedError,
    ResultError,
    RunCancelled,
    RunCrashed,
    RunError,
    RunFailed,
    RunTimedOut,
)
from kinetic_flows.core.job import (
    EXIT_BAD_LAUNCH,
    EXIT_CANCELLED,
    EXIT_CODE_NOT_RESTORED,
    EXIT_DATA_UNAVAILABLE,
    EXIT_DEVICES_MISSING,
    EXIT_MEANINGS,
    EXIT_MOVED_ON,
    EXIT_OBJECT_REFUSED,
    EXIT_OBJECT_UNAVAILABLE,
    EXIT_OUTPUT_DIR_UNAVAILABLE,
    EXIT_PARAMETERS_UNAVAILABLE,
    EXIT_PAYLOAD_UNREADABLE,
    EXIT_RAISED,
    EXIT_REQUIREMENTS_FAILED,
    EXIT_RESULT_NOT_WRITTEN,
    EXIT_RETURNED,
    EXIT_RUNTIME_UNFIT,
    EXIT_SECRETS_UNAVAILABLE,
    EXIT_STOOD_DOWN,
    EXIT_TERMINATED,
    RunTicket,
)
from kinetic_flows.core.launcher import Observation
from kinetic_flows.core.object_names import result_object
from kinetic_flows.core.processes import describe_exit
from kinetic_flows.dependencies.import_names import packages_with

LOG_TAIL_LINES = 20
RUNNER_PREFIX = "kinetic: "
"""How the runner's own lines in the output begin."""
REFUSED_HINT = (
    "somebody changed it, it is damaged, or the digest is of another file: if it is in the store, "
    "delete that object, and the next call uploads it again; check who may write there"
)

DEVICES_HINT = (
    "the function was not called: the node, its driver or the image is at fault; run again, take "
    "another image, or look at the node pool. Where chips are to be found elsewhere, "
    "KINETIC_DEVICE_CHECK=0 in the image or the work pool's env has nothing looked for"
)

READ_ONLY_NOTE = (
    "the root file system of pods is read-only: write below /tmp or HOME, keep files in "
    "KINETIC_OUTPUT_DIR, or say job_variables={'security_context': 'image'} for a pod that may do "
    "what its image says"
)

AGAIN_HINT = "nothing was lost but this run: calling the function again starts a new one"
ELSEWHERE_HINT = (
    "the run goes on with another accelerator of its list as long as somebody waits for it: "
    "`kinetic runs result` does, and its page says what was tried"
)
TOO_LARGE_HINT = (
    "return less, write it to KINETIC_OUTPUT_DIR and return its name, or raise ephemeral_storage "
    "or memory in job_variables"
)
LASTING_HINT = "until that is changed, the same call ends the same way"
LOG_HINT = "the last lines of its log are the best lead; SIGKILL often means out of memory"

_HINTS: Mapping[int | None, str] = {
    EXIT_BAD_LAUNCH: "is the work pool's template the one of this version? `kinetic pool show` "
    "says, `kinetic pool create` installs it",
    EXIT_OBJECT_UNAVAILABLE: "may the run's service account read the bucket "
    "(roles/storage.objectUser), and can it be reached from there?",
    EXIT_OBJECT_REFUSED: REFUSED_HINT,
    EXIT_RUNTIME_UNFIT: "add to the image what it lacks (cloudpickle and google-cloud-storage, and "
    "this Python), or use a bundled image",
    EXIT_CODE_NOT_RESTORED: "is there room for it? raise ephemeral_storage in job_variables",
    EXIT_REQUIREMENTS_FAILED: "uv's own words are the last lines of its log; bundled images are "
    "built with the packages, and fail before anything is launched",
    EXIT_PAYLOAD_UNREADABLE: "the image has other versions than this machine of what the arguments "
    "are made of, or lacks a module: the last lines of its log name it",
    EXIT_RESULT_NOT_WRITTEN: "may the run's service account write to the bucket "
    "(roles/storage.objectUser), and can it be reached from there?",
    EXIT_PARAMETERS_UNAVAILABLE: "can the worker's pods reach the Prefect API that it names to "
    "them? see the worker's PREFECT_API_URL",
    EXIT_DEVICES_MISSING: DEVICES_HINT,
    EXIT_OUTPUT_DIR_UNAVAILABLE: "give output_dir a place that can be made, wait for the "
    "other run's end, or say output_dir_in_use='wait'; `kinetic runs ls` finds out about runs "
    "whose process is gone, `kinetic runs cancel` ends one, and of one that nobody knows any more "
    "the object that says so is to be removed",
    EXIT_DATA_UNAVAILABLE: "docs/data.md says what a run needs for each kind of data; what "
    "has come of it is kept where there is a cache (KINETIC_DATA_CACHE)",
    EXIT_SECRETS_UNAVAILABLE: "docs/secrets.md says what a run needs for each kind of secret",
    EXIT_STOOD_DOWN: ELSEWHERE_HINT,
    EXIT_MOVED_ON: ELSEWHERE_HINT,
    EXIT_CANCELLED: AGAIN_HINT,
    EXIT_TERMINATED: AGAIN_HINT,
}
"""Hints by exit code, for runners that ended before the function did."""

_MISSING_MODULE = re.compile(r"No module named '([^']+)'")


def read_result(store: ArtifactStore, run: RunTicket) -> ResultEnvelope | None:
    """Return a run's result envelope, checked but not unpickled; None while there is none.

    Raises:
        ObjectRefusedError: There is an object, and it is not this run's genuine result.
    """
    owner = run.result_run_id or run.run_id
    name = result_object(owner)
    try:
        stored = store.read(name)
    except ObjectNotFoundError:
        return None
    try:
        return open_result(stored, run.run_key, owner)
    except EnvelopeRefused as refusal:
        raise ObjectRefusedError(
            f"the result object {name} is refused: {refusal}",
            value=name,
            hint="somebody wrote to the store, or the object is damaged; run again, and check "
            "who may write there",
        ) from refusal


def unpack_result(envelope: ResultEnvelope, run: RunTicket, *, url: str = "") -> Any:
    """Return the value that the function returned, or raise what it raised.

    Args:
        envelope: The run's result.
        run: The run.
        url: Where a browser shows it; empty where that is not known.

    Raises:
        Exception: The function's own exception, with the traceback that it had there.
        RunError: The function ended in another way, or its outcome cannot be rebuilt here.
    """
    header = envelope.header
    if header.status == "returned":
        return _load_value(envelope, run)
    if header.status == "raised":
        raise_what_function_raised(*_load_exception(envelope, run, url))
    raise _outcome_error(header, run, envelope.why)


def value_summary(header: ResultHeader) -> str:
    """Say in one line what a run returned."""
    if header.type_name == "NoneType":
        return "returned None"
    shown = f": {header.message}" if header.message else ""
    return f"returned {header.type_name or 'a value'}{shown}"


def failure_summary(header: ResultHeader) -> str:
    """Say in one line how a run that did not return ended."""
    if header.status == "raised":
        return f"{header.type_name}: {header.message}" if header.message else header.type_name
    return header.message or header.status


def crash_error(
    observation: Observation, run: RunTicket, log_tail: list[str], *, why: str = ""
) -> RunCrashed:
    """Describe a process that ended without leaving a result.

    Args:
        observation: The process.
        run: The run.
        log_tail: The last lines of its output.
        why: The likely cause, where more is known than the process tells.
    """
    code = observation.exit_code
    if code is not None and code in EXIT_MEANINGS.keys() - {EXIT_RETURNED, EXIT_RAISED}:
        how = f"{_last_words(log_tail) or EXIT_MEANINGS[code]} (exit code {code})"
    elif code is None and observation.reason:
        # It may never have been a process.
        how = observation.reason
    else:
        reason = f": {observation.reason}" if observation.reason else ""
        how = f"its process {describe_exit(code)} without leaving a result{reason}"
    return _crash_class(code)(
        _with_cause(f"run {run.run_id} of {run.name} crashed: {how}", why),
        value=run.run_id,
        hint=_hint_at(observation, run),
        log_tail=log_tail[-LOG_TAIL_LINES:],
    )


def _with_cause(message: str, why: str) -> str:
    return f"{message}. {why}" if why else message


def _and_why(hint: str, run: RunTicket) -> str:
    """Return a hint that leads to what is known of a run's end."""
    return f"{hint}; `kinetic runs why {run.run_id}` says what is known of it"


def _hint_of(exit_code: int | None, run: RunTicket) -> str:
    """Return the hint for an exit code that has one of its own."""
    hint = _HINTS[exit_code]
    return _and_why(hint, run) if hint == AGAIN_HINT else hint


def _hint_at(observation: Observation, run: RunTicket) -> str:
    """Return the hint for a process that ended without a result."""
    if observation.exit_code in _HINTS:
        return _hint_of(observation.exit_code, run)
    if observation.exit_code is not None:
        return _and_why(LOG_HINT, run)
    return LASTING_HINT if observation.is_lasting else _and_why(AGAIN_HINT, run)


def _crash_class(exit_code: int | None) -> type[RunCrashed]:
    return DevicesMissing if exit_code == EXIT_DEVICES_MISSING else RunCrashed


def _last_words(log_tail: list[str]) -> str | None:
    """Return the runner's own last line; None when there is none."""
    own = [line for line in log_tail if line.startswith(RUNNER_PREFIX)]
    return own[-1].removeprefix(RUNNER_PREFIX) if own else None


def _load_value(envelope: ResultEnvelope, run: RunTicket) -> Any:
    try:
        return load_returned(envelope.body, envelope.header.buffers)
    except Exception as error:
        kind = envelope.header.type_name
        raise ResultError(
            f"{run.name} returned a {kind}, which cannot be unpickled here: {error}",
            value=run.run_id,
            hint=f"make the module of {kind} importable here, or return plain data",
        ) from error


def _load_exception(
    envelope: ResultEnvelope, run: RunTicket, url: str
) -> tuple[Exception, TracebackType | None]:
    """Return what the function raised, and its traceback, made again from what is told of it."""
    header = envelope.header
    pickled, frames = split_frames(envelope.body)
    error, missing = load_raised(pickled) if pickled else (None, ())
    if not isinstance(error, Exception):
        failure = RunFailed(
            f"{run.name} raised {failure_summary(header)}",
            value=run.run_id,
            remote_traceback=header.traceback or None,
        )
        return failure, None
    if missing:
        error.add_note(f"not importable here, and replaced by stand-ins: {', '.join(missing)}")
    if isinstance(error, ModuleNotFoundError) and error.name:
        _name_package(error, error.name)
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        error.add_note(READ_ONLY_NOTE)
    if frames is None:
        if header.traceback:
            error.add_note(f"Remote traceback of run {run.run_id}:\n{header.traceback.rstrip()}")
        return error, None
    for note in (*frames.changes(), _where(frames, run, url)):
        error.add_note(note)
    frames.dress(error)
    return error, frames.trace()


def _where(frames: RemoteFrames, run: RunTicket, url: str) -> str:
    """Say where the function raised what it raised."""
    what = f"raised by {run.name} in {'its run' if url else f'run {run.run_id}'}"
    host = "" if frames.host == socket.gethostname() else f" on {frames.host}"
    return f"{what}{host}{f': {url}' if url else ''}"


def _name_package(error: ModuleNotFoundError, module: str) -> None:
    """Name the package that has a missing module, where it is not called like the module."""
    top = module.partition(".")[0]
    packages = packages_with(top)
    if packages and packages[0] != top:
        error.add_note(f"{top} comes with the package {packages[0]}")


def _outcome_error(header: ResultHeader, run: RunTicket, why: str) -> RunError:
    if header.status == "cancelled":
        return RunCancelled(
            f"run {run.run_id} of {run.name} was cancelled", value=run.run_id, hint=None
        )
    if header.status == "timed_out":
        return RunTimedOut(
            _with_cause(f"run {run.run_id} of {run.name} timed out: {header.message}", why),
            value=run.run_id,
            hint=_and_why(_time_hint(header), run),
            log_tail=header.log_tail,
        )
    if header.status == "unpicklable":
        return ResultError(
            f"{run.name} returned a {header.type_name} that cannot be pickled: {header.message}",
            value=run.run_id,
            hint="return plain data (numbers, arrays, dicts), or write files to "
            "KINETIC_OUTPUT_DIR and return their names",
        )
    return _crash_class(header.exit_code)(
        _with_cause(
            f"run {run.run_id} of {run.name} crashed: "
            f"{header.message or 'its process ' + describe_exit(header.exit_code)}",
            why,
        ),
        value=run.run_id,
        hint=_crash_hint(header, run),
        log_tail=header.log_tail,
    )


def _time_hint(header: ResultHeader) -> str:
    if IDLE in header.message:
        return (
            "see in the last lines of its log what it waited for; raise idle_timeout_seconds where "
            "that takes longer"
        )
    if header.message.startswith(COSTLY):
        return "raise max_cost, or name a cheaper accelerator; `kinetic runs cost` adds up others"
    return "raise timeout_seconds, or make the function do less"


def _crash_hint(header: ResultHeader, run: RunTicket) -> str:
    """Return the hint for a function that was not called to its end."""
    missing = _MISSING_MODULE.search(header.message)
    if header.exit_code == EXIT_PAYLOAD_UNREADABLE and missing:
        module = missing.group(1).partition(".")[0]
        known = packages_with(module)
        package = known[0] if known else f"the package that has {module!r}"
        return (
            f"add {package} to the project's dependencies; if {module!r} is "
            "a module of your own, move it below the project's root (KINETIC_PACKAGE_ROOT)"
        )
    if header.message.startswith(RESULT_TOO_LARGE):
        return TOO_LARGE_HINT
    if header.exit_code in _HINTS:
        return _hint_of(header.exit_code, run)
    return _and_why(LOG_HINT, run)
