"""`kinetic init`, `up`, `status` and `down` as they are called, with what goes wrong on the way."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import pytest

from kinetic_flows.cli.main import main
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.platforms.gke.setup import apply
from loopback.google.answers import cluster_quota, no_permission
from loopback.google.server import LoopbackGoogle
from terminals import Terminal

MAKE = ("init", "--yes", "--no-run", "--project", "my-project")


@pytest.fixture
def google(
    tmp_path, prefect_server: BackgroundServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoopbackGoogle]:
    """Google's APIs with an empty project, and a Prefect server in the background."""
    # An account that was made just now, or an API, is known here at once.
    monkeypatch.setattr(apply, "API_PAUSES_SECONDS", ())
    with LoopbackGoogle(tmp_path / "google", project="my-project") as google:
        for name, value in google.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("KINETIC_HOME", str(prefect_server.home))
        monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
        monkeypatch.chdir(tmp_path)
        yield google
        (prefect_server.home / "profiles.json").unlink(missing_ok=True)


class Said:
    """What a command printed, and how it ended."""

    def __init__(self, capsys, *arguments: str) -> None:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        self.code = ended.value.code or 0
        self.out, self.err = capsys.readouterr()


def test_a_dry_run_prints_every_action_and_its_cost_and_changes_nothing(google, capsys):
    before = dict(google.state.accounts), dict(google.buckets.buckets), set(google.project.apis)
    said = Said(capsys, "init", "--dry-run", "--project", "my-project", "--accelerator", "l4")
    assert said.code == 0
    for line in (
        "  + cluster kinetic-cluster",
        "  + node pool l4",
        "  + bucket gs://my-project-kn-kinetic-cluster-jobs",
        "  + image repository kn-kinetic-cluster",
        "  + work pool kinetic-gke",
        "a month while nothing runs",
    ):
        assert line in said.out
    after = dict(google.state.accounts), dict(google.buckets.buckets), set(google.project.apis)
    assert before == after
    assert google.serving.running == {}


def test_a_dry_run_is_a_document_where_that_is_wanted(google, capsys):
    said = Said(capsys, "up", "--dry-run", "--json", "--project", "my-project")
    document = json.loads(said.out)
    assert document["cluster"] == "kinetic-cluster"
    assert document["monthly_usd"] > 0
    assert (document["done"], document["profile"]) == (0, None)
    assert {"kind", "name", "action", "details", "why", "cost"} == set(document["changes"][0])


def test_what_fails_half_way_says_what_and_the_same_command_goes_on(google, capsys):
    quota = cluster_quota("CPUS", 4, 0, "my-project")
    with google.fault("CreateCluster", quota):
        failed = Said(capsys, *MAKE)
    assert failed.code == 13
    assert "cluster kinetic-cluster" in failed.err
    assert "quota" in failed.err
    assert "run the same command again: it goes on from here" in failed.err
    assert "profile" not in failed.err
    again = Said(capsys, *MAKE)
    assert again.code == 0, again.err
    assert "✓ cluster kinetic-cluster" in again.err
    assert "✓ bucket" not in again.err, "what was made before is not made again"
    assert "profile kinetic-cluster is saved, and in use" in again.err
    third = Said(capsys, *MAKE)
    assert "everything is as wanted" in third.err


def test_an_operation_that_google_gives_up_is_told_and_begun_anew(google, capsys):
    quota = cluster_quota("CPUS", 4, 0, "my-project")
    with google.fault("CreateCluster", quota, operation="fails"):
        failed = Said(capsys, *MAKE)
    assert failed.code == 13
    again = Said(capsys, *MAKE)
    assert again.code == 0, again.err
    assert len(google.serving.running) == 1


def test_what_one_may_not_do_is_told_with_the_right_and_the_command(google, capsys):
    google.switch_on("cloudresourcemanager", "iam", "container", "compute", "artifactregistry")
    refused = no_permission("artifactregistry.repositories.create", "projects/my-project")
    with google.fault("CreateRepository", refused):
        failed = Said(capsys, *MAKE)
    assert failed.code != 0
    assert "artifactregistry.repositories.create" in failed.err
    assert "gcloud projects add-iam-policy-binding my-project" in failed.err
    assert Said(capsys, *MAKE).code == 0


def test_what_was_set_up_is_shown_and_removed_and_what_is_left_is_said(google, capsys):
    assert Said(capsys, *MAKE, "--accelerator", "l4").code == 0
    document = json.loads(Said(capsys, "status", "--json").out)
    assert document["as_wanted"], document["resources"]
    named = {(each["kind"], each["name"]): each["state"] for each in document["resources"]}
    assert named["node pool", "l4"] == "as wanted"
    assert named["work pool", "kinetic-gke"] == "as wanted"
    assert ("Prefect worker", "default/kinetic-worker") not in named
    asked = Said(capsys, "down")
    assert asked.code == 2
    assert "nothing was removed: it has to be confirmed" in asked.err
    assert google.serving.running
    gone = Said(capsys, "down", "--yes")
    assert gone.code == 0, gone.err
    assert "left:" in gone.err
    assert "--purge removes it" in gone.err
    assert "profile kinetic-cluster is left" in gone.err
    assert google.serving.running == {}
    assert len(google.buckets.buckets) == 2
    purged = Said(capsys, "down", "--purge", "--yes", "--json")
    assert json.loads(purged.out)["removed"] > 0
    assert google.buckets.buckets == {}
    again = Said(capsys, "down", "--yes", "--project", "my-project")
    assert "nothing is there that was made for kinetic-cluster" in again.err


def test_ctrl_c_says_in_a_line_what_was_done_and_the_rerun_waits_for_what_goes_on(google, capsys):
    command = [sys.executable, "-c", "from kinetic_flows.cli import main; main()", *MAKE]
    with google.fault("CreateCluster", operation="stalls"):
        terminal = Terminal(command, dict(os.environ), columns=200)
        try:
            terminal.until("cluster kinetic-cluster.*being made")
            terminal.press("\x03")
            terminal.until("`kinetic init .*goes on from here")
            terminal.end(code=130)
        finally:
            terminal.close()
    line = next(each for each in terminal.lines if "goes on from here" in each)
    assert "kinetic: Ctrl-C: " in line
    assert "cluster kinetic-cluster begun" in line
    again = Said(capsys, *MAKE)
    assert again.code == 0, again.err
    begun = [name for name in google.calls.names() if name.endswith("CreateCluster")]
    assert len(begun) == 1, "what was begun is waited for"
