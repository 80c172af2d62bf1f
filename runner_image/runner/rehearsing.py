"""Rehearsals: compiling a function's steps for accelerators that are not there.

The function of such a run is a rehearsal, which names the steps; it is called in a process of its
own for each target (`rehearse_child.py`), as a compiler may take all memory, or never end. What
each leaves is the run's value: a list of `TargetReport` as plain JSON values, as
`kinetic_flows/core/rehearsals.py` describes them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from .host_use import HostUse, resident_bytes_of
from .memory import usable_bytes
from .thread_states import descendants

REPORT_FILE, NATIVE_FILE = "report.json", "native.log"
"""What a child leaves in its directory: what it knows so far, and what libraries print in C."""

PENDING = "is_pending"
"""Set in the report of a step that was not compiled yet."""

LOOK_SECONDS = 0.25
KILL_SECONDS = 5.0
MEMORY_SHARE = 0.75
BYTES_FOR_TWO, CORES_FOR_TWO = 16 << 30, 4
"""From here on two targets are compiled at once; a compiler alone keeps a few cores busy."""
LAST_LINES, LINE_CHARACTERS = 20, 500
"""How much of what libraries have printed is shown where a process has died."""


class Start(NamedTuple):
    """What processes are started with.

    Attributes:
        archive: The runner's zip archive.
        directory: Where the task is.
        environ: Their environment.
        secrets: The values of the function's secrets, by variable.
    """

    archive: str
    directory: str
    environ: Mapping[str, str]
    secrets: Mapping[str, str]


def rehearse(start: Start, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is known of each target.

    Args:
        start: What processes are started with.
        spec: The job's `RehearsalSpec` as plain JSON values.
    """
    waiting = list(range(len(spec["targets"])))
    reports: dict[int, dict[str, Any]] = {}
    running: list[_Child] = []
    limits = _Limits(spec, HostUse(start.directory).cpus)
    try:
        while waiting or running:
            while waiting and len(running) < limits.at_once:
                number = waiting.pop(0)
                running.append(_Child(start, number, limits))
            time.sleep(LOOK_SECONDS)
            for child in [each for each in running if each.has_ended()]:
                running.remove(child)
                # What it has started does not outlive it.
                child.kill()
                report = child.report(spec["targets"][child.number])
                if report["problem"] == "memory" and limits.at_once > 1:
                    # Alone it may have more.
                    limits.take_turns()
                    waiting.append(child.number)
                else:
                    reports[child.number] = report
                    _say_how_it_went(report)
    finally:
        for child in running:
            child.kill()
    return [reports[number] for number in sorted(reports)]


class _Limits:
    """How long a process may take, and how much memory.

    Args:
        spec: The job's `RehearsalSpec` as plain JSON values.
        cpus: How many CPUs they may use.

    Attributes:
        seconds: How long each may take.
        at_once: How many may run at the same time.
    """

    def __init__(self, spec: Mapping[str, Any], cpus: float) -> None:
        usable = usable_bytes()
        self.seconds: float = spec["limit_seconds"]
        self._alone: int = spec["limit_memory_bytes"] or int(MEMORY_SHARE * usable)
        is_roomy = min(usable, 2 * self._alone) >= BYTES_FOR_TWO and cpus >= CORES_FOR_TWO
        self.at_once = 2 if is_roomy and len(spec["targets"]) > 1 else 1

    @property
    def memory_bytes(self) -> int:
        """How much memory each may take now."""
        return self._alone // self.at_once

    def take_turns(self) -> None:
        """Let processes run one after another from now on."""
        self.at_once = 1


class _Child:
    """A process that compiles for one target.

    Args:
        start: What it is started with.
        number: Which of the targets.
        limits: What it may take.
    """

    def __init__(self, start: Start, number: int, limits: _Limits) -> None:
        self.number = number
        self._place = os.path.join(start.directory, f"rehearsal-{number}")
        # One that compiled beside another begins again.
        os.makedirs(self._place, exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._place, REPORT_FILE))
        self._limits = limits
        self._memory_limit = limits.memory_bytes
        self._begun = time.monotonic()
        self._taken: dict[str, Any] | None = None
        handed, handing = os.pipe()
        what = ["rehearse", start.directory, str(number), str(handed)]
        self._process = subprocess.Popen(
            [sys.executable, "-u", start.archive, *what],
            env=dict(start.environ),
            stdin=subprocess.DEVNULL,
            pass_fds=(handed,),
            start_new_session=True,
        )
        os.close(handed)
        # Values of secrets stand in no file. One that ends at once reads nothing.
        with suppress(OSError), open(handing, "w", encoding="utf-8") as pipe:
            json.dump({"parent": os.getpid(), "variables": dict(start.secrets)}, pipe)

    def has_ended(self) -> bool:
        """Whether it has ended, which it does where it takes too much."""
        if self._process.poll() is not None:
            return True
        self._taken = self._too_much()
        return self._taken is not None

    def kill(self) -> None:
        """End it, and what it has started, in sessions of their own as well."""
        started = descendants(self._process.pid) if self._process.poll() is None else []
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for process in started:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_SECONDS)

    def report(self, target: Mapping[str, Any]) -> dict[str, Any]:
        """Return what it has left, and why there is no more.

        Args:
            target: What it compiled for.
        """
        report = {
            "accelerator": target["accelerator"],
            "problem": None,
            "steps": [],
            **self._left(),
        }
        report["seconds"] = round(time.monotonic() - self._begun, 2)
        pending = [step for step in report["steps"] if step.pop(PENDING, False)]
        if report["problem"] is None and (pending or not report["steps"]):
            why = self._taken or self._death()
            if len(pending) == len(report["steps"]):
                return {**report, "steps": [], **why}
            for step in pending:
                step.update(message=why["message"], hint=why["hint"])
        return report

    def _too_much(self) -> dict[str, Any] | None:
        """Return of what it has taken too much; None while it has not."""
        if time.monotonic() - self._begun > self._limits.seconds:
            message = f"the compiler took more than {self._limits.seconds:g} s"
            return _problem("time", message, "rehearse fewer steps at once, or smaller ones")
        taken = resident_bytes_of(self._process.pid)
        if taken > self._memory_limit:
            limit = f"{self._memory_limit / (1 << 30):.1f} GiB"
            message = f"the compiler took more than the {limit} of memory that it may have here"
            hint = (
                "give shapes (jax.eval_shape, jax.ShapeDtypeStruct) in place of arrays, or "
                "rehearse on a machine with more memory"
            )
            return _problem("memory", message, hint)
        return None

    def _death(self) -> dict[str, Any]:
        """Say how it ended where it has left nothing."""
        code = self._process.returncode
        if code == -signal.SIGKILL:
            message = "the compiling process was killed, as happens where memory is used up"
            return _problem("memory", message, "rehearse on a machine with more memory")
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        _show_native(os.path.join(self._place, NATIVE_FILE))
        message = f"the compiling process ended {how}"
        return _problem("died", message, "what it printed last stands in the run's log")

    def _left(self) -> dict[str, Any]:
        try:
            with open(os.path.join(self._place, REPORT_FILE), encoding="utf-8") as file:
                left: dict[str, Any] = json.load(file)
        except (OSError, ValueError):
            return {}
        return left


def _problem(problem: str, message: str, hint: str) -> dict[str, Any]:
    return {"problem": problem, "message": message, "hint": hint}


def _show_native(path: str) -> None:
    """Print the end of what libraries have printed."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()[-LAST_LINES:]
    except OSError:
        return
    sys.stderr.write("".join(line.rstrip("\n")[:LINE_CHARACTERS] + "\n" for line in lines))
    sys.stderr.flush()


def _say_how_it_went(report: Mapping[str, Any]) -> None:
    steps = report.get("steps") or ()
    told = [f"{step['name']} {step['verdict']}" for step in steps] or [report["message"]]
    print(f"{report['accelerator']}: {', '.join(told)} ({report['seconds']:.0f} s)", flush=True)
