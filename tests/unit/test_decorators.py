"""Decorating: what is accepted, what is refused with a remedy, and what it costs."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import kinetic
from kinetic_flows.api.remote_function import RemoteFunction
from kinetic_flows.core.errors import FunctionNotSupportedError, UsageError
from shipping import run_python, write_project


@kinetic.run(accelerator="l4", tags=["a"])
def by_name(value: int) -> int:
    """Double a value."""
    return 2 * value


class Model:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    @kinetic.run()
    def scale(self, value: int) -> int:
        return self.factor * value


def test_a_decorated_function_keeps_its_name_documentation_and_signature() -> None:
    assert by_name.__name__ == "by_name"
    assert by_name.__doc__.startswith("Double a value.\n\nby_name is a remote function")
    assert list(inspect.signature(by_name).parameters) == ["value"]
    assert by_name.fn(21) == 42


def test_the_decorator_works_without_parentheses() -> None:
    bare = kinetic.run(lambda value: value + 1)
    assert isinstance(bare, RemoteFunction)
    assert bare.options.accelerator == "cpu"
    assert bare.fn(1) == 2


def test_changed_options_make_another_function() -> None:
    other = by_name.with_options(accelerator="cpu", retries=3)
    assert (other.options.accelerator, other.options.retries) == ("cpu", 3)
    assert by_name.options.accelerator == "l4"
    with pytest.raises(UsageError, match="no option 'acelerator'"):
        by_name.with_options(acelerator="cpu")


def test_it_pickles_by_name_as_whatever_is_found_there() -> None:
    assert pickle.loads(pickle.dumps(by_name)) is by_name
    assert b"RemoteFunction" not in pickle.dumps(by_name)


def test_a_function_without_a_name_to_find_it_by_stays_remote() -> None:
    def local(value: int) -> int:
        return value + 1

    restored = cloudpickle.loads(cloudpickle.dumps(kinetic.run(accelerator="l4")(local)))
    assert isinstance(restored, RemoteFunction)
    assert restored.options.accelerator == "l4"
    assert (restored.fn(1), restored.__name__) == (2, "local")


def test_a_method_stays_remote_and_keeps_its_instance() -> None:
    restored = cloudpickle.loads(cloudpickle.dumps(Model(3).scale))
    assert isinstance(restored, RemoteFunction)
    (instance,) = restored._bound
    assert restored.fn(instance, 2) == 6


SCRIPT = """
    import multiprocessing, sys
    import cloudpickle
    import kinetic

    @kinetic.run(accelerator="l4")
    def train(value):
        return value + 1 if value else train

    @kinetic.run
    def fit(value):
        return train(value)

    def driver():
        return train, fit, fit.fn.__globals__["train"], train.fn(0)

    def show(pickled):
        kinds = [type(each).__name__ for each in cloudpickle.loads(pickled)()]
        print(kinds, cloudpickle.loads(pickled)()[0].options.accelerator, flush=True)

    if __name__ == "__main__":
        for start in ("fork", "spawn"):
            process = multiprocessing.get_context(start).Process(
                target=show, args=(cloudpickle.dumps(driver),)
            )
            process.start()
            process.join()
            assert process.exitcode == 0
"""


def test_a_scripts_remote_functions_stay_remote_in_processes_it_starts(tmp_path: Path) -> None:
    project = write_project(tmp_path, {"main.py": SCRIPT})
    shown = f"{['RemoteFunction'] * 4} l4\n"
    assert run_python(["main.py"], cwd=project) == shown * 2


def test_a_method_knows_its_instance_and_the_class_shows_the_function() -> None:
    model = Model(3)
    assert model.scale._bound == (model,)
    assert isinstance(Model.scale, RemoteFunction)
    assert Model.scale.fn(model, 2) == 6


def test_inside_a_run_the_decorator_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINETIC_RUN_ID", "some-run")

    def function() -> int:
        return 1

    assert kinetic.run()(function) is function
    assert kinetic.run(function) is function
    assert function.with_options(retries=1) is function.as_flow() is function.fn is function  # type: ignore[attr-defined]


def test_inside_a_run_a_rehearsal_can_be_named_and_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KINETIC_RUN_ID", "some-run")
    train: Any = kinetic.run(accelerator="tpu-v6e-8")(lambda: 1)

    def steps(devices: Any) -> Any: ...

    assert train.rehearsal(steps) is steps
    with pytest.raises(UsageError, match="rehearse cannot be used inside a run"):
        train.rehearse()


def test_inside_a_run_a_flow_calls_what_it_calls_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import Flow

    monkeypatch.setenv("KINETIC_RUN_ID", "some-run")

    def train() -> int:
        return 1

    flow = Flow(train)
    plain = flow.fn
    assert kinetic.run(flow) is flow.with_options(accelerator="l4") is flow
    assert flow.fn is plain
    with pytest.raises(UsageError, match=r"train\.deploy cannot be used inside a run"):
        flow.deploy("nightly")


async def _coroutine() -> None:
    await asyncio.sleep(0)


def test_coroutine_functions_are_accepted() -> None:
    assert isinstance(kinetic.run()(_coroutine), RemoteFunction)


def _generator() -> Any:
    yield 1


async def _async_generator() -> Any:
    yield 1


@functools.cache
def _cached() -> int:
    return 1


@pytest.mark.parametrize(
    ("target", "what", "remedy"),
    [
        (staticmethod(_generator), "staticmethod object", "put @staticmethod above"),
        (classmethod(_generator), "classmethod object", "put @classmethod above"),
        (_cached, "functools.cache wrapper", "above @kinetic.run"),
        (_generator, "generator function _generator", "return a list"),
        (_async_generator, "generator function _async_generator", "return a list"),
        (Model, "the class Model", "decorate a function"),
        (42, "42, which is not callable", "decorate a function"),
    ],
)
def test_what_cannot_run_remotely_is_refused_with_the_remedy(
    target: Any, what: str, remedy: str
) -> None:
    with pytest.raises(FunctionNotSupportedError) as caught:
        kinetic.run()(target)
    assert what in caught.value.message
    assert remedy in (caught.value.hint or "")


HEAVY = (
    "asyncio",
    "prefect",
    "google",
    "kubernetes",
    "kubernetes_asyncio",
    "pydantic",
    "httpx",
    "rich",
    "tomllib",
)


@pytest.mark.parametrize(
    "program",
    [
        "import kinetic",
        "import kinetic_flows",
        "import kinetic; kinetic.run()(lambda: 1)",
        "from kinetic_flows.cli import main; main(['--version'])",
        "from kinetic_flows.cli import main; main(['server', 'status'])",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(program: str) -> None:
    allowed = {"rich"} if "cli" in program else set()
    script = (
        f"import sys, atexit; heavy = {sorted(set(HEAVY) - allowed)}\n"
        "atexit.register(lambda: print('heavy:', [n for n in heavy if n in sys.modules]))\n"
        f"{program}\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout.endswith("heavy: []\n"), shown.stdout


def test_a_call_imports_nothing_of_prefects_server_nor_of_lists() -> None:
    program = (
        "import sys, kinetic_flows.api.calls, kinetic_flows.flows.run\n"
        "print([name for name in ('sqlalchemy', 'jinja2') if name in sys.modules])\n"
        "print([name for name in sys.modules if 'candidates' in name or 'rooms' in name])"
    )
    command = [sys.executable, "-c", program]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n[]\n"
