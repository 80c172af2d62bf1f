"""The process that compiles for one target: it calls the rehearsal, and reads the compiler.

What it knows stands in a file of its directory from the moment that it is known, as this process
may be ended while it compiles.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from .outcome import TASK_FILE, safe_str, type_name
from .own_traceback import own_part
from .payload import load_call, read_payload
from .rehearse_hints import hint_for, one_line
from .rehearse_sources import Sources
from .rehearse_steps import Around, NotKnown, Step, steps_of
from .rehearsing import NATIVE_FILE, PENDING, REPORT_FILE
from .settling import die_with, make_main, settle_in
from .shown_paths import ShownPaths

COMPILERS = {"tpu": "rehearse_tpu", "gpu": "rehearse_gpu"}
"""The module that compiles for each kind of target."""


def main(directory: str, number: int, handed: int) -> None:
    """Compile a task's steps for one of its targets.

    Args:
        directory: Where the task is.
        number: Which target.
        handed: File descriptor of a pipe that tells the parent and the values of secrets.
    """
    with open(os.path.join(directory, TASK_FILE), encoding="utf-8") as file:
        task = json.load(file)
    with open(handed, encoding="utf-8") as pipe:
        told = json.load(pipe)
    die_with(told["parent"])
    place = os.path.join(directory, f"rehearsal-{number}")
    _keep_native_output(os.path.join(place, NATIVE_FILE))
    target = task["rehearsal"]["targets"][number]
    report = _Report(os.path.join(place, REPORT_FILE))
    try:
        _compile(task, target, told["variables"], report)
    except NotKnown as known:
        report.change(problem=known.problem, message=known.message, hint=known.hint)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of a compiler must not hold this process, nor its end take it down.
    os._exit(0)


def _keep_native_output(path: str) -> None:
    """Have what libraries in C print go to a file, and what Python prints where it went.

    libtpu tells of everything that it misses where no TPU is, a page at each start.
    """
    sys.stderr.flush()
    shown = os.dup(2)
    native = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(native, 2)
    os.close(native)
    stream = os.fdopen(shown, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    for name in ("stderr", "__stderr__"):
        setattr(sys, name, stream)


class _Report:
    """What is known of a target, in a file that is whole at every moment.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: dict[str, Any] = {"steps": [], "warnings": []}

    def change(self, **known: Any) -> None:
        """Keep more of it."""
        self._known.update(known)
        with open(f"{self._path}.new", "w", encoding="utf-8") as file:
            json.dump(self._known, file)
        os.replace(f"{self._path}.new", self._path)

    def keep_step(self, place: int, step: Mapping[str, Any]) -> None:
        """Keep what is known of a step, and what is to be said beside it."""
        step = dict(step)
        warnings = [f"{step['name']}: {each}" for each in step.pop("warnings", ())]
        told = self._known["warnings"]
        told += [each for each in warnings if each not in told]
        self._known["steps"][place] = step
        self.change()


def _compile(
    task: Mapping[str, Any], target: Mapping[str, Any], secrets: Mapping[str, str], report: _Report
) -> None:
    """Call the rehearsal for a target, and compile what it names.

    Raises:
        NotKnown: Nothing can be known of any step.
    """
    payload = read_payload(task["payload"])
    # Nothing of what is compiled here runs anywhere.
    settle_in({**task, "compiled": None}, secrets)
    compiler = import_module(f".{COMPILERS[target['kind']]}", __package__)
    compiler.set_variables(os.environ, target)
    report.change(versions=compiler.versions())
    steps_for = _steps_for(task, payload)
    devices = compiler.devices_of(target)
    report.change(devices=len(devices))
    if len(devices) != target["devices"]:
        what = f"its compiler has {len(devices)} devices where {target['devices']} are"
        report.change(warnings=[what])
    steps = steps_for(devices)
    pending = {"verdict": "failed", "message": "", "hint": "", PENDING: True}
    report.change(steps=[{"name": step.name, **pending} for step in steps])
    sources = Sources(task["workspace"], task["root"])
    # Whether each fits comes first: what is large in one that does not may take long to find out.
    more: list[tuple[int, Callable[[], dict[str, Any]]]] = []
    for place, step in enumerate(steps):

        def later(find: Callable[[], dict[str, Any]], place: int = place) -> None:
            more.append((place, find))

        around = Around(target, devices, sources, steps_for, later)
        report.keep_step(place, _compiled(compiler, step, around))
    for place, find in more:
        report.keep_step(place, find())


def _compiled(compiler: ModuleType, step: Step, around: Around) -> dict[str, Any]:
    """Return what is known of a step, also where its own code raises."""
    try:
        known: dict[str, Any] = compiler.compile_for(step, around)
    except BaseException as error:  # noqa: BLE001 - tracing runs the project's own code
        _print_own_part(error)
        message, hint = one_line(error), hint_for(error, len(around.devices))
        return {"name": step.name, "verdict": "failed", "message": message, "hint": hint}
    return known


def _steps_for(task: Mapping[str, Any], payload: Mapping[str, Any]) -> Any:
    """Return what calls the rehearsal for devices and returns its steps."""
    try:
        make_main(task, payload)
        function, args, kwargs = load_call(payload, task["pieces"], task.get("data", ()))
    except BaseException as error:  # noqa: BLE001 - importing runs the project's own code
        _print_own_part(error)
        what = f"the rehearsal could not be loaded: {one_line(error)}"
        raise NotKnown("function", what, _how_to_load(error)) from None
    paths = ShownPaths(task["workspace"], task["root"])

    def steps_for(devices: list[Any]) -> list[Step]:
        try:
            returned = function(*args, devices, **kwargs)
        except BaseException as error:  # noqa: BLE001 - whatever the rehearsal raises is told
            _print_own_part(error, paths)
            what = f"the rehearsal raised {one_line(error)}"
            raise NotKnown("function", what, hint_for(error, len(devices))) from None
        return steps_of(returned, task["rehearsal"].get("name") or task["name"])

    return steps_for


def _how_to_load(error: BaseException) -> str:
    if isinstance(error, ImportError) and error.name:
        return f"the accelerator's environment lacks {error.name}; add it to the dependencies"
    return ""


def _print_own_part(error: BaseException, paths: ShownPaths | None = None) -> None:
    """Print an exception's traceback from the project's own code on."""
    try:
        lines = traceback.format_exception(type(error), error, own_part(error))
        text = "".join(lines)
    except Exception:  # noqa: BLE001 - showing an exception runs its own code
        text = f"{type_name(error)}: {safe_str(error)}\n"
    sys.stderr.write(paths.text(text) if paths else text)
    sys.stderr.flush()
