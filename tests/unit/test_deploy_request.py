"""What `train.deploy` accepts: schedules, parameters, limits; and what it refuses, and how."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NewType, Optional, Required, TypedDict

import pytest
from kinetic_flows.runner_image.runner.parameters import with_parameters
from prefect.schedules import Cron, Interval

from kinetic_flows.clients.prefect.parameters import parameter_schema
from kinetic_flows.clients.prefect.schedules import Timing, make_schedules, schedule_identity
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import UsageError
from kinetic_flows.plans.deploy_request import DeployRequest, check_request


def train(rate: float, steps: int = 3, *extra: int, **more: str) -> float:
    """Train a model.

    Args:
        rate: The learning rate.
    """
    return rate * steps


class Trainer:
    def train(self, rate: float) -> None: ...


def check(function: Any = train, bound: tuple[Any, ...] = (), **changes: Any) -> DeployRequest:
    asked: dict[str, Any] = {
        "name": "nightly",
        "timing": Timing(),
        "parameters": None,
        "paused": None,
        "tags": (),
        "concurrency_limit": None,
        "image_refresh": False,
    }
    return check_request(function, bound, **{**asked, **changes})


def test_the_schema_is_the_functions_signature() -> None:
    schema = check().parameter_schema
    assert schema["required"] == ["rate"]
    assert set(schema["properties"]) == {"rate", "steps"}
    assert schema["properties"]["rate"]["type"] == "number"
    assert schema["properties"]["rate"]["description"] == "The learning rate."
    assert schema["properties"]["steps"]["default"] == 3
    assert schema["additionalProperties"] is False
    assert check().description.startswith("Train a model.")


IMAGES: Any = Data("gs://bucket/images")


def read(rate: float = 0.1, images: Path = IMAGES, sets: Any = (IMAGES, 1)) -> None: ...


def test_data_is_no_default_that_a_form_gives_back() -> None:
    schema = check(read).parameter_schema
    assert schema["required"] == []
    assert set(schema["properties"]) == {"rate", "images", "sets"}
    assert "bucket" not in str(schema)
    assert schema["properties"]["rate"]["default"] == 0.1


def test_data_as_a_parameter_is_refused_with_where_it_goes() -> None:
    with pytest.raises(UsageError) as refused:
        check(read, parameters={"images": Data("gs://bucket/other")})
    assert "default in the signature" in (refused.value.hint or "")


def test_a_methods_instance_is_no_parameter() -> None:
    schema = check(Trainer.train, (Trainer(),)).parameter_schema
    assert set(schema["properties"]) == {"rate"}


def test_a_function_without_parameters_takes_none() -> None:
    def nothing() -> None: ...

    assert parameter_schema(nothing)["properties"] == {}
    assert check(nothing, timing=Timing(cron="0 2 * * *")).parameters == {}


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"name": "a/b"}, "cannot be named 'a/b'", "without /"),
        ({"name": ""}, "cannot be named ''", "such as 'nightly'"),
        ({"parameters": {"rat": 1.0}}, "no parameter 'rat'", "did you mean 'rate'"),
        ({"parameters": {"rate": "fast"}}, "do not fit train", "annotations"),
        ({"parameters": {"rate": object()}}, "object, which JSON does not have", "dates as ISO"),
        ({"parameters": {"rate": "x" * 600_000}}, "and Prefect takes 500000", "as a path"),
        ({"timing": Timing(cron="0 2 * * *")}, "needs rate", "parameters={'rate': ...}"),
        ({"concurrency_limit": 0}, "concurrency_limit is 0", "1 or more"),
        ({"concurrency_limit": True}, "concurrency_limit is True", "1 or more"),
        ({"tags": "mine"}, "tags is 'mine'", "tags=['mine']"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    changes: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        check(**changes)
    assert message in refusal.value.message
    assert hint in str(refusal.value.hint)


@pytest.mark.parametrize(
    ("timing", "said"),
    [
        (Timing(cron="0 2 * * *", timezone="Europe/Berlin"), ("cron", "0 2 * * *")),
        (Timing(interval=90), ("interval", 90.0)),
        (Timing(interval=timedelta(hours=1)), ("interval", 3600.0)),
        (Timing(rrule="FREQ=DAILY"), ("rrule", "FREQ=DAILY")),
        (Timing(schedules=[Cron("0 2 * * *"), Interval(60)]), ("cron", "0 2 * * *")),
    ],
)
def test_every_form_of_schedule_is_prefects(timing: Timing, said: tuple[str, Any]) -> None:
    first = schedule_identity(make_schedules(timing)[0])["schedule"]
    name, value = said
    assert str(value) in str(first[name])
    assert first["timezone"] == (timing.timezone or first["timezone"])


@pytest.mark.parametrize(
    ("timing", "message", "hint"),
    [
        (Timing(cron="0 2 *"), 'Invalid cron string: "0 2 *"', "five fields"),
        (Timing(cron="0 2 * * *", timezone="Mars/X"), "timezone is 'Mars/X'", "Europe/Berlin"),
        (Timing(interval=0), "it is not positive", "positive number of seconds"),
        (Timing(interval="often"), "is no schedule", "timedelta"),  # type: ignore[arg-type]
        (Timing(rrule="FREQ=NEVER"), "is no schedule", "RFC 5545"),
        (Timing(schedules=["0 2 * * *"]), "is no schedule", "prefect.schedules"),  # type: ignore[list-item]
        (Timing(cron="0 2 * * *", interval=5), "cron= and interval=", "give one of them"),
        (Timing(timezone="Europe/Berlin"), "belongs to no schedule", "in schedules="),
    ],
)
def test_what_is_no_schedule_is_refused(timing: Timing, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        make_schedules(timing)
    assert message in refusal.value.message
    assert hint in str(refusal.value.hint)


def test_an_anchor_that_nobody_chose_makes_no_other_schedule() -> None:
    first, second = (schedule_identity(make_schedules(Timing(interval=5))[0]) for _ in range(2))
    assert first == second
    chosen = Interval(5, anchor_date=datetime(2026, 1, 1, tzinfo=UTC))
    assert schedule_identity(make_schedules(Timing(schedules=[chosen]))[0]) != first


class Part(TypedDict, total=False):
    """A part."""

    made: Required[date]
    size: int
    within: Part


class Whole(Part):
    parts: list[Part]


class Opaque:
    def __init__(self, value: int) -> None:
        self.value = value


DATED = {"made": "2026-01-02"}
READ = {"made": date(2026, 1, 2)}


@pytest.mark.parametrize(
    ("annotation", "given", "called_with"),
    [
        (Part, DATED, READ),
        ("Part", DATED, READ),
        (list["Part"], [DATED], [READ]),
        (list[Part], [DATED], [READ]),
        (dict[str, Part | None], {"a": DATED, "b": None}, {"a": READ, "b": None}),
        (Optional[Part], None, None),  # noqa: UP045 - one of the two ways to write it
        (Annotated[Part, "said of it"], DATED, READ),
        (NewType("Special", Part), DATED, READ),  # type: ignore[valid-newtype]
        (Part, {**DATED, "within": {"made": "as it is"}}, {**READ, "within": {"made": "as it is"}}),
        (Whole, {**DATED, "parts": [DATED]}, {**READ, "parts": [READ]}),
        (Opaque, {"value": 1}, {"value": 1}),
        (Iterator[int], [1], [1]),
        ("Nowhere", {"a": 1}, {"a": 1}),
        (list["Nowhere"], [1], [1]),  # type: ignore[name-defined]  # noqa: F821
    ],
)
def test_parameters_of_any_annotation_are_described_and_read(
    annotation: Any, given: Any, called_with: Any
) -> None:
    def function(value: Any) -> None: ...

    function.__annotations__["value"] = annotation
    deployed = check(function, parameters={"value": given})
    assert set(deployed.parameter_schema["properties"]) == {"value"}
    assert with_parameters(function, (), {}, deployed.parameters) == ((called_with,), {})


def test_what_does_not_fit_a_typed_dictionary_is_refused() -> None:
    def function(part: Part) -> None: ...

    with pytest.raises(UsageError, match="do not fit function"):
        check(function, parameters={"part": {"size": 1}})


def test_one_annotation_without_a_schema_leaves_the_others_theirs() -> None:
    @dataclass
    class Holder:
        part: Part
        opaque: Nowhere  # type: ignore[name-defined]  # noqa: F821

    def function(holder: Holder, rate: float) -> None: ...

    schema = check(function).parameter_schema
    assert schema["properties"]["rate"]["type"] == "number"
    assert "type" not in schema["properties"]["holder"]
    assert schema["required"] == ["holder", "rate"]


def test_a_class_that_is_local_to_a_function_is_known_when_it_is_decorated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "local_class.py").write_text(LOCAL)
    monkeypatch.syspath_prepend(str(tmp_path))
    remote = importlib.import_module("local_class").make()
    schema = check(remote.fn, parameters={"config": {"rate": 0.5}}).parameter_schema
    assert schema["definitions"]["Config"]["properties"]["rate"]["type"] == "number"


LOCAL = """
from __future__ import annotations
import dataclasses
import kinetic

def make():
    @dataclasses.dataclass
    class Config:
        rate: float

    @kinetic.run
    def train(config: Config):
        return config.rate

    return train
"""
