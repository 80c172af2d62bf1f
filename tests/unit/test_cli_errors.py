"""What the command says of what goes wrong: one sentence, the value, what to do; no frames."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import kinetic_flows
from kinetic_flows.cli import main

PACKAGE = str(Path(kinetic_flows.__file__).parent)
FILES = {
    "train.py": """
        import kinetic

        @kinetic.run
        def train(rate: float, steps: int = 1) -> float:
            return rate
    """,
    "unclosed.py": "def train(rate:\n",
    "lacking.py": "import no_such_module\n",
    "failing.py": "def start():\n    raise RuntimeError('no data here')\n\nstart()\n",
    "misspelt.py": "import kinetic\n\n@kinetic.run(accelerator='l40')\ndef train(): ...\n",
}

EXPECTED = {
    "run nosuch.py:train": (2, ["'nosuch.py'"]),
    "run train.py": (2, ["'train.py'", "FILE:FUNCTION"]),
    "run train.py:trian": (2, ["'trian' in train.py", "did you mean 'train'?"]),
    "run train.py:kinetic": (2, ["not decorated"]),
    "run no.such:train": (2, ["no module 'no.such'"]),
    "run unclosed.py:train": (2, ["unclosed.py cannot be imported", "line 1", "never closed"]),
    "run lacking.py:train": (2, ["lacking.py cannot be imported", "No module named 'no_such_mod"]),
    "run failing.py:train": (2, ["failing.py cannot be imported", "in start", "no data here"]),
    "plan failing:train": (2, ["failing cannot be imported", "in start", "no data here"]),
    "run misspelt.py:train": (2, ["no accelerator 'l40'", "did you mean 'l4'?"]),
    "run train.py:train": (2, ["rate"]),
    "run train.py:train --rate much": (2, ["much"]),
    "run train.py:train --rte 1": (2, ["--rte"]),
    "plan train.py:train --accelerator l40": (2, ["no accelerator 'l40'"]),
    "rnu": (2, ['Did you mean "run"?']),
    "runs ls --limit many": (2, ["many"]),
    "runs ls --since yesterday-ish": (2, ["yesterday-ish", "7d"]),
    "check-image foo//bar": (6, ["foo//bar"]),
    "accelerators l40": (2, ["'l40'"]),
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in FILES.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    (tmp_path / "requirements.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def said(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown.err


@pytest.mark.parametrize("command", EXPECTED)
def test_an_error_is_a_sentence_with_the_value_and_a_hint(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, words = EXPECTED[command]
    exit_code, text = said(command, capsys)
    assert exit_code == code
    assert text.startswith("kinetic: ")
    assert "\n  hint: " in text
    for word in words:
        assert word in text
    assert PACKAGE not in text
    assert len(text.splitlines()) <= 10


def test_debugging_shows_the_frames(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KINETIC_DEBUG", "1")
    _, text = said("run nosuch.py:train", capsys)
    assert PACKAGE in text
    assert text.splitlines()[-2].startswith("kinetic: there is no Python file 'nosuch.py'")
