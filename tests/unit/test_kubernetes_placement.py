"""On which nodes a run's pods may be: what is asked for, and the pods that come of it."""

from __future__ import annotations

import copy
from typing import Any

import kubernetes_validate
import pytest

from kinetic_flows.clients.prefect.job_rendering import render_job
from kinetic_flows.core.accelerators import NodePool, parse_accelerator
from kinetic_flows.core.accelerators.node_pools import Taint
from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.cloud import resolve_cloud
from kinetic_flows.core.settings.node_variables import asked_labels, both_affinities
from kinetic_flows.core.settings.pool_variables import check_job_variables
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.placement import Placement, node_request, placement_of
from kinetic_flows.platforms.gke.volumes import Asked

RUN_ID = "0f0e6d3a-1a2b-4c3d-8e4f-5a6b7c8d9e0f"
VERSIONS = ("1.31", kubernetes_validate.latest_version())
ZONE = "topology.kubernetes.io/zone"


def pod_of(
    accelerator: str = "cpu",
    *,
    template: dict[str, Any] | None = None,
    job_vars: dict[str, Any] | None = None,
    **placement: Any,
) -> dict[str, Any]:
    """Return the pod's spec of a run, as the launcher and a worker make it."""
    variables = job_variables(
        PodRequest(
            run_id=RUN_ID,
            name="train",
            image="r/i@sha256:" + "1" * 64,
            accelerator=parse_accelerator(accelerator),
            placement=Placement(**placement),
            volumes=Asked(template=template),
            variables=check_job_variables(job_vars or {}, "job_variables"),
        )
    )
    job = render_job(template or base_job_template(), variables, run_id=RUN_ID, name="train")
    for version in VERSIONS:
        kubernetes_validate.validate(copy.deepcopy(job), version, strict=True)
    return job["spec"]["template"]["spec"]


def test_a_reservation_of_ones_own_project_is_asked_for_by_name():
    pod = pod_of("h100x8", reservation="big")
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-h100-80gb",
        "cloud.google.com/reservation-name": "big",
    }
    taint = Taint(key="cloud.google.com/reservation-name", value="big")
    assert taint.is_tolerated(pod["tolerations"])


@pytest.mark.parametrize(("makes_pools", "affinity"), [(True, ("specific",)), (False, None)])
def test_a_cluster_that_makes_nodes_is_told_that_a_reservation_is_a_specific_one(
    makes_pools, affinity
):
    cloud = resolve_cloud(arguments={}, environ={"KINETIC_PROJECT": "my-project-1"}, profile=None)
    options = RunOptions().updated({"reservation": "big"})
    found = placement_of(options, cloud, parse_accelerator("l4"), makes_pools=makes_pools)
    assert found.labels["cloud.google.com/reservation-name"] == ("big",)
    assert found.labels.get("cloud.google.com/reservation-affinity") == affinity
    asked = node_request(parse_accelerator("l4"), found, {})
    assert asked.labels.get("cloud.google.com/reservation-affinity") == affinity
    assert asked.pod["nodeSelector"]["cloud.google.com/reservation-affinity"] == "specific"


def test_a_shared_reservation_is_asked_for_with_its_project():
    selector = pod_of(reservation="projects/owner-1/reservations/big")["nodeSelector"]
    assert selector["cloud.google.com/reservation-name"] == "big"
    assert selector["cloud.google.com/reservation-project"] == "owner-1"


def test_any_reservation_names_none():
    assert pod_of(reservation="any")["nodeSelector"] == {
        "cloud.google.com/reservation-affinity": "any"
    }


def test_a_compute_class_and_a_node_pool_are_labels():
    pod = pod_of(compute_class="Performance", node_pool="l4-pool")
    assert pod["nodeSelector"] == {
        "cloud.google.com/compute-class": "Performance",
        "cloud.google.com/gke-nodepool": "l4-pool",
    }
    taint = Taint(key="cloud.google.com/compute-class", value="Performance")
    assert taint.is_tolerated(pod["tolerations"])


def test_flex_start_is_a_label_whose_taints_are_tolerated():
    pod = pod_of("l4:flex")
    assert pod["nodeSelector"]["cloud.google.com/gke-flex-start"] == "true"
    for key in ("cloud.google.com/gke-flex-start", "cloud.google.com/gke-queued", "nvidia.com/gpu"):
        value = "present" if key == "nvidia.com/gpu" else "true"
        assert Taint(key=key, value=value).is_tolerated(pod["tolerations"])


def test_zones_and_labels_of_ones_own_are_one_affinity():
    pod = pod_of(zones=("us-a1-a", "us-a1-b"), job_vars={"node_selector": {"disk": "ssd"}})
    assert asked_labels(pod) == {ZONE: ("us-a1-a", "us-a1-b"), "disk": ("ssd",)}
    assert "nodeSelector" not in pod or pod["nodeSelector"] == {}


def test_what_an_administrator_asks_of_all_is_asked_beside_what_a_run_asks():
    template = base_job_template()
    terms = [
        {"matchExpressions": [{"key": "team", "operator": "In", "values": [name]}]}
        for name in ("a", "b")
    ]
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    template["variables"]["properties"]["affinity"]["default"] = {
        "nodeAffinity": {required: {"nodeSelectorTerms": terms}}
    }
    pod = pod_of(template=template, zones=("us-a1-a",))
    found = pod["affinity"]["nodeAffinity"][required]["nodeSelectorTerms"]
    assert [
        [(each["key"], each["values"]) for each in term["matchExpressions"]] for term in found
    ] == [[("team", ["a"]), (ZONE, ["us-a1-a"])], [("team", ["b"]), (ZONE, ["us-a1-a"])]]


def test_an_affinity_of_ones_own_reaches_the_pod_as_it_is():
    spread = {"topologyKey": ZONE, "labelSelector": {"matchLabels": {"a": "b"}}}
    weighed = {
        "weight": 1,
        "preference": {"matchExpressions": [{"key": "x", "operator": "Exists"}]},
    }
    asked = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [weighed]}}
    pod = pod_of(job_vars={"affinity": asked, "topology_spread": spread})
    assert pod["affinity"] == asked
    assert pod["topologySpreadConstraints"] == [
        {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", **spread}
    ]


def test_an_older_template_runs_what_needs_nothing_new():
    template = base_job_template()
    properties = template["variables"]["properties"]
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    for name in ("affinity", "topology_spread", "flex_start", "reservation_name", "node_pool"):
        del properties[name]
    del pod["affinity"], pod["topologySpreadConstraints"]
    pod["nodeSelector"] = {"cloud.google.com/gke-spot": "{{ spot }}"}
    assert pod_of("cpu:spot", template=template)["nodeSelector"] == {
        "cloud.google.com/gke-spot": "true"
    }


def test_an_administrators_own_variable_for_labels_is_left_to_them():
    template = base_job_template()
    template["variables"]["properties"]["node_selector"] = {"type": "object", "default": {}}
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["nodeSelector"] = "{{ node_selector }}"
    made = pod_of(template=template, job_vars={"node_selector": {"disk": "ssd"}})
    assert made["nodeSelector"] == {"disk": "ssd"}
    assert "affinity" not in made


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"node_selector": ["ssd"]}, "node_selector of job_variables is ['ssd']"),
        ({"node_selector": {"disk": True}}, "has disk=True, which is no label"),
        ({"node_selector": {"cloud.google.com/gke-spot": "true"}}, "accelerator= decides that"),
        ({"affinity": {"nodeAffinty": {}}}, "did you mean 'nodeAffinity'"),
        ({"affinity": {"nodeAffinity": {"required": {}}}}, "has the field 'required'"),
        (
            {
                "affinity": {
                    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"a": 1}]}
                }
            },
            "nodeSelectorTerms",
        ),
        ({"topology_spread": {"maxSkew": 1}}, "topologyKey"),
        ({"topology_spread": {"topologyKey": "zone", "skew": 1}}, "has the field 'skew'"),
        ({"node_pool": "x"}, "say node_pool="),
        ({"reservation_name": "x"}, "say reservation="),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(variables, words):
    with pytest.raises(ConfigurationError) as caught:
        check_job_variables(variables, "job_variables")
    assert words in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reservation", "projects/x/big"),
        ("reservation", ""),
        ("zones", []),
        ("zones", "us-central1"),
        ("zones", ["us-central1-a", 3]),
        ("node_pool", "Pool!"),
        ("compute_class", "a b"),
        ("max_run_duration_seconds", 8 * 86_400),
    ],
)
def test_an_option_that_cannot_be_is_refused(name, value):
    with pytest.raises(UsageError, match=name):
        RunOptions().updated({name: value})


def test_an_option_beats_the_setting_and_the_setting_holds_elsewhere():
    environ = {
        "KINETIC_PROJECT": "my-project-1",
        "KINETIC_ZONES": "us-central1-a,us-central1-b",
        "KINETIC_RESERVATION": "ours",
        "KINETIC_NODE_POOL": "pool",
    }
    cloud = resolve_cloud(arguments={}, environ=environ, profile=None)
    options = RunOptions().updated({"reservation": "mine", "zones": "us-central1-f"})
    found = placement_of(options, cloud, parse_accelerator("l4"))
    assert (found.reservation, found.zones) == ("mine", ("us-central1-f",))
    assert found.node_pool == "pool"
    assert found.in_words == {"reservation": "mine", "node pool": "pool", "zone": "us-central1-f"}
    own = RunOptions().updated({"reservation": "projects/my-project-1/reservations/ours"})
    assert placement_of(own, cloud, parse_accelerator("l4")).reservation == "ours"
    # A setting is for what can have it.
    for name in ("l4:spot", "l4:flex"):
        assert placement_of(RunOptions(), cloud, parse_accelerator(name)).reservation is None


def test_how_long_nodes_live_is_a_label_where_the_cluster_makes_them():
    options = RunOptions().updated({"max_run_duration_seconds": 3600})
    cloud = resolve_cloud(arguments={}, environ={"KINETIC_PROJECT": "my-project-1"}, profile=None)
    label = "cloud.google.com/gke-max-run-duration-seconds"
    for name, makes_pools, is_selected in (
        ("l4:flex", True, True),
        ("l4:flex", False, False),
        ("tpu-v6e-4x4:flex", True, False),
    ):
        wanted = parse_accelerator(name)
        found = placement_of(options, cloud, wanted, makes_pools=makes_pools)
        assert (found.labels.get(label) == ("3600",)) is is_selected
        assert found.annotations == {"kinetic-flows/max-run-duration-seconds": "3600"}


@pytest.mark.parametrize(
    ("name", "reservation"), [("l4", "ours"), ("l4:spot", None), ("l4:flex", None), ("cpu", None)]
)
def test_a_setting_names_a_reservation_for_those_that_can_be_of_one(name, reservation):
    environ = {"KINETIC_PROJECT": "my-project-1", "KINETIC_RESERVATION": "ours"}
    cloud = resolve_cloud(arguments={}, environ=environ, profile=None)
    accelerator = parse_accelerator(name)
    assert placement_of(RunOptions(), cloud, accelerator).reservation == reservation
    said = RunOptions().updated({"reservation": "mine"})
    assert placement_of(said, cloud, accelerator).reservation == "mine"


def test_rules_of_pods_add_up_as_lists():
    one = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"a": 1}]}}
    two = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"b": 1}]}}
    (rules,) = both_affinities(one, two)["podAntiAffinity"].values()
    assert rules == [{"a": 1}, {"b": 1}]


@pytest.mark.parametrize(
    ("toleration", "is_tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "team", "operator": "Exists"}, True),
        ({"key": "team", "value": "a"}, True),
        ({"key": "team", "value": "b"}, False),
        ({"key": "team", "value": "a", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_taint_is_tolerated_as_kubernetes_says(toleration, is_tolerated):
    assert Taint(key="team", value="a").is_tolerated([toleration]) is is_tolerated


def test_a_pool_knows_its_way_from_a_node():
    node = {
        "metadata": {
            "labels": {
                "cloud.google.com/gke-nodepool": "flex",
                "cloud.google.com/gke-flex-start": "true",
                "cloud.google.com/reservation-name": "big",
                "cloud.google.com/reservation-project": "owner-1",
                ZONE: "us-a1-a",
            }
        },
        "spec": {
            "taints": [
                {"key": "cloud.google.com/gke-queued", "value": "true", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
            ]
        },
    }
    pool = NodePool.from_node(node)
    assert (pool.flex, pool.is_queued, pool.zones) == (True, True, ("us-a1-a",))
    assert pool.reservation == "projects/owner-1/reservations/big"
    assert [str(each) for each in pool.taints] == ["cloud.google.com/gke-queued=true:NoSchedule"]
    assert pool.may_have({ZONE: ("us-a1-a", "us-a1-b")})
    assert not pool.may_have({"cloud.google.com/reservation-affinity": "specific"})
    assert str(pool) == "flex (flex-start reservation projects/owner-1/reservations/big)"


def test_nodes_that_are_asked_for_are_kept_for_who_asked():
    queued = NodePool(
        name="q", accelerator="nvidia-l4", count_per_host=1, flex=True, is_queued=True
    )
    assert queued.offers(parse_accelerator("l4:flex"))
    assert not queued.offers(parse_accelerator("l4"))
    assert not NodePool(name="p", accelerator="nvidia-l4", count_per_host=1).offers(
        parse_accelerator("l4:flex")
    )
