"""The `kinetic` command as a person meets it: help, completion, typing errors, pipes, locales."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from kinetic_flows.cli import main
from kinetic_flows.cli.commands import COMMANDS, app

KINETIC = Path(sys.executable).with_name("kinetic")
LOADED = """
import sys
from kinetic_flows.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print("", *sorted(sys.modules), file=sys.stderr)
"""


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def _modules_of(*arguments: str) -> set[str]:
    """Return the modules that a command has imported."""
    command = [sys.executable, "-c", LOADED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def _leaves(at: App, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    names = [name for name in at if not name.startswith("-")]
    if not names:
        yield words
    for name in names:
        yield from _leaves(at[name], (*words, name))


def test_the_version_is_told_without_importing_what_commands_need() -> None:
    loaded = _modules_of("--version")
    heavy = {"asyncio", "cyclopts", "prefect", "pydantic", "rich", "httpx"}
    own = {"kinetic_flows.cli.running", "kinetic_flows.core.errors", "kinetic_flows.core.settings"}
    assert not loaded & (heavy | own)


def test_the_overview_imports_no_command_and_no_markdown() -> None:
    loaded = _modules_of("--help")
    assert not loaded & {"markdown_it", "prefect", "kinetic_flows.cli.functions"}


def test_the_overview_has_every_command_under_a_heading(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, shown, _ = _run(capsys, "--help")
    assert code == 0
    headings = ["Functions", "Runs and deployments", "Images and clusters", "Prefect", "Settings"]
    positions = [shown.index(f"─ {heading}") for heading in headings]
    assert positions == sorted(positions)
    assert all(f"│ {name} " in shown for name in COMMANDS)
    assert _run(capsys, "-h")[1] == _run(capsys, "help")[1] == _run(capsys)[1] == shown


# The help of `kinetic prefect` is another program's.
@pytest.mark.parametrize("words", sorted({*_leaves(app, ())} - {("prefect",)}), ids=" ".join)
def test_the_help_of_every_command_ends_with_examples(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown, _ = _run(capsys, *words, "--help")
    assert code == 0
    examples = shown.partition("\nExamples:")[2].split("\n")
    told = [line for line in examples if line.strip()]
    assert told
    assert all(f"kinetic {' '.join(words)}" in line for line in told)
    assert _run(capsys, "help", *words)[1] == shown


def test_what_is_off_until_it_is_given_is_shown_without_its_opposite(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = _run(capsys, "pool", "create", "--help")[1]
    assert "--cluster --no-cluster" in shown
    assert shown.startswith("Usage: kinetic pool create")
    for words in (("lock",), ("server", "stop"), ("config",), ("ui",)):
        shown = _run(capsys, *words, "--help")[1]
        assert not [empty for empty in ("False", "()", '""') if f"[default: {empty}]" in shown]
        assert not {"--no-upgrade", "--no-forget", "--no-json", "--no-password"} & {*shown.split()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rnu",), 'unknown command "rnu". Did you mean "run"?\n  hint: see `kinetic --help`'),
        (("runs", "lss"), 'Did you mean "ls"?\n  hint: see `kinetic runs --help`'),
        (("runs", "ls", "--limitt", "3"), "--limitt. Did you mean --limit?"),
        (("runs", "ls", "--limit", "many"), "see `kinetic runs ls --help`"),
        (("runs", "show"), "RUN_ID requires an argument"),
        (("help", "nope"), 'unknown command "nope"'),
    ],
)
def test_a_typing_error_is_a_sentence_with_the_nearest_name(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = _run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("kinetic: ")
    assert words in err


def test_an_error_is_a_document_where_one_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = _run(capsys, "runs", "show", "--json")
    told: dict[str, Any] = json.loads(out)["error"]
    assert (code, told["exit_code"], told["type"]) == (2, 2, "UsageError")
    assert told["message"] in err


def test_a_reader_that_has_enough_is_no_error() -> None:
    """The pipe is closed before anything is written, which shows at the last flush."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [KINETIC, "--help"], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (141, "")


def test_characters_that_the_output_lacks_are_written_out(tmp_path: Path) -> None:
    done = subprocess.run(
        [KINETIC, "config"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "KINETIC_HOME": str(tmp_path / "é✓")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9\\u2713" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_each_shell_has_a_script_that_knows_commands_and_options(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, script, _ = _run(capsys, "completion", shell)
    assert code == 0
    for word in ("deployments", "manifest", "--detach", "kinetic"):
        assert word.removeprefix("--" if shell == "fish" else "") in script


def test_bash_completes_words_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    _, script, _ = _run(capsys, "completion", "bash")
    asked = """
    complete_line() {
        COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        COMPREPLY=(); "$(complete -p kinetic | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
        echo "${COMPREPLY[@]}"
    }
    complete_line kinetic dep
    complete_line kinetic runs re
    complete_line kinetic runs ls --si
    """
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=False
    )
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["deployments"],
        ["result", "retry"],
        ["--since"],
    ], done.stderr
