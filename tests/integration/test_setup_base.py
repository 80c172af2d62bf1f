"""What is made around a cluster, against Google's APIs: whatever goes wrong, it can be gone on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.cloud import container_v1, iam_admin_v1
from google.iam.v1 import options_pb2

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.operations import wait_for_cluster, wait_for_compute
from kinetic_flows.core.errors import CloudError, ConfigurationError
from kinetic_flows.platforms.gke.setup import base
from kinetic_flows.platforms.gke.setup.apply import Patience, apply_all, remove_all
from kinetic_flows.platforms.gke.setup.clusters.pool_options import parse_pools
from kinetic_flows.platforms.gke.setup.compare import Compared, compare_all, needed, plan_removal
from kinetic_flows.platforms.gke.setup.model import Change, Stage, Step, Wanted
from kinetic_flows.platforms.gke.setup.project.policies import Binding, Holder, Policy
from kinetic_flows.platforms.gke.setup.project.roles import Roles
from kinetic_flows.platforms.gke.setup.project.services import APIS
from kinetic_flows.platforms.gke.setup.request import SetupRequest
from kinetic_flows.platforms.gke.setup.wanted import everything, stages
from loopback.google.answers import Code, GoogleRefusal, invalid, missing, no_permission
from loopback.google.server import LoopbackGoogle
from loopback.google.state import OWNER

pytest_plugins = ["loopback.fixtures"]

ALICE, BOB = "user:alice@example.com", "user:bob@example.com"
PROJECT = "projects/loopback"
JOBS, BUILDS = "loopback-kn-research-jobs", "loopback-kn-research-builds"
REPOSITORY = f"{PROJECT}/locations/us-central1/repositories/kn-research"
AROUND = ("project", "APIs", "accounts, buckets, network", "roles")
SOON = Patience(api_pauses_seconds=(0.01,) * 8)


@dataclass(kw_only=True)
class Around:
    """Everything around a cluster, on the loopback Google."""

    google: LoopbackGoogle
    apis: GoogleApis

    def wanted(self, **changes: Any) -> Wanted:
        place = {"project": "loopback", "location": "us-central1-a", "cluster": "research"}
        return Wanted(request=SetupRequest(**{**place, **changes}), apis=self.apis)

    def compare(self, **changes: Any) -> tuple[Compared, ...]:
        return compare_all(_around(stages(self.wanted(**changes))))

    def up(self, **changes: Any) -> int:
        return apply_all(needed(self.compare(**changes)), ignored, patience=SOON)

    def left_to_do(self, **changes: Any) -> list[str]:
        return [
            f"{c.action} {c.kind} {c.name}" for c in told(self.compare(**changes)) if c.is_needed
        ]

    def plan_down(self, *, purge: bool = False, **changes: Any) -> tuple[Compared, ...]:
        return plan_removal(_around(everything(self.wanted(**changes))), purge=purge)

    def down(self, *, purge: bool = False, **changes: Any) -> int:
        return remove_all(needed(self.plan_down(purge=purge, **changes)), ignored)

    def bindings(self, resource: str = PROJECT) -> dict[str, set[str]]:
        return self.google.state.policies.bindings(resource)

    def make_bucket(self, name: str, project: str = "loopback", **settings: Any) -> None:
        """Make a bucket, as somebody else does it."""
        self.google.switch_on("storage")
        made = self.apis.storage.bucket(name)
        made.labels = settings
        made.create(project=project)

    def bucket_bindings(self, bucket: str) -> dict[str, set[str]]:
        return self.bindings(f"projects/_/buckets/{bucket}")


@pytest.fixture
def around(loopback_google: LoopbackGoogle) -> Iterator[Around]:
    with closing(loopback_google.apis()) as apis:
        yield Around(google=loopback_google, apis=apis)


def _around(found: Sequence[Stage]) -> list[Stage]:
    return [stage for stage in found if stage.title in AROUND]


def ignored(_: Step) -> None:
    """Take no notice."""


def told(compared: Sequence[Compared]) -> list[Change]:
    return [change for each in compared for change in each.changes]


def account(purpose: str) -> str:
    return f"serviceAccount:kn-research-{purpose}@loopback.iam.gserviceaccount.com"


def test_an_empty_project_gets_everything_and_a_second_time_nothing(around: Around) -> None:
    changes = told(around.compare(private_nodes=True))
    assert {change.action for change in changes} <= {"create", "change", "keep", "unknown"}
    assert len([change for change in changes if change.action == "create"]) == 7
    around.up(private_nodes=True)
    assert around.left_to_do(private_nodes=True) == []
    assert around.up(private_nodes=True) == 0


def test_everybody_gets_the_roles_that_the_page_names_and_no_other(around: Around) -> None:
    around.up(worker=True, members=(ALICE,))
    launch = {ALICE, account("launch")}
    assert around.bindings() == {
        "roles/owner": {f"user:{OWNER}", f"serviceAccount:{around.google.admin}"},
        "roles/container.defaultNodeServiceAccount": {account("nodes")},
        "roles/logging.logWriter": {account("builds")},
        "roles/cloudbuild.builds.editor": launch,
        "roles/container.clusterViewer": launch,
        "roles/serviceusage.serviceUsageConsumer": launch,
    }
    assert around.bindings(REPOSITORY) == {
        "roles/artifactregistry.reader": {account("nodes")},
        "roles/artifactregistry.writer": {account("builds"), *launch},
    }
    assert around.bucket_bindings(JOBS)["roles/storage.objectUser"] == {account("pods"), *launch}
    assert around.bucket_bindings(BUILDS)["roles/storage.objectUser"] == {
        account("builds"),
        *launch,
    }
    builds = f"{PROJECT}/serviceAccounts/{account('builds').partition(':')[2]}"
    assert around.bindings(builds) == {"roles/iam.serviceAccountUser": launch}


def test_buckets_are_closed_labelled_and_forget(around: Around) -> None:
    around.up(retention_days=7)
    settings = around.google.buckets.buckets[JOBS]
    assert settings["labels"] == {"kinetic-cluster": "research"}
    assert settings["location"] == "US-CENTRAL1"
    assert settings["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert settings["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]
    rules = settings["lifecycle"]["rule"]
    assert [rule["condition"] for rule in rules] == [
        {"age": 30, "matchesPrefix": ["compile-cache/"]},
        {"age": 7, "matchesPrefix": ["runs/"]},
        {"age": 7},
    ]


def test_another_retention_and_a_bucket_that_was_opened_are_changed_back(around: Around) -> None:
    around.up()
    own = {"action": {"type": "Delete"}, "condition": {"age": 1, "matchesPrefix": ["mine/"]}}
    settings = around.google.buckets.buckets[JOBS]
    settings["lifecycle"]["rule"].append(own)
    settings["iamConfiguration"]["publicAccessPrevention"] = "inherited"
    (jobs,) = [c for c in told(around.compare(retention_days=3)) if c.name == f"gs://{JOBS}"]
    assert (jobs.action, jobs.details) == (
        "change",
        ("close it to the public", "objects below runs/ are removed after 3 days"),
    )
    around.up(retention_days=3)
    assert around.left_to_do(retention_days=3) == []
    assert own in around.google.buckets.buckets[JOBS]["lifecycle"]["rule"]


def test_a_disabled_account_is_enabled_again(around: Around) -> None:
    around.up()
    email = account("builds").partition(":")[2]
    around.google.state.accounts[email].disabled = True
    assert around.left_to_do() == ["change service account kn-research-builds"]
    around.up()
    assert not around.google.state.accounts[email].disabled


def test_an_api_that_is_off_is_turned_on_and_nothing_else_is_done_again(around: Around) -> None:
    around.up()
    before = _kept(around)
    for name in APIS:
        around.google.project.apis.discard(name.partition(".")[0])
        assert "change APIs loopback" in around.left_to_do()
        around.up()
        assert around.left_to_do() == []
        assert _kept(around) == before


def _kept(around: Around) -> dict[str, Any]:
    """Return what there is, but for how often policies were written."""
    state = around.google.state
    return {
        "accounts": sorted(state.accounts),
        "buckets": json.dumps(around.google.buckets.buckets, sort_keys=True),
        "repositories": sorted(around.google.artifacts.repositories),
        "project": {role: sorted(who) for role, who in sorted(around.bindings().items())},
    }


def test_apis_and_accounts_that_are_not_known_everywhere_yet_are_waited_for(around: Around) -> None:
    around.google.state.api_lag = 2
    around.google.state.account_lag = 1
    compared = around.compare(members=(ALICE,))
    with around.google.fault("networks.get", missing("The resource was not found")):
        apply_all(needed(compared), ignored, patience=SOON)
    assert around.left_to_do(members=(ALICE,)) == []


def test_accounts_that_are_hidden_or_just_made_are_found_all_the_same(around: Around) -> None:
    """IAM says of accounts that are not there that one has no right to them, and lags behind."""
    around.google.switch_on("iam", "cloudresourcemanager")
    hidden = no_permission("iam.serviceAccounts.get", "nobody")
    of_roles = no_permission("iam.serviceAccounts.getIamPolicy", "nobody")
    with (
        around.google.fault("IAM.GetServiceAccount", hidden, times=8),
        around.google.fault("IAM.GetIamPolicy", of_roles, times=2),
    ):
        around.up(members=(ALICE,))
    unknown = missing("Unknown service account")
    around.down()
    compared = around.compare(members=(ALICE,))
    with around.google.fault("IAM.GetIamPolicy", unknown, times=2):
        apply_all(needed(compared), ignored, patience=SOON)
    assert around.left_to_do(members=(ALICE,)) == []


def test_without_the_right_to_turn_apis_on_nothing_is_begun(around: Around) -> None:
    around.google.state.denied.add(("*", "serviceusage.services.enable"))
    with pytest.raises(CloudError) as refused:
        around.up()
    assert "serviceusage.services.enable" in refused.value.message
    assert "--role=roles/serviceusage.serviceUsageAdmin" in str(refused.value.hint)
    assert around.google.artifacts.repositories == {}
    assert around.google.buckets.buckets == {}


def test_rights_that_are_missing_are_named_and_when_they_are_there_it_goes_on(
    around: Around,
) -> None:
    """One after the other is given, as somebody does who reads what each refusal says."""
    rights = {
        "serviceusage.services.enable": "roles/serviceusage.serviceUsageAdmin",
        "iam.serviceAccounts.create": "roles/iam.serviceAccountAdmin",
        "storage.buckets.create": "roles/storage.admin",
        "artifactregistry.repositories.create": "roles/artifactregistry.admin",
        "compute.routers.create": "roles/compute.networkAdmin",
        "resourcemanager.projects.setIamPolicy": "roles/resourcemanager.projectIamAdmin",
        "storage.buckets.setIamPolicy": "roles/storage.admin",
        "artifactregistry.repositories.setIamPolicy": "roles/artifactregistry.admin",
        "iam.serviceAccounts.setIamPolicy": "roles/iam.serviceAccountAdmin",
    }
    denied = around.google.state.denied
    denied |= {("*", permission) for permission in rights}
    wish = {"private_nodes": True, "members": (ALICE,)}
    told_of = set()
    while denied:
        with pytest.raises(CloudError) as refused:
            around.up(**wish)
        assert "run the same command again" in str(refused.value.hint)
        now = {each for each in rights if each in str(refused.value) and ("*", each) in denied}
        assert now, "what is told is what is missing"
        for permission in now:
            assert f"--role={rights[permission]}" in str(refused.value)
            denied.discard(("*", permission))
        told_of |= now
    assert told_of == set(rights)
    around.up(**wish)
    assert around.left_to_do(**wish) == []


def test_a_right_to_look_that_is_missing_is_told_before_anything_is_made(around: Around) -> None:
    around.up()
    around.google.state.denied |= {("*", f"iam.serviceAccounts.{verb}") for verb in ("get", "list")}
    with pytest.raises(CloudError) as refused:
        around.compare()
    assert "likewise service account kn-research-pods" in refused.value.message


def test_a_bucket_name_that_is_taken_is_told_before_anything_is_made(around: Around) -> None:
    around.google.buckets.taken.add(JOBS)
    around.google.switch_on("cloudresourcemanager")
    with pytest.raises(CloudError) as taken:
        around.up()
    assert f"gs://{JOBS} belongs to another project" in taken.value.message
    assert "likewise" not in taken.value.message, "its roles are no matter of their own"
    assert "--cluster" in str(taken.value.hint)
    assert around.google.buckets.buckets == {}


def test_a_bucket_of_another_project_of_ones_own_is_not_taken_for_this_one(around: Around) -> None:
    around.google.state.add_project("my-other-project")
    around.make_bucket(JOBS, "my-other-project", **{"kinetic-cluster": "research"})
    around.google.switch_on("cloudresourcemanager")
    with pytest.raises(CloudError, match="belongs to another project"):
        around.up()
    with pytest.raises(CloudError, match="belongs to another project"):
        around.down(purge=True)
    assert JOBS in around.google.buckets.buckets


def test_a_name_that_is_taken_between_looking_and_making_is_told(around: Around) -> None:
    compared = around.compare()
    around.google.buckets.taken.add(JOBS)
    with pytest.raises(CloudError, match="belongs to another project"):
        apply_all(needed(compared), ignored, patience=SOON)
    assert BUILDS in around.google.buckets.buckets, "the others of its stage are made"


def test_an_operation_that_fails_half_way_is_begun_anew(around: Around) -> None:
    failure = GoogleRefusal(Code.INTERNAL, "An internal error has occurred.")
    methods = ("ServiceUsage.BatchEnableServices", "ArtifactRegistry.CreateRepository")
    for method in methods:
        with (
            around.google.fault(method, failure, operation="fails"),
            around.google.fault("routers.insert", failure, operation="fails"),
            pytest.raises(CloudError) as failed,
        ):
            around.up(private_nodes=True)
        assert "An internal error has occurred" in failed.value.message
        assert "again" in str(failed.value.hint)
    assert failed.value.message.startswith("2 things could not be made as wanted (7 done before")
    assert "cannot create router kn-research-nat" in failed.value.message
    around.up(private_nodes=True)
    assert around.left_to_do(private_nodes=True) == []


def test_answers_that_are_lost_leave_nothing_twice(around: Around) -> None:
    lost = GoogleRefusal(Code.UNAVAILABLE, "Connection reset by peer")
    methods = (
        *("ServiceUsage.BatchEnableServices", "ArtifactRegistry.CreateRepository"),
        *("IAM.CreateServiceAccount", "buckets.insert", "routers.insert"),
        *("Projects.SetIamPolicy", "buckets.setIamPolicy"),
    )
    with ExitStack() as faults:
        for method in methods:
            faults.enter_context(around.google.fault(method, lost, handled=True))
        for _ in methods:
            with suppress(CloudError):
                around.up(private_nodes=True)
    assert around.left_to_do(private_nodes=True) == []
    names = around.google.calls.names()
    assert names.count("buckets.insert") <= 3
    assert names.count("IAM.CreateServiceAccount") == 3
    assert names.count("Projects.SetIamPolicy") == 1


def test_a_quota_is_told_in_googles_words(around: Around) -> None:
    full = GoogleRefusal(
        Code.RESOURCE_EXHAUSTED, "Maximum number of service accounts on project reached."
    )
    with around.google.fault("IAM.CreateServiceAccount", full, times=9):
        with pytest.raises(CloudError, match="Maximum number of service accounts") as refused:
            around.up()
        assert "quotas" in str(refused.value.hint)


def test_stopped_at_any_step_it_goes_on_from_there(around: Around) -> None:
    """Each run is stopped a step later than the one before, until one comes to its end."""
    wish = {"private_nodes": True, "members": (ALICE,)}
    allowed = 0
    while around.left_to_do(**wish):
        allowed += 1
        left = iter(range(allowed))

        def stop(step: Step, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt(str(step))

        with suppress(KeyboardInterrupt):
            apply_all(needed(around.compare(**wish)), stop, patience=SOON)
    assert allowed >= 3
    assert around.bindings()["roles/cloudbuild.builds.editor"] == {ALICE}
    around.down(purge=True)
    assert set(around.bindings()) == {"roles/owner"}


KILLED = """
import sys
from kinetic_flows.clients.google.apis import Endpoints, GoogleApis
from kinetic_flows.clients.google.identity import application_default
from kinetic_flows.core.settings.values import api_endpoints
from kinetic_flows.platforms.gke.setup import base
from kinetic_flows.platforms.gke.setup.apply import apply_all
from kinetic_flows.platforms.gke.setup.compare import compare_all, needed
from kinetic_flows.platforms.gke.setup.model import Wanted
from kinetic_flows.platforms.gke.setup.request import SetupRequest
from kinetic_flows.platforms.gke.setup.wanted import stages

apis, registry, storage = sys.argv[1:]
endpoints = Endpoints(apis=api_endpoints(apis, ""), artifact_registry=registry, storage=storage)
request = SetupRequest(project="loopback", location="us-central1-a", cluster="research")
clients = GoogleApis("loopback", endpoints=endpoints, credentials=application_default("loopback"))
found = compare_all(stages(Wanted(request=request, apis=clients)))
apply_all(needed(found), lambda step: print(step, flush=True))
"""


def test_killed_while_the_cluster_is_made_it_goes_on_grows_and_goes_down(around: Around) -> None:
    """From an empty project: a process that is killed, a second one, a node pool more, and down."""
    google = around.google
    with google.fault("ClusterManager.CreateCluster", operation="stalls"):
        _run_until("cluster research: being made", google)
    for work in list(google.operations.works.values()):
        while not work.done:  # Google goes on, whoever waits for it
            work.look()
    compared = compare_all(stages(around.wanted()))
    left = [change.kind for change in told(compared) if change.is_needed]
    assert left[0] == "roles on", "the cluster is as wanted, and nothing before it is done again"
    apply_all(needed(compared), ignored, patience=SOON)
    assert needed(compare_all(stages(around.wanted()))) == ()
    names = google.calls.names()
    for once in ("ServiceUsage.BatchEnableServices", "ClusterManager.CreateCluster"):
        assert names.count(once) == 1
    accounts = google.cluster("research").list("serviceaccounts", "default")
    acting_as = [each["metadata"].get("annotations") for each in accounts]
    pods = account("pods").partition(":")[2]
    assert {"iam.gke.io/gcp-service-account": pods} in acting_as
    more = around.wanted(pools=parse_pools(["l4"], max_nodes=2))
    (pools,) = needed(compare_all(stages(more)))
    assert [(each.kind, each.name) for each in pools.resources] == [("node pool", "l4")]
    apply_all((pools,), ignored)
    remove_all(needed(plan_removal(everything(more), purge=True)), ignored)
    assert google.clusters.clusters == {}
    assert google.buckets.buckets == {}
    assert set(around.bindings()) == {"roles/owner"}
    with closing(google.apis()) as apis:  # as another process has them, which knows of nothing
        planned = plan_removal(everything(replace(more, apis=apis)), purge=True)
    assert {change.action for change in told(planned)} == {"keep", "leave"}


def _run_until(line: str, google: LoopbackGoogle) -> None:
    """Have another process set everything up, and kill it when it says something."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, google.endpoints, google.url, google.url],
        stdout=subprocess.PIPE,
        env={**os.environ, **google.environment},
        text=True,
    )
    assert process.stdout is not None
    for each in process.stdout:
        if line in each:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait(60) == -signal.SIGKILL


@dataclass(frozen=True, kw_only=True)
class Contested:
    """A holder on which somebody else grants a role between each reading and writing."""

    inner: Holder
    google: LoopbackGoogle
    left: list[str]

    @property
    def title(self) -> str:
        return self.inner.title

    @property
    def resource(self) -> str:
        return self.inner.resource

    def read(self) -> Policy:
        found = self.inner.read()
        if self.left:
            self.google.state.policies.grant(self.resource, "roles/viewer", self.left.pop())
        return found

    def write(self, policy: Policy, bindings: Sequence[Binding]) -> None:
        self.inner.write(policy, bindings)


def test_what_others_grant_at_the_same_moment_is_not_lost(around: Around) -> None:
    around.up()
    around.down(purge=False)
    around.google.switch_on("cloudresourcemanager")
    apply_all(needed(around.compare())[:1], ignored, patience=SOON)  # the accounts
    (on_project, *_) = base.roles(around.wanted())
    assert isinstance(on_project, Roles)
    others = ["user:carol@example.com", BOB]
    contested = Roles(
        holder=Contested(inner=on_project.holder, google=around.google, left=[*others]),
        grants=on_project.grants,
        own=on_project.own,
        ledger=on_project.ledger,
    )
    contested.apply(lambda _: None)
    assert around.bindings()["roles/viewer"] == set(others)
    assert around.bindings()["roles/logging.logWriter"] == {account("builds")}
    assert around.google.calls.names().count("Projects.SetIamPolicy") >= 3


def test_conditions_of_others_stay_when_roles_are_granted_and_taken_back(around: Around) -> None:
    around.google.switch_on("cloudresourcemanager")
    state = around.google.state
    policy = state.policies.read(PROJECT, policy_options())
    policy.version = 3
    policy.bindings.add(
        role="roles/logging.logWriter",
        members=[BOB],
        condition={
            "title": "until friday",
            "expression": "request.time < timestamp('2030-01-01T00:00:00Z')",
        },
    )
    state.policies.write(PROJECT, policy)
    around.up()
    around.down(purge=True)
    left = state.policies.read(PROJECT, policy_options())
    assert [each.condition.title for each in left.bindings if each.members == [BOB]] == [
        "until friday"
    ]


def policy_options() -> Any:
    return options_pb2.GetPolicyOptions(requested_policy_version=3)


def test_roles_that_people_had_before_stay_theirs(around: Around) -> None:
    around.google.state.policies.grant(PROJECT, "roles/cloudbuild.builds.editor", BOB)
    around.up(members=(ALICE, BOB))
    around.up(members=())
    assert around.bindings()["roles/container.clusterViewer"] == {ALICE, BOB}
    around.down()
    assert around.bindings() == {
        "roles/owner": {f"user:{OWNER}", f"serviceAccount:{around.google.admin}"},
        "roles/cloudbuild.builds.editor": {BOB},
    }
    assert "roles/storage.objectUser" not in around.bucket_bindings(JOBS)


def test_a_member_is_the_same_in_any_case(around: Around) -> None:
    """Google writes an address as the account does, whatever was asked for."""
    typed = {"members": ("user:Alice@Example.com",)}
    around.up(**typed)
    assert around.bindings()["roles/cloudbuild.builds.editor"] == {ALICE}
    assert around.left_to_do(**typed) == []
    around.down()
    assert set(around.bindings()) == {"roles/owner"}


def test_notes_of_what_could_not_have_been_granted_take_nothing(around: Around) -> None:
    """Who may launch runs may write the notes; the owner's role is not theirs to take."""
    around.up()
    forged = {"granted": {PROJECT: [["roles/owner", f"user:{OWNER}"]]}}
    notes = around.apis.storage.bucket(BUILDS).blob("setup/granted.json")
    notes.upload_from_string(json.dumps(forged))
    around.down()
    assert f"user:{OWNER}" in around.bindings()["roles/owner"]
    notes.upload_from_string("{}")
    with pytest.raises(CloudError, match=r"setup/granted\.json.* is damaged"):
        around.plan_down()


def test_somebody_whom_google_does_not_know_is_told_at_once(around: Around) -> None:
    refusal = invalid("User nobody@exmaple.com does not exist.")
    with around.google.fault("Projects.SetIamPolicy", refusal), pytest.raises(CloudError) as told_:
        around.up(members=("user:nobody@exmaple.com",))
    assert "nobody@exmaple.com does not exist" in told_.value.message
    assert around.google.calls.names().count("Projects.SetIamPolicy") == 1


def test_down_leaves_data_and_says_so_and_purge_takes_it(around: Around) -> None:
    around.up(private_nodes=True)
    for number in range(7):
        around.apis.storage.bucket(JOBS).blob(f"outputs/{number}//odd/").upload_from_string("x")
    planned = {f"{c.kind} {c.name}": c for c in told(around.plan_down())}
    assert planned[f"bucket gs://{JOBS}"].action == "leave"
    assert "--purge" in planned[f"bucket gs://{JOBS}"].why
    assert planned["image repository kn-research"].action == "leave"
    assert planned["APIs loopback"].action == "leave"
    assert planned["Cloud NAT kn-research-nat"].action == "remove"
    around.down()
    assert set(around.google.buckets.buckets) == {JOBS, BUILDS}
    assert not [email for email in around.google.state.accounts if email.startswith("kn-")]
    assert {c.action for c in told(around.plan_down())} == {"keep", "leave"}
    around.down(purge=True)
    assert around.google.buckets.buckets == {}
    assert around.google.artifacts.repositories == {}
    assert around.down(purge=True) == 0
    assert set(APIS) >= {f"{each}.googleapis.com" for each in ("container", "storage")}
    assert "container" in around.google.project.apis, "APIs stay on"


def test_what_was_there_before_is_used_and_neither_changed_nor_removed(around: Around) -> None:
    around.google.switch_on("cloudresourcemanager", "iam", "artifactregistry")
    around.make_bucket(JOBS, team="vision")
    before = dict(around.google.buckets.buckets[JOBS])
    around.up()
    assert around.left_to_do() == []
    assert around.google.buckets.buckets[JOBS] == before
    assert around.bucket_bindings(JOBS)["roles/storage.objectUser"] == {account("pods")}
    planned = {c.name: c for c in told(around.plan_down(purge=True))}
    assert planned[f"gs://{JOBS}"].why == "it was not made by kinetic up"
    around.down(purge=True)
    assert set(around.google.buckets.buckets) == {JOBS}


def test_down_of_one_cluster_leaves_those_of_another(around: Around) -> None:
    around.up(cluster="research")
    around.up(cluster="research-2")
    around.down(purge=True, cluster="research")
    assert around.left_to_do(cluster="research-2") == []
    assert set(around.google.buckets.buckets) == {
        *("loopback-kn-research-2-jobs", "loopback-kn-research-2-builds"),
    }


def test_who_launches_on_two_clusters_keeps_roles_until_both_are_gone(around: Around) -> None:
    around.up(cluster="research", members=(ALICE, BOB))
    around.up(cluster="research-2", members=(ALICE,))
    shared = f"{IDENTITY}[default/kinetic-runs]"
    around.google.state.policies.identity_pools.add("loopback.svc.id.goog")
    around.google.state.policies.grant(PROJECT, "roles/artifactregistry.reader", shared)
    around.down(purge=True, cluster="research")
    assert around.bindings()["roles/cloudbuild.builds.editor"] == {ALICE}
    assert around.left_to_do(cluster="research-2", members=(ALICE,)) == []
    around.down(purge=True, cluster="research-2")
    assert around.bindings() == {
        "roles/owner": {f"user:{OWNER}", f"serviceAccount:{around.google.admin}"},
        "roles/artifactregistry.reader": {shared},
    }


def test_removal_stopped_half_way_goes_on(around: Around) -> None:
    around.up(members=(ALICE,))
    with (
        around.google.fault("Projects.SetIamPolicy", GoogleRefusal(Code.INTERNAL, "it broke")),
        pytest.raises(CloudError, match="it broke"),
    ):
        around.down(purge=True)
    around.down(purge=True)
    assert set(around.bindings()) == {"roles/owner"}
    assert {c.action for c in told(around.plan_down(purge=True))} <= {"keep", "leave"}


@pytest.mark.parametrize("on", [(), ("cloudresourcemanager",)])
def test_a_project_that_does_not_exist_is_told_alone(around: Around, on: tuple[str, ...]) -> None:
    around.google.switch_on(*on)
    with pytest.raises(CloudError) as missing:
        around.compare(project="no-such-project")
    assert missing.value.message == (
        "there is no project 'no-such-project', or you may not look at it"
    )
    assert "gcloud projects create no-such-project" in str(missing.value.hint)


def test_a_project_without_billing_is_told_before_anything_is_made(around: Around) -> None:
    around.google.switch_on("cloudresourcemanager", "cloudbilling")
    around.google.project.billing_account = None
    with pytest.raises(CloudError) as unpaid:
        around.compare()
    assert "has no billing account" in unpaid.value.message
    assert "gcloud billing projects link loopback" in str(unpaid.value.hint)
    assert base.project(around.wanted())[0].plan_removal(purge=False).action == "keep"


def test_where_billing_may_not_be_looked_up_google_says_it(around: Around) -> None:
    around.google.project.billing_account = None
    with pytest.raises(CloudError) as unpaid:
        around.up()
    assert "billing" in unpaid.value.message.lower()
    assert "gcloud billing projects link loopback" in str(unpaid.value.hint)
    around.google.project.billing_account = "billingAccounts/01AB23-CD45EF-678901"
    around.up()
    assert around.left_to_do() == []


def test_without_the_default_network_the_command_that_makes_it_is_told(around: Around) -> None:
    around.up()
    around.google.project.networks.clear()
    with pytest.raises(CloudError, match="no network 'default'") as missing:
        around.compare()
    assert "gcloud compute networks create default" in str(missing.value.hint)


def make_cluster(around: Around, **changes: Any) -> container_v1.Cluster:
    """Make a cluster as others do, and return what GKE shows of it."""
    around.google.switch_on("cloudresourcemanager", "container", "iam")
    around.google.state.add_account(
        iam_admin_v1.ServiceAccount(
            name=f"{PROJECT}/serviceAccounts/{THEIRS}", project_id="loopback", email=THEIRS
        )
    )
    pools = [
        {"name": "old", "initial_node_count": 1, "config": {"machine_type": "e2-standard-4"}},
        {
            "name": "new",
            "initial_node_count": 1,
            "config": {"machine_type": "e2-standard-4", "service_account": THEIRS},
        },
    ]
    cluster = container_v1.Cluster(name="research", node_pools=pools, **changes)
    container = around.apis.container
    place = f"{PROJECT}/locations/us-central1-a"
    operation = container.create_cluster(parent=place, cluster=cluster)
    wait_for_cluster(around.apis, operation, "make it", lambda _: None)
    return container.get_cluster(name=f"{place}/clusters/research")


THEIRS = "their-nodes@loopback.iam.gserviceaccount.com"
IDENTITY = "serviceAccount:loopback.svc.id.goog"
WITH_IDENTITY = {"workload_identity_config": {"workload_pool": "loopback.svc.id.goog"}}


def test_a_cluster_of_others_is_used_as_it_is(around: Around) -> None:
    before = make_cluster(around, **WITH_IDENTITY)
    around.up(joins=True)
    default = f"serviceAccount:{around.google.project.number}-compute@developer.gserviceaccount.com"
    nodes = {default, f"serviceAccount:{THEIRS}"}
    assert around.bindings(REPOSITORY)["roles/artifactregistry.reader"] == nodes
    assert "roles/container.defaultNodeServiceAccount" not in around.bindings()
    assert around.bucket_bindings(JOBS)["roles/storage.objectUser"] == {account("pods")}
    around.down(joins=True, purge=True)
    assert set(around.bindings()) == {"roles/owner"}
    name = f"{PROJECT}/locations/us-central1-a/clusters/research"
    assert around.apis.container.get_cluster(name=name) == before
    assert THEIRS in around.google.state.accounts


def test_without_workload_identity_pods_are_their_nodes_and_a_worker_is_refused(
    around: Around,
) -> None:
    make_cluster(around)
    around.up(joins=True)
    default = f"serviceAccount:{around.google.project.number}-compute@developer.gserviceaccount.com"
    nodes = {default, f"serviceAccount:{THEIRS}"}
    assert around.bucket_bindings(JOBS)["roles/storage.objectUser"] == nodes
    with pytest.raises(ConfigurationError) as refused:
        around.compare(joins=True, worker=True)
    assert "has no Workload Identity" in refused.value.message
    assert "--workload-pool=loopback.svc.id.goog" in str(refused.value.hint)
    around.down()  # whoever does it need not say that the cluster was joined
    assert "roles/storage.objectUser" not in around.bucket_bindings(JOBS)
    assert around.bindings(REPOSITORY) == {}


def test_pods_are_bound_when_there_is_a_cluster_and_no_sooner(around: Around) -> None:
    around.up()
    (pods,) = base.identities(around.wanted())
    with pytest.raises(CloudError, match="Identity Pool does not exist"):
        pods.apply(lambda _: None)
    make_cluster(around, **WITH_IDENTITY)
    assert pods.compare().details == (
        f"roles/iam.workloadIdentityUser to {IDENTITY}[default/kinetic-runs]",
    )
    pods.apply(lambda _: None)
    assert pods.compare().action == "keep"
    pods.remove(lambda _: None)
    assert pods.compare().action == "change"


def test_a_cloud_nat_that_serves_the_nodes_already_is_used(around: Around) -> None:
    around.google.switch_on("compute")
    nat = {
        "name": "theirs",
        "natIpAllocateOption": "AUTO_ONLY",
        "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES",
    }
    router = {"name": "theirs", "network": "global/networks/default", "nats": [nat]}
    begun = around.apis.compute.insert_router("us-central1", router)
    wait_for_compute(around.apis, begun, "make it", lambda _: None)
    around.up(private_nodes=True)
    assert around.left_to_do(private_nodes=True) == []
    around.down()
    assert [key[2] for key in around.google.compute.routers] == ["theirs"]


def test_a_cloud_nat_that_another_cluster_needs_is_left(around: Around) -> None:
    around.up(cluster="mine", private_nodes=True)
    make_cluster(around, network_config={"default_enable_private_nodes": True})
    (nat,) = [c for c in told(around.plan_down(cluster="mine")) if c.kind == "Cloud NAT"]
    assert (nat.action, nat.why) == (
        "leave",
        "nodes without addresses of cluster research need it",
    )


def test_a_cluster_in_another_place_keeps_all_that_is_around_it(around: Around) -> None:
    make_cluster(around)
    elsewhere = around.wanted(location="us-central1-b")
    with pytest.raises(ConfigurationError, match="is in us-central1-a, not in us-central1-b"):
        plan_removal(everything(elsewhere), purge=True)


def test_a_router_that_lost_its_nat_gets_it_again(around: Around) -> None:
    around.up(private_nodes=True)
    (router,) = around.google.compute.routers.values()
    (nat,) = router.pop("nats")
    assert around.left_to_do(private_nodes=True) == ["change Cloud NAT kn-research-nat"]
    around.up(private_nodes=True)
    assert router["nats"] == [nat]


def test_two_people_at_once_make_one_of_each(around: Around) -> None:
    """Both have seen an empty project; the second meets what the first has made."""
    first, second = around.compare(private_nodes=True), around.compare(private_nodes=True)
    apply_all(needed(first), ignored, patience=SOON)
    apply_all(needed(second), ignored, patience=SOON)
    assert around.left_to_do(private_nodes=True) == []
    assert len(around.google.buckets.buckets) == 2
