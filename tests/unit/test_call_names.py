"""Runs are named by their calls, and those of a sweep by what differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinetic_flows.runner_image.runner import naming

from kinetic_flows.code.call_names import (
    NAME_CHARACTERS,
    SweepNames,
    call_name,
    parameters_name,
    retried_name,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def train(rate: float, depth: int = 2, *rest: Any, password: str = "", **extra: Any) -> None: ...


def fit(config: Any) -> None: ...


class Model:
    def train(self, rate: float) -> None: ...


@dataclasses.dataclass
class Net:
    depth: int
    api_key: str = "hush"


@dataclasses.dataclass
class Config:
    net: Net
    seed: int = 0
    layers: Sequence[int] = (1, 2)


@pytest.mark.parametrize(
    ("args", "kwargs", "name"),
    [
        ((0.1,), {}, "train(rate=0.1)"),
        ((), {"rate": 0.1, "depth": 3}, "train(rate=0.1, depth=3)"),
        ((0.1, 3, "a", "b"), {}, "train(rate=0.1, depth=3, 'a', 'b')"),
        ((0.1,), {"seed": 4}, "train(rate=0.1, seed=4)"),
        ((0.1,), {"password": "hush"}, "train(rate=0.1, password=***)"),
        ((0.1,), {"token": "hush"}, "train(rate=0.1, token=***)"),
        (({"a": 1, "api_key": "hush"},), {}, "train(rate={'a': 1, 'api_key': ***})"),
        (("two\nlines",), {}, r"train(rate='two\nlines')"),
        ((object(),), {}, "train(rate=<object object>)"),
        (
            ("/data/" + "x" * 60 + "/shard-3.csv",),
            {},
            f"train(rate='/data/{'x' * 17}…xxxxxxxxxx/shard-3.csv')",
        ),
        ((0.1 * 3,), {}, "train(rate=0.3)"),
        ((1e-3 / 3,), {}, "train(rate=0.000333333)"),
        ((), {}, "train()"),
    ],
)
def test_a_run_is_named_by_its_call(args: tuple[Any, ...], kwargs: Any, name: str) -> None:
    assert call_name("train", train, args, kwargs) == name


def test_a_method_is_named_without_its_object() -> None:
    assert call_name("train", Model.train, (Model(), 0.1), {}) == "train(rate=0.1)"


def test_what_does_not_fit_is_left_out_and_said_to_be() -> None:
    texts = {name: name * 40 for name in "abcde"}
    name = call_name("train", train, (0.1,), texts)
    assert name == "train(rate=0.1, a='aaaaaaa…aaaaaa', b='bbbbbbb…bbbbbb', …)"
    assert len(name) <= NAME_CHARACTERS


@given(st.text(max_size=200), st.dictionaries(st.text(), JSON))
def test_a_name_is_one_line_of_bounded_length(function: str, kwargs: dict[str, Any]) -> None:
    name = call_name(function, train, (), kwargs)
    assert len(name) <= NAME_CHARACTERS
    assert len(call_name("f", lambda **_: None, (), kwargs).splitlines()) <= 1


@given(st.text(min_size=1, max_size=80), st.dictionaries(st.text(), JSON))
def test_the_runner_names_a_deployments_run_as_its_client_does(
    function: str, parameters: dict[str, Any]
) -> None:
    assert naming.run_name(function, parameters) == parameters_name(function, parameters)


def test_only_a_name_that_prefect_has_made_up_is_replaced() -> None:
    assert naming.is_made_up("tangerine-fox")
    for given_name in ("train(rate=0.1)", "Nightly", "run 7", "train", "v1-2"):
        assert not naming.is_made_up(given_name)


def names_of(
    function: Callable[..., Any], inputs: Sequence[Any], samples: Sequence[Any] = ()
) -> list[str]:
    def call(value: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return ((), value) if isinstance(value, dict) else ((value,), {})

    names = SweepNames(function.__name__, function, map(call, samples))
    return [names.name(index, *call(value)) for index, value in enumerate(inputs)]


def test_an_argument_that_all_inputs_have_in_common_is_not_shown() -> None:
    inputs = [{"rate": rate, "depth": 3} for rate in (0.1, 0.2)]
    assert names_of(train, inputs, inputs) == ["train(rate=0.1)", "train(rate=0.2)"]


def test_what_differs_within_mappings_lists_and_dataclasses_is_shown() -> None:
    inputs = [{"config": Config(Net(depth), layers=[1, depth])} for depth in (3, 4)]
    assert names_of(fit, inputs, inputs) == [
        "fit(config.net.depth=3, config.layers[1]=3)",
        "fit(config.net.depth=4, config.layers[1]=4)",
    ]
    nested = [{"config": {"net": {"depth": depth, "api_key": str(depth)}}} for depth in (3, 4)]
    assert names_of(fit, nested, nested) == ["fit(config.net.depth=3)", "fit(config.net.depth=4)"]


def test_what_differs_in_a_stream_of_inputs_is_noticed_as_it_comes() -> None:
    inputs = [{"rate": 0.1, "depth": 3}, {"rate": 0.2, "depth": 3}, {"rate": 0.1, "depth": 4}]
    assert names_of(train, inputs) == [
        "train(rate=0.1, depth=3)",
        "train(rate=0.2)",
        "train(rate=0.1, depth=4)",
    ]


def test_inputs_that_look_alike_have_their_places() -> None:
    alike = [[0.0] * 1000, [0.0] * 1000]
    assert names_of(fit, alike, alike) == [
        "fit(config=[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, ...])",
        "fit[1](config=[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, ...])",
    ]


def test_floats_that_are_rounded_to_the_same_have_their_places() -> None:
    assert names_of(train, [{"rate": 0.1 * 3}, {"rate": 0.3}]) == [
        "train(rate=0.3)",
        "train[1](rate=0.3)",
    ]


def test_a_secret_that_differs_is_not_shown() -> None:
    names = names_of(train, [{"rate": 1, "password": each} for each in ("one", "two")])
    assert names == ["train(rate=1, password=***)", "train[1](rate=1, password=***)"]


def test_a_run_that_repeats_another_says_so() -> None:
    once = retried_name("train(rate=0.1)")
    assert once == "train(rate=0.1) (retry)"
    assert retried_name(once) == "train(rate=0.1) (retry 2)"
    assert retried_name(retried_name(once)) == "train(rate=0.1) (retry 3)"
