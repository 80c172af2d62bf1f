"""What becomes of a call: values, exceptions, crashes, limits, and what the function finds."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import pytest

from kinetic_flows.core.job import EXIT_OBJECT_REFUSED, EXIT_PAYLOAD_UNREADABLE
from runner_jobs import (
    RUN_ID,
    Job,
    Member,
    read_json,
    ship,
    wait,
    wait_until,
)


def run(tmp_path: Path, source: str, *args: object, **options: object) -> Job:
    """Run a function of a module, and return its job."""
    job = Job(tmp_path / "store", source=source, args=args, **options)  # type: ignore[arg-type]
    ended = job.run()
    job.variables["seen"] = ended.output
    job.variables["exit"] = str(ended.exit_code)
    return job


def test_a_value_comes_back_with_its_type(tmp_path: Path) -> None:
    job = run(tmp_path, "def main(a, b=1):\n print('adding')\n return {'sum': a + b}", 2)
    header = job.envelope().header
    assert job.value() == {"sum": 3}
    assert (header.status, header.type_name, header.attempt) == ("returned", "dict", 0)
    assert (job.variables["exit"], job.variables["seen"]) == ("0", "adding\n")


def test_large_parts_of_a_call_come_as_pieces_of_their_own_and_changed_ones_are_refused(
    tmp_path: Path,
) -> None:
    call = pickle.dumps((None, (b"x" * 1000,), {}), protocol=5)
    job = Job(tmp_path / "store", source="def main(data):\n return len(data)")
    piece = job.put("runs/group/pieces/1", call[10:])
    frame = {
        "function": {"module": "app", "qualname": "main"},
        "sources": {},
        "call": [call[:10], str(piece.sha256)],
        "buffers": [],
    }
    job.frame = pickle.dumps(frame)
    job.changes = {"pieces": (piece,)}
    assert job.run().exit_code == 0
    assert job.value() == 1000
    job.result_path.unlink()
    (job.root / piece.name).write_bytes(call[10:].replace(b"x", b"y"))
    assert job.again().exit_code == EXIT_OBJECT_REFUSED


def test_a_large_value_comes_back_whole(tmp_path: Path) -> None:
    job = run(tmp_path, "def main(n):\n return bytes(range(256)) * n", 40_000)
    assert job.value() == bytes(range(256)) * 40_000


def test_a_coroutine_function_is_awaited(tmp_path: Path) -> None:
    source = """
        import asyncio
        async def main():
            await asyncio.sleep(0)
            return 5
    """
    assert run(tmp_path, source).value() == 5


def test_a_function_sent_by_value_is_called(tmp_path: Path) -> None:
    import cloudpickle

    call = cloudpickle.dumps((lambda x: x + 1, (1,), {}))
    job = Job(tmp_path / "store", call=call)
    assert job.run().exit_code == 0
    assert job.value() == 2


def test_a_method_is_found_by_its_qualified_name(tmp_path: Path) -> None:
    source = "class Model:\n def scale(self, x):\n  return 2 * x"
    assert run(tmp_path, source, None, 4, function="Model.scale").value() == 8


def test_an_exception_comes_back_with_only_its_own_frames(tmp_path: Path) -> None:
    job = run(tmp_path, "def main():\n inner()\ndef inner():\n raise KeyError('k')")
    header = job.envelope().header
    assert isinstance(job.value(), KeyError)
    assert (header.status, header.type_name, header.message) == ("raised", "KeyError", "'k'")
    lines = [line for line in header.traceback.splitlines() if "File" in line]
    assert [line.rpartition(" in ")[2] for line in lines] == ["main", "inner"]
    assert job.variables["exit"] == "1"
    assert "KeyError: 'k'" in job.variables["seen"]


def test_the_traceback_of_a_coroutine_has_no_frames_of_the_event_loop(tmp_path: Path) -> None:
    job = run(tmp_path, "async def main():\n raise KeyError(1)")
    assert "asyncio" not in job.envelope().header.traceback


def test_an_exception_brings_its_cause_and_its_notes(tmp_path: Path) -> None:
    source = """
        def main():
            try:
                try:
                    1 / 0
                except ZeroDivisionError:
                    [][1]
            except IndexError as error:
                wrapped = ValueError("outer")
                wrapped.hint = "look inside"
                raise wrapped from error
    """
    error = run(tmp_path, source).value()
    assert isinstance(error, ValueError)
    assert error.hint == "look inside"  # type: ignore[attr-defined]
    assert isinstance(error.__cause__, IndexError)
    assert isinstance(error.__cause__.__context__, ZeroDivisionError)


def test_what_cannot_be_pickled_of_an_exception_is_left_out_and_named(tmp_path: Path) -> None:
    source = """
        import threading
        def main():
            error = ValueError("bad", threading.Lock())
            error.lock, error.code = threading.Lock(), 7
            raise error
    """
    error = run(tmp_path, source).value()
    assert isinstance(error, ValueError)
    assert (error.args, error.code) == (("bad", "<lock>"), 7)  # type: ignore[attr-defined]
    (note,) = error.__notes__
    assert ".lock (TypeError: cannot pickle" in note
    assert "args[1] (TypeError" in note


def test_a_cause_that_cannot_all_be_pickled_comes_along(tmp_path: Path) -> None:
    source = """
        import threading
        def main():
            cause = ValueError("bad")
            cause.lock = threading.Lock()
            raise KeyError("k") from cause
    """
    error = run(tmp_path, source).value()
    assert isinstance(error, KeyError)
    assert isinstance(error.__cause__, ValueError)
    assert "did not come along" in error.__cause__.__notes__[0]


def test_an_exception_whose_text_cannot_be_had_is_reported(tmp_path: Path) -> None:
    source = """
        class Odd(Exception):
            def __str__(self):
                raise RuntimeError("no text")
        def main():
            raise Odd
    """
    header = run(tmp_path, source).envelope().header
    assert (header.status, header.type_name) == ("raised", "app.Odd")


@pytest.mark.parametrize(
    ("statement", "type_name", "message"),
    [
        ("import sys; sys.exit('enough')", "SystemExit", "enough"),
        ("import sys; sys.exit(0)", "SystemExit", "0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
    ],
)
def test_leaving_the_interpreter_is_a_failure_with_a_message(
    tmp_path: Path, statement: str, type_name: str, message: str
) -> None:
    job = run(tmp_path, f"def main():\n {statement}")
    header = job.envelope().header
    assert (header.status, header.type_name, header.message) == ("raised", type_name, message)
    assert job.variables["exit"] == "1"


def test_a_value_that_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    job = run(tmp_path, "import threading\ndef main():\n return [threading.Lock()] * 200")
    header = job.envelope().header
    assert (header.status, header.type_name) == ("unpicklable", "list")
    assert header.message.startswith("[<unlocked _thread.lock")
    assert len(header.message) < 400
    assert "cannot pickle" in header.message
    assert (job.envelope().body, job.variables["exit"]) == (b"", "1")


def test_a_value_without_a_usable_repr_is_named_by_its_type(tmp_path: Path) -> None:
    source = """
        class Odd:
            def __reduce__(self):
                raise TypeError("never")
            def __repr__(self):
                raise RuntimeError
        def main():
            return Odd()
    """
    header = run(tmp_path, source).envelope().header
    assert (header.status, header.type_name) == ("unpicklable", "app.Odd")
    assert header.message == "<app.Odd> (TypeError: never)"


def test_what_cannot_be_imported_is_a_crash_that_says_so(tmp_path: Path) -> None:
    job = run(tmp_path, "import no_such_module\ndef main(): ...")
    header = job.envelope().header
    assert (header.status, header.exit_code) == ("crashed", EXIT_PAYLOAD_UNREADABLE)
    assert "No module named 'no_such_module'" in header.message
    assert "import no_such_module" in header.traceback
    assert "runner.pyz" not in header.traceback
    assert job.variables["exit"] == str(EXIT_PAYLOAD_UNREADABLE)
    assert "no_such_module" in "\n".join(header.log_tail)


@pytest.mark.parametrize(
    ("statement", "worker_code", "exit_code", "words"),
    [
        ("os._exit(0)", 0, 1, "exited with 0"),
        ("os._exit(7)", 7, 1, "exited with 7"),
        ("os.kill(os.getpid(), 9)", -9, 137, "killed by SIGKILL"),
        ("os.kill(os.getpid(), 15)", -15, 143, "killed by SIGTERM"),
        ("import ctypes; ctypes.string_at(0)", -11, 139, "killed by SIGSEGV"),
        ("os.abort()", -6, 134, "killed by SIGABRT"),
    ],
)
def test_a_function_that_ends_its_process_is_reported(
    tmp_path: Path, statement: str, worker_code: int, exit_code: int, words: str
) -> None:
    job = run(tmp_path, f"import os\ndef main():\n print('last words')\n {statement}")
    header = job.envelope().header
    assert (header.status, header.exit_code) == ("crashed", worker_code)
    assert words in header.message
    assert "last words" in header.log_tail
    assert job.variables["exit"] == str(exit_code)


def test_a_segmentation_fault_shows_where_it_happened(tmp_path: Path) -> None:
    job = run(tmp_path, "import ctypes\ndef main():\n ctypes.string_at(0)")
    assert "in main" in "\n".join(job.envelope().header.log_tail)


def test_a_crash_while_the_process_ends_does_not_take_the_value_back(tmp_path: Path) -> None:
    source = """
        import atexit, os
        def main():
            atexit.register(os.abort)
            return 5
    """
    job = run(tmp_path, source)
    assert job.value() == 5
    assert job.variables["exit"] == "0"


def test_what_is_registered_for_the_end_of_the_process_runs(tmp_path: Path) -> None:
    source = """
        import atexit
        def main():
            atexit.register(print, "good bye")
    """
    assert run(tmp_path, source).variables["seen"] == "good bye\n"


def test_a_process_left_behind_does_not_hold_the_run(tmp_path: Path) -> None:
    source = """
        import subprocess
        def main():
            return subprocess.Popen(["sleep", "600"]).pid
    """
    job = Job(tmp_path / "store", source=source)
    assert job.run().seconds < 20
    pid = job.value()
    wait_until(lambda: not _is_alive(pid))


def test_a_killed_runner_takes_the_function_with_it(tmp_path: Path) -> None:
    source = """
        import os, time
        def main(path):
            open(path + ".new", "w").write(str(os.getpid()))
            os.rename(path + ".new", path)
            time.sleep(600)
    """
    marker = tmp_path / "pid"
    process = Job(tmp_path / "store", source=source, args=(str(marker),)).start()
    wait_until(marker.exists)
    process.kill()
    wait(process)
    wait_until(lambda: not _is_alive(int(marker.read_text())))


def test_a_function_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    source = """
        import time
        def main():
            print("begun")
            try:
                time.sleep(600)
            finally:
                print("cleaned up")
    """
    job = run(tmp_path, source, changes={"timeout_seconds": 0.7})
    header = job.envelope().header
    assert (header.status, header.message) == ("timed_out", "it ran longer than 0.7 s")
    assert header.log_tail == ("begun", "cleaned up")
    assert job.variables["exit"] == "1"


def test_a_function_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    source = """
        import signal, time
        def main():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
    """
    changes = {"timeout_seconds": 0.5, "grace_seconds": 0.2}
    assert run(tmp_path, source, changes=changes).envelope().header.status == "timed_out"


RETRIED = """
    import os
    def main(path, needed):
        with open(path, "a") as file:
            print(os.getpid(), os.environ["KINETIC_RETRY"], file=file)
        if len(open(path).readlines()) < needed:
            raise ValueError("not yet")
        return needed
"""


def test_a_function_that_raised_is_called_again_in_a_new_process(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    job = run(tmp_path, RETRIED, str(notes), 3, changes={"retries": 2})
    assert job.value() == 3
    lines = [line.split() for line in notes.read_text().splitlines()]
    assert [number for _, number in lines] == ["0", "1", "2"]
    assert len({pid for pid, _ in lines}) == 3
    assert "try 1 of 3 raised ValueError: not yet; the next begins in 0 s" in job.variables["seen"]


def test_a_function_that_always_raises_fails_after_its_last_try(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    job = run(tmp_path, RETRIED, str(notes), 9, changes={"retries": 1})
    assert job.envelope().header.status == "raised"
    assert len(notes.read_text().splitlines()) == 2


def test_a_function_that_crashed_is_not_called_again(tmp_path: Path) -> None:
    job = run(tmp_path, "import os\ndef main():\n os._exit(3)", changes={"retries": 3})
    assert job.envelope().header.status == "crashed"
    assert "try" not in job.variables["seen"]


def test_the_time_limit_covers_the_pauses_between_tries(tmp_path: Path) -> None:
    changes = {"retries": 5, "retry_delay_seconds": 600.0, "timeout_seconds": 1.0}
    job = run(tmp_path, "def main():\n raise ValueError", changes=changes)
    assert job.envelope().header.status == "timed_out"


def test_a_run_of_several_hosts_does_not_try_again_alone(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", source="def main():\n raise ValueError")
    job.changes = {"retries": 3, "hosts": 2}
    assert "try" not in job.run(JOB_COMPLETION_INDEX="0").output
    assert job.envelope().header.status == "raised"


def test_the_function_finds_its_variables_and_no_credentials(tmp_path: Path) -> None:
    source = "import os\nAT_IMPORT = os.environ['CAPTURED']\ndef main():\n return dict(os.environ)"
    job = Job(tmp_path / "store", source=source, sealed={"CAPTURED": "yes", "LANG": "xx"})
    ended = job.run(PREFECT_API_KEY="pnu_1", PREFECT_API_AUTH_STRING="a:b", KEPT="1")
    found = job.value()
    assert (found["CAPTURED"], found["LANG"], found["KEPT"]) == ("yes", "xx", "1")
    assert found["KINETIC_RUN_ID"] == RUN_ID
    assert (found["KINETIC_RESTART_COUNT"], found["KINETIC_RETRY"]) == ("0", "0")
    assert Path(found["KINETIC_OUTPUT_DIR"]).is_dir()
    hidden = {"KINETIC_RUN_KEY", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "KINETIC_JOB"}
    assert not hidden & found.keys()
    assert "yes" not in ended.output + ended.errors


def test_an_output_directory_in_a_bucket_is_passed_on_as_it_is(tmp_path: Path) -> None:
    changes = {"output_dir": "gs://bucket/outputs/1"}
    job = run(
        tmp_path,
        "import os\ndef main():\n return os.environ['KINETIC_OUTPUT_DIR']",
        changes=changes,
    )
    assert job.value() == "gs://bucket/outputs/1"


def test_the_working_directory_and_the_import_path_are_as_the_job_says(tmp_path: Path) -> None:
    source = """
        import os, sys
        from mathematics import double
        def main():
            return double(2), open("x.txt").read(), os.path.basename(os.getcwd()), sys.argv
    """
    job = Job(tmp_path / "store", source=source)
    job.files = {"src/mathematics.py": "def double(x):\n return 2 * x", "conf/x.txt": "data"}
    job.code_changes = {"sys_path": ("src", "."), "working_directory": "conf"}
    assert job.run().exit_code == 0
    assert job.value() == (4, "data", "conf", ["main"])


def test_what_comes_after_the_standard_library_hides_nothing_of_it(tmp_path: Path) -> None:
    source = """
        import multiprocessing, queue, statistics, subprocess, sys
        def child():
            import queue, statistics, only_late
            sys.exit(0 if hasattr(queue, "Queue") and statistics.MINE and only_late.MINE else 1)
        def main():
            import only_late
            started = multiprocessing.get_context("fork").Process(target=child)
            started.start()
            started.join()
            code = "import tool, queue, statistics; print(tool.MINE, statistics.MINE, queue.Queue)"
            shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            return (
                hasattr(queue, "Queue"), statistics.MINE, only_late.MINE, started.exitcode,
                shown.stdout, shown.stderr
            )
    """
    job = Job(tmp_path / "store", source=source)
    job.files = {
        "early/statistics.py": "MINE = True",
        "late/queue.py": "MINE = True",
        "late/only_late.py": "MINE = True",
        "tools/tool.py": "MINE = True",
    }
    job.code_changes = {"sys_path": (".", "early"), "late_sys_path": ("late", "tools")}
    assert job.run().exit_code == 0
    assert job.value() == (True, True, True, 0, "True True <class 'queue.Queue'>\n", "")


def test_a_working_directory_without_files_is_there(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", source="import os\ndef main():\n return os.listdir()")
    job.code_changes = {"working_directory": "scratch/here"}
    assert job.run().exit_code == 0
    assert job.value() == []


def test_modules_named_like_the_runners_own_are_the_projects(tmp_path: Path) -> None:
    files = {f"{name}.py": "MINE = 1" for name in ("runner", "worker", "outcome", "contract")}
    source = "import runner, worker, outcome, contract\ndef main():\n return runner.MINE"
    assert run(tmp_path, source, files=files).value() == 1


def test_started_python_processes_find_the_project(tmp_path: Path) -> None:
    source = """
        import subprocess, sys
        def main():
            command = [sys.executable, "-c", "import helper, kinetic; print(helper.NAME)"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    """
    assert run(tmp_path, source, files={"helper.py": "NAME = 'found'"}).value() == "found\n"


def test_multiprocessing_can_spawn(tmp_path: Path) -> None:
    source = """
        import multiprocessing
        def double(x):
            return 2 * x
        def main():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                return pool.map(double, [1, 2])
    """
    assert run(tmp_path, source).value() == [2, 4]


def test_every_start_is_counted(tmp_path: Path) -> None:
    source = "import os\ndef main():\n return os.environ['KINETIC_RESTART_COUNT']"
    job = run(tmp_path, source)
    job.result_path.unlink()
    assert job.again().exit_code == 0
    assert (job.value(), job.envelope().header.attempt) == ("1", 1)
    attempts = job.result_path.parent / "attempts"
    assert sorted(path.name for path in attempts.iterdir()) == ["0", "1"]
    assert read_json(attempts / "1" / "started.json")["python"]


@pytest.mark.parametrize(
    ("source", "exit_code"),
    [
        ("def main():\n print('called')", 0),
        ("def main():\n print('called')\n raise ValueError", 1),
        ("import os\ndef main():\n print('called')\n os.kill(os.getpid(), 9)", 137),
        ("import os\ndef main():\n print('called')\n os._exit(9)", 1),
        ("import nothing_like_this", EXIT_PAYLOAD_UNREADABLE),
    ],
)
def test_a_run_that_has_a_result_is_not_run_again(
    tmp_path: Path, source: str, exit_code: int
) -> None:
    job = Job(tmp_path / "store", source=source)
    assert job.run().exit_code == exit_code
    before = job.result_path.read_bytes()
    again = job.again()
    assert again.exit_code == exit_code
    assert "called" not in again.output
    assert "an earlier start of this run has left its result" in again.output
    assert job.result_path.read_bytes() == before


def test_a_result_that_somebody_else_wrote_is_refused(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", source="def main():\n print('called')")
    job.write()
    job.result_path.write_bytes(b"kinetic-result-1\nforged\n{}\n")
    again = job.again()
    assert again.exit_code == 42
    assert f"runs/{RUN_ID}/result.pkl is refused" in again.output
    assert "called" not in again.output


def test_a_result_that_appears_while_the_function_runs_is_the_one_that_counts(
    tmp_path: Path,
) -> None:
    job = run(tmp_path, "def main():\n raise ValueError('first')")
    first = job.result_path.read_bytes()
    job.result_path.unlink()
    source = """
        from pathlib import Path
        def main(path, data):
            Path(path).write_bytes(data)
            return "second"
    """
    later = Job(job.root, source=source, args=(str(job.result_path), first))
    assert later.run().exit_code == 1
    assert later.envelope().header.message == "first"


def test_a_result_that_cannot_be_written_has_its_own_exit_code(tmp_path: Path) -> None:
    source = """
        from pathlib import Path
        def main(path):
            Path(path).write_text("a file where a directory must be")
    """
    job = Job(tmp_path / "store", source=source)
    job.changes = {"result": "blocked/result.pkl"}
    job.args = (str(job.root / "blocked"),)
    ended = job.run()
    assert ended.exit_code == 47
    assert "blocked/result.pkl cannot be written" in ended.output


def test_a_reader_of_the_output_that_goes_away_does_not_stop_the_function(tmp_path: Path) -> None:
    source = """
        import time
        def main():
            for number in range(50):
                print("line", number, flush=True)
                time.sleep(0.01)
            return "done"
    """
    job = Job(tmp_path / "store", source=source)
    with job.start() as process:
        assert process.stdout
        assert process.stdout.readline() == b"line 0\n"
        process.stdout.close()
        assert process.wait(30) == 0
    assert job.value() == "done"


def test_ctrl_c_stops_the_run_as_sigterm_does(tmp_path: Path) -> None:
    source = "import time\ndef main(path):\n open(path, 'w').close()\n time.sleep(600)"
    marker = tmp_path / "begun"
    process = Job(tmp_path / "store", source=source, args=(str(marker),)).start()
    wait_until(marker.exists)
    process.send_signal(signal.SIGINT)
    ended = wait(process)
    assert (ended.exit_code, ended.errors) == (143, "")


class TestHosts:
    """A run on the hosts of a slice."""

    SOURCE = """
        import os
        def main(failing):
            index = os.environ["JOB_COMPLETION_INDEX"]
            if index == failing:
                raise ValueError("on " + index)
            return index
    """

    def test_only_host_0_leaves_the_value(self, tmp_path: Path) -> None:
        job = Job(tmp_path / "store", source=self.SOURCE, args=("none",), changes={"hosts": 2})
        assert job.run(JOB_COMPLETION_INDEX="1").exit_code == 0
        assert not job.result_path.exists()
        assert (job.result_path.parent / "host-1.pkl").exists()
        assert job.again(JOB_COMPLETION_INDEX="0").exit_code == 0
        assert job.value() == "0"

    def test_the_failure_of_any_host_is_the_runs_result(self, tmp_path: Path) -> None:
        job = Job(tmp_path / "store", source=self.SOURCE, args=("1",), changes={"hosts": 2})
        assert job.run(JOB_COMPLETION_INDEX="1").exit_code == 1
        assert job.envelope().header.message == "host 1: on 1"
        assert job.again(JOB_COMPLETION_INDEX="0").exit_code == 1

    def test_a_host_without_a_number_is_refused(self, tmp_path: Path) -> None:
        ended = Job(tmp_path / "store", source=self.SOURCE, changes={"hosts": 2}).run()
        assert ended.exit_code == 40
        assert "JOB_COMPLETION_INDEX must be set for a run on several hosts" in ended.errors


def test_a_project_file_that_is_executable_stays_so(tmp_path: Path) -> None:
    source = "import subprocess\ndef main():\n return subprocess.check_output(['./tool.sh'])"
    job = Job(tmp_path / "store")
    job.code = ship(
        job, [Member.file("app.py", source), Member.file("tool.sh", "#!/bin/sh\necho hi\n", 0o755)]
    )
    assert job.run().exit_code == 0
    assert job.value() == b"hi\n"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_result_is_summarised_without_what_is_secret(tmp_path: Path) -> None:
    source = """
        import os
        def main(what):
            return [os.environ["TOKEN"]] if what == "secret" else list(range(1000))
    """
    header = run(tmp_path / "plain", source, "plain").envelope().header
    assert header.message == "[0, 1, 2, 3, 4, 5, ...]"
    hidden = run(tmp_path / "secret", source, "secret", sealed={"TOKEN": "hush"})
    header = hidden.envelope().header
    assert (header.type_name, header.message) == ("list", "['***']")
    shown = run(tmp_path / "setting", source, "secret", sealed={"TOKEN": "h"})
    assert shown.envelope().header.message == "['h']"


def test_keras_gets_the_backend_that_is_there(tmp_path: Path) -> None:
    job = Job(
        tmp_path,
        "import os\ndef main(): return os.environ.get('KERAS_BACKEND')",
        files={"keras.py": "", "torch.py": ""},
        variables={"KERAS_HOME": str(tmp_path)},
    )
    job.run()
    assert job.value() == "torch"


@pytest.mark.parametrize(
    ("there", "hint"),
    [
        (("jax", "torch"), "os.environ['KERAS_BACKEND']"),
        ((), "add jax (or tensorflow, or torch) to the project's dependencies"),
    ],
)
def test_a_run_without_the_backend_of_keras_says_what_to_do(
    tmp_path: Path, there: tuple[str, ...], hint: str
) -> None:
    files = {
        "keras/__init__.py": "import keras.backend",
        "keras/backend.py": "import tensorflow",
        **{f"{name}.py": "" for name in there},
    }
    job = Job(
        tmp_path,
        "def main(): import keras",
        files=files,
        variables={"KERAS_HOME": str(tmp_path)},
    )
    job.run()
    (note,) = job.value().__notes__
    assert hint in note


def test_a_missing_module_comes_with_what_to_do_about_it(tmp_path: Path) -> None:
    source = """
        def main():
            import no_such_package.inner
    """
    job = Job(tmp_path, source)
    ended = job.run()
    hint = "no package of this run has the module 'no_such_package': add the package that has it"
    assert hint in ended.output + ended.errors
    (note,) = job.value().__notes__
    assert hint in note
    # A submodule that an installed package lacks is no missing package.
    other = Job(tmp_path / "other", "def main():\n    import json.no_such_module\n")
    other.run()
    assert not hasattr(other.value(), "__notes__")


THREAD = """
    import threading
    def main():
        threading.Thread(target=threading.Event().wait, name="uploader").start()
        return 7
"""
PROCESS = """
    import multiprocessing, time
    def main():
        context = multiprocessing.get_context("fork")
        context.Process(target=time.sleep, args=(600,), name="loader").start()
        return 7
"""
AT_EXIT = """
    import atexit, threading
    def main():
        atexit.register(threading.Event().wait)
        return 7
"""
LINGERING = {
    "a thread": (THREAD, "the thread 'uploader' is still running"),
    "a process": (PROCESS, "the process 'loader' ("),
    "what runs at the end": (AT_EXIT, "what it registered to run at the end"),
}


@pytest.mark.parametrize("what", LINGERING)
def test_a_value_counts_whatever_the_function_has_left_running(tmp_path: Path, what: str) -> None:
    source, said = LINGERING[what]
    job = run(tmp_path, source, changes={"grace_seconds": 0.5})

    assert job.variables["exit"] == "0"
    assert job.value() == 7
    assert said in job.variables["seen"]
    assert "kinetic: the run ends without" in job.variables["seen"]


def test_a_value_that_was_there_in_time_outlives_the_time_limit(tmp_path: Path) -> None:
    job = run(tmp_path, THREAD, changes={"timeout_seconds": 4.0, "grace_seconds": 600.0})

    assert (job.variables["exit"], job.value()) == ("0", 7)


def test_a_short_while_is_not_spoken_of(tmp_path: Path) -> None:
    source = """
        import threading, time
        def main():
            threading.Thread(target=time.sleep, args=(0.2,)).start()
            return 7
    """
    job = run(tmp_path, source)
    assert (job.value(), job.variables["seen"]) == (7, "")


@pytest.mark.parametrize(
    "statement",
    [
        "sys.stdout = sys.stderr = None",
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout = sys.stderr = object()",
        "os.close(1); os.close(2)",
        "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)",
    ],
)
def test_an_exception_is_told_whatever_became_of_the_streams(
    tmp_path: Path, statement: str
) -> None:
    source = f"import os, sys\ndef main():\n {statement}\n raise KeyError('k')"
    job = run(tmp_path, source)

    assert isinstance(job.value(), KeyError)
    assert "KeyError: 'k'" in job.variables["seen"]
    assert "raise KeyError('k')" in job.envelope().header.traceback


def test_a_value_is_told_when_the_streams_are_gone(tmp_path: Path) -> None:
    source = "import sys\ndef main():\n sys.stdout = sys.stderr = None\n return 3"
    assert run(tmp_path, source).value() == 3
