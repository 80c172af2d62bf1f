"""The worker: the process in which the function runs, and nothing else does.

It is told what to do by `task.json` in its directory and leaves an outcome there. When it
dies, the supervisor is still there to say so.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from .contract import EXIT_PAYLOAD_UNREADABLE, EXIT_RUNTIME_UNFIT, EXIT_TERMINATED
from .control import listen
from .leaving import end_within, flush_streams, write
from .marks import TRACEBACK_LOGGER, Record
from .masks import Masks
from .outcome import (
    TASK_FILE,
    leave_exception,
    leave_fault,
    leave_value,
    read_outcome,
    safe_str,
    type_name,
)
from .own_traceback import own_part, traceback_text
from .parameters import with_parameters
from .payload import load_call, read_payload
from .settling import die_with, make_main, settle_in
from .shown_paths import ShownPaths
from .streams import RecordWriter, install_streams

NO_CLOUDPICKLE = "the image lacks cloudpickle; add cloudpickle to the image"

ERROR = 40
"""The level of a failure, as `logging` has it."""


class Terminated(SystemExit):
    """The worker was asked to end; raised in the function so that it can clean up."""


def main(directory: str, records: int, handed: int) -> None:
    """Do the task in a directory.

    Args:
        directory: Where the task is.
        records: File descriptor of a socket that takes what is logged.
        handed: File descriptor of a pipe that tells the values of secrets.
    """
    with open(os.path.join(directory, TASK_FILE), encoding="utf-8") as file:
        task = json.load(file)
    with open(handed, encoding="utf-8") as pipe:
        secrets = json.load(pipe)
    if task["mounts"] and not _mounted(directory, task["mounts"]):
        return
    die_with(task["parent"])
    # A process has no other threads while it enters its mounts.
    listen(directory)
    signal.signal(signal.SIGTERM, _terminate)
    # The function may close or replace its streams; what is said of it must get out.
    stderr = os.dup(2)
    os.set_inheritable(records, False)
    masks = Masks(secrets.get("masked", ()))
    said = Said(install_streams(records), stderr, masks)
    try:
        _work(directory, task, secrets.get("variables", {}), said)
    except Terminated:
        _end_as_asked()
    flush_streams()
    outcome = read_outcome(directory)
    has_returned = outcome is not None and outcome["status"] == "returned"
    end_within(task["linger_seconds" if has_returned else "failed_linger_seconds"], stderr)


def _mounted(directory: str, mounts: Any) -> bool:
    """Have this process and its children see the run's volumes; whether that was possible."""
    from .mounts import enter, read_mounts

    try:
        enter(read_mounts(mounts))
    except OSError as error:
        paths = ", ".join(mount["path"] for mount in mounts)
        leave_fault(directory, EXIT_RUNTIME_UNFIT, f"{paths} cannot be mounted: {error}")
        return False
    return True


class Said(NamedTuple):
    """The ways out for what is said of the function, whatever it does to its streams.

    Attributes:
        records: Sends records.
        stderr: A file descriptor of standard error.
        masks: Put in the place of what is said to nobody.
    """

    records: RecordWriter
    stderr: int
    masks: Masks

    def error(self, text: str) -> None:
        """Print a text of whole lines, and log it as one error."""
        flush_streams()
        if not self.records.send(Record("stderr", ERROR, 0, TRACEBACK_LOGGER, text)):
            write(self.stderr, text)


def _work(directory: str, task: Mapping[str, Any], secrets: Mapping[str, str], said: Said) -> None:
    """Call the function; whatever happens is left as an outcome."""
    if task["rehearsal"]:
        _rehearse(directory, task, secrets, said)
        return
    try:
        payload = read_payload(task["payload"])
        settle_in(task, secrets)
        import cloudpickle  # noqa: F401 - without it nothing can be unpickled

        _log(task, said)
        make_main(task, payload)
        if task["debug"]:
            _await_debugger(directory, task)
        function, args, kwargs = load_call(payload, task["pieces"], task.get("data", ()))
    except Exception as error:  # noqa: BLE001 - importing runs the project's own code
        _leave_unreadable(directory, error, task, said)
        return
    if task["parameters"] is not None:
        try:
            args, kwargs = with_parameters(function, args, kwargs, task["parameters"])
        except Exception as error:  # noqa: BLE001 - annotations may run the project's own code
            why = said.masks.text(safe_str(error))
            what = f"the run's parameters do not fit {task['name']}: {why}"
            leave_fault(directory, EXIT_PAYLOAD_UNREADABLE, what)
            return
    try:
        flow_run_id = task["flow_run_id"] if task["is_flow"] else None
        with _profiled(directory, task):
            value = _call(function, args, kwargs, flow_run_id, said.masks)
    except Terminated:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the function raises is its outcome
        shown, frames = _show(error, task, said), _frames(error, task)
        leave_exception(directory, error, shown, said.masks, frames)
        return
    leave_value(directory, value, said.masks)


def _rehearse(
    directory: str, task: Mapping[str, Any], secrets: Mapping[str, str], said: Said
) -> None:
    """Have the function's steps compiled, in processes that settle in each for itself."""
    from .rehearsing import Start, rehearse

    start = Start(sys.path[0], directory, dict(os.environ), secrets)
    settle_in({**task, "compiled": None}, secrets)
    try:
        import cloudpickle  # noqa: F401 - without it nothing can be pickled
    except ImportError:
        leave_fault(directory, EXIT_RUNTIME_UNFIT, NO_CLOUDPICKLE)
        return
    reports = rehearse(start, task["rehearsal"])
    # They tell what exceptions of the project's own code say.
    leave_value(directory, _masked(reports, said.masks), said.masks)


def _masked(told: Any, masks: Masks) -> Any:
    """Return plain JSON values without secrets in their texts; names and numbers are ours."""
    if isinstance(told, str):
        return masks.text(told)
    if isinstance(told, dict):
        return {name: _masked(value, masks) for name, value in told.items()}
    return [_masked(each, masks) for each in told] if isinstance(told, list) else told


def _leave_unreadable(
    directory: str, error: Exception, task: Mapping[str, Any], said: Said
) -> None:
    if isinstance(error, ImportError) and error.name == "cloudpickle":
        leave_fault(directory, EXIT_RUNTIME_UNFIT, NO_CLOUDPICKLE)
        return
    what = f"{type_name(error)}: {said.masks.text(safe_str(error))}"
    message = f"the function and its arguments could not be unpickled: {what}"
    leave_fault(directory, EXIT_PAYLOAD_UNREADABLE, message, _show(error, task, said))


def _await_debugger(directory: str, task: Mapping[str, Any]) -> None:
    from .debugging import await_debugger

    await_debugger(directory, task)


def _profiled(directory: str, task: Mapping[str, Any]) -> AbstractContextManager[None]:
    if not task["profile"]:
        return nullcontext()
    from .profiling import profiled

    return profiled(directory)


def _call(function: Any, args: Any, kwargs: Any, flow_run_id: str | None, masks: Masks) -> Any:
    from collections.abc import Coroutine

    if flow_run_id:
        from .engine import run_flow

        return run_flow(function, args, kwargs, flow_run_id, masks)

    value = function(*args, **kwargs)
    if isinstance(value, Coroutine):
        import asyncio

        from .coroutines import noted

        return asyncio.run(noted(value))
    return value


def _log(task: Mapping[str, Any], said: Said) -> None:
    """Have what the function logs kept, also through Prefect, where the run is one of its."""
    from .records import install_logging

    install_logging(said.records)
    if task["flow_run_id"] and not task["is_flow"]:
        from .run_logger import offer_run_logger

        offer_run_logger(task["flow_run_id"], task["name"])


def _show(error: BaseException, task: Mapping[str, Any], said: Said) -> str:
    """Print the function's own part of a traceback, and return it."""
    try:
        text = traceback_text(error, task, said.masks)
    except Exception:  # noqa: BLE001 - showing an exception runs its own code
        text = f"{type_name(error)}: {said.masks.text(safe_str(error))}\n"
    said.error(text)
    return text


def _frames(error: BaseException, task: Mapping[str, Any]) -> bytes:
    """Return what is told of an exception's frames; nothing where that fails."""
    from .frames import frames_after

    try:
        paths = ShownPaths(task["workspace"], task["root"])
        return frames_after(error, own_part(error), paths.file)
    except Exception:  # noqa: BLE001 - looking at an exception may run its own code
        return b""


def _terminate(_number: int, _frame: Any) -> None:
    raise Terminated(EXIT_TERMINATED)


def _end_as_asked() -> None:
    """End by SIGTERM, so that the supervisor sees what happened."""
    flush_streams()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
