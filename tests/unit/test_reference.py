"""What editors, notebooks and `help()` say of the decorator and of what it makes."""

from __future__ import annotations

import inspect
import pydoc
from dataclasses import fields
from textwrap import dedent
from typing import Any

import pytest

import kinetic
from kinetic_flows.api.deployment import Deployment
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.options import RunOptions


@kinetic.run(accelerator="l4")
def train(rate: float, *, steps: int = 3) -> float:
    """Train a model.

    Args:
        rate: How fast.
    """
    return rate * steps


@kinetic.run
def undocumented() -> None: ...


OPTIONS = [item.name for item in fields(RunOptions)]


def _help(thing: Any) -> str:
    return pydoc.render_doc(thing, renderer=pydoc.plaintext)


def test_every_option_of_the_decorator_is_a_parameter_with_its_default_and_choices() -> None:
    signature = inspect.signature(kinetic.run)
    assert list(signature.parameters) == ["function", *OPTIONS]
    assert signature.parameters["schedule_timeout_seconds"].default == 3600.0
    shown = str(signature)
    assert "*, accelerator: str | Sequence[str] = 'cpu', strategy: Literal['in_order'," in shown
    assert ", container_image: Literal['bundled', 'prebuilt'] | str | None = None," in shown
    assert "dispatch: Literal['auto', 'client', 'worker'] | None = None" in shown
    assert "framework: Literal['jax', 'none'] | None = None" in shown


@pytest.mark.parametrize("option", OPTIONS)
def test_help_on_the_decorator_has_a_line_for_each_option(option: str) -> None:
    for thing in (kinetic.run, train.with_options):
        assert f"\n        {option}: " in _help(thing)


def test_defaults_that_are_shown_are_those_in_force() -> None:
    shown = inspect.signature(kinetic.run).parameters
    said = {name: shown[name].default for name in OPTIONS}
    assert RunOptions().updated(said) == RunOptions()


def test_options_that_stay_as_they_are_say_so() -> None:
    shown = str(inspect.signature(train.with_options))
    assert shown.startswith("(*, accelerator: str | Sequence[str] = <unchanged>, ")
    assert "self" not in shown


def test_map_shows_its_options_too() -> None:
    shown = str(inspect.signature(train.map))
    assert "max_concurrent: int = 64, retries: int = 0, fail_fast: bool = False" in shown
    assert "input_mode: Literal['auto', 'single', 'args', 'kwargs'] = 'auto'" in shown


def test_help_on_a_remote_function_is_its_own_and_then_what_can_be_done_with_it() -> None:
    told = _help(train)
    assert "train(rate: 'float', *, steps: 'int' = 3) -> 'float'\n    Train a model.\n" in told
    assert "train is a remote function, whose calls are Prefect flow runs on l4:" in told
    used = [line.split("(")[0].strip() for line in told.splitlines() if "  train" in line]
    methods = ["submit", "map", "plan", "deploy", "with_options", "as_flow", "fn"]
    assert [each.removeprefix("train.") for each in used if "." in each][: len(methods)] == methods
    assert all(hasattr(train, each) for each in methods)


def test_a_function_without_a_docstring_says_what_can_be_done_with_it() -> None:
    assert (undocumented.__doc__ or "").startswith("undocumented is a remote function")


@pytest.mark.parametrize(
    "thing",
    [
        kinetic.run,
        kinetic.RemoteFunction,
        kinetic.Run,
        kinetic.RunGroup,
        kinetic.RunPlan,
        Deployment,
    ],
)
def test_what_people_hold_is_documented_with_an_example(thing: Any) -> None:
    example = (inspect.getdoc(thing) or "").partition("```python\n")[2].partition("```")[0]
    assert example
    compile(dedent(example), "example", "exec")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"acelerator": "l4"}, "did you mean 'accelerator'"),
        ({"retries": "two"}, "retries is 'two'"),
        ({"container_image": "prebuild"}, "did you mean 'prebuilt'"),
        ({"dispatch": "clinet"}, "client"),
        ({"accelerator": None}, "accelerator is None"),
    ],
)
def test_misuse_is_told_with_what_would_do(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        kinetic.run(**options)
