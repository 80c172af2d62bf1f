"""A warm call of an empty function on this machine, against a plain Prefect flow.

The alternative is a flow with as many empty tasks as `kinetic-run` has, in the same process,
against the same server, in turn. What remains is what this library adds: planning, packaging,
starting a process with a clean interpreter, and reading its result. Prefect 3.8 lets a flow
shorter than a second wait for its heartbeat's thread, which our own flow does without; the second
row is against a plain flow that does without it too.

    python benchmarks/local_call.py [--json] [--rounds 10]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from _report import Row, report
from prefect import flow, task
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from kinetic_flows.api.remote_function import RemoteFunction
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.progress import NullProgress, StepStatus
from kinetic_flows.core.settings.settings import Settings, load_settings, process_environment
from kinetic_flows.flows.run import execute
from kinetic_flows.plans.draft import Call, draft_call
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.runs.results import unpack_result
from kinetic_flows.runs.session import open_session

STEPS = 6
RUN = "run (until its result is read)"
SETTLE_SECONDS = 1.0


@task
def empty_task() -> None:
    """Do nothing, here."""


@flow
def plain_flow() -> None:
    """Run as many empty tasks as a call has steps, two of them concurrently."""
    for _ in range(STEPS - 2):
        empty_task()
    for future in [empty_task.submit() for _ in range(2)]:
        future.result()


class Stopwatch(NullProgress):
    """Adds up how long each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._started: dict[str, float] = {}

    def step(self, name: str, status: StepStatus, detail: str = "") -> None:  # noqa: ARG002
        now = time.perf_counter()
        if status == "started":
            self._started[name] = now
        else:
            self.seconds[name].append(now - self._started.pop(name, now))

    def launched(self, url: str, how: str = "") -> None:  # noqa: ARG002
        self._started.setdefault(RUN, time.perf_counter())


def call(function: RemoteFunction[..., Any], settings: Settings, watch: Stopwatch) -> None:
    """Call a function as `function()` does, with the steps timed."""
    environ = process_environment()
    watch.step("draft (before the flow)", "started")
    draft = draft_call(
        Call(function=function.fn, args=(), kwargs={}, options=function.options),
        settings,
        choose_platform(settings, environ),
        cwd=Path.cwd(),
        sys_path=sys.path,
        environ=environ,
    )
    watch.step("draft (before the flow)", "done")
    with open_session(settings, environ, watch) as session:
        launched = execute(draft, session, wait=True)
        watch.step(RUN, "done")
    if launched.envelope is None:
        raise SystemExit("the call left no result")
    unpack_result(launched.envelope, launched.ticket)


def empty_project(root: Path) -> RemoteFunction[..., Any]:
    """Make a project of one file and return its function, which does nothing."""
    (root / "empty_project.py").write_text("def nothing():\n    pass\n")
    (root / "requirements.txt").touch()
    sys.path.insert(0, str(root))
    function: Callable[[], None] = import_module("empty_project").nothing
    return RemoteFunction(function, RunOptions())


def seconds(work: Any) -> float:
    """Time one piece of work, when the server has digested the events of the one before."""
    time.sleep(SETTLE_SECONDS)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--rounds", type=int, default=10)
    options = arguments.parse_args()
    ours, plain, without_heartbeat, watch = measure(options.rounds)
    rows = [
        Row(name="warm call", ours=ours, alternative=plain, unit="s"),
        Row(name="warm call, no heartbeat", ours=ours, alternative=without_heartbeat, unit="s"),
        *(
            Row(name=f"  {name}", ours=statistics.median(taken), alternative=None, unit="s")
            for name, taken in watch.seconds.items()
        ),
    ]
    report(rows, options.json)


def measure(rounds: int) -> tuple[float, float, float, Stopwatch]:
    """Time all three in turn, after one round of each that warms everything up."""
    watch, ours, plain, without_heartbeat = Stopwatch(), [], [], []
    with (
        tempfile.TemporaryDirectory() as project,
        open_session(load_settings(), process_environment(), NullProgress()),
    ):
        function = empty_project(Path(project))
        settings = load_settings()
        call(function, settings, Stopwatch())
        plain_flow()
        for _ in range(rounds):
            ours.append(seconds(lambda: call(function, settings, watch)))
            plain.append(seconds(plain_flow))
            with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
                without_heartbeat.append(seconds(plain_flow))
    median = statistics.median
    return median(ours), median(plain), median(without_heartbeat), watch


if __name__ == "__main__":
    main()
