"""The loopback Google answers as Google's APIs do, and the product's clients understand it."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
from google.cloud import container_v1
from google.cloud.artifactregistry_v1 import Repository

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.operations import (
    Waiting,
    find_cluster_operation,
    wait_for_cluster,
    wait_for_compute,
    wait_for_operation,
)
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.clients.kubernetes.access import (
    GkeCluster,
    describe_gke_cluster,
    load_configuration,
)
from kinetic_flows.clients.kubernetes.node_pools import gke_node_pools
from loopback.google.answers import Code, GoogleRefusal, policy_violated, stock_out
from loopback.google.server import LoopbackGoogle

pytest_plugins = ["loopback.fixtures"]

PROJECT = "projects/loopback"
ZONE = f"{PROJECT}/locations/us-central1-a"


def ignored(_: str) -> None:
    """Told how far something is."""


def make_cluster(apis: GoogleApis, name: str = "small") -> None:
    pool = container_v1.NodePool(
        name="cpu", initial_node_count=1, config={"machine_type": "e2-standard-4"}
    )
    cluster = container_v1.Cluster(name=name, node_pools=[pool])
    begun = apis.call(
        "make it", lambda: apis.container.create_cluster(parent=ZONE, cluster=cluster)
    )
    wait_for_cluster(apis, begun, "make it", ignored)


def l4_pool(name: str = "l4") -> container_v1.NodePool:
    return container_v1.NodePool(
        name=name,
        autoscaling={"enabled": True, "max_node_count": 4},
        config={
            "machine_type": "g2-standard-8",
            "accelerators": [{"accelerator_type": "nvidia-l4", "accelerator_count": 1}],
        },
    )


def test_an_empty_project_has_none_of_the_apis_on_until_they_are_switched_on(
    loopback_google: LoopbackGoogle,
) -> None:
    with closing(loopback_google.apis()) as apis:
        with pytest.raises(CloudRefusal) as refused:
            apis.read("look", lambda: apis.projects.get_project(name="projects/loopback"))
        request = {
            "parent": "projects/loopback",
            "service_ids": ["cloudresourcemanager.googleapis.com", "container.googleapis.com"],
        }
        begun = apis.call("enable", lambda: apis.services.batch_enable_services(request=request))
        made = wait_for_operation(apis, begun, "enable", ignored)
        found = apis.read("look", lambda: apis.projects.get_project(name="projects/loopback"))

    assert (refused.value.reason, refused.value.subject) == (
        "api-off",
        "cloudresourcemanager.googleapis.com",
    )
    assert [service.state.name for service in made.services] == ["ENABLED", "ENABLED"]
    assert found.project_id == "loopback"
    assert "compute" in loopback_google.project.apis, "it comes with GKE"


def test_a_cluster_is_made_in_steps_and_serves_kubernetes(
    loopback_google: LoopbackGoogle,
) -> None:
    loopback_google.switch_on("container")
    with closing(loopback_google.apis()) as apis:
        make_cluster(apis)
        begun = apis.call(
            "add a pool",
            lambda: apis.container.create_node_pool(
                parent=f"{ZONE}/clusters/small", node_pool=l4_pool()
            ),
        )
        with pytest.raises(CloudRefusal) as busy:
            apis.call(
                "add another",
                lambda: apis.container.create_node_pool(
                    parent=f"{ZONE}/clusters/small", node_pool=l4_pool("other")
                ),
            )
        under_way = find_cluster_operation(apis, "us-central1-a", "small", "l4")
        wait_for_cluster(apis, under_way, "add a pool", ignored)
        over = find_cluster_operation(apis, "us-central1-a", "small")

    assert busy.value.reason == "busy"
    assert under_way.name == begun.name
    assert over is None
    access = GkeCluster(
        project="loopback",
        location="us-central1-a",
        name="small",
        endpoint=loopback_google.url,
        credentials=loopback_google.apis().credentials,
    )
    pools = gke_node_pools(describe_gke_cluster(access))
    assert [(pool.name, pool.accelerator) for pool in pools] == [
        ("cpu", None),
        ("l4", "nvidia-l4"),
    ]
    reached = asyncio.run(load_configuration(access))
    assert reached.host == loopback_google.cluster("small").url
    assert len(loopback_google.cluster("small").list("nodes")) == 1


def test_an_operation_that_fails_half_way_says_why(loopback_google: LoopbackGoogle) -> None:
    loopback_google.switch_on("container")
    with closing(loopback_google.apis()) as apis:
        make_cluster(apis)
        refusal = stock_out("us-central1-a")
        with loopback_google.fault("CreateNodePool", refusal, operation="fails"):
            begun = apis.container.create_node_pool(
                parent=f"{ZONE}/clusters/small", node_pool=l4_pool()
            )
            with pytest.raises(CloudRefusal) as failed:
                wait_for_cluster(apis, begun, "add a pool", ignored)
        left = apis.container.get_node_pool(name=f"{ZONE}/clusters/small/nodePools/l4")

    assert failed.value.reason == "stock-out"
    assert left.status.name == "ERROR"


def test_a_call_by_a_service_accounts_key_is_that_accounts(
    loopback_google: LoopbackGoogle,
) -> None:
    loopback_google.switch_on("iam")
    with closing(loopback_google.apis()) as apis:
        apis.iam.create_service_account(
            request={"name": "projects/loopback", "account_id": "visitor"}
        )
        assert apis.identity.email == "owner@example.com"
    email = "visitor@loopback.iam.gserviceaccount.com"
    loopback_google.state.policies.grant(
        "projects/loopback", "roles/browser", f"serviceAccount:{email}"
    )
    loopback_google.switch_on("cloudresourcemanager", "container")

    with closing(loopback_google.apis(loopback_google.key_file(email))) as visitor:
        who = visitor.identity
        visitor.read("look", lambda: visitor.projects.get_project(name="projects/loopback"))
        with pytest.raises(CloudRefusal) as refused:
            visitor.read("list", lambda: visitor.container.list_clusters(parent=ZONE))
        may = visitor.projects.test_iam_permissions(
            request={
                "resource": "projects/loopback",
                "permissions": ["resourcemanager.projects.get", "container.clusters.create"],
            }
        )

    assert (who.email, who.is_service_account) == (email, True)
    assert (refused.value.reason, refused.value.subject) == (
        "permission",
        "container.clusters.list",
    )
    assert f"--member=serviceAccount:{email} --role=roles/container.admin" in str(refused.value)
    assert list(may.permissions) == ["resourcemanager.projects.get"]


def test_a_login_that_is_over_is_told_as_such(loopback_google: LoopbackGoogle) -> None:
    loopback_google.login.refused.add("owner@example.com")

    with closing(loopback_google.apis()) as apis, pytest.raises(CloudRefusal) as refused:
        apis.read("look", lambda: list(apis.services.list_services(request={"parent": PROJECT})))

    assert refused.value.reason == "login"
    assert "gcloud auth application-default login" in str(refused.value)


def test_a_request_is_held_to_googles_own_types(loopback_google: LoopbackGoogle) -> None:
    loopback_google.switch_on("container", "compute")
    request = container_v1.GetClusterRequest.pb(container_v1.GetClusterRequest(name=ZONE))
    later = request.SerializeToString() + b"\xaa\x3f\x01x"  # field 1013, which there is not
    unknown = container_v1.GetClusterRequest.deserialize(later)
    router = {"name": "r", "network": "global/networks/default", "nat": []}

    with closing(loopback_google.apis()) as apis:
        for ask in (
            lambda: apis.container.get_cluster(request=unknown),
            lambda: apis.container.list_clusters(parent=""),
            lambda: apis.compute.insert_router("us-central1", router),
        ):
            with pytest.raises(CloudRefusal) as refused:
                apis.call("ask", ask)
            assert refused.value.reason == "invalid"


def test_a_policy_written_over_anothers_change_is_refused(
    loopback_google: LoopbackGoogle,
) -> None:
    loopback_google.switch_on("cloudresourcemanager")
    with closing(loopback_google.apis()) as apis:
        policy = apis.projects.get_iam_policy(request={"resource": PROJECT})
        loopback_google.state.policies.grant(PROJECT, "roles/viewer", "user:bob@example.com")
        with pytest.raises(CloudRefusal) as refused:
            apis.call(
                "set the policy",
                lambda: apis.projects.set_iam_policy(
                    request={"resource": PROJECT, "policy": policy}
                ),
            )
        bucket = apis.storage.create_bucket("loopback-bucket")
        seen = bucket.get_iam_policy(requested_policy_version=3)
        bucket.set_iam_policy(seen)
        with pytest.raises(CloudRefusal) as also:
            apis.call("set the policy", lambda: bucket.set_iam_policy(seen))

    assert refused.value.reason == also.value.reason == "conflict"
    assert loopback_google.state.policies.members(PROJECT, "roles/viewer") == {
        "user:bob@example.com"
    }


def test_conditions_are_not_lost_by_who_does_not_ask_for_them(
    loopback_google: LoopbackGoogle,
) -> None:
    loopback_google.switch_on("cloudresourcemanager")
    with closing(loopback_google.apis()) as apis:
        request = {"resource": PROJECT, "options": {"requested_policy_version": 3}}
        policy = apis.projects.get_iam_policy(request=request)
        policy.version = 3
        policy.bindings.add(
            role="roles/viewer",
            members=["user:bob@example.com"],
            condition={"title": "soon", "expression": "request.time < timestamp('2030-01-01')"},
        )
        apis.projects.set_iam_policy(request={"resource": PROJECT, "policy": policy})
        blind = apis.projects.get_iam_policy(request={"resource": PROJECT})
        with pytest.raises(CloudRefusal) as refused:
            apis.call(
                "set the policy",
                lambda: apis.projects.set_iam_policy(
                    request={"resource": PROJECT, "policy": blind}
                ),
            )

    assert "roles/viewer_withcond_" in str(blind)
    assert refused.value.reason == "invalid"


def test_a_new_account_takes_a_while_to_be_known_and_a_deleted_one_is_marked(
    loopback_google: LoopbackGoogle,
) -> None:
    loopback_google.switch_on("iam", "cloudresourcemanager")
    loopback_google.state.account_lag = 1
    member = "serviceAccount:runner@loopback.iam.gserviceaccount.com"
    with closing(loopback_google.apis()) as apis:
        made = apis.iam.create_service_account(request={"name": PROJECT, "account_id": "runner"})
        policy = apis.projects.get_iam_policy(request={"resource": PROJECT})
        policy.bindings.add(role="roles/logging.logWriter", members=[member])
        with pytest.raises(CloudRefusal) as unknown:
            apis.call(
                "grant",
                lambda: apis.projects.set_iam_policy(
                    request={"resource": PROJECT, "policy": policy}
                ),
            )
        apis.projects.set_iam_policy(request={"resource": PROJECT, "policy": policy})
        apis.iam.delete_service_account(name=made.name)
        left = loopback_google.state.policies.members(PROJECT, "roles/logging.logWriter")

    assert "does not exist" in unknown.value.words
    assert left == {f"deleted:{member}?uid={made.unique_id}"}


def test_an_answer_that_is_lost_leaves_what_was_made(loopback_google: LoopbackGoogle) -> None:
    loopback_google.switch_on("iam")
    lost = GoogleRefusal(Code.UNAVAILABLE, "connection reset")
    request = {"name": PROJECT, "account_id": "runner"}
    with closing(loopback_google.apis()) as apis:
        with (
            loopback_google.fault("CreateServiceAccount", lost, handled=True),
            pytest.raises(CloudRefusal) as refused,
        ):
            apis.call("make it", lambda: apis.iam.create_service_account(request=request))
        with pytest.raises(CloudRefusal) as again:
            apis.call("make it", lambda: apis.iam.create_service_account(request=request))

    assert (refused.value.reason, again.value.reason) == ("unreachable", "name-taken")


def test_what_only_looks_is_asked_again_where_that_may_help(
    loopback_google: LoopbackGoogle,
) -> None:
    loopback_google.switch_on("container")
    busy = GoogleRefusal(Code.UNAVAILABLE, "try again")
    with (
        closing(loopback_google.apis()) as apis,
        loopback_google.fault("SetNodePoolSize", busy, times=1),
        loopback_google.fault("ListOperations", busy, times=1),
    ):
        assert find_cluster_operation(apis, "us-central1-a", "none") is None
        with pytest.raises(CloudRefusal):
            apis.call(
                "resize",
                lambda: apis.container.set_node_pool_size(
                    request={"name": f"{ZONE}/clusters/c/nodePools/p", "node_count": 1}
                ),
            )
        assert (
            apis.find("look", lambda: apis.container.get_cluster(name=f"{ZONE}/clusters/c")) is None
        )


def test_an_operation_that_stalls_is_found_again_and_goes_on(
    loopback_google: LoopbackGoogle,
) -> None:
    loopback_google.switch_on("container")
    with closing(loopback_google.apis()) as apis:
        with loopback_google.fault("CreateCluster", operation="stalls"):
            pool = container_v1.NodePool(name="cpu", initial_node_count=1)
            cluster = container_v1.Cluster(name="slow", node_pools=[pool])
            begun = apis.container.create_cluster(parent=ZONE, cluster=cluster)
            with pytest.raises(CloudRefusal) as late:
                wait_for_cluster(apis, begun, "make it", ignored, Waiting(limit_seconds=0.05))
        found = find_cluster_operation(apis, "us-central1-a", "slow")
        wait_for_cluster(apis, found, "make it", ignored)

    assert "it goes on; run the same again to wait for it" in str(late.value)
    assert loopback_google.cluster("slow").url


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ({"name": "Bad"}, "node_pool.name"),
        ({"config": {"machine_type": "n9-huge"}}, "does not exist in zone"),
        ({"autoscaling": {"max_node_count": 3}}, "autoscaling to be enabled"),
        ({"autoscaling": {"enabled": True}}, "Invalid autoscaling limits"),
        ({"config": {"spot": True, "preemptible": True}}, "mutually exclusive"),
        ({"config": {"service_account": "no@loopback.iam.gserviceaccount.com"}}, "does not exist"),
        (
            {
                "config": {"machine_type": "ct6e-standard-4t"},
                "placement_policy": {"tpu_topology": "4x4"},
                "autoscaling": {"enabled": True, "max_node_count": 3},
            },
            "Max nodes must be 4",
        ),
    ],
)
def test_a_node_pool_that_gke_would_not_make_is_refused(
    loopback_google: LoopbackGoogle, pool: dict[str, object], words: str
) -> None:
    loopback_google.switch_on("container")
    with closing(loopback_google.apis()) as apis:
        cluster = container_v1.Cluster(name="c", node_pools=[{"name": "pool", **pool}])
        with pytest.raises(CloudRefusal) as refused:
            apis.call(
                "make it", lambda: apis.container.create_cluster(parent=ZONE, cluster=cluster)
            )

    assert refused.value.reason == "invalid"
    assert words in refused.value.words


def test_a_quota_of_the_region_bounds_the_nodes_of_a_new_cluster(
    loopback_google: LoopbackGoogle,
) -> None:
    loopback_google.switch_on("container")
    loopback_google.project.limits["CPUS"] = 8
    with closing(loopback_google.apis()) as apis:
        pool = container_v1.NodePool(
            name="cpu", initial_node_count=3, config={"machine_type": "e2-standard-4"}
        )
        cluster = container_v1.Cluster(name="large", node_pools=[pool])
        with pytest.raises(CloudRefusal) as refused:
            apis.call(
                "make it", lambda: apis.container.create_cluster(parent=ZONE, cluster=cluster)
            )
        quotas = apis.compute.region("us-central1")["quotas"]

    assert (refused.value.reason, refused.value.subject) == ("quota", "CPUS")
    assert {"metric": "CPUS", "limit": 8, "usage": 0.0} in quotas


def test_what_is_made_can_be_changed_and_removed_step_by_step(
    loopback_google: LoopbackGoogle,
) -> None:
    loopback_google.switch_on("container")
    name = f"{ZONE}/clusters/small"
    with closing(loopback_google.apis()) as apis:
        make_cluster(apis)
        update = {"desired_addons_config": {"gcs_fuse_csi_driver_config": {"enabled": True}}}
        for ask in (
            lambda: apis.container.update_cluster(request={"name": name, "update": update}),
            lambda: apis.container.create_node_pool(parent=name, node_pool=l4_pool()),
            lambda: apis.container.set_node_pool_autoscaling(
                request={
                    "name": f"{name}/nodePools/l4",
                    "autoscaling": {"enabled": True, "max_node_count": 2},
                }
            ),
            lambda: apis.container.delete_node_pool(name=f"{name}/nodePools/cpu"),
        ):
            wait_for_cluster(apis, apis.call("change it", ask), "change it", ignored)
        serving = loopback_google.cluster("small")
        changed = apis.container.get_cluster(name=name)
        drivers, nodes = serving.list("csidrivers"), serving.list("nodes")
        gone = apis.call("remove it", lambda: apis.container.delete_cluster(name=name))
        wait_for_cluster(apis, gone, "remove it", ignored)
        left = apis.find("look", lambda: apis.container.get_cluster(name=name))

    assert changed.addons_config.gcs_fuse_csi_driver_config.enabled
    assert [(p.name, p.autoscaling.max_node_count) for p in changed.node_pools] == [("l4", 2)]
    assert (len(drivers), nodes) == (1, [])
    assert left is None
    assert loopback_google.serving.running == {}


def test_an_api_that_was_just_switched_on_may_refuse_for_a_while(
    loopback_google: LoopbackGoogle,
) -> None:
    loopback_google.state.api_lag = 1
    loopback_google.switch_on("cloudresourcemanager")
    with closing(loopback_google.apis()) as apis:
        with pytest.raises(CloudRefusal) as early:
            apis.read("look", lambda: apis.projects.get_project(name=PROJECT))
        apis.read("look", lambda: apis.projects.get_project(name=PROJECT))

    assert early.value.reason == "api-off"


def test_an_api_that_costs_something_wants_a_billing_account(
    loopback_google: LoopbackGoogle,
) -> None:
    loopback_google.project.billing_account = None
    request = {"parent": PROJECT, "service_ids": ["compute.googleapis.com"]}
    with closing(loopback_google.apis()) as apis, pytest.raises(CloudRefusal) as refused:
        apis.call("enable", lambda: apis.services.batch_enable_services(request=request))

    assert refused.value.reason == "billing"
    assert "compute" not in loopback_google.project.apis


def test_a_bucket_keeps_its_settings_its_policy_and_its_objects(
    loopback_google: LoopbackGoogle,
) -> None:
    with closing(loopback_google.apis()) as apis:
        bucket = apis.storage.bucket("loopback-jobs")
        bucket.labels = {"kinetic-cluster": "small"}
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.add_lifecycle_delete_rule(age=30, matches_prefix=["runs/"])
        apis.storage.create_bucket(bucket, location="us-central1")
        with pytest.raises(CloudRefusal) as mine:
            apis.call("make it", lambda: apis.storage.create_bucket("loopback-jobs"))
        loopback_google.buckets.taken.add("somebodys")
        with pytest.raises(CloudRefusal) as other:
            apis.call("make it", lambda: apis.storage.create_bucket("somebodys"))
        with pytest.raises(CloudRefusal) as closed:
            apis.read("look", lambda: apis.storage.get_bucket("somebodys"))
        found = apis.storage.get_bucket("loopback-jobs")
        found.blob("runs/1/job.json").upload_from_string("{}")
        with pytest.raises(CloudRefusal) as full:
            apis.call("remove it", found.delete)
        found.delete(force=True)
        left = apis.find("look", lambda: apis.storage.get_bucket("loopback-jobs"))

    assert (found.location, found.labels) == ("US-CENTRAL1", {"kinetic-cluster": "small"})
    assert [rule["condition"]["age"] for rule in found.lifecycle_rules] == [30]
    assert found.iam_configuration.uniform_bucket_level_access_enabled
    assert (mine.value.reason, other.value.reason) == ("name-taken", "name-taken")
    assert (closed.value.reason, full.value.reason) == ("permission", "invalid")
    assert left is None


def test_a_cloud_nat_is_made_changed_and_removed(loopback_google: LoopbackGoogle) -> None:
    loopback_google.switch_on("compute")
    nat = {
        "name": "nat",
        "natIpAllocateOption": "AUTO_ONLY",
        "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES",
    }
    constraint = "compute.restrictCloudNATUsage"
    router = {"name": "nat", "network": "projects/loopback/global/networks/default", "nats": [nat]}
    with closing(loopback_google.apis()) as apis:
        compute = apis.compute
        begun = apis.call("make it", lambda: compute.insert_router("us-central1", router))
        wait_for_compute(apis, begun, "make it", ignored)
        (made,) = compute.routers("us-central1")
        other = {**router, "name": "other"}
        with pytest.raises(CloudRefusal) as second:
            apis.call("make it", lambda: compute.insert_router("us-central1", other))
        with loopback_google.fault(
            "routers.patch", policy_violated(constraint, "loopback"), operation="fails"
        ):
            begun = compute.patch_router("us-central1", "nat", {"description": "mine"})
            with pytest.raises(CloudRefusal) as failed:
                wait_for_compute(apis, begun, "change it", ignored)
        begun = apis.call("remove it", lambda: compute.delete_router("us-central1", "nat"))
        wait_for_compute(apis, begun, "remove it", ignored)
        left = compute.routers("us-central1")

    assert [each["name"] for each in made["nats"]] == ["nat"]
    assert second.value.reason == "invalid"
    assert (failed.value.reason, failed.value.subject) == (
        "policy",
        "compute.restrictCloudNATUsage",
    )
    assert left == []


def test_a_repository_is_made_labelled_and_removed(loopback_google: LoopbackGoogle) -> None:
    loopback_google.switch_on("artifactregistry")
    place = f"{PROJECT}/locations/us-central1"
    repository = Repository(format_=Repository.Format.DOCKER, labels={"kinetic-cluster": "small"})
    with closing(loopback_google.apis()) as apis:
        begun = apis.artifacts.create_repository(
            parent=place, repository_id="images", repository=repository
        )
        made = wait_for_operation(apis, begun, "make it", ignored)
        served = set(loopback_google.served)
        gone = apis.artifacts.delete_repository(name=made.name)
        wait_for_operation(apis, gone, "remove it", ignored)
        left = apis.find("look", lambda: apis.artifacts.get_repository(name=made.name))

    assert (made.name, dict(made.labels)) == (
        f"{place}/repositories/images",
        {"kinetic-cluster": "small"},
    )
    assert served == {"loopback/images"}
    assert left is None
