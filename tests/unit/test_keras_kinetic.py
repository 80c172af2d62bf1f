"""What people write for keras-team/kinetic works, or is answered with the line to write."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keras_kinetic_docs
import kinetic
from kinetic_flows.cli.main import main
from kinetic_flows.core import keras_kinetic as words
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.settings.settings import unknown_settings

UNTYPED: Any = kinetic
TICKET = RunTicket(run_id="0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e", run_key="k", name="train()")


@pytest.fixture
def train() -> Any:
    @kinetic.run
    def train(rate: float = 0.1) -> float:
        return rate

    return train


@pytest.fixture
def run() -> Any:
    return kinetic.Run(ticket=TICKET, url="http://127.0.0.1:4200/")


@pytest.fixture
def group() -> Any:
    return kinetic.RunGroup(
        id="a", name="train", url="http://127.0.0.1:4200/a", source=None, cloud={}
    )


def test_the_page_has_the_words_that_errors_answer_with() -> None:
    page = keras_kinetic_docs.PAGE.read_text()
    assert page == keras_kinetic_docs.rewritten(page), "run: python tests/keras_kinetic_docs.py"


def test_a_decorator_is_answered_with_every_line_to_write_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        UNTYPED.run(
            accelerator="tpu-v5e-1",
            spot=True,
            backend="pathways",
            namespace=None,
            volumes={"/data": kinetic.Data(tmp_path)},
            output_dir="gs://bucket/mine",
            capture_env_vars=["WANDB_*"],
        )
    error = caught.value
    named = "'spot', 'backend' and 'namespace'"
    assert error.message == f"kinetic.run() has no options {named}"
    assert error.value == ("spot", "backend", "namespace")
    assert [line.partition(": ")[0].strip() for line in str(error.hint).splitlines()[1:]] == [
        "spot=True",
        "backend='pathways'",
        "namespace=None",
    ]
    assert '`accelerator="tpu-v5e-1:spot"`' in str(error)
    assert "namespace=None: leave it out" in str(error)


def test_the_line_for_spot_can_be_written_as_it_stands(train: Any) -> None:
    with pytest.raises(UsageError) as caught:
        train.with_options(accelerator="l4x2", spot=True)
    line = re.findall(r"`accelerator=\"(.*)\"`", str(caught.value))
    assert train.with_options(accelerator=line[0]).options.accelerator == "l4x2:spot"


def test_spot_is_said_once() -> None:
    with pytest.raises(UsageError, match="leave it out: the accelerator says it"):
        UNTYPED.run(accelerator="l4:spot", spot=True)


@pytest.mark.parametrize("written", [False, None])
def test_an_option_that_says_nothing_is_to_be_left_out(written: object) -> None:
    with pytest.raises(UsageError, match=rf"spot={written} \(keras-team/kinetic\): leave it out"):
        UNTYPED.run(spot=written)


def test_what_is_misspelt_besides_is_named_too() -> None:
    with pytest.raises(UsageError) as caught:
        UNTYPED.run(acelerator="l4", spot=True)
    assert "no options 'acelerator' and 'spot'" in caught.value.message
    assert "did you mean 'accelerator'?" in str(caught.value.hint)
    assert 'accelerator="l4:spot"' in str(caught.value.hint)


def test_options_of_a_sweep_are_answered(train: Any) -> None:
    with pytest.raises(UsageError, match=r"cancel_running_on_fail=True .*fail_fast=True"):
        train.map([1], cancel_running_on_fail=True)


@pytest.mark.parametrize(
    "accelerator",
    ["tpu-v6e-8", "gpu-l4", "v5litepod-4", "tpu-v5e-2x2", "a100x4", "nvidia-h100-80gb", "cpu"],
)
def test_accelerators_are_called_as_there(accelerator: str) -> None:
    assert kinetic.run(accelerator=accelerator)(lambda: None).options.accelerator == accelerator


@pytest.mark.parametrize("name", words.MODULE)
def test_names_of_the_module_are_answered_and_are_not_there(name: str) -> None:
    assert not hasattr(kinetic, name)
    with pytest.raises(AttributeError, match=re.escape(words.MODULE[name].instead)):
        getattr(kinetic, name)


@pytest.mark.parametrize("fixture", ["train", "run", "group"])
def test_names_of_functions_and_handles_are_answered_and_are_not_there(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    owner = request.getfixturevalue(fixture)
    for name, word in words.OWNERS[type(owner).__name__].items():
        assert not hasattr(owner, name)
        with pytest.raises(AttributeError, match=re.escape(word.instead)):
            getattr(owner, name)
    with pytest.raises(AttributeError, match=rf"'{type(owner).__name__}' object has no attribute"):
        owner.no_such_name  # noqa: B018


def test_what_is_to_be_written_is_there(train: Any, run: Any, group: Any) -> None:
    owners = {"kinetic": kinetic, "train": train, "run": run, "group": group}
    told = [word.instead for table in keras_kinetic_docs.TABLES.values() for word in table]
    named = set(re.findall(r"`(kinetic|train|run|group)\.(\w+)\b(?!:)", " ".join(told)))
    assert len(named) > 15
    assert [each for each in sorted(named) if each[1] not in dir(owners[each[0]])] == []


def test_an_attribute_error_of_a_property_is_not_taken_for_a_missing_name(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object) -> str:
        raise AttributeError("what went wrong inside")

    monkeypatch.setattr(kinetic.Run, "state", property(broken))
    with pytest.raises(AttributeError, match="what went wrong inside"):
        run.state  # noqa: B018


def call(method: str, keyword: str, owners: dict[str, Any]) -> Callable[[], Any]:
    owner, _, name = method.rpartition(".")
    return lambda: getattr(owners[owner], name)(
        *(["id"] if not owner else []), **{keyword: "anything"}
    )


@pytest.mark.parametrize(("method", "keyword"), words.ARGUMENTS)
def test_keywords_of_methods_are_answered(method: str, keyword: str, run: Any, group: Any) -> None:
    with pytest.raises(TypeError) as caught:
        call(method, keyword, {"": kinetic, "Run": run, "RunGroup": group})()
    assert words.ARGUMENTS[method, keyword].instead in caught.value.__notes__[0]


def test_a_type_error_of_the_function_itself_gets_no_hint(train: Any) -> None:
    with pytest.raises(TypeError) as caught:
        train.plan(timeout=3)
    assert not hasattr(caught.value, "__notes__")


def test_options_of_data_are_answered() -> None:
    with pytest.raises(UsageError) as caught:
        UNTYPED.Data("gs://bucket/x/", fuse=True, hf_trust_remote_code=True)
    assert "no options 'fuse' and 'hf_trust_remote_code'" in caught.value.message
    assert 'Data("gs://...", mode="mount")' in str(caught.value)


@pytest.mark.parametrize(
    ("theirs", "ours", "then"),
    [
        ("hf://imdb?split=train", "hf://datasets/imdb", "load_dataset(str(path), split='train')"),
        (
            "hf://user/repo?config_name=reviews&split=train&revision=abc",
            "hf://datasets/user/repo@abc",
            "load_dataset(str(path), name='reviews', split='train')",
        ),
        ("hf://user/repo", "hf://datasets/user/repo", ""),
    ],
)
def test_a_source_on_the_hub_is_answered_with_ours(theirs: str, ours: str, then: str) -> None:
    with pytest.raises(UsageError) as caught:
        kinetic.Data(theirs)
    assert f"`{ours}`" in str(caught.value)
    assert then in str(caught.value)
    assert kinetic.Data(ours).kind == "hub"


@pytest.mark.parametrize("command", words.COMMANDS)
def test_commands_are_answered(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["runs", "ls", command, "x"] if command.startswith("-") else command.split()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert words.COMMANDS[command].instead in shown


def test_an_option_before_the_command_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--profile", "team", "runs", "ls"])
    assert "KINETIC_PROFILE=NAME" in capsys.readouterr().err


@pytest.mark.parametrize("variable", words.VARIABLES)
def test_variables_are_answered(variable: str) -> None:
    (said,) = unknown_settings({f"KINETIC_{variable}": "x"})
    assert said.startswith(f"KINETIC_{variable} is set and is no setting; instead of")
    assert words.VARIABLES[variable].instead in said
