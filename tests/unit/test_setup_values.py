"""What is decided before anything is asked: roles, rules of buckets, the profile, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.lifecycle import (
    abandoned_uploads_rule,
    expire_rule,
    with_rules,
)
from kinetic_flows.core.settings.cloud import check_value
from kinetic_flows.platforms.gke.setup import names
from kinetic_flows.platforms.gke.setup.model import Wanted
from kinetic_flows.platforms.gke.setup.profile_values import profile_values
from kinetic_flows.platforms.gke.setup.project import grants
from kinetic_flows.platforms.gke.setup.project.grants import Grant, People
from kinetic_flows.platforms.gke.setup.project.people import bound_members, purposes
from kinetic_flows.platforms.gke.setup.project.policies import Binding, with_grants, without_grants
from kinetic_flows.platforms.gke.setup.request import SetupRequest
from kinetic_flows.platforms.gke.setup.wanted import everything, stages

ALICE = "user:alice@example.com"
WRITER = "roles/artifactregistry.writer"


def wanted(**changes: Any) -> SetupRequest:
    return SetupRequest(
        project="my-project", location="us-central1-a", cluster="research", **changes
    )


def people(**changes: Any) -> People:
    return People(nodes=("N",), builds="B", pods=("P",), **changes)


def given(granted: tuple[Grant, ...]) -> set[str]:
    return {f"{grant.member} {grant.role.removeprefix('roles/')}" for grant in granted}


def test_nodes_builds_and_pods_have_no_more_roles_than_they_need() -> None:
    assert given(grants.on_project(people())) == {
        "N container.defaultNodeServiceAccount",
        "B logging.logWriter",
    }
    assert given(grants.on_jobs_bucket(people())) == {"P storage.objectUser"}
    assert given(grants.on_builds_bucket(people())) == {
        "B storage.objectUser",
        "B storage.legacyBucketReader",
    }
    assert given(grants.on_repository(people())) == {
        "N artifactregistry.reader",
        "B artifactregistry.writer",
    }
    assert grants.on_builds_account(people()) == ()


def test_who_launches_may_build_and_launch_and_no_more() -> None:
    both = people(launchers=("A",))
    assert given(grants.on_project(both)) - given(grants.on_project(people())) == {
        "A cloudbuild.builds.editor",
        "A container.clusterViewer",
        "A serviceusage.serviceUsageConsumer",
    }
    assert "A storage.objectUser" in given(grants.on_jobs_bucket(both))
    assert "A storage.objectUser" in given(grants.on_builds_bucket(both))
    assert "A artifactregistry.writer" in given(grants.on_repository(both))
    assert given(grants.on_builds_account(both)) == {"A iam.serviceAccountUser"}


def test_nodes_of_others_are_let_pull_and_are_given_nothing_else() -> None:
    others = people(makes_nodes=False)
    assert given(grants.on_project(others)) == {"B logging.logWriter"}
    assert "N artifactregistry.reader" in given(grants.on_repository(others))


def test_every_role_that_is_granted_is_known_to_whom_takes_it_back() -> None:
    everybody = people(launchers=("A",))
    tables = (
        *(grants.on_project, grants.on_jobs_bucket, grants.on_builds_bucket),
        *(grants.on_repository, grants.on_builds_account),
    )
    roles = {grant.role for table in tables for grant in table(everybody)}
    roles |= {
        grant.role for grant in grants.on_identity(everybody, "p", ("default", "kinetic-runs"))
    }
    assert roles == grants.EVERY_ROLE
    others = [
        *grants.on_project(everybody),
        *(each for table in tables[1:] for each in table(everybody)),
    ]
    nodes = people(launchers=("A",), makes_nodes=False)
    others += [*grants.on_repository(nodes)]
    given_away = {grant.role for grant in others if grant.member in ("A", "N")}
    assert given_away - {grants.NODE} == grants.ROLES_OF_OTHERS


def test_the_page_on_roles_lists_what_is_granted_to_whom_on_what() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in Path("docs/setup-roles.md").read_text().splitlines()
        if line.startswith("| ") and "`roles/" in line and line.count("|") == 6
    ]
    listed = {
        (who, role.strip(" `"), place.split(",")[0])
        for who, roles, place, *_ in rows
        for role in roles.split(",")
    }
    both = people(launchers=("A",))
    who = {"N": "nodes", "B": "builds", "P": "pods", "A": "`--member`, the worker"}
    tables = {
        "the project": grants.on_project(both),
        "the repository": grants.on_repository(both),
        "the account of builds": grants.on_builds_account(both),
        "the bucket of runs": grants.on_jobs_bucket(people()),
        "the bucket of builds": grants.on_builds_bucket(people()),
        "both buckets": _only(both, "A"),
    }
    assert listed == {
        (who[grant.member], grant.role, place)
        for place, granted in tables.items()
        for grant in granted
    } | {
        ("`kinetic-runs`", grants.WORKLOAD_IDENTITY, "the account of pods"),
        ("`kinetic-worker`", grants.WORKLOAD_IDENTITY, "the account of the worker"),
    }


def _only(everybody: People, member: str) -> tuple[Grant, ...]:
    """Return what somebody has on both buckets."""
    jobs, builds = grants.on_jobs_bucket(everybody), grants.on_builds_bucket(everybody)
    return tuple(grant for grant in jobs if grant.member == member and grant in builds)


def test_a_pod_is_bound_to_its_account_by_namespace_and_name() -> None:
    (bound,) = grants.on_identity(people(), "my-project", ("training", "kinetic-runs"))
    assert bound.member == "serviceAccount:my-project.svc.id.goog[training/kinetic-runs]"
    assert bound.member in bound_members(wanted(namespace="training"))


def test_without_workload_identity_nobody_is_bound() -> None:
    without = people(has_identities=False)
    assert grants.on_identity(without, "my-project", ("training", "kinetic-runs")) == ()


def test_grants_join_the_binding_of_their_role_and_leave_conditions_alone() -> None:
    bindings = (
        Binding(role=WRITER, members=("user:bob",), condition={"title": "until friday"}),
        Binding(role=WRITER, members=("user:carol",)),
    )
    added = with_grants(bindings, [Grant(role=WRITER, member=ALICE)])
    assert added == (bindings[0], Binding(role=WRITER, members=("user:carol", ALICE)))
    assert with_grants(added, [Grant(role=WRITER, member=ALICE)]) == added
    assert without_grants(added, [Grant(role=WRITER, member=ALICE)]) == bindings


def test_a_binding_that_nobody_has_any_more_goes() -> None:
    only = with_grants((), [Grant(role=WRITER, member=ALICE)])
    assert without_grants(only, [Grant(role=WRITER, member=ALICE)]) == ()


def test_what_is_taken_back_under_a_condition_was_not_ours() -> None:
    conditional = (Binding(role=WRITER, members=(ALICE,), condition={"title": "until friday"}),)
    assert without_grants(conditional, [Grant(role=WRITER, member=ALICE)]) == conditional


def test_rules_that_a_bucket_has_are_not_written_again() -> None:
    rules = [expire_rule("runs/", 30), abandoned_uploads_rule()]
    assert with_rules(rules, rules) is None


def test_a_rule_replaces_its_like_of_another_age_and_no_other() -> None:
    own = {"action": {"type": "Delete"}, "condition": {"age": 3, "matchesPrefix": ["mine/"]}}
    cold = {
        "action": {"type": "SetStorageClass"},
        "condition": {"age": 9, "matchesPrefix": ["runs/"]},
    }
    kept = with_rules([expire_rule("runs/", 30), own, cold], [expire_rule("runs/", 7)])
    assert kept == (own, cold, expire_rule("runs/", 7))


def test_the_profile_says_where_everything_is() -> None:
    values = profile_values(wanted())
    assert values == {
        "project": "my-project",
        "zone": "us-central1-a",
        "cluster": "research",
        "namespace": "default",
        "work_pool": "kinetic-gke",
        "build_service_account": "kn-research-builds@my-project.iam.gserviceaccount.com",
        "job_variables": {"service_account_name": "kinetic-runs"},
    }
    assert profile_values(wanted(retention_days=7))["retention_days"] == 7


def test_what_the_profile_says_are_settings() -> None:
    for name, value in profile_values(wanted(retention_days=7)).items():
        assert check_value(name, value) == value


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({}, ("nodes", "pods", "builds")),
        ({"worker": True}, ("nodes", "pods", "builds", "launch")),
        ({"joins": True}, ("pods", "builds")),
        ({"joins": True, "worker": True}, ("pods", "builds", "launch")),
    ],
)
def test_only_accounts_that_are_used_are_made(
    changes: dict[str, Any], made: tuple[str, ...]
) -> None:
    assert purposes(wanted(**changes)) == made


def test_a_cluster_whose_name_begins_like_another_s_is_another() -> None:
    assert names.is_marked(names.description("research"), "research")
    assert not names.is_marked(names.description("research-2"), "research")
    assert not names.is_marked("", "research")


def test_accounts_have_ids_that_google_takes() -> None:
    long = "a-very-long-name-of-a-cluster-of-forty-c"
    ids = {names.account_id(long, purpose) for purpose in ("nodes", "builds", "pods", "launch")}
    assert len(ids) == 4
    assert all(6 <= len(each) <= 30 for each in ids)


def kinds(request: SetupRequest, *, removing: bool = False) -> list[tuple[str, str]]:
    context = Wanted(request=request, apis=GoogleApis(request.project))
    found = everything(context) if removing else stages(context)
    return [(each.kind, each.name) for stage in found for each in stage.resources]


def test_nothing_is_asked_to_say_what_is_wanted() -> None:
    found = kinds(wanted(private_nodes=True))
    assert ("bucket", "gs://my-project-kn-research-jobs") in found
    assert ("Cloud NAT", "kn-research-nat") in found
    assert ("image repository", "kn-research") in found
    assert found.index(("project", "my-project")) < found.index(("APIs", "my-project"))
    assert found.index(("APIs", "my-project")) < found.index(("cluster", "research"))
    assert found.index(("cluster", "research")) < found.index(
        ("roles on", "service account kn-research-pods")
    )


def test_of_a_cluster_of_others_no_network_and_no_nodes_are_made() -> None:
    found = {kind for kind, _ in kinds(wanted(joins=True))}
    assert not found & {"network", "Cloud NAT", "node pool"}


def test_whatever_options_it_was_made_with_everything_is_looked_for_to_be_removed() -> None:
    found = kinds(wanted(), removing=True)
    assert ("service account", "kn-research-launch") in found
    assert ("Cloud NAT", "kn-research-nat") in found
