"""What `kinetic doctor` says of credentials, of a project on Google Cloud and of its cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud import container_v1, iam_admin_v1

from kinetic_flows.clients.google.operations import wait_for_cluster
from kinetic_flows.core.findings import Finding, NotAsked
from kinetic_flows.platforms.gke.checks.cluster import support_finding
from kinetic_flows.runs.doctor import Examined, examine
from loopback.google.server import LoopbackGoogle
from loopback.google.state import member_of

ZONE = "us-central1-a"
CLUSTER = "lab"
NAME = f"projects/loopback/locations/{ZONE}/clusters/{CLUSTER}"
APIS = (
    *("artifactregistry", "cloudbilling", "cloudbuild", "cloudresourcemanager", "compute"),
    *("container", "iam", "iamcredentials", "serviceusage", "storage"),
)
BUILDER = "builder@loopback.iam.gserviceaccount.com"


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackGoogle]:
    """A project with everything on, and a cluster with Workload Identity and the FUSE driver."""
    with LoopbackGoogle(tmp_path_factory.mktemp("google")) as running:
        running.switch_on(*APIS)
        pool = container_v1.NodePool(
            name="cpu", initial_node_count=1, config={"machine_type": "e2-standard-4"}
        )
        cluster = container_v1.Cluster(
            name=CLUSTER,
            node_pools=[pool],
            workload_identity_config={"workload_pool": "loopback.svc.id.goog"},
            addons_config={"gcs_fuse_csi_driver_config": {"enabled": True}},
            release_channel={"channel": "REGULAR"},
        )
        with closing(running.apis()) as apis:
            begun = apis.container.create_cluster(parent=NAME.partition("/clu")[0], cluster=cluster)
            wait_for_cluster(apis, begun, "make it", lambda _: None)
        running.state.add_account(
            iam_admin_v1.ServiceAccount(
                name=f"projects/loopback/serviceAccounts/{BUILDER}",
                project_id="loopback",
                email=BUILDER,
            )
        )
        yield running


@pytest.fixture
def place(google: LoopbackGoogle, tmp_path: Path, monkeypatch) -> Iterator[dict[str, str]]:
    """Return the variables by which the project is found; what a test changes is put back."""
    monkeypatch.chdir(tmp_path)
    apis, billing = set(google.project.apis), google.project.billing_account
    cluster = container_v1.Cluster(google.clusters.clusters[NAME])
    upgrades = container_v1.ClusterUpgradeInfo(google.clusters.upgrades)
    yield {
        **os.environ,
        **google.environment,
        "HOME": str(tmp_path),
        "KINETIC_PROJECT": "loopback",
        "KINETIC_ZONE": ZONE,
        "KINETIC_CLUSTER": CLUSTER,
        "KINETIC_STORAGE_ENDPOINT": google.url,
        "KINETIC_BUILD_SERVICE_ACCOUNT": BUILDER,
    }
    google.project.apis, google.project.billing_account = apis, billing
    google.clusters.clusters[NAME], google.clusters.upgrades = cluster, upgrades
    google.state.denied.clear()
    google.state.accounts[BUILDER].disabled = False


def examined(environ: Mapping[str, str], seconds: float = 60.0, **more: str) -> list[Examined]:
    """Return what is found; Google's own library asks this process's variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environ, **more}.items():
            patch.setenv(name, value)
        return list(examine(dict(os.environ), seconds=seconds))


def found(environ: Mapping[str, str], seconds: float = 60.0, **more: str) -> dict[str, Finding]:
    return {each.finding.subject: each.finding for each in examined(environ, seconds, **more)}


def test_a_project_that_is_as_it_has_to_be_is_well(google: LoopbackGoogle, place) -> None:
    findings = found(place)
    wanted = (
        *("clock against Google", "Google credentials"),
        *("rights on project loopback", f"rights on account {BUILDER}"),
        *("project loopback", "APIs", f"cluster {CLUSTER}", "Workload Identity"),
        *("Cloud Storage as volumes", "node pools", "Kubernetes API", "namespace default"),
    )
    assert {subject: findings[subject].level for subject in wanted} == dict.fromkeys(wanted, "ok")
    assert "owner@" in findings["Google credentials"].text
    assert "supported until 2100-01-01" in " ".join(each.text for each in findings.values())
    assert "cpu (e2-standard-4)" in findings["node pools"].text


def test_everything_that_is_broken_on_google_cloud_is_told_at_once(
    google: LoopbackGoogle, place
) -> None:
    google.project.apis -= {"cloudbuild", "artifactregistry"}
    google.project.billing_account = None
    google.state.accounts[BUILDER].disabled = True
    google.state.denied |= {("*", "cloudbuild.builds.*"), ("*", "serviceusage.services.use")}
    cluster = google.clusters.clusters[NAME]
    cluster.status = container_v1.Cluster.Status.DEGRADED
    cluster.status_message = "nodes do not register"
    cluster.workload_identity_config.workload_pool = ""
    cluster.addons_config.gcs_fuse_csi_driver_config.enabled = False
    cluster.node_pools[0].status = container_v1.NodePool.Status.ERROR
    cluster.node_pools[0].status_message = "out of addresses"
    google.clusters.upgrades.end_of_standard_support_timestamp = "2020-01-01T00:00:00Z"

    everything = examined(place, KINETIC_ACCELERATOR="l4")
    told = {each.finding.subject: each.finding for each in everything}
    rights = [each.finding for each in everything if "rights on project" in each.finding.subject]

    assert {each.command.rpartition("--role=")[2] for each in rights if each.command} == {
        "roles/cloudbuild.builds.editor",
        "roles/serviceusage.serviceUsageConsumer",
    }
    assert "cloudbuild.builds.create, cloudbuild.builds.get is missing" in rights[0].text
    assert '--member="user:' in str(rights[0].command)
    apis = told["APIs"]
    off = "artifactregistry.googleapis.com cloudbuild.googleapis.com"
    assert apis.level == "wrong"
    assert apis.command == f"gcloud services enable {off} --project=loopback"
    assert "has no billing account" in told["project loopback"].text
    assert told["project loopback"].level == "wrong"
    assert (told[f"build account {BUILDER}"].level) == "wrong"
    assert "enable" in str(told[f"build account {BUILDER}"].command)
    assert told[f"cluster {CLUSTER}"].text == "degraded: nodes do not register"
    assert told["Workload Identity"].level == "warning"
    assert "--workload-pool=loopback.svc.id.goog" in str(told["Workload Identity"].command)
    assert told["Cloud Storage as volumes"].level == "warning"
    assert told["node pool cpu"].text == "error: out of addresses"
    assert told["node pools"].command == "kinetic nodepools add l4"
    assert "extended support" in " ".join(each.text for each in told.values())


def test_a_cluster_without_nodes_for_plain_runs_gets_them_by_setting_up(
    google: LoopbackGoogle, place
) -> None:
    del google.clusters.clusters[NAME].node_pools[:]
    pools = found(place)["node pools"]
    assert (pools.level, pools.command) == ("wrong", "kinetic up")


def test_apis_that_are_off_are_switched_on(google: LoopbackGoogle, place) -> None:
    google.project.apis -= {"cloudbuild"}
    assert found(place, KINETIC_BUILDER="direct")["APIs"].level == "warning"
    off = found(place)["APIs"]
    assert off.level == "wrong"
    fix = off.fix
    assert fix is not None
    assert fix() == "turned on cloudbuild.googleapis.com"
    assert found(place)["APIs"].level == "ok"


def test_buckets_and_a_repository_that_are_missing_are_made(google: LoopbackGoogle, place) -> None:
    jobs, builds = "loopback-kn-lab-jobs", "loopback-kn-lab-builds"
    subjects = (f"bucket gs://{jobs}", f"bucket gs://{builds}", "image repository kn-lab")
    before = found(place)
    for subject in subjects:
        assert before[subject].level == "wrong"
        assert str(before[subject].command).startswith("gcloud ")
        fix = before[subject].fix
        assert fix is not None
        assert fix().startswith("made it in us-central1")
    for subject in (f"rights on bucket {jobs}", "leases of builds"):
        assert before[subject].text == f"not asked without the bucket {jobs}"

    after = found(place)
    assert {after[subject].level for subject in subjects} == {"ok"}
    assert after[f"rights on bucket {jobs}"].level == "ok"
    assert after["leases of builds"].level == "ok"
    assert after["rights on repository kn-lab"].level == "ok"
    drifted = found(place, KINETIC_RETENTION_DAYS="7")[subjects[0]]
    assert (drifted.level, drifted.command, drifted.fix) == ("warning", "kinetic up", None)
    assert "removed after 7 days" in drifted.text
    google.state.denied.add(("*", "storage.buckets.get"))
    launching = found(place)[subjects[0]]
    assert (launching.level, "open to you" in launching.text) == ("ok", True)


def test_an_accelerator_that_a_quota_has_no_room_for_is_told(
    google: LoopbackGoogle, place, monkeypatch
) -> None:
    monkeypatch.setitem(google.project.limits, "NVIDIA_L4_GPUS", 8.0)
    monkeypatch.setitem(google.project.limits, "GPUS_ALL_REGIONS", 8.0)
    assert found(place, KINETIC_ACCELERATOR="l4")["quota for l4"].level == "ok"
    monkeypatch.setitem(google.project.limits, "NVIDIA_L4_GPUS", 0.0)
    short = found(place, KINETIC_ACCELERATOR="l4")["quota for l4"]
    assert short.level == "warning"
    assert "quota NVIDIA_L4_GPUS in us-central1 is 0" in short.text


def test_what_may_not_be_asked_is_unknown_and_never_wrong(google: LoopbackGoogle, place) -> None:
    stranger = "stranger@example.com"
    person = google.person_file(stranger)
    google.state.policies.grant("projects/loopback", "roles/browser", member_of(stranger))
    findings = found(place, GOOGLE_APPLICATION_CREDENTIALS=str(person))
    assert findings["rights on project loopback"].level == "wrong", "Google says what is missing"
    for subject in ("APIs", f"cluster {CLUSTER}", "build account"):
        assert findings[subject].level == "unknown", subject
    assert findings["namespace"].level == "unknown"


def test_credentials_that_google_does_not_take_are_wrong_and_all_else_unknown(
    google: LoopbackGoogle, place
) -> None:
    gone = google.key_file().with_name("gone.json")
    elsewhere = {
        name: value
        for name, value in place.items()
        if name not in ("KINETIC_STORAGE_ENDPOINT", "STORAGE_EMULATOR_HOST")
    }
    findings = found(elsewhere, GOOGLE_APPLICATION_CREDENTIALS=str(gone))
    login = findings["Google credentials"]
    assert login.level == "wrong"
    assert "does not exist" in login.text
    assert findings["APIs"].text == "not asked without Google credentials"
    assert not [each for each in findings.values() if each.level == "wrong" and each is not login]


def test_a_cluster_that_is_not_there_is_wrong(google: LoopbackGoogle, place) -> None:
    findings = found(place, KINETIC_CLUSTER="gone")
    assert findings["cluster gone"].level == "wrong"
    assert "has no GKE cluster 'gone'" in findings["cluster gone"].text
    assert findings["cluster gone"].command == "gcloud container clusters list --project loopback"
    bucket = findings["bucket gs://loopback-kn-gone-jobs"]
    assert bucket.fix is not None
    with pytest.raises(NotAsked):
        bucket.fix()
    assert findings["Kubernetes API"].level == "unknown"


def test_an_api_that_never_answers_is_unknown(google: LoopbackGoogle, place) -> None:
    with google.fault("BatchGetServices", stall_seconds=30.0):
        apis = found(place, seconds=1.0)["APIs"]
    assert (apis.level, "no answer in time" in apis.text) == ("unknown", True)


def test_builds_that_lack_roles_are_told_what_gives_them(google: LoopbackGoogle, place) -> None:
    def lacking() -> list[Finding]:
        return [
            each.finding
            for each in examined(place)
            if each.finding.subject == f"build account {BUILDER}"
        ]

    assert any("no roles/logging.logWriter" in each.text for each in lacking())
    google.state.policies.grant(
        "projects/loopback", "roles/cloudbuild.builds.builder", member_of(BUILDER)
    )
    assert [each.level for each in lacking()] == ["ok"]


NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("standard", "extended", "level", "said"),
    [
        (200, 500, "ok", "supported until 2026-12-18"),
        (20, 500, "warning", "only supported until"),
        (-20, 500, "warning", "extended support"),
        (-500, -20, "wrong", "out of support since"),
        (-20, None, "wrong", "out of support since"),
        (None, None, "unknown", "does not tell"),
    ],
)
def test_a_version_is_told_by_how_long_google_looks_after_it(
    standard: int | None, extended: int | None, level: str, said: str
) -> None:
    def day(number: int | None) -> Any:
        return None if number is None else NOW + timedelta(days=number)

    finding = support_finding(
        "1.33", standard=day(standard), extended=day(extended), now=NOW, command="upgrade"
    )
    assert finding.level == level
    assert said in finding.text
    assert (finding.command == "upgrade") == (level in ("warning", "wrong"))
