"""What a type checker knows of remote functions."""

from __future__ import annotations

import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]

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

    async def main() -> None:
        reveal_type(await later(1))
        reveal_type(await train.submit(0.1))
"""


def test_calls_and_submissions_keep_the_functions_signature_and_type(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(dedent(PROGRAM))
    output, _, _ = api.run(["--strict", "--cache-dir", str(tmp_path / "cache"), str(program)])
    shown = [line.partition(": ")[2] for line in output.splitlines()]
    revealed = [line for line in shown if line.startswith("note: Revealed type")]
    assert [line.rpartition(" is ")[2].strip('"') for line in revealed] == [
        *["str"] * 3,
        "bytes",
        "bytes",
        "str",
    ], output
    errors = [line for line in shown if line.startswith("error:")]
    assert len(errors) == 3, output
    assert 'incompatible type "str"; expected "float"' in errors[0]


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
