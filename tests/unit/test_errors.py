"""The error tree: every error tells what to do, survives pickling and has an exit code."""

from __future__ import annotations

import copy
import pickle

import pytest

from kinetic_flows.core import errors
from kinetic_flows.core.errors import KineticError, RunCrashed, suggest


def _tree(root: type[KineticError]) -> list[type[KineticError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _tree(child))]


@pytest.mark.parametrize(
    "kind", [kind for kind in _tree(KineticError) if vars(errors).get(kind.__name__) is kind]
)
def test_every_error_survives_pickling_whole(kind: type[KineticError]) -> None:
    error = kind("it failed", value={"a": 1}, hint="try again")
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is kind
    assert (restored.message, restored.value, restored.hint) == ("it failed", {"a": 1}, "try again")
    assert str(restored) == str(error)
    assert str(copy.copy(error)) == str(error)


def test_every_error_has_an_exit_code_that_shells_can_report() -> None:
    assert all(0 < kind.exit_code < 64 for kind in _tree(KineticError))


def test_the_hint_stands_under_the_message() -> None:
    assert str(KineticError("it failed", hint="try again")) == "it failed\n  hint: try again"
    assert str(KineticError("it failed")) == "it failed"


def test_a_crash_shows_its_last_lines() -> None:
    crash = RunCrashed("it died", log_tail=["step 1", "step 2"])
    assert str(crash).endswith("last lines of its log:\n    step 1\n    step 2")


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list() -> None:
    assert suggest("bundeld", ("prebuilt", "bundled")) == (
        "did you mean 'bundled'? Valid: bundled, prebuilt"
    )
    assert suggest("zzz", ("b", "a")) == "valid: a, b"
