"""`kinetic init`, `up`, `status` and `down` as they are called, with what goes wrong on the way."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from threading import Thread
from uuid import uuid4

import pytest

from kinetic_flows.cli.main import main
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.platforms.gke.setup import apply
from kinetic_flows.runs import profiles
from loopback.google.answers import cluster_quota
from loopback.google.server import LoopbackGoogle

POOL = f"journey-{uuid4().hex[:8]}"
"""A work pool that nobody else has on the server that all tests share."""

MAKE = ("init", "--yes", "--no-run", "--project", "my-project", "--work-pool", POOL)


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
    asked = ("--project", "my-project", "--accelerator", "l4", "--work-pool", f"{POOL}-of-nobody")
    said = Said(capsys, "init", "--dry-run", *asked)
    assert said.code == 0
    for line in (
        "  + cluster kinetic-cluster",
        "  + node pool l4",
        "  + bucket gs://my-project-kn-kinetic-cluster-jobs",
        "  + image repository kn-kinetic-cluster",
        f"  + work pool {POOL}-of-nobody",
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


def test_what_fails_half_way_goes_on_and_all_of_it_is_shown_and_removed(
    google, capsys, monkeypatch
):
    with google.fault("CreateCluster", cluster_quota("CPUS", 4, 0, "my-project")):
        failed = Said(capsys, *MAKE)
    assert failed.code == 13
    assert "cluster kinetic-cluster" in failed.err
    assert "quota" in failed.err
    assert "run the same command again: it goes on from here" in failed.err
    assert "profile" not in failed.err
    again = Said(capsys, *MAKE, "--accelerator", "l4")
    assert again.code == 0, again.err
    assert "✓ cluster kinetic-cluster" in again.err
    assert "✓ bucket" not in again.err, "what was made before is not made again"
    assert "profile kinetic-cluster is saved, and in use" in again.err
    assert "comes before it" not in again.err
    monkeypatch.setenv("KINETIC_PROFILE", "kinetic-other")
    third = Said(capsys, *MAKE)
    assert "everything is as wanted" in third.err
    assert "here kinetic-other is used: environment KINETIC_PROFILE comes before it" in third.err
    monkeypatch.delenv("KINETIC_PROFILE")
    _see_it_shown(capsys)
    _see_it_removed(google, capsys)


def _see_it_shown(capsys) -> None:
    document = json.loads(Said(capsys, "status", "--json").out)
    assert document["as_wanted"], document["resources"]
    assert isinstance(document["runs"], list), "others may run on the server that all tests share"
    named = {(each["kind"], each["name"]): each["state"] for each in document["resources"]}
    assert named["node pool", "l4"] == "as wanted"
    assert named["work pool", POOL] == "as wanted"
    assert ("Prefect worker", "default/kinetic-worker") not in named


def _see_it_removed(google: LoopbackGoogle, capsys) -> None:
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
    with google.fault("CreateCluster", operation="stalls"):
        watching = Thread(target=_interrupt_when_begun, args=(google,))
        watching.start()
        stopped = Said(capsys, *MAKE)
        watching.join()
    assert stopped.code == 130
    line = next(each for each in stopped.err.splitlines() if "goes on from here" in each)
    assert line.startswith("kinetic: Ctrl-C: ")
    assert "cluster kinetic-cluster begun; `kinetic init --project my-project" in line
    again = Said(capsys, *MAKE)
    assert again.code == 0, again.err
    begun = [name for name in google.calls.names() if name.endswith("CreateCluster")]
    assert len(begun) == 1, "what was begun is waited for"


def _interrupt_when_begun(google: LoopbackGoogle) -> None:
    """Press Ctrl-C when Google makes the cluster and is asked how far it is."""
    while "GetOperation" not in " ".join(google.calls.names()).partition("CreateCluster")[2]:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_profile_of_another_project_is_not_led_elsewhere(google, capsys):
    values = {"project": "their-project", "cluster": "kinetic-cluster"}
    profiles.save_profile("kinetic-cluster", values)
    try:
        refused = Said(capsys, *MAKE)
        assert refused.code == 2
        assert "profile 'kinetic-cluster' leads to project 'their-project'" in refused.err
        assert "--profile" in refused.err
        assert google.serving.running == {}
        assert google.buckets.buckets == {}
    finally:
        profiles.delete_profile("kinetic-cluster")
