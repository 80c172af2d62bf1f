"""The supervisor: prepares a run, has a worker call the function, and tells how it ended.

It is the process that the pod or the launcher sees. It holds the run's key and runs no code
of the project, so whatever the function does to its own process, its end is reported.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from .contract import (
    EXIT_BAD_LAUNCH,
    EXIT_CANCELLED,
    EXIT_RAISED,
    EXIT_RETURNED,
    EXIT_RUNTIME_UNFIT,
    EXIT_TERMINATED,
    JOB_VERSION,
    SIGNAL_BASE,
    Fault,
    make_header,
    read_header,
    seal,
)
from .fetching import fetch_to_file
from .outcome import BODY_FILE, read_outcome
from .output import Output
from .prefect_api import PrefectApi
from .processes import STOP, Wake, Worker
from .reporter import Reporter, SilentReporter, State
from .stores import open_store
from .worker import TASK_FILE

RUN_KEY_VARIABLE = "KINETIC_RUN_KEY"

KEPT_FROM_WORKER = frozenset(
    {RUN_KEY_VARIABLE, "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"}
    | {"KINETIC_JOB", "KINETIC_JOB_SHA256", "KINETIC_STORE"}
)
"""Variables the function's process does not get: credentials, and what names this launch."""


class Ending(NamedTuple):
    """How the run ended.

    Attributes:
        header: Fields of the result's header; None when no result is left, because the run
            may be started again.
        body: Path of the pickled value or exception; None for none.
        exit_code: The supervisor's exit code.
    """

    header: dict[str, Any] | None
    body: str | None
    exit_code: int


class Interrupted(BaseException):
    """The run is to stop, and the function has not begun."""


class Supervisor:
    """One start of one run.

    Args:
        launch: What the bootstrap hands over.
        environ: This process's environment.
    """

    def __init__(self, launch: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._job = _read_job(launch["job"])
        self._environ = environ
        self._archive: str = launch["path"]
        self._scratch: str = launch["scratch"]
        self._store = open_store(launch["store"], launch["client"])
        self._run_key = _run_key(environ)
        self._attempt = 0
        self._wake = Wake()
        self._is_preparing = True
        self._is_stopping = False
        self._output = Output(self._log)
        self._reporter = self._make_reporter()

    def run(self) -> int:
        """Run the job and return this process's exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            earlier = self._earlier_result()
            if earlier:
                return self._end_again(earlier)
            self._attempt = self._claim_attempt()
            self._reporter.start()
            self._reporter.set_state(State("RUNNING", "Running"))
            ending = self._prepare_and_call()
        except Fault as fault:
            ending = self._failed(fault)
        except Interrupted:
            ending = self._stopped("before the function was called")
        return self._end(ending)

    def _make_reporter(self) -> Reporter | SilentReporter:
        spec = self._job["prefect"]
        if not spec:
            return SilentReporter()
        api = PrefectApi(spec["api_url"], spec["flow_run_id"], self._environ)
        return Reporter(api, self._on_cancel, self._output.say)

    def _log(self, line: str) -> None:
        self._reporter.line(line)

    def _on_cancel(self) -> None:
        """Stop as if asked by a signal, from the reporter's thread."""
        os.kill(os.getpid(), signal.SIGTERM)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._is_stopping = True
        if self._is_preparing:
            self._is_preparing = False
            raise Interrupted
        self._wake.send(STOP)

    # Before the function

    def _prepare_and_call(self) -> Ending:
        workspace = os.path.join(self._scratch, "workspace")
        os.mkdir(workspace)
        payload = os.path.join(self._scratch, "payload.pkl")
        job, code = self._job, self._job["code"]
        fetch_to_file(self._store, job["payload"], payload)
        if code:
            from .restoring import restore_code

            restore_code(self._store, code, workspace, self._scratch)
        packages = None
        if job["requirements"]:
            from .requirements import install_requirements

            packages = install_requirements(
                self._store, job["requirements"], self._scratch, self._output.say
            )
        task = {
            "parent": os.getpid(),
            "name": job["name"],
            "workspace": workspace,
            "sys_path": code["sys_path"] if code else ["."],
            "working_directory": code["working_directory"] if code else ".",
            "packages": packages,
            "payload": payload,
            "variables": self._variables(),
        }
        self._is_preparing = False
        return self._call(task)

    def _variables(self) -> dict[str, str]:
        directory = self._job["output_dir"]
        if "://" not in directory:
            os.makedirs(directory, exist_ok=True)
        return {
            "KINETIC_RUN_ID": self._job["run_id"],
            "KINETIC_OUTPUT_DIR": directory,
            "KINETIC_RESTART_COUNT": str(self._attempt),
        }

    def _claim_attempt(self) -> int:
        """Take the first number that no start of this run has taken."""
        record = json.dumps({"python": sys.version.split()[0], "time": time.time()}).encode()
        number = 0
        while not self._store.put_if_absent(self._attempt_object(number), record):
            number += 1
        return number

    def _attempt_object(self, number: int) -> str:
        return f"runs/{self._job['run_id']}/attempts/{number}/started.json"

    def _earlier_result(self) -> dict[str, Any] | None:
        """Return the header of a result that an earlier start has left."""
        data = self._store.read(self._job["result"])
        if data is None:
            return None
        header = read_header(data, self._run_key, self._job["run_id"])
        if header is None:
            from .contract import EXIT_OBJECT_REFUSED

            raise Fault(
                EXIT_OBJECT_REFUSED,
                f"the object {self._job['result']} is refused: it is no result of this run",
            )
        return header

    # The function

    def _call(self, task: dict[str, Any]) -> Ending:
        """Have the function called, and called again while it may and does raise."""
        limit = self._job["timeout_seconds"]
        deadline = None if limit is None else time.monotonic() + limit
        tries = 1 + (self._job["retries"] if self._job["hosts"] == 1 else 0)
        for number in range(tries):
            directory = os.path.join(self._scratch, f"try-{number}")
            ending = self._try(task, number, directory, deadline)
            may_retry = ending.header is not None and ending.header["status"] == "raised"
            if not may_retry or number + 1 == tries:
                return ending
            stopped = self._pause(ending, number, tries, deadline)
            if stopped:
                return stopped
        raise AssertionError("a range of tries is never empty")

    def _try(
        self, task: dict[str, Any], number: int, directory: str, deadline: float | None
    ) -> Ending:
        os.mkdir(directory)
        task["variables"]["KINETIC_RETRY"] = str(number)
        with open(os.path.join(directory, TASK_FILE), "w", encoding="utf-8") as file:
            json.dump(task, file)
        environ = {
            name: value for name, value in self._environ.items() if name not in KEPT_FROM_WORKER
        }
        worker = Worker(self._archive, directory, environ, self._output, self._wake)
        is_late = self._watch(worker, deadline)
        worker.drain()
        outcome = read_outcome(directory)
        if is_late:
            return self._ended("timed_out", EXIT_RAISED, self._timeout_message())
        if self._is_stopping:
            return self._stopped("while the function ran", outcome, directory)
        return self._ending_of(outcome, worker, directory)

    def _watch(self, worker: Worker, deadline: float | None) -> bool:
        """Wait until the worker has ended; return whether its time was over before."""
        while worker.exit_code is None:
            if self._is_stopping:
                worker.stop(self._job["grace_seconds"])
                return False
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                worker.stop(self._job["grace_seconds"])
                return True
            self._wake.wait(left)
        return False

    def _pause(
        self, ending: Ending, number: int, tries: int, deadline: float | None
    ) -> Ending | None:
        """Wait before the next try; return how the run ended if it ends meanwhile."""
        header, delay = ending.header or {}, self._job["retry_delay_seconds"]
        what = f"{header['type_name']}: {header['message']}"
        message = f"try {number + 1} of {tries} raised {what}"
        self._output.say(f"{message}; the next begins in {delay:g} s")
        self._reporter.set_state(State("RUNNING", "Retrying", message))
        until = time.monotonic() + delay
        while not self._is_stopping:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return self._ended("timed_out", EXIT_RAISED, self._timeout_message())
            if now >= until:
                return None
            self._wake.wait(min(until, deadline or until) - now)
        return self._stopped("between two tries")

    def _timeout_message(self) -> str:
        return f"it ran longer than {self._job['timeout_seconds']:g} s"

    def _ending_of(self, outcome: dict[str, Any] | None, worker: Worker, directory: str) -> Ending:
        if outcome is None:
            return self._crashed(worker.exit_code or 0)
        status = outcome.pop("status")
        if status == "fault":
            self._output.say(outcome["message"])
            return Ending(
                self._header("crashed", log_tail=self._output.tail, **outcome),
                None,
                outcome["exit_code"],
            )
        body = os.path.join(directory, BODY_FILE)
        code = EXIT_RETURNED if status == "returned" else EXIT_RAISED
        return Ending(self._header(status, **outcome), body, code)

    def _crashed(self, exit_code: int) -> Ending:
        if exit_code < 0:
            how = f"was killed by {_signal_name(-exit_code)}"
            own_code = SIGNAL_BASE - exit_code
        else:
            how = f"exited with {exit_code} while the function ran"
            own_code = EXIT_RAISED
        message = f"its process {how}"
        self._output.say(message)
        return self._ended("crashed", own_code, message, worker_exit_code=exit_code)

    def _stopped(
        self, when: str, outcome: dict[str, Any] | None = None, directory: str = ""
    ) -> Ending:
        """End after SIGTERM: cancelled if Prefect says so, else as if nothing had been."""
        if self._reporter.is_cancelling():
            return self._ended("cancelled", EXIT_CANCELLED, f"cancelled {when}")
        if outcome and outcome["status"] == "returned":
            outcome.pop("status")
            body = os.path.join(directory, BODY_FILE)
            return Ending(self._header("returned", **outcome), body, EXIT_RETURNED)
        self._output.say(f"terminated {when}")
        return Ending(None, None, EXIT_TERMINATED)

    def _failed(self, fault: Fault) -> Ending:
        self._is_preparing = False
        self._output.say(fault.message)
        return self._ended(
            "crashed", fault.exit_code, fault.message, worker_exit_code=fault.exit_code
        )

    # After the function

    def _header(self, status: str, **fields: Any) -> dict[str, Any]:
        return make_header(self._job["run_id"], status, self._attempt, **fields)

    def _ended(
        self, status: str, exit_code: int, message: str, worker_exit_code: int | None = None
    ) -> Ending:
        header = self._header(
            status, message=message, log_tail=self._output.tail, exit_code=worker_exit_code
        )
        return Ending(header, None, exit_code)

    def _end(self, ending: Ending) -> int:
        """Write the result, send the last lines and the state, and return the exit code."""
        code = ending.exit_code
        state = _state_of(ending.header) if ending.header else None
        if ending.header:
            try:
                self._write_result(ending.header, ending.body)
            except Fault as fault:
                self._output.say(fault.message)
                code, state = fault.exit_code, State("CRASHED", "Crashed", fault.message)
        self._reporter.finish(state)
        return code

    def _write_result(self, header: dict[str, Any], body: str | None) -> None:
        if body:
            with open(body, "rb") as file:
                head = seal(header, file, self._run_key)
        else:
            head = seal(header, None, self._run_key)
        if not self._store.put_if_absent(self._job["result"], head, body):
            self._output.say("another start of this run has already left its result")

    def _end_again(self, header: dict[str, Any]) -> int:
        """Report a result that an earlier start has left; the function is not called again."""
        self._is_preparing = False
        self._output.say("an earlier start of this run has left its result; nothing to do")
        self._reporter.start()
        self._reporter.finish(_state_of(header))
        return _exit_code_of(header)


def run(launch: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    """Run the job that the bootstrap hands over; return the exit code of this process."""
    try:
        return Supervisor(launch, environ).run()
    except Fault as fault:
        print(f"kinetic: {fault.message}", file=sys.stderr, flush=True)
        return fault.exit_code
    finally:
        _remove_tree(launch["scratch"])


def _read_job(data: bytes) -> dict[str, Any]:
    job: dict[str, Any] = json.loads(data)
    if job.get("version") != JOB_VERSION:
        raise Fault(
            EXIT_BAD_LAUNCH,
            f"the job is of version {job.get('version')!r}, this runner of {JOB_VERSION}",
        )
    here = "{}.{}".format(*sys.version_info)
    if job["python"] != here:
        raise Fault(
            EXIT_RUNTIME_UNFIT,
            f"the job was made by Python {job['python']}, the image has Python {here}; use an "
            f"image with Python {job['python']}, or call from Python {here}",
        )
    return job


def _run_key(environ: Mapping[str, str]) -> str:
    key = environ.get(RUN_KEY_VARIABLE, "")
    try:
        bytes.fromhex(key)
    except ValueError:
        key = ""
    if not key:
        raise Fault(EXIT_BAD_LAUNCH, f"{RUN_KEY_VARIABLE} must be set, in hexadecimal")
    return key


def _state_of(header: Mapping[str, Any]) -> State:
    """Return the final state that fits a result."""
    status, message = header["status"], header["message"]
    if status == "returned":
        return State("COMPLETED", "Completed")
    if status == "cancelled":
        return State("CANCELLED", "Cancelled", message)
    if status == "crashed":
        return State("CRASHED", "Crashed", message)
    if status == "raised":
        message = f"{header['type_name']}: {message}" if message else header["type_name"]
    elif status == "timed_out":
        return State("FAILED", "TimedOut", message)
    else:
        message = f"a {header['type_name']} was returned, which cannot be pickled: {message}"
    return State("FAILED", "Failed", message[:STATE_MESSAGE_CHARACTERS])


STATE_MESSAGE_CHARACTERS = 1_000


def _exit_code_of(header: Mapping[str, Any]) -> int:
    status, code = header["status"], header["exit_code"]
    if status == "returned":
        return EXIT_RETURNED
    if status == "cancelled":
        return EXIT_CANCELLED
    if status == "crashed" and code:
        return SIGNAL_BASE - code if code < 0 else int(code)
    return EXIT_RAISED


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _remove_tree(path: str) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)
