"""What an input of a sweep is as arguments, and how the sweep's options are refused."""

from __future__ import annotations

from typing import Any

import pytest

from kinetic_flows.core.errors import UsageError
from kinetic_flows.plans.inputs import SweepOptions, spread


def train(rate: float, steps: int = 1) -> None: ...


class Model:
    def fit(self, rate: float) -> None: ...


@pytest.mark.parametrize(
    ("value", "mode", "args", "kwargs"),
    [
        (0.1, "auto", (0.1,), {}),
        ([1, 2], "auto", ([1, 2],), {}),
        ((0.1, 5), "auto", (0.1, 5), {}),
        ({"rate": 0.1}, "auto", (), {"rate": 0.1}),
        ((0.1, 5), "single", ((0.1, 5),), {}),
        ({"a": 1}, "single", ({"a": 1},), {}),
        ([0.1, 5], "args", (0.1, 5), {}),
        ({"steps": 2, "rate": 0.5}, "kwargs", (), {"steps": 2, "rate": 0.5}),
    ],
)
def test_an_input_becomes_arguments(value: Any, mode: Any, args: Any, kwargs: Any) -> None:
    found = spread(value, mode, train, (), 0)
    assert (found.args, found.kwargs) == (args, kwargs)


def test_the_instance_of_a_method_comes_first() -> None:
    model = Model()
    assert spread(0.5, "auto", Model.fit, (model,), 0).args == (model, 0.5)


def test_an_input_that_does_not_fit_is_named_with_the_mode_that_would() -> None:
    with pytest.raises(UsageError, match="input 7 does not fit train") as refused:
        spread({"lr": 0.1}, "auto", train, (), 7)
    assert 'input_mode="single"' in str(refused.value)
    with pytest.raises(UsageError, match="input 3 is a float, and input_mode is 'kwargs'"):
        spread(0.1, "kwargs", train, (), 3)
    with pytest.raises(UsageError, match="input 3 is a dict, and input_mode is 'args'"):
        spread({}, "args", train, (), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_concurrent": 0}, "max_concurrent is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"max_concurrent": True}, "max_concurrent is True"),
        ({"input_mode": "keywords"}, "input_mode is 'keywords'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SweepOptions(**options)
