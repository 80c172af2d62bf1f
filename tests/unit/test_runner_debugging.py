"""A function that waits for a debugger: what one sees, and what time counts."""

from __future__ import annotations

import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from dap import DebugClient
from kinetic_flows.dependencies.own_wheel import wheel_of_installed
from runner_jobs import Job, make_bare_python, start_runner, wait

SOURCE = """
    from inner import twice
    def main(value):
        return twice(value)
"""
INNER = "def twice(value):\n    result = 2 * value\n    return result\n"
LINE = 3


def job_of(
    tmp_path: Path, source: str = SOURCE, *args: object, wait_seconds: float = 60.0, **changes: Any
) -> Job:
    """Return a job whose function waits for a debugger, which the project has."""
    debug = {"wheel": None, "wait_seconds": wait_seconds}
    return Job(
        tmp_path / "store",
        source=source,
        args=args,
        files={"inner.py": INNER},
        changes={"debug": debug, **changes},
    )


def port_of(process: subprocess.Popen[bytes]) -> int:
    """Return the port on which a run says that it waits."""
    assert process.stdout is not None
    seen = ""
    while not (found := re.search(r"waiting for a debugger on 127\.0\.0\.1:(\d+)", seen)):
        assert select.select([process.stdout], [], [], 60)[0]
        text = process.stdout.read1(1 << 16).decode()  # type: ignore[attr-defined]
        assert text, seen
        seen += text
    return int(found[1])


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Take a port as soon as another test gives it back; what somebody else keeps is taken, too."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def is_bound() -> bool:
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                return True
            return False

        deadline = time.monotonic() + 20
        while not (bound := is_bound()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if bound:
            listener.listen()
        yield


def configuration(root: Path) -> dict[str, Any]:
    """Return an editor's configuration for a project."""
    mappings = [{"localRoot": str(root), "remoteRoot": "."}]
    return {"type": "debugpy", "request": "attach", "pathMappings": mappings}


def test_no_time_counts_while_nobody_comes_and_the_next_try_waits_no_more(tmp_path: Path) -> None:
    source = """
        import os
        def main():
            if os.environ["KINETIC_RETRY"] == "0":
                raise KeyError("once")
            breakpoint()  # Nobody is there to stop for.
            return os.getcwd()
    """
    job = job_of(tmp_path, source, wait_seconds=1.1, timeout_seconds=1.0, retries=1)
    output = job.run().output
    assert job.value().endswith("/workspace")
    assert output.count("waiting for a debugger") == 1
    assert re.search(
        r"no debugger came in \d+ s; port \d+ stays open for one: the function is called, "
        r"and timeout_seconds=1 begins to count",
        output,
    )


def test_a_run_that_waits_for_a_debugger_can_be_stopped(tmp_path: Path) -> None:
    job = job_of(tmp_path, "def main():\n print('called')")
    process = job.start()
    port_of(process)
    process.send_signal(signal.SIGTERM)
    ended = wait(process)
    assert ended.exit_code == 143
    assert "called" not in ended.output


def test_where_there_is_no_debugger_the_function_is_called_and_the_log_says_why(
    tmp_path: Path,
) -> None:
    job = job_of(tmp_path, "def main():\n return 1")
    python = make_bare_python(tmp_path / "bare", with_cloudpickle=True)
    output = wait(start_runner(job.write(), python=python)).output
    assert job.value() == 1
    assert (
        "there is no debugger: ModuleNotFoundError: No module named 'debugpy': the function is "
        "called" in output
    )


def test_the_debugger_that_came_along_is_used_on_a_port_that_is_free(tmp_path: Path) -> None:
    _, wheel = wheel_of_installed(distribution("debugpy"))
    job = job_of(tmp_path, "def main():\n import debugpy\n return debugpy.__file__")
    reference = job.put("wheels/debugpy.whl", wheel)
    job.changes["debug"] = {"wheel": reference, "wait_seconds": 60}
    python = make_bare_python(tmp_path / "bare", with_cloudpickle=True)
    with taken(5678):
        process = start_runner(job.write(), python=python)
        port = port_of(process)
    assert port != 5678
    with DebugClient(port) as client:
        # Even what is executed when the function's module is imported can be stopped.
        client.attach(configuration(tmp_path), tmp_path / "app.py", 1)
        thread, frame = client.stopped_frame()
        client.ask("continue", threadId=thread)
        wait(process)
    assert frame["name"] == "<module>"
    assert "/debugger/debugpy/" in job.value()
