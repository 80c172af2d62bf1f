"""Variables that runs get of the client's, by name and by pattern."""

from __future__ import annotations

from typing import Any

import pytest

from kinetic_flows.core.captured import capture_variables
from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.secret_sources import SecretSource, parse_secrets

ENVIRON = {
    "WANDB_API_KEY": "key",
    "WANDB_PROJECT": "cats",
    "DATASET": "s3://cats",
    "HOME": "/home/ann",
    "PATH": "/bin",
    "PREFECT_API_KEY": "pnu",
    "KINETIC_PROJECT": "p",
    "PYTHONPATH": "/lib",
    "EMPTY": "",
}


def _captured(*names: str, **secrets: str) -> dict[str, str]:
    sources = parse_secrets("secrets", secrets)
    return dict(capture_variables(names, sources, ENVIRON).values)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((), ()),
        (("DATASET", "EMPTY"), ("DATASET", "EMPTY")),
        (("WANDB_*",), ("WANDB_API_KEY", "WANDB_PROJECT")),
        (("*_PROJECT",), ("WANDB_PROJECT",)),
        (("WANDB_?PI_KEY", "[CD]ATASET"), ("WANDB_API_KEY", "DATASET")),
        (("WANDB_API_KEY", "WANDB_*"), ("WANDB_API_KEY", "WANDB_PROJECT")),
        # What a process has of its own is taken by its name alone.
        (("HOME", "PREFECT_API_KEY"), ("HOME", "PREFECT_API_KEY")),
        (("H*", "P*", "*_API_KEY"), ("WANDB_API_KEY",)),
        (("wandb_*",), ()),
    ],
)
def test_names_and_patterns_find_variables(names: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert tuple(_captured(*names)) == found


def test_a_secret_is_not_captured_besides() -> None:
    assert _captured("WANDB_*", WANDB_API_KEY="k8s:wandb/key") == {"WANDB_PROJECT": "cats"}
    assert _captured("ABSENT", ABSENT="prefect:block") == {}


def test_a_pattern_that_finds_nothing_is_told_and_keeps_nothing_from_running() -> None:
    captured = capture_variables(("WANDB_*", "WADNB_*"), {}, ENVIRON)
    assert captured.warnings == ("capture_env_vars: no variable is set that WADNB_* stands for",)


def test_all_that_are_not_set_are_named_at_once() -> None:
    sources = parse_secrets("secrets", {"A": "env:GONE", "B": "env:DATASET", "C": "k8s:s/k"})
    with pytest.raises(ConfigurationError) as caught:
        capture_variables(("DATASET", "ABSENT", "LOST"), sources, ENVIRON)
    told = caught.value.message
    assert told.endswith("that are not set: ABSENT, LOST, GONE (secrets['A'])")
    assert caught.value.value == ("ABSENT", "LOST", "GONE")


@pytest.mark.parametrize("sources", [{}, {"A": SecretSource(variable="A", kind="env", name="B")}])
def test_who_named_what_is_not_set_is_told(sources: dict[str, Any]) -> None:
    names = () if sources else ("ABSENT",)
    with pytest.raises(ConfigurationError) as caught:
        capture_variables(names, sources, ENVIRON)
    assert ("secrets=" if sources else "capture_env_vars") in str(caught.value)


def test_no_value_is_in_what_is_shown() -> None:
    assert "cats" not in repr(capture_variables(("WANDB_*",), {}, ENVIRON))


@pytest.mark.parametrize("pattern", ["*", "?*", "__*", "PREFECT_*", "KINETIC_*", "A =*"])
def test_patterns_that_would_take_what_is_nobodys_business_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="capture_env_vars"):
        RunOptions().updated({"capture_env_vars": [pattern]})
