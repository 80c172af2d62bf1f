"""The tutorial, word for word: its commands are typed, and its questions get its answers.

On a machine that has Python, and gcloud in name only: the wheel is installed into a virtual
environment of its own, beside what it depends on, and what gcloud leaves behind is a login to the
loopback cloud.
"""

from __future__ import annotations

import ensurepip
import os
import re
import shlex
import subprocess
import sysconfig
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from kinetic_flows.cli.main import main
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.dependencies.uv import find_uv
from loopback.empty_cloud import EmptyCloud, an_empty_cloud
from terminals import Terminal

CHECKOUT = Path(__file__).parents[2]
PERSON = "alice@example.com"
GCLOUD = """#!/bin/sh
test "$*" = "auth application-default login" && cp "$LOGIN" "$CLOUDSDK_CONFIG/{file}"
"""
PIP = """#!{python}
import sys
sys.path.insert(0, "{wheel}")
from pip._internal.cli.main import main
sys.exit(main())
"""
LOGIN_FILE = "application_default_credentials.json"


class Page:
    """The tutorial."""

    def __init__(self) -> None:
        text = (CHECKOUT / "docs" / "tutorial.md").read_text()
        blocks = re.findall(r"^```(\S+)(?: title=\"(\S+)\")?\n(.*?)^```", text, re.M | re.S)
        self.files = {title: body for _, title, body in blocks if title}
        lines = [line for kind, _, body in blocks if kind == "console" for line in body.split("\n")]
        self.commands = [line[2:] for line in lines if line.startswith("$ ")]
        self.answers = [line for line in lines if line.startswith("? ")]
        self.shown = [line for line in lines if line.startswith("✓ ")]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmptyCloud]:
    """A Google Cloud with an empty project that is Alice's."""
    with an_empty_cloud(tmp_path_factory.mktemp("cloud"), project="my-project") as cloud:
        project = cloud.google.project
        cloud.google.state.policies.grant(project.resource, "roles/owner", f"user:{PERSON}")
        yield cloud


@pytest.fixture
def variables(
    cloud: EmptyCloud, prefect_server: BackgroundServer, tmp_path: Path
) -> dict[str, str]:
    """The variables of Alice's shell."""
    machine = tmp_path / "machine"
    (machine / "gcloud").mkdir(parents=True)
    (machine / "bin").mkdir()
    gcloud = machine / "bin" / "gcloud"
    gcloud.write_text(GCLOUD.format(file=LOGIN_FILE))
    gcloud.chmod(0o755)
    pointing = {
        name: value
        for name, value in cloud.environment.items()
        if name not in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT")
    }
    return {
        **pointing,
        "PATH": f"{_environment(machine)}:{machine / 'bin'}:{os.environ['PATH']}",
        "HOME": str(machine),
        "USER": "alice",
        "CLOUDSDK_CONFIG": str(machine / "gcloud"),
        "LOGIN": str(cloud.google.person_file(PERSON, quota_project="my-project")),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(_wheel(machine)),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # What we depend on is there, which takes pip seconds to see.
        "PIP_NO_DEPS": "1",
        "PIP_NO_COMPILE": "1",
        # Its server runs already, which takes twenty seconds the first time.
        "KINETIC_HOME": str(prefect_server.home),
        "PROMPT_TOOLKIT_NO_CPR": "1",
        **{name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_"))},
    }


def _environment(machine: Path) -> Path:
    """Make a virtual environment that has what we depend on, and not us; return its programs."""
    where = machine / "venv"
    venv.create(where, symlinks=True)
    # pip as every Python brings it: to install it from there takes seconds.
    (bundled,) = Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")
    pip = where / "bin" / "pip"
    pip.write_text(PIP.format(python=where / "bin" / "python", wheel=bundled))
    pip.chmod(0o755)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(where)}))
    installed = Path(sysconfig.get_path("purelib"))
    for each in installed.iterdir():
        is_us = each.name.lower().startswith(("kinetic", "_kinetic", "__editable__"))
        if not is_us and each.suffix != ".pth" and not (own / each.name).exists():
            (own / each.name).symlink_to(each)
    (where / "bin" / "uv").symlink_to(find_uv())
    return where / "bin"


def _wheel(machine: Path) -> Path:
    """Build the wheel, and return where it is."""
    folder = machine / "wheels"
    command = [find_uv(), "build", "--wheel", "--quiet", "--out-dir", str(folder), str(CHECKOUT)]
    subprocess.run(command, check=True)
    return folder


def test_three_commands_and_four_answers_lead_to_the_first_value(
    cloud: EmptyCloud,
    variables: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    # What the first run imports is not to be what lies here.
    (tmp_path / "json.py").write_text("raise ImportError")
    page = Page()
    until_value = page.commands[: page.commands.index("kinetic init") + 1]
    assert len(until_value) <= 3
    assert len(page.answers) <= 4
    for command in until_value[:-1]:
        subprocess.run(command, shell=True, env=variables, check=True)
    terminal = Terminal(["/bin/sh", "-c", until_value[-1]], variables, columns=100)
    try:
        for answer in page.answers:
            _answer(terminal, answer)
        terminal.until("hello alice, from ")
        terminal.end()
    finally:
        terminal.close()
    assert all(line in terminal.transcript for line in page.shown)
    _follow_the_rest(page, cloud, variables, monkeypatch, capsys)


def _follow_the_rest(
    page: Page,
    cloud: EmptyCloud,
    variables: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Call the other commands of the page, in this process, which is quicker."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", variables["LOGIN"])
    for name, text in page.files.items():
        Path(name).write_text(text)
    said = {}
    for command in page.commands[page.commands.index("kinetic init") + 1 :]:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command)[1:])
        said[command.split()[1]] = capsys.readouterr()
        assert ended.value.code in (0, None), (command, said[command.split()[1]])
    assert list(said) == ["run", "nodepools", "status", "down"]
    assert said["run"].out == "training with 0.1\n0.2\n"
    assert "as wanted  node pool l4" in said["status"].out
    assert "missing" not in said["status"].out
    assert "profile kinetic-cluster is removed" in said["down"].err
    assert cloud.google.serving.running == {}
    assert cloud.google.artifacts.repositories == {}
    assert cloud.google.buckets.buckets == {}


def _answer(terminal: Terminal, line: str) -> None:
    """Wait for a question of the page, and give it the answer that stands there.

    Args:
        terminal: Where it is asked; what is offered is the answer, but to the last question.
        line: The question with its answer, as it is shown afterwards.
    """
    words = line.split(" ")
    beginnings = (" ".join(words[:count]) for count in range(2, len(words)))
    open_ones = (rf"{re.escape(each)} \((?:Use arrow keys|y/N)\)" for each in beginnings)
    terminal.until("|".join([re.escape(line), *open_ones]))
    terminal.press("y" if line.endswith("? Yes") else "\r")
    terminal.until(re.escape(line))
