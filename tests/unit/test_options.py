"""What `@kinetic.run(...)` accepts and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.errors import UsageError
from kinetic_flows.options import RunOptions


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
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_name_and_value(option: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        RunOptions().updated({option: value})
    assert caught.value.message.startswith(option)
    assert caught.value.hint


def test_a_single_tag_given_as_text_is_told_how_to_write_it() -> None:
    with pytest.raises(UsageError, match=r"tags=\['nightly'\]"):
        RunOptions().updated({"tags": "nightly"})


@pytest.mark.parametrize("value", ["deps.txt", Path("deps.txt"), None])
def test_requirements_may_be_a_path(value: Any) -> None:
    assert RunOptions().updated({"requirements": value}).requirements == value


def test_requirements_may_be_a_list() -> None:
    assert RunOptions().updated({"requirements": ["a", "b"]}).requirements == ("a", "b")
