"""The cluster and its node pools, made on the loopback Google, with everything that goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from google.cloud import container_v1

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.errors import CloudError, ConfigurationError, UsageError
from kinetic_flows.platforms.gke.setup.apply import apply_all, remove_all
from kinetic_flows.platforms.gke.setup.clusters import cluster, node_pools
from kinetic_flows.platforms.gke.setup.clusters.pool_admin import PoolAdmin
from kinetic_flows.platforms.gke.setup.clusters.pool_options import parse_pools
from kinetic_flows.platforms.gke.setup.clusters.turns import GkeTarget, Step
from kinetic_flows.platforms.gke.setup.compare import compare_all, needed, plan_removal
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import cluster_of
from kinetic_flows.platforms.gke.setup.model import Change, Stage, Wanted
from kinetic_flows.platforms.gke.setup.request import SetupRequest
from loopback.google.answers import (
    GoogleRefusal,
    busy_cluster,
    cluster_quota,
    invalid,
    stock_out,
)
from loopback.google.server import LoopbackGoogle
from setup_accounts import add_nodes_account

pytest_plugins = ["loopback.fixtures"]

ZONE = "us-central1-a"
LAB = SetupRequest(
    project="loopback", location=ZONE, cluster="lab", pools=parse_pools(["l4"], max_nodes=2)
)
PATH = f"projects/loopback/locations/{ZONE}/clusters/lab"


@pytest.fixture
def google(loopback_google: LoopbackGoogle) -> LoopbackGoogle:
    """Google's APIs, with what is there before a cluster is made."""
    loopback_google.switch_on("container", "compute")
    add_nodes_account(loopback_google, "lab")
    return loopback_google


@pytest.fixture
def apis(google: LoopbackGoogle) -> Iterator[GoogleApis]:
    with closing(google.apis()) as found:
        yield found


def stages(apis: GoogleApis, request: SetupRequest = LAB) -> tuple[Stage, ...]:
    wanted = Wanted(request=request, apis=apis)
    return (
        Stage(title="cluster", resources=cluster.resources(wanted)),
        Stage(title="node pools", resources=node_pools.resources(wanted)),
    )


def changes(apis: GoogleApis, request: SetupRequest = LAB) -> dict[str, Change]:
    return {
        change.name: change
        for compared in compare_all(stages(apis, request))
        for change in compared.changes
    }


def actions(apis: GoogleApis, request: SetupRequest = LAB) -> dict[str, str]:
    return {name: change.action for name, change in changes(apis, request).items()}


def make(apis: GoogleApis, request: SetupRequest = LAB, told: list[str] | None = None) -> int:
    said = told if told is not None else []
    return apply_all(
        needed(compare_all(stages(apis, request))), lambda step: said.append(str(step))
    )


def found(google: LoopbackGoogle) -> container_v1.Cluster:
    return google.clusters.clusters[PATH]


def pool(google: LoopbackGoogle, name: str) -> container_v1.NodePool:
    (one,) = [each for each in found(google).node_pools if each.name == name]
    return one


def made(google: LoopbackGoogle, method: str) -> int:
    return sum(name.endswith(method) for name in google.calls.names())


def test_a_cluster_and_its_pools_are_made_once_and_are_then_as_wanted(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    assert actions(apis) == {"lab": "create", "kinetic-cpu": "create", "l4": "create"}
    told: list[str] = []
    make(apis, told=told)

    assert found(google).status.name == "RUNNING"
    assert [each.name for each in found(google).node_pools] == ["kinetic-cpu", "l4"]
    assert pool(google, "l4").autoscaling.max_node_count == 2
    assert "cluster lab: being made: 50 %" in told
    assert set(actions(apis).values()) == {"keep"}
    assert make(apis) == 0
    # The pool without accelerators comes with the cluster.
    assert (made(google, "CreateCluster"), made(google, "CreateNodePool")) == (1, 1)


def test_only_what_differs_is_changed(google: LoopbackGoogle, apis: GoogleApis) -> None:
    make(apis)
    found(google).addons_config.gcs_fuse_csi_driver_config.enabled = False
    found(google).autoscaling = container_v1.ClusterAutoscaling()
    more = replace(LAB, max_nodes=8, private_nodes=True, pools=parse_pools(["l4"], max_nodes=3))

    differing = changes(apis, more)
    assert differing["lab"].details == (
        "the add-on GcsFuseCsiDriver is off, by which runs mount Cloud Storage",
        "idle nodes are kept for long",
        "new nodes get addresses of their own",
    )
    assert differing["kinetic-cpu"].details == ("1 to 8 nodes, now 1 to 4 nodes",)
    assert differing["l4"].details == ("0 to 3 nodes, now 0 to 2 nodes",)
    make(apis, more)
    assert found(google).network_config.default_enable_private_nodes
    assert set(actions(apis, more).values()) == {"keep"}
    # Of what nobody says a number, what is there stays, and is what is paid.
    unsaid = changes(apis, replace(more, pools=parse_pools(["l4"])))["l4"]
    assert unsaid.action == "keep"
    assert unsaid.cost is not None
    assert unsaid.cost.note == "3 x g2-standard-12"


def test_a_second_accelerator_is_one_pool_more(google: LoopbackGoogle, apis: GoogleApis) -> None:
    make(apis)
    both = replace(LAB, pools=parse_pools(["l4", "v5e-16:spot"]))
    assert [name for name, action in actions(apis, both).items() if action == "create"] == [
        "tpu-v5litepod-16-spot"
    ]
    make(apis, both)
    slice_ = pool(google, "tpu-v5litepod-16-spot")
    assert (slice_.placement_policy.tpu_topology, slice_.config.spot) == ("4x4", True)


def test_an_autopilot_cluster_is_one_call_and_has_no_pools(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    wanted = replace(LAB, location="us-central1", mode="autopilot", pools=())
    make(apis, wanted)
    assert set(actions(apis, wanted).values()) == {"keep"}
    with pytest.raises(UsageError, match="has no node pools to be made"):
        PoolAdmin(request=wanted, apis=apis).adding(parse_pools(["l4"]))
    assert PoolAdmin(request=wanted, apis=apis).found() == ()


def test_pools_of_a_regional_cluster_are_in_the_zones_that_are_named(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    zones = ["us-central1-b", "us-central1-a"]
    regional = replace(LAB, location="us-central1", pools=parse_pools(["l4"], zones=zones))
    make(apis, regional)
    (made_,) = google.clusters.clusters.values()
    l4 = made_.node_pools[1]
    assert (list(l4.locations), l4.autoscaling.total_max_node_count) == (zones, 4)
    assert set(actions(apis, regional).values()) == {"keep"}
    more = replace(regional, pools=parse_pools(["l4"], zones=zones, max_nodes=9))
    make(apis, more)
    assert made_.node_pools[1].autoscaling.total_max_node_count == 9

    with pytest.raises(UsageError, match="are in one zone, and the cluster is in several") as no:
        compare_all(stages(apis, replace(regional, pools=parse_pools(["v5e-16"]))))
    assert "--node-zone us-central1-a" in (no.value.hint or "")
    slice_ = replace(regional, pools=parse_pools(["v5e-16"], zones=["us-central1-a"]))
    make(apis, slice_)
    assert set(actions(apis, slice_).values()) == {"keep"}
    with pytest.raises(ConfigurationError, match="zones: us-central1-a, us-central1-b, not"):
        compare_all(
            stages(
                apis,
                replace(
                    LAB, location="us-central1", pools=parse_pools(["l4"], zones=["us-central1-c"])
                ),
            )
        )


def test_an_autopilot_cluster_in_a_zone_is_refused_with_its_region(apis: GoogleApis) -> None:
    with pytest.raises(UsageError, match="is in a region") as refused:
        compare_all(stages(apis, replace(LAB, mode="autopilot", pools=())))
    assert "--zone us-central1" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        ({"mode": "autopilot", "location": "us-central1"}, "is in us-central1-a, not in", "--zone"),
        ({"location": "us-east1-b"}, "cannot be moved", "--zone us-central1-a"),
    ],
)
def test_what_a_cluster_cannot_be_changed_in_is_said_with_what_to_do(
    apis: GoogleApis, change: dict[str, str], said: str, hint: str
) -> None:
    make(apis)
    with pytest.raises(ConfigurationError, match=said) as refused:
        compare_all(stages(apis, replace(LAB, pools=(), **change)))
    assert hint in (refused.value.hint or "")


def test_another_kind_of_cluster_of_the_name_is_not_replaced(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    autopilot = replace(LAB, location="us-central1", mode="autopilot", pools=())
    make(apis, autopilot)
    with pytest.raises(ConfigurationError, match="is an Autopilot cluster"):
        compare_all(stages(apis, replace(autopilot, mode="standard")))


def test_a_cluster_of_somebody_else_is_neither_changed_nor_removed(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    make(apis)
    found(google).resource_labels.clear()
    found(google).addons_config.gcs_fuse_csi_driver_config.enabled = False
    with pytest.raises(ConfigurationError, match="was made elsewhere") as refused:
        compare_all(stages(apis))
    assert "--join" in (refused.value.hint or "")

    joined = replace(LAB, joins=True, pools=())
    (compared, _) = compare_all(stages(apis, joined))
    (change,) = compared.changes
    assert change.action == "leave"
    assert "--update-addons=GcsFuseCsiDriver=ENABLED" in change.details[0]
    assert make(apis, joined) == 0
    with pytest.raises(UsageError, match="made elsewhere: it is left as it is") as dropped:
        compare_all(stages(apis, replace(joined, pools=LAB.pools)))
    assert "kinetic nodepools add l4" in (dropped.value.hint or "")
    (last, first) = plan_removal(stages(apis, joined), purge=True)
    assert [each.action for each in first.changes] == ["leave"]
    # What was made there by us is removed all the same.
    assert [(each.name, each.action) for each in last.changes] == [("kinetic-cpu, l4", "remove")]
    remove_all(needed((last, first)), lambda _: None)
    assert not found(google).node_pools


def test_a_cluster_to_be_joined_has_to_be_there(apis: GoogleApis) -> None:
    with pytest.raises(ConfigurationError, match="has no cluster 'lab'"):
        compare_all(stages(apis, replace(LAB, joins=True, pools=())))


def test_the_cluster_goes_with_its_pools(google: LoopbackGoogle, apis: GoogleApis) -> None:
    make(apis)
    inside = cluster_of(LAB, apis)
    assert inside.look().standing == "there"
    planned = plan_removal(stages(apis), purge=False)
    (removed,) = [change for each in planned for change in each.changes if change.is_needed]
    assert removed.details == ("its node pools go with it: kinetic-cpu, l4",)
    remove_all(needed(planned), lambda _: None)
    assert not google.clusters.clusters
    assert inside.look().standing == "missing"
    assert not needed(plan_removal(stages(apis), purge=False))


def test_a_cluster_whose_making_failed_half_way_is_made_anew(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    spoiled = google.fault("CreateCluster", stock_out(ZONE), operation="fails")
    with spoiled, pytest.raises(CloudRefusal) as refused:
        make(apis)
    assert refused.value.reason == "stock-out"
    assert "another zone" in (refused.value.hint or "")
    change = changes(apis)["lab"]
    assert change.action == "change"
    assert change.details[1] == "it is removed and made anew"
    make(apis)
    assert set(actions(apis).values()) == {"keep"}


def test_what_belongs_into_a_cluster_waits_for_one_that_can_be_asked(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    cluster = cluster_of(LAB, apis)
    with google.fault("CreateCluster", stock_out(ZONE), operation="fails"):
        with pytest.raises(CloudRefusal):
            make(apis)
        assert cluster.look().standing == "missing", "it has no address, and is made anew"
    make(apis)
    assert cluster.look().standing == "there"


def test_a_pool_whose_making_failed_half_way_is_made_anew(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    refusal = cluster_quota("NVIDIA_L4_GPUS", 2, 0, "loopback")
    spoiled = google.fault("CreateNodePool", refusal, operation="fails")
    with spoiled, pytest.raises(CloudRefusal) as refused:
        make(apis)
    assert refused.value.reason == "quota"
    assert "https://console.cloud.google.com/iam-admin/quotas" in (refused.value.hint or "")
    assert pool(google, "l4").status.name == "ERROR"
    assert "made anew" in changes(apis)["l4"].details[1]
    make(apis)
    assert pool(google, "l4").status.name == "RUNNING"


def test_what_an_interrupted_run_began_is_waited_for_and_not_begun_again(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    """As after Ctrl-C: GKE goes on, and the rerun finds the operation."""
    first = cluster.GkeClusterResource(request=LAB, apis=apis)
    step = first._next_step(None)
    assert step is not None
    step.start()
    change = changes(apis)["lab"]
    assert (change.action, change.details) == (
        "change",
        ("it is being made; it takes 5 to 10 minutes",),
    )
    make(apis)
    assert made(google, "CreateCluster") == 1
    assert set(actions(apis).values()) == {"keep"}


def test_an_answer_that_was_lost_does_not_make_a_second_cluster(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    lost = GoogleRefusal(code_unavailable(), "The service is currently unavailable.")
    with google.fault("CreateCluster", lost, handled=True), pytest.raises(CloudRefusal):
        make(apis)
    make(apis)
    assert len(google.clusters.clusters) == 1
    assert set(actions(apis).values()) == {"keep"}


def test_an_operation_of_somebody_else_is_waited_for(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    make(apis, replace(LAB, pools=()))
    google.state.steps = 8
    labels = {"name": PATH, "resource_labels": dict(found(google).resource_labels)}
    labels["label_fingerprint"] = found(google).label_fingerprint
    apis.container.set_labels(request=labels)
    told: list[str] = []
    make(apis, told=told)
    assert any("wait for GKE to set labels" in line for line in told)
    assert pool(google, "l4").status.name == "RUNNING"


def test_an_operation_that_comes_first_all_the_same_is_tried_again(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    make(apis, replace(LAB, pools=()))
    with google.fault("CreateNodePool", busy_cluster("operation-7"), times=3):
        make(apis)
    assert pool(google, "l4").status.name == "RUNNING"
    assert made(google, "CreateNodePool") == 4


def test_a_service_account_that_is_not_known_yet_is_waited_for(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    unknown = invalid('Service account "kn-lab-nodes@loopback" does not exist.')
    told: list[str] = []
    apis.poll_seconds = 0.0001
    with google.fault("CreateCluster", unknown, times=3):
        make(apis, told=told)
    assert any("service account of nodes" in line for line in told)
    assert made(google, "CreateCluster") == 4


def test_a_service_account_that_never_comes_is_told(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    google.state.accounts.clear()
    apis.poll_seconds = 0.0001
    with pytest.raises(CloudRefusal, match="does not exist"):
        make(apis)
    assert not google.clusters.clusters


def test_a_pool_that_somebody_made_meanwhile_is_taken_as_it_is(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    make(apis, replace(LAB, pools=()))
    compared = needed(compare_all(stages(apis)))
    make(apis)
    apply_all(compared, lambda _: None)
    assert made(google, "CreateNodePool") == 1


def test_two_pools_of_a_stage_are_made_one_after_the_other(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    make(apis, replace(LAB, pools=parse_pools(["l4", "t4:spot", "v5e-4"])))
    names = {each.name for each in found(google).node_pools}
    assert names == {"kinetic-cpu", "l4", "t4-spot", "tpu-v5litepod-4"}
    # None was refused for another's sake.
    assert made(google, "CreateNodePool") == 3


def test_permission_denied_says_which_and_how_to_be_granted_it(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    google.state.denied.add(("*", "container.clusters.create"))
    with pytest.raises(CloudRefusal, match=r"container\.clusters\.create") as refused:
        make(apis)
    assert "roles/container.admin" in (refused.value.hint or "")
    assert not google.clusters.clusters


def test_a_change_that_does_not_last_ends_in_an_error_and_not_in_a_loop(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    """As where another tool changes it back at once."""
    make(apis)
    target = GkeTarget(apis=apis, location=ZONE, name="lab")
    again = Step(
        what="scale node pool l4",
        start=lambda: apis.container.set_node_pool_autoscaling(
            request={"name": f"{PATH}/nodePools/l4", "autoscaling": pool(google, "l4").autoscaling}
        ),
    )
    with pytest.raises(CloudError, match="cluster lab is as before") as refused:
        target.take(lambda _: again, lambda _: None)
    assert "gcloud container operations list" in (refused.value.hint or "")
    assert made(google, "SetNodePoolAutoscaling") == 1


def test_a_quota_that_is_too_small_is_warned_of_before_the_pool_is_made(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    make(apis)
    wanted = replace(LAB, pools=parse_pools(["a100-80gb"], max_nodes=2))
    details = changes(apis, wanted)["a100-80gb"].details
    (warning,) = [line for line in details if line.startswith("warning")]
    assert "NVIDIA_A100_80GB_GPUS in us-central1 is 0: too few for a node" in warning


def test_a_zone_without_the_machines_is_refused_before_the_pool_is_made(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    """Said by GKE minutes later, of the first run that waits."""
    make(apis)
    with pytest.raises(UsageError, match="is not in us-central1"):
        compare_all(stages(apis, replace(LAB, pools=parse_pools(["l4x2"], zones=["us-east1-b"]))))
    for name in ("nvidia-tesla-a100", "ct5lp-hightpu-4t"):
        google.state.lacking.add((ZONE, name))
    for name in ("a100", "v5e-4"):
        with pytest.raises(ConfigurationError, match=f"zone {ZONE} has no ") as refused:
            compare_all(stages(apis, replace(LAB, pools=parse_pools([name]))))
        assert "https://cloud.google.com/" in (refused.value.hint or "")


def test_a_reservation_is_looked_for_before_the_pool_is_made(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    make(apis, replace(LAB, pools=()))
    wanted = replace(LAB, pools=parse_pools(["l4"], reservation="ours"))
    with pytest.raises(ConfigurationError, match="has no reservation 'ours'"):
        compare_all(stages(apis, wanted))
    machines = {"instanceProperties": {"machineType": "g2-standard-24"}, "count": "2"}
    google.state.reservations[ZONE, "ours"] = {"specificReservation": machines}
    with pytest.raises(ConfigurationError, match="is of g2-standard-24, and l4 needs"):
        compare_all(stages(apis, wanted))
    make(apis, replace(LAB, pools=parse_pools(["l4x2"], reservation="ours")))
    affinity = pool(google, "l4x2-reserved").config.reservation_affinity
    assert affinity.values == ["ours"]


def test_a_pool_of_another_kind_under_the_name_is_refused(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    make(apis)
    pool(google, "l4").config.machine_type = "g2-standard-8"
    with pytest.raises(ConfigurationError, match="machine type: g2-standard-8") as refused:
        compare_all(stages(apis))
    assert "kinetic nodepools remove l4" in (refused.value.hint or "")


def test_a_pool_of_another_name_with_the_same_accelerator_is_used(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    make(apis)
    pool(google, "l4").name = "gpus"
    change = changes(apis)["l4"]
    assert (change.action, change.details) == ("keep", ("node pool gpus has the same accelerator",))


def test_a_pool_that_is_being_removed_is_made_anew(
    google: LoopbackGoogle, apis: GoogleApis
) -> None:
    make(apis)
    google.state.steps = 8
    apis.container.delete_node_pool(name=f"{PATH}/nodePools/l4")
    assert changes(apis)["l4"].action == "create"
    make(apis)
    assert pool(google, "l4").status.name == "RUNNING"


def test_clusters_are_listed_with_what_each_has(google: LoopbackGoogle, apis: GoogleApis) -> None:
    make(apis)
    (lab,) = cluster.list_clusters(apis, "loopback")
    assert (lab.name, lab.location, lab.mode, lab.is_made_here) == ("lab", ZONE, "standard", True)
    assert [each.name for each in lab.pools] == ["kinetic-cpu", "l4"]
    assert lab.lacks == ()


def code_unavailable():
    import grpc

    return grpc.StatusCode.UNAVAILABLE
