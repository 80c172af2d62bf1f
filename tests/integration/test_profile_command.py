"""`kinetic profile` on a real Prefect server: saved, chosen, shown and deleted."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from uuid import uuid4

import pexpect
import pytest
from kinetic_flows.blocks import ImageRepository
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_gcp import GcpCredentials

from kinetic_flows.cli import main
from kinetic_flows.code import project_settings
from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.runs.profiles import save_profile
from service_accounts import service_account_info

MAIN = "from kinetic_flows.cli import main; main()"


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch, prefect_api_url: str, tmp_path: Path) -> str:
    """A name that no profile has, in a directory of its own, with the server in use."""
    monkeypatch.setattr(project_settings, "_last", [])
    monkeypatch.setenv("PREFECT_API_URL", prefect_api_url)
    monkeypatch.chdir(tmp_path)
    return f"cluster-{uuid4().hex[:8]}"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    shown = capsys.readouterr()
    assert ended.value.code == code, shown.err
    return shown.out if code == 0 else shown.err


def test_a_profile_is_saved_used_shown_and_deleted(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = printed(
        capsys,
        *("profile", "create", name, "--project", "my-project-1", "--zone", "europe-west4-b"),
        *("--set", "retention_days=9", "--set", 'job_variables={"queue_name": "tpus"}', "--use"),
    )
    assert made.splitlines() == [
        f"profile {name}: created",
        f"profile {name} is used wherever nothing names another",
    ]
    shown = json.loads(printed(capsys, "config", "--json"))
    assert shown["profile"] == {
        "value": name,
        "source": {"kind": "remembered", "name": "you"},
    }
    assert shown["project"] == {
        "value": "my-project-1",
        "source": {"kind": "profile", "name": name},
    }
    assert shown["retention_days"]["value"] == 9
    (listed,) = [
        each for each in json.loads(printed(capsys, "profile", "ls", "--json")) if each["used"]
    ]
    assert (listed["name"], listed["values"]["zone"]) == (name, "europe-west4-b")
    assert f"*  {name}" in printed(capsys, "profile", "ls")
    lines = dict(line.split(maxsplit=1) for line in printed(capsys, "profile", "show").splitlines())
    assert (lines["profile"], lines["job_variables"]) == (name, "queue_name=tpus")
    here = printed(capsys, "profile", "use", name, "--directory", ".")
    assert here == f"profile {name} is used in {tmp_path.resolve()}\n"
    gone = printed(capsys, "profile", "rm", name, "--yes").splitlines()
    assert gone == [
        "it was remembered for you, where now no profile is",
        f"it was remembered for {tmp_path.resolve()}, where now no profile is",
        f"profile {name}: deleted",
    ]
    assert json.loads(printed(capsys, "config", "--json"))["platform"]["value"] == "local"
    assert "no profile" in printed(
        capsys, "profile", "rm", name, "--yes", code=ConfigurationError.exit_code
    )


def test_one_that_is_there_is_changed_only_when_that_is_asked_for(
    name: str, prefect_api_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with temporary_settings({PREFECT_API_URL: prefect_api_url}):
        GcpCredentials(service_account_info=service_account_info()).save(name)
    create = ("profile", "create", name)
    printed(capsys, *create, "--project", "my-project-1", "--credentials", name)
    refused = printed(capsys, *create, "--project", "other-project", code=UsageError.exit_code)
    assert "--update changes" in refused
    assert printed(capsys, *create, "--update").startswith(f"profile {name}: unchanged")
    assert printed(capsys, *create, "--update", "--zone", "us-east1-b").startswith(
        f"profile {name}: changed"
    )
    kept = json.loads(printed(capsys, "profile", "show", name, "--json"))
    assert kept["values"] == {"project": "my-project-1", "zone": "us-east1-b"}
    assert kept["credentials"] == name
    printed(capsys, *create, "--overwrite", "--project", "my-project-2")
    replaced = json.loads(printed(capsys, "profile", "show", name, "--json"))
    assert (replaced["values"], replaced["credentials"]) == ({"project": "my-project-2"}, None)


def test_credentials_that_are_not_saved_are_refused_and_nothing_is_saved(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("profile", "create", name, "--project", "my-project-1", "--credentials", "gone-x")
    error = printed(capsys, *asked, code=ConfigurationError.exit_code)
    assert "there are no Google credentials saved as 'gone-x'" in error
    assert "no profile" in printed(
        capsys, "profile", "show", name, code=ConfigurationError.exit_code
    )


def test_a_misspelt_profile_is_not_remembered_and_what_comes_before_one_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert save_profile(name, {"project": "my-project-1"}) == "created"
    error = printed(capsys, "profile", "use", f"{name}x", code=ConfigurationError.exit_code)
    assert f"did you mean '{name}'" in error
    assert json.loads(printed(capsys, "config", "--json"))["platform"]["value"] == "local"
    assert "comes before" not in printed(capsys, "profile", "use", name)
    monkeypatch.setenv("KINETIC_PROJECT", "other-project")
    with pytest.raises(SystemExit):
        main(["config"])
    assert f"the profile {name} (remembered for you) is of another" in capsys.readouterr().err
    monkeypatch.setenv("KINETIC_PROFILE", "other")
    assert "here other is used: environment KINETIC_PROFILE comes before it" in printed(
        capsys, "profile", "use", name
    )
    monkeypatch.setenv("KINETIC_PLATFORM", "local")
    assert "machine: environment KINETIC_PLATFORM comes" in printed(capsys, "profile", "use", name)


def test_image_repositories_are_named_by_what_they_are_saved_as(
    name: str, prefect_api_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with temporary_settings({PREFECT_API_URL: prefect_api_url}):
        ImageRepository(repository="registry.example.com/ml/kinetic").save(name)
    create = ("profile", "create", name)
    printed(capsys, *create, "--project", "my-project-1", "--base-images", name)
    shown = json.loads(printed(capsys, "profile", "show", name, "--json"))
    assert shown["values"]["base_image_repo"] == "registry.example.com/ml/kinetic"
    code = ConfigurationError.exit_code
    error = printed(capsys, *create, "--update", "--images", f"{name}x", code=code)
    assert f"there is no image repository saved as '{name}x'" in error


def test_on_a_terminal_what_is_missing_is_asked_for_and_checked_as_it_is_typed(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = pexpect.spawn(
        sys.executable,
        [
            "-c",
            "from kinetic_flows.cli import main; main()",
            "profile",
            "create",
            name,
            "--cluster",
            "training",
        ],
        env={**os.environ, "TERM": "dumb"},
        timeout=60,
        encoding="utf-8",
    )
    try:
        program.expect("Google Cloud project")
        program.send("12\r")
        program.expect("give the project's id")
        program.send("\x15my-project-1\r")
        program.expect("Zone.*us-central1-a")
        program.send("\r")
        program.expect(f"profile {name}: created")
        program.expect(pexpect.EOF)
    finally:
        program.close(force=True)
    shown = json.loads(printed(capsys, "profile", "show", name, "--json"))
    assert shown["values"] == {"project": "my-project-1", "cluster": "training"}
