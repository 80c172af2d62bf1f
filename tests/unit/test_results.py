"""From a result envelope to a value or an exception."""

from __future__ import annotations

import errno
import pickle
import signal
import traceback
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.envelope import ResultEnvelope, ResultHeader, seal_result
from kinetic_flows.core.errors import (
    DevicesMissing,
    ObjectRefusedError,
    ResultError,
    RunCancelled,
    RunCrashed,
    RunFailed,
    RunTimedOut,
)
from kinetic_flows.core.job import (
    EXIT_CODE_NOT_RESTORED,
    EXIT_DEVICES_MISSING,
    EXIT_MEANINGS,
    EXIT_OBJECT_REFUSED,
    EXIT_PAYLOAD_UNREADABLE,
    EXIT_RUNTIME_UNFIT,
    RunTicket,
)
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.results import crash_error, read_result, unpack_result

KEY = "ab" * 32
RUN = RunTicket(run_id="run-1", name="train", run_key=KEY)


def _envelope(status: Any, body: bytes = b"", **fields: Any) -> ResultEnvelope:
    return ResultEnvelope(header=ResultHeader(run_id="run-1", status=status, **fields), body=body)


def _store(path: Path, data: bytes) -> LocalStore:
    store = LocalStore(path)
    store.put_if_absent("runs/run-1/result.pkl", data)
    return store


def test_a_run_without_a_result_has_none(tmp_path: Path) -> None:
    assert read_result(LocalStore(tmp_path), RUN) is None


def test_a_genuine_result_is_read_and_unpacked(tmp_path: Path) -> None:
    sealed = seal_result(_envelope("returned", pickle.dumps({"loss": 0.1})), KEY)
    envelope = read_result(_store(tmp_path, sealed), RUN)
    assert envelope is not None
    assert unpack_result(envelope, RUN) == {"loss": 0.1}


@pytest.mark.parametrize("damage", ["other key", "flipped byte", "other run", "no envelope"])
def test_a_result_that_is_not_genuine_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    sealed = seal_result(_envelope("returned", pickle.dumps(1)), KEY)
    stored = {
        "other key": seal_result(_envelope("returned", pickle.dumps(2)), "cd" * 32),
        "flipped byte": sealed[:-1] + bytes([sealed[-1] ^ 1]),
        "other run": seal_result(
            ResultEnvelope(header=ResultHeader(run_id="run-2", status="returned"), body=b""), KEY
        ),
        "no envelope": b"hello",
    }[damage]
    with pytest.raises(ObjectRefusedError, match=r"runs/run-1/result\.pkl"):
        read_result(_store(tmp_path, stored), RUN)


def test_the_functions_own_exception_is_raised_with_the_remote_traceback() -> None:
    envelope = _envelope(
        "raised",
        pickle.dumps(KeyError("missing")),
        type_name="KeyError",
        message="'missing'",
        traceback="Traceback ...\n  File train.py, line 3",
    )
    with pytest.raises(KeyError) as caught:
        unpack_result(envelope, RUN)
    shown = "".join(traceback.format_exception(caught.value))
    assert "Remote traceback of run run-1" in shown
    assert "File train.py, line 3" in shown


@pytest.mark.parametrize(
    ("module", "notes"),
    [
        ("sklearn.svm", ["sklearn comes with the package scikit-learn"]),
        ("keras", []),
        ("ours", []),
    ],
)
def test_a_missing_module_is_told_with_its_package_where_that_is_called_otherwise(
    module: str, notes: list[str]
) -> None:
    error = ModuleNotFoundError(f"No module named {module!r}", name=module)
    envelope = _envelope("raised", pickle.dumps(error), type_name="ModuleNotFoundError")
    with pytest.raises(ModuleNotFoundError) as caught:
        unpack_result(envelope, RUN)
    assert getattr(caught.value, "__notes__", []) == notes


@pytest.mark.parametrize("body", [b"", b"not a pickle", pickle.dumps("not an exception")])
def test_an_exception_that_cannot_be_rebuilt_is_still_told_sensibly(body: bytes) -> None:
    envelope = _envelope(
        "raised", body, type_name="lib.OddError", message="bad", traceback="the traceback"
    )
    with pytest.raises(RunFailed, match=r"train raised lib\.OddError: bad") as caught:
        unpack_result(envelope, RUN)
    assert caught.value.remote_traceback == "the traceback"
    assert "the traceback" in str(caught.value)


def test_system_exit_in_the_function_does_not_end_the_caller() -> None:
    body = pickle.dumps(SystemExit(3))
    with pytest.raises(RunFailed, match="SystemExit: 3"):
        unpack_result(_envelope("raised", body, type_name="SystemExit", message="3"), RUN)


def test_a_value_whose_type_is_missing_here_says_which() -> None:
    body = pickle.dumps(RunTicket).replace(b"kinetic_flows.core.job", b"no_such_modul.job")
    with pytest.raises(ResultError, match=r"returned a lib\.Thing.*cannot be unpickled here"):
        unpack_result(_envelope("returned", body, type_name="lib.Thing"), RUN)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        ("cancelled", RunCancelled, "was cancelled"),
        ("timed_out", RunTimedOut, "timed out: after 3 s"),
        ("unpicklable", ResultError, "returned a Lock that cannot be pickled: after 3 s"),
        ("crashed", RunCrashed, "crashed: after 3 s"),
    ],
)
def test_every_other_end_has_its_own_error(status: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        unpack_result(_envelope(status, type_name="Lock", message="after 3 s"), RUN)


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("it ran longer than 3 s", "raise timeout_seconds"),
        ("its chips did nothing for 600 s: no GPU was used", "raise idle_timeout_seconds"),
        ("it has cost about $50.00 by the prices that are known, and max", "raise max_cost"),
        ("host 1: its chips did nothing for 600 s: no GPU", "raise idle_timeout_seconds"),
    ],
)
def test_a_run_that_timed_out_says_which_limit_to_raise(message: str, hint: str) -> None:
    with pytest.raises(RunTimedOut) as caught:
        unpack_result(_envelope("timed_out", message=message), RUN)
    assert message in str(caught.value)
    assert hint in (caught.value.hint or "")


def test_a_crash_without_a_message_names_the_signal() -> None:
    with pytest.raises(RunCrashed, match="was killed by SIGSEGV"):
        unpack_result(_envelope("crashed", exit_code=-signal.SIGSEGV), RUN)


@pytest.mark.parametrize(
    ("exit_code", "message", "hint"),
    [
        (EXIT_PAYLOAD_UNREADABLE, "No module named 'yaml.nodes'", "add pyyaml to the project's"),
        (EXIT_PAYLOAD_UNREADABLE, "No module named 'ours'", "that has 'ours' to the project's"),
        (EXIT_PAYLOAD_UNREADABLE, "AttributeError: gone", "other versions than this machine"),
        (EXIT_OBJECT_REFUSED, "the payload does not match", "delete that object"),
        (EXIT_CODE_NOT_RESTORED, "no space left on device", "raise ephemeral_storage"),
        (-9, "its process was killed by SIGKILL", "out of memory"),
        (1, "its process exited with 1 while the function ran", "best lead"),
    ],
)
def test_a_crash_hints_at_what_to_do(exit_code: int, message: str, hint: str) -> None:
    with pytest.raises(RunCrashed) as caught:
        unpack_result(_envelope("crashed", message=message, exit_code=exit_code), RUN)
    assert hint in str(caught.value.hint)


def test_a_process_that_left_no_result_is_described_by_its_exit() -> None:
    killed = crash_error(Observation(phase=Phase.FAILED, exit_code=-9), RUN, ["last words"])
    assert "its process was killed by SIGKILL without leaving a result" in killed.message
    assert killed.log_tail == ("last words",)
    refused = crash_error(Observation(phase=Phase.FAILED, exit_code=EXIT_OBJECT_REFUSED), RUN, [])
    assert f"does not match its digest (exit code {EXIT_OBJECT_REFUSED})" in refused.message
    assert "delete that object" in str(refused.hint)


def test_missing_chips_are_an_error_of_their_own() -> None:
    message = "what the run asked for is not there: 8 TPU chips"
    envelope = _envelope("crashed", message=message, exit_code=EXIT_DEVICES_MISSING)
    with pytest.raises(DevicesMissing, match="crashed: what the run asked for") as caught:
        unpack_result(envelope, RUN)
    without_result = Observation(phase=Phase.FAILED, exit_code=EXIT_DEVICES_MISSING)
    error = crash_error(without_result, RUN, [f"kinetic: {message}"])
    assert isinstance(error, DevicesMissing)
    assert message in error.message
    for hint in (caught.value.hint, error.hint):
        assert "KINETIC_DEVICE_CHECK=0" in str(hint)


def test_a_process_that_said_why_it_ended_is_quoted() -> None:
    lines = ["something", "kinetic: the image lacks google-cloud-storage"]
    unfit = Observation(phase=Phase.FAILED, exit_code=EXIT_RUNTIME_UNFIT, reason="the pod ended")
    assert crash_error(unfit, RUN, lines).message.endswith(
        f"crashed: the image lacks google-cloud-storage (exit code {EXIT_RUNTIME_UNFIT})"
    )
    # What a function prints is no reason of ours.
    killed = Observation(phase=Phase.FAILED, exit_code=-9)
    assert "lacks" not in crash_error(killed, RUN, lines).message


def hint_at(**seen: Any) -> str:
    crash = crash_error(Observation(phase=Phase.FAILED, **seen), RUN, [])
    return str(crash.hint)


AGAIN = "calling the function again"


@pytest.mark.parametrize("code", sorted(EXIT_MEANINGS.keys() - {0, 1, 130, 143}))
def test_what_a_runner_could_not_do_is_not_answered_with_another_call(code: int) -> None:
    assert AGAIN not in hint_at(exit_code=code)
    assert hint_at(exit_code=code) != hint_at(exit_code=1), "each has a remedy of its own"


def test_only_what_was_not_the_calls_is_answered_with_another_call() -> None:
    for disturbed in ("its node is gone", "the cluster has no Job of this run"):
        assert AGAIN in hint_at(reason=disturbed)
    refused = "it cannot start: the namespace enforces Pod Security 'restricted'"
    assert AGAIN not in hint_at(reason=refused, is_lasting=True)
    assert "until that is changed" in hint_at(reason=refused, is_lasting=True)
    for code in (1, 3, -9, 137):
        assert "best lead" in hint_at(exit_code=code)


@pytest.mark.parametrize(("number", "is_told"), [(errno.EROFS, True), (errno.ENOENT, False)])
def test_a_function_that_needs_a_writable_root_is_told_how_it_gets_one(
    number: int, is_told: bool
) -> None:
    error = OSError(number, "no", "/data/model.bin")
    with pytest.raises(OSError, match="/data/model") as caught:
        unpack_result(_envelope("raised", pickle.dumps(error)), RUN)
    notes = " ".join(getattr(caught.value, "__notes__", ()))
    assert ("job_variables={'security_context': 'image'}" in notes) is is_told
