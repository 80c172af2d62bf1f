"""What a type checker knows of remote functions."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from typing import Unpack, get_type_hints

import pytest
from mypy import api

import kinetic
import option_docs
from kinetic_flows.core.option_list import Options
from kinetic_flows.core.options import RunOptions

ROOT = Path(__file__).parents[2]

REMOTE = "kinetic_flows.api.remote_function.RemoteFunction[[rate: float, *, steps: int =], str]"

PROGRAM = """
    import asyncio
    import kinetic

    @kinetic.run(accelerator="cpu")
    def train(rate: float, *, steps: int = 3) -> str:
        return ""

    @kinetic.run
    async def later(value: int) -> bytes:
        return b""

    reveal_type(train(0.1, steps=2))
    reveal_type(train.submit(0.1).result())
    reveal_type(train.with_options(retries=2)(0.1))
    reveal_type(later.submit(1).result())
    train("wrong")
    train.submit(0.1, step=3)
    kinetic.run(accelerator=3)
    kinetic.run(acelerator="cpu")
    train.with_options(acelerator="cpu")
    train.with_options(retries="2")
    train.map([1.0], max_concurrent="2")
    train.run_async(0.1)
    train.submit(0.1).tail(3)
    kinetic.Data("gs://bucket/x", fuse=True)
    reveal_type(train.with_options(retries=2, tags=["a"], timeout_seconds=None))

    async def main() -> None:
        reveal_type(await later(1))
        reveal_type(await train.submit(0.1))
"""


def test_calls_and_submissions_keep_the_functions_signature_and_type(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(dedent(PROGRAM))
    # The cache is that of `./dev check`, which knows the product already.
    cache = ROOT / ".mypy_cache" / Path(sys.prefix).name
    config = ROOT / "pyproject.toml"
    output, _, _ = api.run(["--config-file", str(config), "--cache-dir", str(cache), str(program)])
    shown = [line.partition(": ")[2] for line in output.splitlines()]
    revealed = [line for line in shown if line.startswith("note: Revealed type")]
    assert [line.rpartition(" is ")[2].strip('"') for line in revealed] == [
        *["str"] * 3,
        "bytes",
        REMOTE,
        "bytes",
        "str",
    ], output
    errors = [line for line in shown if line.startswith("error:")]
    assert len(errors) == 10, output
    assert 'incompatible type "str"; expected "float"' in errors[0]
    assert 'No overload variant of "run" matches argument type "int"' in errors[2]
    assert 'argument "acelerator"' in errors[3]
    assert 'did you mean "accelerator"?' in errors[3]
    assert 'Unexpected keyword argument "acelerator" for "with_options"' in errors[4]
    assert 'incompatible type "str"; expected "int"' in errors[5]
    assert 'Argument "max_concurrent" to "map"' in errors[6]
    assert 'has no attribute "run_async"' in errors[7]
    assert 'has no attribute "tail"' in errors[8]
    assert 'Argument "fuse" to "Data"' in errors[9]


@pytest.mark.parametrize("module", sorted(option_docs.REPEATED), ids=lambda path: path.stem)
def test_what_is_called_says_of_each_option_what_the_list_says(module: Path) -> None:
    assert list(option_docs.documented()) == [item.name for item in fields(RunOptions)]
    assert module.read_text() == option_docs.rewritten(module), "run: python tests/option_docs.py"


def test_programs_can_read_the_types_of_the_options() -> None:
    hints = get_type_hints(Options)
    assert list(hints) == [item.name for item in fields(RunOptions)]
    assert get_type_hints(kinetic.run)["options"] == Unpack[Options]


def test_the_configured_check_reports_an_error_in_any_module_of_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = {
        name
        for name in listed.stdout.splitlines()
        if not name.startswith("tests/") or name.startswith("tests/loopback/")
    }
    for name in modules:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def untyped(value):\n    return value\n")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    monkeypatch.chdir(tmp_path)
    output, _, _ = api.run([])
    assert {line.split(":")[0] for line in output.splitlines() if "[no-untyped-def]" in line} == (
        modules
    ), output
    folders = {name.partition("/")[0] for name in modules}
    assert folders >= {"kinetic", "kinetic_flows", "blocks", "runner_image", "deployments"}
