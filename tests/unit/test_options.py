"""What `@kinetic.run(...)` accepts and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kinetic
from kinetic_flows.clients.prefect.schedules import Timing
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.options import RunOptions
from kinetic_flows.plans.deploy_request import check_request
from kinetic_flows.plans.inputs import SweepOptions


def test_an_unknown_option_names_the_nearest_one_and_lists_all() -> None:
    with pytest.raises(UsageError) as caught:
        RunOptions().updated({"acelerator": "cpu"})
    assert "no option 'acelerator'" in caught.value.message
    assert "did you mean 'accelerator'?" in str(caught.value)
    assert "timeout_seconds" in str(caught.value)


def test_changed_options_leave_the_original_alone() -> None:
    original = RunOptions(accelerator="l4", retries=2)
    changed = original.updated({"retries": 5})
    assert (original.retries, changed.retries, changed.accelerator) == (2, 5, "l4")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retries", -1),
        ("retries", 1.5),
        ("retries", True),
        ("timeout_seconds", 0),
        ("timeout_seconds", float("nan")),
        ("timeout_seconds", "60"),
        ("retry_delay_seconds", -0.1),
        ("tags", "nightly"),
        ("tags", ["ok", 3]),
        ("capture_env_vars", "TOKEN"),
        ("accelerator", ""),
        ("accelerator", None),
        ("name", "  "),
        ("container_image", 7),
        ("requirements", 7),
        ("requirements", ["numpy", None]),
        ("requirements", b"numpy"),
        ("accelerator", "tpu-v6e-7"),
        ("accelerator", "tpu:7"),
        ("accelerator", "gpu-h1000"),
        ("container_image", "bundeld"),
        ("container_image", "docker.io/me/Image:v1"),
        ("base_image_repo", "us-docker.pkg.dev/p/r:tag"),
        ("ship_wheels", "no"),
        ("ship_wheels", None),
        ("name", "///"),
        ("tags", {"team": "vision"}),
        ("tags", b"nightly"),
        ("retries", 10**30),
        ("retry_delay_seconds", None),
        ("timeout_seconds", timedelta(hours=1)),
        ("timeout_seconds", float("inf")),
        ("schedule_timeout_seconds", 0),
        ("schedule_timeout_seconds", 1e300),
        ("max_preemptions", 2**31),
        ("cache_for", 0),
        ("cache_for", -5.0),
        ("cache_for", False),
        ("cache_for", float("nan")),
        ("cache_for", 1e300),
        ("cache_for", timedelta(0)),
        ("cache_for", "1h"),
        ("capture_env_vars", ["TOKEN=secret"]),
        ("capture_env_vars", {"TOKEN": "secret"}),
        ("job_variables", "memory"),
        ("job_variables", 0),
        ("job_variables", {"memory": "lots"}),
        ("job_variables", {"mine": float("nan")}),
        ("job_variables", {"tolerations": [{"key": object()}]}),
        ("project", "My Project"),
        ("zone", "mars"),
        ("cluster", "My_Cluster"),
        ("dispatch", "bogus"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_name_and_value(option: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        RunOptions().updated({option: value})
    named = option in caught.value.message or repr(value) in caught.value.message
    assert named, caught.value.message
    assert caught.value.hint


def test_a_single_tag_given_as_text_is_told_how_to_write_it() -> None:
    with pytest.raises(UsageError, match=r"tags=\['nightly'\]"):
        RunOptions().updated({"tags": "nightly"})


@pytest.mark.parametrize("value", ["deps.txt", Path("deps.txt"), None])
def test_requirements_may_be_a_path(value: Any) -> None:
    assert RunOptions().updated({"requirements": value}).requirements == value


def test_requirements_may_be_a_list() -> None:
    assert RunOptions().updated({"requirements": ["a", "b"]}).requirements == ("a", "b")


NOT_EVEN_NONE = {"accelerator", "ship_wheels", "tags", "retries", "retry_delay_seconds"}


@pytest.mark.parametrize("option", [item.name for item in fields(RunOptions)])
def test_no_option_takes_what_it_cannot_use(option: str) -> None:
    for nonsense in (object(), [[]], 1j, float("nan"), lambda: None):
        with pytest.raises(UsageError) as caught:
            RunOptions().updated({option: nonsense})
        assert option in caught.value.message
    if option in NOT_EVEN_NONE:
        with pytest.raises(UsageError):
            RunOptions().updated({option: None})


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.fractions()
    | st.text()
    | st.binary()
    | st.timedeltas()
    | st.sampled_from(["cpu", "l4", "tpu:8", "worker", "prebuilt", "us-central1-a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(option=st.sampled_from([item.name for item in fields(RunOptions)]), value=ANYTHING)
def test_an_option_is_refused_with_a_usage_error_or_can_be_used(option: str, value: Any) -> None:
    try:
        options = RunOptions().updated({option: value})
    except UsageError:
        return
    # What was accepted can be kept with a run and checked again when it is started once more.
    written = json.dumps(options.to_json(), allow_nan=False)
    assert RunOptions().updated(json.loads(written)).to_json() == json.loads(written)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (3600, timedelta(hours=1)),
        (0.5, timedelta(milliseconds=500)),
        (Fraction(1, 2), timedelta(milliseconds=500)),
        (timedelta(days=7), timedelta(days=7)),
        (True, True),
        (None, None),
    ],
)
def test_cache_for_takes_a_length_of_time_or_seconds(value: Any, meant: Any) -> None:
    assert RunOptions().updated({"cache_for": value}).cache_for == meant


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("accelerator", "TPU-v6e-8:spot"),
        ("accelerator", "tpu:8"),
        ("cluster", "team-profile-2"),
        ("base_image_repo", "my-name"),
        ("dispatch", "auto"),
        ("schedule_timeout_seconds", None),
        ("max_preemptions", None),
        ("container_image", "prebuilt"),
        ("container_image", "us-docker.pkg.dev/p/r/i@sha256:" + 64 * "0"),
    ],
)
def test_what_can_be_meant_is_accepted(option: str, value: Any) -> None:
    assert getattr(RunOptions().updated({option: value}), option) == value


def test_a_function_is_checked_where_it_is_decorated_and_where_it_is_changed() -> None:
    with pytest.raises(UsageError, match="dispatch"):
        kinetic.run(dispatch="bogus")
    with pytest.raises(UsageError, match="h1000"):
        kinetic.run(accelerator="h1000")(lambda: None)
    function = kinetic.run(lambda: None)
    with pytest.raises(UsageError, match="h1000"):
        function.with_options(accelerator="h1000")
    with pytest.raises(UsageError, match="accelerator='l4'"):
        kinetic.run("l4")  # type: ignore[call-overload]


def test_a_flow_with_retries_is_refused_however_it_comes_by_them() -> None:
    from prefect import Flow

    flow = Flow(lambda: None, name="mine", version="1")
    remote = kinetic.run(flow)
    with pytest.raises(UsageError, match="Prefect flow"):
        remote.with_options(retries=1)


@pytest.mark.parametrize("option", [item.name for item in fields(SweepOptions)])
def test_no_option_of_a_sweep_takes_what_it_cannot_use(option: str) -> None:
    function = kinetic.run(lambda value: value)
    for nonsense in (object(), [], 1j, float("nan"), "", "perhaps/"):
        with pytest.raises(UsageError, match=option):
            function.map([1], **{option: nonsense})
    with pytest.raises(UsageError, match="return_exceptions"):
        function.map([1], return_exceptions="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"paused": "no"},
        {"image_refresh": 1},
        {"tags": "nightly"},
        {"tags": [3]},
        {"parameters": [1]},
        {"parameters": {1: 2}},
        {"parameters": {"rate": float("nan")}},
        {"concurrency_limit": 0},
        {"concurrency_limit": 1.5},
        {"name": 3},
        {"timing": Timing(interval=True)},
        {"timing": Timing(interval=float("inf"))},
        {"timing": Timing(interval=1e300)},
        {"timing": Timing(cron=5)},  # type: ignore[arg-type]
        {"timing": Timing(cron="0 2 * * *", timezone="Mars/Olympus")},
        {"timing": Timing(cron="0 2 * * *", timezone="")},
        {"timing": Timing(cron="0 2 * * *", timezone="../../etc/passwd")},
        {"timing": Timing(schedules=3)},  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_what_cannot_be_deployed_is_refused_before_anything_is_made(change: Any) -> None:
    wanted: dict[str, Any] = {
        "name": "nightly",
        "timing": Timing(),
        "parameters": None,
        "paused": None,
        "tags": (),
        "concurrency_limit": None,
        "image_refresh": False,
    }

    def train(rate: float = 0.1) -> float:
        return rate

    assert check_request(train, (), **wanted).name == "nightly"
    with pytest.raises(UsageError) as caught:
        check_request(train, (), **{**wanted, **change})
    assert caught.value.hint


RUN: kinetic.Run[Any] = kinetic.Run(ticket=RunTicket(run_id="1", name="f", run_key=""), url="")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: RUN.result(timeout_seconds="5"),  # type: ignore[arg-type]
        lambda: RUN.wait(timeout_seconds=-1),
        lambda: RUN.wait(timeout_seconds=float("nan")),
        lambda: RUN.logs(tail="5"),  # type: ignore[call-overload]
        lambda: RUN.logs(tail=-1),
    ],
)
def test_what_a_run_is_asked_is_checked_before_anybody_is_asked(ask: Callable[[], Any]) -> None:
    with pytest.raises(UsageError):
        ask()


def test_a_moment_without_a_time_zone_is_local() -> None:
    from kinetic_flows.core.option_values import moment

    local = datetime(2026, 1, 31, 9, 0)
    assert moment("since", local) == local.astimezone(UTC)
    with pytest.raises(UsageError, match="since"):
        moment("since", "yesterday")


@pytest.mark.parametrize("asked", ["torch", "PyTorch", "tensorflow"])
def test_a_framework_that_no_base_has_is_told_how_to_get_it(asked: str) -> None:
    with pytest.raises(UsageError) as caught:
        RunOptions().updated({"framework": asked})
    assert "'none'" in (caught.value.hint or "")
    assert asked.lower() in (caught.value.hint or "")


def test_retries_that_several_hosts_cannot_make_are_told() -> None:
    options = RunOptions().updated({"retries": 2})
    assert options.warnings(hosts=1) == RunOptions().warnings(hosts=4) == ()
    (told,) = options.warnings(hosts=4)
    assert "retries=2 does nothing on 4 hosts" in told
