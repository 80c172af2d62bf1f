"""What `kinetic init` finds out before it asks, and what it refuses, against Google's APIs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from google.cloud import container_v1

from kinetic_flows.cli.setup.choices import Conversation, command_again
from kinetic_flows.cli.setup.flow import choose
from kinetic_flows.cli.setup.options import NOTHING_SAID, SetupOptions
from kinetic_flows.cli.setup.place import found_setup, look_around
from kinetic_flows.core.errors import KineticError, PrefectServerError, UsageError
from kinetic_flows.core.settings.table import Profile
from loopback.google.answers import no_permission
from loopback.google.server import LoopbackGoogle


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackGoogle]:
    """Google's APIs with one project, in which Resource Manager, Billing and GKE are on."""
    with LoopbackGoogle(tmp_path_factory.mktemp("google"), project="my-project") as google:
        google.switch_on("cloudresourcemanager", "cloudbilling", "container", "compute")
        yield google


@pytest.fixture
def google(server: LoopbackGoogle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The same, as this process asks it."""
    variables = {**server.environment, "KINETIC_HOME": str(tmp_path / "home")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return server


def chosen(**options):
    return Conversation(around=look_around(), options=SetupOptions(**options), asks=False).hold()


def a_cluster(
    google: LoopbackGoogle, name: str, location: str = "europe-west4-a", **labels: str
) -> None:
    """Have somebody make a cluster by hand, or another version of us."""
    pool = container_v1.NodePool(name="default", initial_node_count=1)
    cluster = container_v1.Cluster(name=name, node_pools=[pool], resource_labels=labels)
    parent = f"projects/my-project/locations/{location}"
    google.apis().container.create_cluster(parent=parent, cluster=cluster)


def test_googles_project_is_taken_where_nothing_else_is_said(google, capsys):
    request = chosen().request
    assert (request.project, request.location, request.cluster) == (
        "my-project",
        "us-central1-a",
        "kinetic-cluster",
    )
    assert (request.mode, request.prefect, request.joins) == ("standard", "machine", False)
    assert capsys.readouterr().err.splitlines() == [
        "kinetic: ✓ Google Cloud credentials: owner@example.com",
        "kinetic: ✓ project my-project: billing is on, you may set it up",
    ]


def test_an_autopilot_cluster_is_in_the_region(google):
    assert chosen(autopilot=True).request.location == "us-central1"


def test_a_project_that_is_not_there_is_refused_before_anything_else(google):
    with pytest.raises(KineticError, match="there is no project 'no-such-project'") as caught:
        chosen(project="no-such-project")
    assert "gcloud projects list" in (caught.value.hint or "")


def test_a_project_without_billing_is_told_where_to_link_some(google):
    account, google.project.billing_account = google.project.billing_account, None
    try:
        with pytest.raises(KineticError, match="'my-project' has no billing account") as caught:
            chosen()
    finally:
        google.project.billing_account = account
    assert "project=my-project" in (caught.value.hint or "")


def test_rights_that_lack_are_told_all_at_once_with_the_roles_that_have_them(google):
    lacking = {("*", "container.clusters.create"), ("*", "storage.buckets.create")}
    google.state.denied |= lacking
    try:
        with pytest.raises(KineticError, match=r"may not set up project 'my-project'") as caught:
            chosen()
    finally:
        google.state.denied -= lacking
    assert "container.clusters.create, storage.buckets.create missing" in caught.value.message
    hint = caught.value.hint or ""
    assert "--role=roles/container.admin" in hint
    assert "--role=roles/storage.admin" in hint


def test_apis_that_are_off_are_no_obstacle(google, capsys):
    google.project.apis -= {"cloudresourcemanager", "cloudbilling", "container"}
    try:
        assert chosen().request.cluster == "kinetic-cluster"
    finally:
        google.switch_on("cloudresourcemanager", "cloudbilling", "container")
    assert "project my-project: chosen" in capsys.readouterr().err


def test_a_cluster_is_joined_wherever_it_is(google):
    a_cluster(google, "shared")
    request = chosen(cluster="shared", join=True).request
    assert (request.location, request.joins) == ("europe-west4-a", True)


def test_joining_what_is_not_there_names_what_is(google):
    a_cluster(google, "research")
    with pytest.raises(UsageError, match="'my-project' has no cluster 'researh'") as caught:
        chosen(cluster="researh", join=True)
    assert "research" in (caught.value.hint or "")


def test_a_cluster_that_may_not_be_listed_is_an_error_with_what_to_grant(google):
    with (
        google.fault(
            "ListClusters", no_permission("container.clusters.list", "projects/my-project")
        ),
        pytest.raises(KineticError, match=r"container\.clusters\.list") as caught,
    ):
        chosen()
    assert "gcloud projects add-iam-policy-binding my-project" in (caught.value.hint or "")


def test_prefect_as_it_is_configured_is_taken(google, monkeypatch, capsys):
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example.com/api")
    assert chosen().request.prefect == "cloud"
    assert "Prefect: http://prefect.example.com/api, as it is configured" in capsys.readouterr().err
    with pytest.raises(KineticError, match="comes before the background server"):
        chosen(prefect="machine")


def test_nobody_is_asked_for_a_project_that_is_not_known(google, monkeypatch, tmp_path):
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(UsageError, match="no project is known") as caught:
        chosen()
    assert "--project" in (caught.value.hint or "")


def test_without_credentials_google_is_not_asked(google, monkeypatch, tmp_path):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(KineticError, match="no Google Cloud credentials") as caught:
        chosen(project="my-project")
    assert "gcloud auth application-default login" in (caught.value.hint or "")


def test_the_command_that_goes_on_says_all_that_was_answered(google):
    options = chosen(accelerator=("l4:spot",), member=("user:alice@example.com",)).options
    assert command_again("init", options, "mine") == (
        "kinetic init --profile mine --project my-project --zone us-central1-a "
        "--accelerator l4:spot --member user:alice@example.com --prefect machine"
    )


def test_status_and_down_look_for_the_cluster_of_the_project(google):
    wanted = found_setup(look_around(), NOTHING_SAID)
    assert (wanted.request.project, wanted.request.cluster) == ("my-project", "kinetic-cluster")


def test_a_cluster_is_not_left_by_what_is_around_it_where_another_profile_is_in_use(google):
    a_cluster(google, "far-away", **{"kinetic-cluster": "far-away"})
    other = Profile(name="other", values={"project": "my-project", "cluster": "kinetic-cluster"})
    around = replace(look_around(), profile=other)
    wanted = found_setup(around, SetupOptions(cluster="far-away"))
    assert (wanted.request.location, wanted.request.joins) == ("europe-west4-a", False)
    said = found_setup(around, SetupOptions(cluster="far-away", zone="us-east1-b"))
    assert said.request.location == "us-east1-b"


def test_a_prefect_api_that_does_not_answer_is_told_before_anything_is_made(google):
    with pytest.raises(KineticError, match=r"http://127\.0\.0\.1:1/api"):
        chosen(prefect_url="http://127.0.0.1:1/api")


def test_a_profile_that_cannot_be_saved_is_refused_before_anything_is_made(google):
    with pytest.raises(KineticError, match="a profile cannot be called 'My Own'"):
        choose("init", NOTHING_SAID, "My Own", asks=False)


def test_a_prefect_api_that_is_named_is_elsewhere():
    with pytest.raises(UsageError, match="do not go together"):
        SetupOptions(prefect="machine", prefect_url="https://prefect.example/api").check()


def test_a_profile_that_cannot_be_read_hinders_nobody_who_says_which_cluster(
    google, capsys, monkeypatch: pytest.MonkeyPatch
):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        monkeypatch.setenv("KINETIC_PROFILE", "team")
        with pytest.raises(PrefectServerError) as refused:
            look_around(SetupOptions(project="my-project"))
        assert "--cluster to go on without profile team" in str(refused.value.hint)
        around = look_around(SetupOptions(project="my-project", cluster="team"))
    assert around.profile is None
    assert "profile team is not heeded" in capsys.readouterr().err
