"""The `kinetic` command: what it prints, and the codes it exits with."""

from __future__ import annotations

import inspect
import json
import subprocess
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent

import pytest

from kinetic_flows.cli import main
from kinetic_flows.cli.commands import COMMANDS
from kinetic_flows.clients.prefect.server import BackgroundServer, ServerRecord
from kinetic_flows.clients.prefect.server_access import make_auth_string, read_auth_string
from kinetic_flows.code import project_settings
from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.core.processes import current_process


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "requirements.txt").write_text("")
    (root / "cli_job.py").write_text(
        dedent(
            """
            import kinetic

            @kinetic.run()
            def train(rate, steps=3):
                return rate

            @kinetic.run(accelerator="l4")
            def elsewhere():
                pass

            def plain():
                pass
            """
        )
    )
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.delitem(__import__("sys").modules, "cli_job", raising=False)
    return root


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    code = exit_.value.code
    assert isinstance(code, int)
    return code


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--version") == 0
    assert capsys.readouterr().out.strip() == version("kinetic-flows")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--help") == 0
    shown = capsys.readouterr().out
    assert "plan" in shown
    assert "server" in shown


@pytest.mark.parametrize("name", [name for name in COMMANDS if "_app" not in COMMANDS[name].where])
def test_the_overview_says_of_a_command_what_its_own_documentation_says(name: str) -> None:
    where, told = COMMANDS[name].where, COMMANDS[name].help
    module, _, attribute = where.partition(":")
    command = getattr(import_module(f"kinetic_flows.cli.{module}"), attribute)
    documented = (inspect.getdoc(command) or "").partition("\n\nArgs:")[0]
    assert " ".join(told.split()) == " ".join(documented.split())


def test_a_plan_is_printed_for_people_and_for_machines(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("plan", "cli_job.py:train") == 0
    text = capsys.readouterr().out
    assert "has to be built" in text
    assert "requirements.txt" in text
    assert _run("plan", "cli_job.py:train", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["platform"] == "local"
    assert plan["mode"] == "bundled"
    assert plan["image"].startswith("local/cpu-")
    assert plan["dependency_file"] == str(project / "requirements.txt")
    assert plan["image"].endswith(plan["dependency_hash"][:12])
    assert plan["cached"] is False
    assert "cloudpickle" in plan["packages"]
    assert plan["accelerator"] == "cpu"
    assert plan["code"]["files"] == 2
    assert plan["code"]["bytes"] > 100
    assert plan["warnings"] == []
    assert plan["why"]


def test_a_plan_warns_that_a_module_in_use_does_not_ship(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / ".kineticignore").write_text("cli_job.py\n")
    assert _run("plan", "cli_job.py:train") == 0
    assert ".kineticignore: cli_job; a run cannot import them" in capsys.readouterr().out


def test_a_lock_says_where_the_requirements_are_from(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("lock", "cli_job.py:train") == 0
    assert f"dependencies: {project / 'requirements.txt'}\n" in capsys.readouterr().err


def test_a_lock_heeds_the_settings_of_the_functions_project_wherever_it_is_asked_for(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # What this process asks later is not to be read from here.
    monkeypatch.setattr(project_settings, "_last", [])
    (project / "pyproject.toml").write_text("[tool.kinetic]\nstrict_imports = 1\n")
    monkeypatch.chdir(project.parent)
    assert _run("lock", "project/cli_job.py:train") == ConfigurationError.exit_code
    assert "strict_imports of [tool.kinetic] is 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("cli_job.py", "does not say which function"),
        ("missing.py:train", "there is no Python file 'missing.py'"),
        ("cli_job.py:trian", "did you mean 'train'"),
        ("cli_job.py:plain", "is not decorated"),
    ],
)
def test_a_function_that_cannot_be_found_is_an_error_with_a_hint(
    project: Path, capsys: pytest.CaptureFixture[str], target: str, words: str
) -> None:
    assert _run("plan", target) == UsageError.exit_code
    assert words in capsys.readouterr().err


def test_an_error_of_the_plan_is_printed_with_its_hint_and_its_exit_code(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("plan", "cli_job.py:elsewhere") == ConfigurationError.exit_code
    shown = capsys.readouterr().err
    assert shown.startswith("kinetic: ")
    assert "'l4' needs a cluster" in shown
    assert "hint:" in shown


def test_a_lock_is_printed_and_can_be_upgraded(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("lock", "cli_job.py:train") == 0
    first = capsys.readouterr().out
    assert "cloudpickle==" in first
    assert "--hash=sha256:" in first
    assert _run("lock", "cli_job.py:train", "--upgrade") == 0
    assert capsys.readouterr().out == first


def test_no_server_runs_in_a_new_home(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("server", "status") == 0
    assert "not running" in capsys.readouterr().out
    assert _run("server", "stop") == 0
    assert "not running" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--deployment", "d", "--dry-run"], "--dry-run and --deployment do not go together"),
        (
            ["--deployment", "d", "--update-credentials"],
            "--update-credentials and --deployment do not go together",
        ),
        (
            ["--deployment", "d", "--dockerfile", "Dockerfile"],
            "--dockerfile and --deployment do not go together",
        ),
        (["--repo", "r.io/a", "--detach"], "--detach goes with --deployment alone"),
    ],
)
def test_what_only_this_machine_can_do_is_not_asked_of_a_deployment(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("build-image", *options) == UsageError.exit_code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["runs", "ls", "--limit=-1"],
        ["runs", "ls", "--since", "9999999999999d"],
        ["runs", "ls", "--since", "tomorrow"],
        ["runs", "logs", "x", "--tail=-1"],
        ["runs", "result", "x", "--timeout-seconds=-1"],
        ["runs", "result", "x", "--timeout-seconds=nan"],
        ["runs", "cleanup", "--older-than-days=nan"],
        ["runs", "cleanup", "--older-than-days=1e300"],
        ["pool", "create", "--name", "a/b"],
        ["pool", "show", "--namespace", "Not_One"],
        ["check-image", "docker.io/x/y:z", "--accelerator", "h1000"],
        ["images", "prune", "--older-than", "soon"],
    ],
    ids=" ".join,
)
def test_an_option_that_cannot_be_is_refused_before_anybody_is_asked(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("KINETIC_PLATFORM", "local")
    assert _run(*command) in (UsageError.exit_code, ConfigurationError.exit_code)
    shown = capsys.readouterr().err
    assert shown.startswith("kinetic: ")
    assert "hint:" in shown
    assert "cannot be reached" not in shown


@pytest.fixture
def background_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerRecord:
    """A server as far as the commands know one: its record, and what it has proved."""
    home = tmp_path / "home"
    monkeypatch.setenv("KINETIC_HOME", str(home))
    make_auth_string(home / "prefect")
    record = ServerRecord(process=current_process(), port=4300, prefect_version=version("prefect"))
    (home / "prefect" / "server.json").write_text(json.dumps(asdict(record)))
    monkeypatch.setattr(BackgroundServer, "_is_usable", lambda *_: True)
    return record


@pytest.mark.usefixtures("background_server")
def test_server_env_is_for_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("server", "env") == 0
    script = f"{capsys.readouterr().out} echo $PREFECT_API_URL $PREFECT_API_AUTH_STRING"
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    password = read_auth_string(tmp_path / "home" / "prefect")
    assert shown.stdout.split() == ["http://127.0.0.1:4300/api", password]
    assert _run("server", "env", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "PREFECT_API_URL": "http://127.0.0.1:4300/api",
        "PREFECT_API_AUTH_STRING": password,
    }


@pytest.mark.usefixtures("background_server")
@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("fish", "set -gx PREFECT_API_URL http://127.0.0.1:4300/api"),
        ("csh", "setenv PREFECT_API_URL http://127.0.0.1:4300/api;"),
        ("powershell", "$Env:PREFECT_API_URL = 'http://127.0.0.1:4300/api'"),
    ],
)
def test_server_env_is_for_other_shells_too(
    shell: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("server", "env", "--shell", shell) == 0
    assert capsys.readouterr().out.splitlines()[0] == line


RUN_ID = "0d2c6c69-23b8-432c-96c1-90dc74d0f11a"


@pytest.mark.usefixtures("background_server")
def test_ui_opens_a_link_that_needs_no_typing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert _run("ui", RUN_ID) == 0
    (link,) = opened
    password = read_auth_string(tmp_path / "home" / "prefect")
    assert link.startswith("http://127.0.0.1:4300/kinetic/sign-in?token=")
    assert link.endswith(f"&page=/runs/flow-run/{RUN_ID}")
    shown = capsys.readouterr().out
    assert link in shown
    assert str(password) not in shown
    assert _run("ui", "--no-browser", "--password") == 0
    assert str(password) in capsys.readouterr().out
    assert len(opened) == 1
