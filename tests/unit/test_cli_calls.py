"""Arguments of the command line become arguments of the function, typed by its signature."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from kinetic_flows.cli import main
from kinetic_flows.cli.documents import plain
from kinetic_flows.cli.functions import parse_call
from kinetic_flows.core.errors import UsageError


def train(
    rate: float, *, steps: int = 3, tags: list[str] | None = None, fast: bool = False
) -> None:
    """Train a model.

    Args:
        rate: The learning rate.
    """


def untyped(value, other, named="text"): ...


def chosen(kind: Literal["a", "b"], /, *rest: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "tokens", "args", "kwargs"),
    [
        (train, ["--rate", "0.5"], (0.5,), {}),
        (train, ["0.5", "--steps=7", "--fast"], (0.5,), {"steps": 7, "fast": True}),
        (train, ["1", "--tags", "x", "--tags", "y"], (1.0,), {"tags": ["x", "y"]}),
        (untyped, ["5", "--other", "[1, 2]"], (5, [1, 2]), {}),
        (untyped, ["five", "--other", "true", "--named", "7"], ("five", True, "7"), {}),
        (chosen, ["b", "1", "2"], ("b", 1, 2), {}),
    ],
)
def test_arguments_are_typed(function: Any, tokens: list[str], args: Any, kwargs: Any) -> None:
    assert parse_call(function, tuple(tokens), target="t.py:f") == (args, kwargs)


@pytest.mark.parametrize(
    ("function", "tokens"),
    [(train, ["--rate", "fast"]), (train, []), (train, ["1", "--step", "2"]), (chosen, ["c"])],
)
def test_arguments_that_do_not_fit_are_refused(function: Any, tokens: list[str]) -> None:
    with pytest.raises(UsageError, match=f"do not fit {function.__name__}") as refused:
        parse_call(function, tuple(tokens), target="t.py:train")
    assert "kinetic run t.py:train --help" in str(refused.value)


def test_help_describes_the_functions_own_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_call(train, ("--help",), target="t.py:train")
    shown = capsys.readouterr().out
    assert "The learning rate" in shown
    assert "--steps" in shown


def asked(*, help: str) -> None:  # noqa: A002 - as a person may name it
    """Answer a question."""


def test_help_may_be_a_parameter_of_the_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse_call(asked, ("--help", "x"), target="t.py:asked") == ((), {"help": "x"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    source = "import kinetic\n\n@kinetic.run\ndef asked(*, help):\n    'Answer a question.'\n"
    Path("help_as_parameter.py").write_text(source)
    with pytest.raises(SystemExit) as ended:
        main(["run", "help_as_parameter.py:asked", "--help"])
    assert not ended.value.code
    assert "Answer a question." in capsys.readouterr().out


class Trainer:
    def fit(self, rate: float) -> None: ...


def test_a_method_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"Trainer\.fit is a method") as refused:
        parse_call(Trainer.fit, ("0.1",), target="t.py:Trainer.fit")
    assert "makes the object and calls the method" in (refused.value.hint or "")


def test_what_json_cannot_hold_is_described() -> None:
    assert plain({"a": [1]}) == {"a": [1]}
    assert plain({1, 2}) == "{1, 2}"
