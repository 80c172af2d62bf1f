"""Node pools and clusters as they are asked for, as GKE writes them, and what they cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from google.cloud import container_v1
from hypothesis import given
from hypothesis import strategies as st

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.core.accelerators import list_accelerators, parse_accelerator, prices
from kinetic_flows.core.errors import AcceleratorError, ConfigurationError, UsageError
from kinetic_flows.platforms.gke.pool_use import use_of
from kinetic_flows.platforms.gke.setup import costs
from kinetic_flows.platforms.gke.setup.clusters.cluster import describe, node_pools
from kinetic_flows.platforms.gke.setup.clusters.cluster_messages import lacks, wanted_cluster
from kinetic_flows.platforms.gke.setup.clusters.pool_list import found_pools, named_pool
from kinetic_flows.platforms.gke.setup.clusters.pool_messages import (
    accelerator_pool,
    cpu_pool,
    fixed_differences,
    limits,
)
from kinetic_flows.platforms.gke.setup.clusters.pool_options import parse_pools, pool_name
from kinetic_flows.platforms.gke.setup.clusters.quota import Quota, metric_of, shortages
from kinetic_flows.platforms.gke.setup.clusters.zones import check_zones
from kinetic_flows.platforms.gke.setup.kubernetes.kueue import queue_objects
from kinetic_flows.platforms.gke.setup.prices import FREE_TIER_MONTHLY
from kinetic_flows.platforms.gke.setup.request import PoolRequest, SetupRequest

ZONAL = SetupRequest(project="my-project", location="us-central1-a", cluster="lab")
REGIONAL = replace(ZONAL, location="us-central1")
NODES = "kn-lab-nodes@my-project.iam.gserviceaccount.com"

MADE = tuple(row for row in list_accelerators() if row.category != "cpu")


def pool(name: str, **more) -> PoolRequest:
    (found,) = parse_pools([name], **more)
    return found


def refusal(*names: str, **more) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_pools(names, **more)
    return caught.value


def test_options_of_one_command_are_read_into_a_pool_for_each_accelerator():
    l4, v6e = parse_pools(["l4", "tpu-v6e-8:spot"], max_nodes=2, reservation="ours")
    assert (pool_name(l4), l4.max_nodes, l4.reservation) == ("l4-reserved", 2, "ours")
    # Spot VMs are not taken from reservations.
    assert (pool_name(v6e), v6e.max_nodes, v6e.reservation) == ("tpu-v6e-8-spot", 2, None)


def test_a_pool_that_is_said_twice_is_made_once():
    assert len(parse_pools(["l4", "gpu-l4", "L4"])) == 1


def test_without_a_number_a_pool_has_four_nodes_and_a_slice_all_its_hosts():
    assert pool("l4").max_nodes == 4
    assert pool("tpu-v6e-16").max_nodes == 4  # 4 hosts
    assert pool("tpu-v6e-64").max_nodes == 16
    # A slice is whole or not there, so more nodes are none of it.
    assert pool("tpu-v6e-16", max_nodes=9).max_nodes == 4


@pytest.mark.parametrize(
    ("names", "more", "said"),
    [
        (["cpu"], {}, "needs no node pool of its own"),
        (["gpu:4"], {}, "does not say which accelerator"),
        (["tpu7x-2x2x2"], {}, "workload policy"),
        (["l4"], {"max_nodes": 0}, "cannot have 0 nodes"),
        (["l4"], {"max_nodes": 1001}, "cannot have 1001 nodes"),
        (["tpu-v6e-64"], {"max_nodes": 8}, "a slice of 16 hosts, more than the 8 nodes"),
        (
            ["l4:spot"],
            {"reservation": "ours"},
            "neither Spot VMs nor nodes of flex-start are taken",
        ),
        (["l4", "a100"], {"reservation": "ours"}, "l4, a100"),
        (["l4"], {"reservation": "Ours!"}, "cannot be the name of a reservation"),
        (["l4"], {"zones": ["us-central1"]}, "is a region, and nodes are in zones"),
        (["l4"], {"zones": ["here"]}, "here"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(names, more, said):
    error = refusal(*names, **more)
    assert said in error.message
    assert error.hint


def test_an_unknown_accelerator_is_refused_with_the_nearest():
    with pytest.raises(AcceleratorError, match="l4"):
        parse_pools(["l44"])


@given(st.sampled_from(MADE), st.booleans())
def test_every_accelerator_has_a_pool_name_that_gke_takes_and_that_is_its_own(row, spot):
    wanted = PoolRequest(accelerator=replace(row, spot=spot))
    name = pool_name(wanted)
    assert len(name) <= 40
    assert name.replace("-", "").isalnum()
    assert name == name.lower()
    others = [PoolRequest(accelerator=replace(other, spot=spot)) for other in MADE if other != row]
    assert name not in map(pool_name, others)


@given(st.sampled_from(MADE), st.booleans())
def test_a_pool_offers_the_accelerator_that_it_was_made_for(row, spot):
    """What GKE is asked for is what runs look for in a cluster."""
    accelerator = replace(row, spot=spot)
    made = accelerator_pool(ZONAL, PoolRequest(accelerator=accelerator, max_nodes=row.hosts))
    cluster = container_v1.Cluster(name="lab", node_pools=[made])
    (found,) = node_pools(cluster)
    assert found.offers(accelerator)
    assert found.spot == spot
    assert found.count_per_host == row.count_per_host


def test_a_gpu_pool_has_its_driver_from_gke_and_no_nodes_while_nothing_runs():
    made = accelerator_pool(ZONAL, pool("l4x2", max_nodes=3))
    (gpus,) = made.config.accelerators
    assert (gpus.accelerator_type, gpus.accelerator_count) == ("nvidia-l4", 2)
    assert gpus.gpu_driver_installation_config.gpu_driver_version.name == "DEFAULT"
    assert made.config.machine_type == "g2-standard-24"
    assert (made.initial_node_count, limits(made)) == (0, (0, 3))
    assert not made.config.labels
    assert not made.config.taints


def test_a_blackwell_pool_has_the_latest_driver():
    made = accelerator_pool(ZONAL, pool("b200"))
    (gpus,) = made.config.accelerators
    assert gpus.gpu_driver_installation_config.gpu_driver_version.name == "LATEST"


def test_a_slice_of_several_hosts_says_its_topology_and_has_all_hosts_or_none():
    made = accelerator_pool(ZONAL, pool("tpu-v6e-16"))
    assert made.placement_policy.tpu_topology == "4x4"
    assert made.placement_policy.type_.name == "COMPACT"
    assert (made.config.machine_type, limits(made)) == ("ct6e-standard-4t", (0, 4))
    assert not made.upgrade_settings.max_unavailable


def test_a_single_host_says_no_topology_and_is_upgraded_without_a_node_more():
    made = accelerator_pool(ZONAL, pool("tpu-v6e-8:spot"))
    assert not made.placement_policy
    assert made.config.spot
    assert (made.upgrade_settings.max_surge, made.upgrade_settings.max_unavailable) == (0, 1)


def test_a_pool_of_flex_start_waits_for_its_nodes_and_takes_none_of_a_reservation():
    made = accelerator_pool(ZONAL, pool("l4:flex", max_nodes=2))
    assert (made.config.flex_start, made.config.spot) == (True, False)
    assert made.config.reservation_affinity.consume_reservation_type.name == "NO_RESERVATION"
    assert not made.management.auto_repair
    assert not made.queued_provisioning.enabled
    assert made.upgrade_settings.strategy.name == "SHORT_LIVED"
    assert pool_name(PoolRequest(accelerator=parse_accelerator("l4:flex"))) == "l4-flex"
    (found,) = node_pools(container_v1.Cluster(name="lab", node_pools=[made]))
    assert found.offers(parse_accelerator("l4:flex"))
    assert (found.flex, found.is_queued) == (True, False)


def test_the_nodes_of_a_slice_by_flex_start_are_given_to_who_asks_for_all():
    made = accelerator_pool(ZONAL, pool("tpu-v6e-16:flex"))
    assert made.queued_provisioning.enabled
    assert made.upgrade_settings.strategy.name == "SHORT_LIVED"
    assert made.placement_policy.tpu_topology == "4x4"
    (found,) = node_pools(container_v1.Cluster(name="lab", node_pools=[made]))
    assert (found.flex, found.is_queued) == (True, True)


def test_a_reservation_is_named_as_compute_engine_wants_it():
    made = accelerator_pool(ZONAL, pool("l4", reservation="projects/other/reservations/ours"))
    affinity = made.config.reservation_affinity
    assert affinity.consume_reservation_type.name == "SPECIFIC_RESERVATION"
    assert affinity.key == "compute.googleapis.com/reservation-name"
    assert affinity.values == ["projects/other/reservations/ours"]


def test_nodes_of_a_regional_cluster_are_counted_over_its_zones_but_those_of_a_slice():
    scaling = accelerator_pool(REGIONAL, pool("l4", max_nodes=6)).autoscaling
    assert (scaling.total_max_node_count, scaling.max_node_count) == (6, 0)
    assert scaling.location_policy.name == "ANY"
    slice_ = accelerator_pool(REGIONAL, pool("tpu-v6e-16", zones=["us-central1-b"]))
    assert slice_.autoscaling.max_node_count == 4
    assert slice_.locations == ["us-central1-b"]


def test_nodes_in_several_zones_are_counted_together_in_a_zonal_cluster_too():
    """What is shown as the most that it costs is not doubled by a second zone."""
    zones = ["us-central1-a", "us-central1-b"]
    scaling = accelerator_pool(ZONAL, pool("l4", max_nodes=6, zones=zones)).autoscaling
    assert (scaling.total_max_node_count, scaling.max_node_count) == (6, 0)
    with pytest.raises(UsageError, match="are in one zone, and several are named"):
        check_zones(GoogleApis("my-project"), ZONAL, pool("v5e-16", zones=zones))


def test_all_nodes_are_the_clusters_own_account_and_marked():
    for made in (cpu_pool(ZONAL), accelerator_pool(ZONAL, pool("l4"))):
        assert made.config.service_account == NODES
        assert made.config.resource_labels == {"kinetic-cluster": "lab"}
        assert made.config.workload_metadata_config.mode.name == "GKE_METADATA"


def test_pools_that_differ_in_what_cannot_be_changed_are_told_apart():
    made = accelerator_pool(ZONAL, pool("l4"))
    assert not list(fixed_differences(made, made))
    other = accelerator_pool(ZONAL, pool("l4x2:spot", zones=["us-central1-c"]))
    assert list(fixed_differences(made, other)) == [
        "machine type: g2-standard-24, not g2-standard-12",
        "accelerator: 2 x nvidia-l4, not 1 x nvidia-l4",
        "Spot VMs: yes, not no",
    ]


def test_a_standard_cluster_lacks_nothing_that_is_wanted_of_it():
    made = wanted_cluster(ZONAL)
    assert not list(lacks(ZONAL, made))
    assert [each.name for each in made.node_pools] == ["kinetic-cpu"]
    assert made.network_config.datapath_provider.name == "ADVANCED_DATAPATH"
    assert made.release_channel.channel.name == "REGULAR"
    assert limits(made.node_pools[0]) == (1, 4)


def test_an_autopilot_cluster_has_no_pools_and_lacks_nothing():
    wanted = replace(REGIONAL, mode="autopilot")
    made = wanted_cluster(wanted)
    assert not made.node_pools
    assert not list(lacks(wanted, made))
    defaults = made.autoscaling.autoprovisioning_node_pool_defaults
    assert defaults.service_account == NODES


def test_a_bare_cluster_is_told_what_it_lacks_and_each_is_one_update():
    wanted = replace(ZONAL, private_nodes=True)
    found = list(lacks(wanted, container_v1.Cluster(name="lab")))
    assert [lack.text for lack in found] == [
        "Workload Identity is off, by which pods reach Cloud Storage as themselves",
        "the add-on GcsFuseCsiDriver is off, by which runs mount Cloud Storage",
        "its DNS endpoint is closed, by which it is reached from any network",
        "idle nodes are kept for long",
        "new nodes get addresses of their own",
    ]
    # GKE takes one change at a time: https://cloud.google.com/kubernetes-engine/docs/reference/rest
    assert [len(type(lack.update).to_json(lack.update)) > 2 for lack in found] == [True] * 5


def test_what_somebody_has_set_of_the_autoscaling_is_kept():
    found = wanted_cluster(ZONAL)
    found.autoscaling = container_v1.ClusterAutoscaling(
        enable_node_autoprovisioning=True,
        resource_limits=[container_v1.ResourceLimit(resource_type="cpu", maximum=64)],
    )
    (lack,) = lacks(ZONAL, found)
    assert lack.update is not None
    wanted = lack.update.desired_cluster_autoscaling
    assert wanted.autoscaling_profile.name == "OPTIMIZE_UTILIZATION"
    assert wanted.enable_node_autoprovisioning
    assert wanted.resource_limits == found.autoscaling.resource_limits


def test_of_a_joined_cluster_only_what_runs_need_is_missed():
    joined = replace(ZONAL, joins=True)
    assert len(list(lacks(joined, container_v1.Cluster(name="lab")))) == 2


def test_a_cluster_is_described_with_what_it_has():
    found = wanted_cluster(replace(ZONAL, machine_type="e2-standard-8", max_nodes=9))
    found.location, found.status = "us-central1-a", container_v1.Cluster.Status.RUNNING
    found.node_pools.append(accelerator_pool(ZONAL, pool("tpu-v6e-8:spot")))
    told = describe(found, "my-project")
    assert str(told) == ("lab in us-central1-a (0 nodes now; accelerators: tpu-v6e-8-spot)")
    assert (told.machine_type, told.max_nodes, told.is_made_here) == ("e2-standard-8", 9, True)
    assert told.to_json()["node_pools"] == ["kinetic-cpu", "tpu-v6e-8-spot"]


def test_prices_are_those_of_the_list():
    assert prices.machine_hourly("e2-standard-4") == pytest.approx(0.134, abs=0.001)
    assert prices.machine_hourly("n1-standard-8") == pytest.approx(0.38, abs=0.001)
    assert prices.machine_hourly("zz-standard-8") is None
    assert prices.machine_hourly("e2-odd-8") is None
    l4 = parse_accelerator("l4")
    assert prices.node_hourly(l4) == pytest.approx(1.0, abs=0.01)
    assert prices.node_hourly(parse_accelerator("tpu-v6e-8")) == pytest.approx(21.6)
    assert prices.node_hourly(parse_accelerator("gb200")) is None


def test_the_page_has_the_prices_that_are_shown():
    page = Path("docs/node-pools.md").read_text()
    machines = [prices.machine_hourly(f"{name}") for name in ("e2-standard-4", "n1-standard-8")]
    nodes = [prices.node_hourly(parse_accelerator(name)) for name in ("l4", "t4", "a100", "h100")]
    assert ", ".join(f"{price:.3f}" for price in machines) in page
    assert ", ".join(f"{price:.2f}" for price in nodes) in page
    chips = [prices.node_hourly(parse_accelerator(name)) for name in ("v5e-1", "v5p", "v6e-1")]
    assert f"{chips[0]:.2f}, {chips[1] / 4:.2f}, {chips[2]:.2f}" in page
    assert prices.AS_OF in " ".join(page.split())
    assert f"{FREE_TIER_MONTHLY:.2f}" in page


def test_a_pool_costs_nothing_while_idle_and_what_is_not_known_is_not_invented():
    assert costs.pool_cost(pool("l4", max_nodes=3)).hourly_usd == pytest.approx(3.0, abs=0.01)
    spot = costs.pool_cost(pool("tpu-v6e-8:spot"))
    assert (spot.monthly_usd, spot.hourly_usd) == (0.0, None)
    assert "for less than the $86.40" in spot.note
    assert costs.pool_cost(pool("b200")).hourly_usd is None
    reserved = costs.pool_cost(pool("l4", reservation="ours"))
    assert (reserved.hourly_usd, "ours" in reserved.note) == (0.0, True)


def test_a_cluster_costs_its_fee_and_a_node():
    assert costs.cluster_cost(ZONAL).monthly_usd == pytest.approx(73.0)
    assert "$74.40 a month are given back" in costs.cluster_cost(ZONAL).note
    assert "regional" in costs.cluster_cost(REGIONAL).note
    assert costs.cluster_cost(replace(REGIONAL, mode="autopilot")).hourly_usd is None
    cpu = costs.cpu_pool_cost(ZONAL)
    assert cpu is not None
    assert cpu.monthly_usd == pytest.approx(107.8, abs=0.5)
    assert costs.cpu_pool_cost(replace(ZONAL, machine_type="x9-odd-4")) is None
    assert costs.nat_cost(100).hourly_usd == pytest.approx(0.0014 * 31)


QUOTAS = (
    Quota(metric="NVIDIA_L4_GPUS", limit=8, used=2, region="us-central1"),
    Quota(metric="PREEMPTIBLE_NVIDIA_L4_GPUS", limit=0, used=0, region="us-central1"),
    Quota(metric="TPU_LITE_PODSLICE_V5", limit=8, used=0, region="us-central1"),
    Quota(metric="GPUS_ALL_REGIONS", limit=16, used=0, region=None),
)


def shortage(name: str, **more) -> str | None:
    found = list(shortages([pool(name, **more)], QUOTAS, "my-project"))
    return found[0][1] if found else None


def test_a_quota_that_is_too_small_is_told_with_where_to_ask_for_more():
    said = shortage("l4x2", max_nodes=4)
    assert said is not None
    assert "NVIDIA_L4_GPUS in us-central1 is 8, 2 of them in use: enough for 3 of 4 nodes" in said
    assert "https://console.cloud.google.com/iam-admin/quotas?project=my-project" in said
    assert shortage("l4x2", max_nodes=3) is None


def test_spot_vms_and_slices_have_quotas_of_their_own():
    assert "PREEMPTIBLE_NVIDIA_L4_GPUS" in (shortage("l4:spot") or "")
    assert "too few for the slice" in (shortage("v5e-16") or "")
    assert "enough for 2 of 4 nodes" in (shortage("v5e-4") or "")


def test_the_tightest_of_several_quotas_is_told():
    few = (*QUOTAS[:3], replace(QUOTAS[3], limit=0))
    ((_, said),) = shortages([pool("l4")], few, "my-project")
    assert "GPUS_ALL_REGIONS in all regions together is 0: too few for a node" in said


def test_what_is_reserved_or_not_told_is_not_warned_of():
    assert shortage("l4:spot", max_nodes=1) is not None
    assert shortage("l4", max_nodes=100, reservation="ours") is None
    assert metric_of(parse_accelerator("h100")) is None
    assert metric_of(parse_accelerator("h100:spot")) == "PREEMPTIBLE_NVIDIA_H100_GPUS"
    assert shortage("tpu-v6e-8", max_nodes=100) is None


def cluster_with(*names: str) -> container_v1.Cluster:
    found = wanted_cluster(ZONAL)
    found.node_pools.extend(accelerator_pool(ZONAL, pool(name)) for name in names)
    return found


def test_the_pools_of_a_cluster_are_listed_with_what_we_call_their_accelerators():
    found = cluster_with("l4x2", "tpu-v6e-16", "tpu-v6e-8:spot")
    found.node_pools[1].config.resource_labels.clear()
    told = [(each.name, str(each.accelerator), each.scaling) for each in found_pools(found)]
    assert told == [
        ("kinetic-cpu", "cpu", "1 to 4"),
        ("l4x2", "l4x2", "0 to 4"),
        ("tpu-v6e-16", "tpu-v6e-16", "0 or 4"),
        ("tpu-v6e-8-spot", "tpu-v6e-8:spot", "0 to 4"),
    ]
    assert "made elsewhere" in list(found_pools(found)[1].notes())
    assert found_pools(found)[2].to_json()["max_nodes"] == 4


@given(st.sampled_from(MADE), st.booleans())
def test_every_pool_is_called_by_the_accelerator_that_it_was_made_for(row, spot):
    accelerator = replace(row, spot=spot)
    made = accelerator_pool(ZONAL, PoolRequest(accelerator=accelerator, max_nodes=row.hosts))
    (found,) = found_pools(container_v1.Cluster(name="lab", node_pools=[made]))
    assert found.accelerator == accelerator


@pytest.mark.parametrize("text", ["l4x2", "gpu-l4x2", "L4x2"])
def test_a_pool_is_found_by_its_name_or_its_accelerator(text):
    pools = found_pools(cluster_with("l4x2", "tpu-v6e-8:spot"))
    assert named_pool(pools, text, "lab").name == "l4x2"
    assert named_pool(pools, "v6e-8:spot", "lab").name == "tpu-v6e-8-spot"


def test_an_unknown_pool_is_refused_with_the_nearest():
    with pytest.raises(ConfigurationError, match="no node pool 'l4x4'") as caught:
        named_pool(found_pools(cluster_with("l4x2")), "l4x4", "lab")
    assert "l4x2" in (caught.value.hint or "")


def queue_of(*pools) -> dict[str, dict[str, str]]:
    """The most that each flavor of a queue has, in the order in which they are tried."""
    *_, queue, _ = queue_objects(pools, "research")
    (group,) = queue["spec"]["resourceGroups"]
    return {
        flavor["name"]: {each["name"]: each["nominalQuota"] for each in flavor["resources"]}
        for flavor in group["flavors"]
    }


def test_a_queue_tries_no_accelerator_before_an_accelerator_and_spot_vms_last():
    """Kueue takes the first flavor that is not ruled out by what a run asks its node for."""
    found = queue_of(*found_pools(cluster_with("l4:spot", "l4")))
    assert list(found) == ["kinetic-any", "l4", "l4-spot"]
    assert [each["nvidia.com/gpu"] for each in found.values()] == ["0", "4", "4"]


def test_a_pool_that_is_not_scaled_has_no_limit_in_a_queue():
    cluster = cluster_with("l4")
    cluster.node_pools[1].autoscaling.enabled = False
    assert queue_of(*found_pools(cluster))["l4"]["nvidia.com/gpu"] == "1000000"


def test_where_gke_makes_nodes_of_any_kind_the_queue_limits_none():
    found = queue_of()
    assert list(found) == ["kinetic-any"]
    assert "0" not in found["kinetic-any"].values()


def pod(run: str, *, node: str | None = None, selector: dict[str, str] | None = None) -> dict:
    return {
        "metadata": {
            "name": f"train-{run}-0-x",
            "labels": {"prefect.io/flow-run-id": run},
            "ownerReferences": [{"kind": "Job", "name": f"train-{run}"}],
        },
        "spec": {"nodeName": node, "nodeSelector": selector or {}},
    }


def test_runs_are_told_of_the_pool_that_they_are_on_or_wait_for():
    pools = [each.pool for each in found_pools(cluster_with("l4", "tpu-v6e-8:spot"))]
    nodes = [
        {"metadata": {"name": "a", "labels": {"cloud.google.com/gke-nodepool": "l4"}}},
        {"metadata": {"name": "b", "labels": {"cloud.google.com/gke-nodepool": "kinetic-cpu"}}},
    ]
    l4 = {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    pods = [
        pod("11111111-1", selector=l4),
        pod("22222222-2", node="a", selector=l4),
        pod("33333333-3", node="b"),
        pod("44444444-4"),
        {"metadata": {"name": "other"}, "spec": {"nodeName": "a"}},
    ]
    use = use_of(pools, nodes, pods)
    assert [str(run) for run in use["l4"].runs or ()] == [
        "train (22222222)",
        "train (11111111, waiting)",
    ]
    assert [str(run) for run in use["kinetic-cpu"].runs or ()] == ["train (33333333)"]
    assert (use["l4"].nodes, use["tpu-v6e-8-spot"].nodes) == (1, 0)
    assert use["tpu-v6e-8-spot"].runs == ()


def test_where_nodes_may_not_be_listed_a_run_is_on_the_pool_that_it_asks_for():
    pools = [each.pool for each in found_pools(cluster_with("l4", "t4"))]
    l4 = {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    use = use_of(pools, None, [pod("11111111-1", node="a", selector=l4)])
    assert [str(run) for run in use["l4"].runs or ()] == ["train (11111111)"]
    assert use["t4"].runs == ()


def test_what_may_not_be_listed_is_not_known():
    pools = [each.pool for each in found_pools(cluster_with("l4"))]
    use = use_of(pools, None, None)
    assert (use["l4"].nodes, use["l4"].runs) == (None, None)
