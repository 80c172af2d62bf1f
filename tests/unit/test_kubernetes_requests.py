"""What pods ask of their nodes: the default, what people say, and what no machine has."""

from __future__ import annotations

from typing import Any

import pytest

from kinetic_flows.core.accelerators import NodePool, list_accelerators, parse_accelerator
from kinetic_flows.core.accelerators.machines import GIB, NodeSize, node_size
from kinetic_flows.core.launcher import PodRequests
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.quantities import cpu_millis, cpu_quantity, memory_bytes, memory_quantity
from kinetic_flows.core.settings.settings import load_settings, resolve_settings
from kinetic_flows.platforms.gke.job_variables import asked_of_node, chosen_variables
from kinetic_flows.platforms.gke.limit_ranges import check_limits, limited_by
from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.quota import too_much_of_quota
from kinetic_flows.platforms.gke.requests import (
    Surroundings,
    default_size,
    requests_of,
    static_obstacle,
    too_much,
    with_requests,
)

NOTHING = Surroundings()


class NoProfiles:
    def load(self, name: str) -> None: ...

    def names(self) -> tuple[str, ...]:
        return ()


def pool(name: str, machine_type: str, **fields: Any) -> NodePool:
    return NodePool(name=name, machine_type=machine_type, size=node_size(machine_type), **fields)


def t4_pool(machine_type: str, count: int = 1) -> NodePool:
    return pool("t4", machine_type, accelerator="nvidia-tesla-t4", count_per_host=count)


def template(**defaults: Any) -> dict[str, Any]:
    made = base_job_template()
    for name, value in defaults.items():
        made["variables"]["properties"][name]["default"] = value
    return made


def asked(
    accelerator: str,
    variables: dict[str, Any] | None = None,
    *,
    of: dict[str, Any] | None = None,
    surroundings: Surroundings = NOTHING,
    in_memory: int = 0,
) -> tuple[Any, Any]:
    """Return the CPUs and the memory that our variables ask for."""
    found = with_requests(
        variables or {},
        parse_accelerator(accelerator),
        of or template(),
        surroundings,
        in_memory=in_memory,
    )
    return found.get("cpu"), found.get("memory_request")


@pytest.mark.parametrize(
    ("machine_type", "cpu", "gib"),
    [
        # What `kubectl describe node` says of such nodes on GKE.
        ("e2-standard-4", "3920m", 12.9),
        ("e2-medium", "940m", 2.7),
        ("n1-standard-1", "940m", 2.5),
        ("n2-custom-8-16384", "7910m", 12.9),
        ("custom-8-16384", "7910m", 12.9),
        ("ct6e-standard-8t", "179480m", 1381.5),
    ],
)
def test_gke_keeps_part_of_a_machine_for_itself(machine_type, cpu, gib):
    size = node_size(machine_type)
    assert size is not None
    assert cpu_quantity(size.cpu_millis) == cpu
    assert size.memory_bytes / GIB == pytest.approx(gib, abs=0.1)


def test_nothing_is_believed_of_a_machine_that_is_not_known():
    for machine in ("", "z9-standard-4", "n1-ultra-8", "e2-standard-", "my machine"):
        assert node_size(machine) is None


def test_every_machine_of_the_registry_is_known():
    rows = [row for row in list_accelerators() if row.machine_type]
    assert [row for row in rows if not node_size(row.machine_type or "")] == []


@pytest.mark.parametrize("row", list_accelerators(), ids=str)
def test_what_is_asked_for_by_default_leaves_a_fifth_of_the_machine(row):
    size = default_size(row)
    assert size is not None
    node = node_size(row.machine_type or "e2-standard-4")
    assert node is not None
    assert size.cpu_millis <= node.cpu_millis * 0.8
    assert size.memory_bytes <= node.memory_bytes * 0.8


def test_64_cpu_runs_do_not_fit_on_one_machine():
    size, node = default_size(parse_accelerator("cpu")), node_size("n2-standard-16")
    assert size is not None
    assert node is not None
    assert 64 * size.cpu_millis > node.cpu_millis
    assert asked("cpu") == ("250m", "1Gi")


def test_a_run_of_which_no_node_is_known_fits_beside_gkes_own_pods_on_its_default_machine():
    size, node = default_size(parse_accelerator("cpu")), node_size("e2-medium")
    assert size is not None
    assert node is not None
    assert size.cpu_millis <= node.cpu_millis - 500
    assert size.memory_bytes <= node.memory_bytes - GIB


def test_a_small_node_is_not_filled_by_one_run():
    small = Surroundings(pools=(pool("default", "e2-medium"),))
    assert asked("cpu", surroundings=small) == ("110m", "449Mi")
    both = Surroundings(pools=(pool("default", "e2-medium"), pool("runs", "e2-standard-8")))
    assert asked("cpu", surroundings=both) == ("500m", "2Gi")


def test_a_cpu_run_asks_for_nothing_by_the_size_of_nodes_with_chips():
    gpus = Surroundings(pools=(t4_pool("n1-standard-1"), pool("runs", "e2-standard-8")))
    assert asked("cpu", surroundings=gpus) == ("500m", "2Gi")


def test_a_gpu_run_asks_for_its_share_of_the_machine_that_the_cluster_has():
    one = Surroundings(pools=(t4_pool("n1-standard-8"),))
    assert asked("t4", surroundings=one) == ("5", "19Gi")
    # Four of them fit on a node with four.
    four = Surroundings(pools=(t4_pool("n1-standard-16", 4),))
    assert asked("t4", surroundings=four) == ("2900m", "10Gi")
    # Of several node pools any may take it.
    several = Surroundings(pools=(t4_pool("n1-standard-16"), t4_pool("n1-standard-2")))
    assert asked("t4", surroundings=several) == ("1400m", "4Gi")
    # GKE's own pods take more than a quarter of a small one.
    assert asked("t4", surroundings=Surroundings(pools=(t4_pool("n1-standard-1"),)))[0] == "400m"
    odd = Surroundings(pools=(t4_pool("n1-highcpu-16"), t4_pool("n1-highmem-2")))
    assert asked("t4", surroundings=odd) == ("1400m", "7Gi")


@pytest.mark.parametrize(
    ("accelerator", "machine"), [("l4", "g2-standard-4"), ("t4", "n1-standard-2")]
)
def test_a_gpu_run_of_which_no_machine_is_known_fits_on_a_small_one(accelerator, machine):
    cpu, memory = asked(accelerator)
    node = node_size(machine)
    assert node is not None
    assert cpu_millis(cpu) < node.cpu_millis
    assert memory_bytes(memory) < node.memory_bytes


def test_what_people_and_administrators_say_wins():
    assert asked("l4", {"cpu": "8"}) == ("8", "9Gi")
    assert asked("l4", {"memory": "32Gi"}) == ("2900m", "32Gi")
    assert asked("l4", {"memory_request": "1Gi"}) == ("2900m", "1Gi")
    # A default of the work pool's is filled in by whoever renders the template.
    assert asked("l4", of=template(cpu="1", memory="4Gi")) == (None, None)
    assert asked("l4", of=template(memory_request="4Gi")) == ("2900m", None)
    assert asked("l4", {"memory": "2Gi"}, of=template(memory_request="4Gi"))[1] == "2Gi"


def test_a_work_pool_that_is_not_up_to_date_gets_what_it_knows():
    older = template()
    del older["variables"]["properties"]["memory_request"]
    assert asked("cpu", of=older) == ("250m", None)
    assert asked("cpu", {"memory": "4Gi"}, of=older) == ("250m", None)


def test_data_in_memory_is_asked_for_as_well():
    assert asked("cpu", in_memory=3 * GIB) == ("250m", "4Gi")
    assert asked("l4", in_memory=GIB) == ("2900m", "9Gi")
    assert asked("l4", in_memory=11 * GIB) == ("2900m", "11Gi")


def test_a_queue_of_others_may_not_count_cpus():
    assert asked("cpu", {"queue_name": "theirs"}) == (None, None)
    assert asked("cpu", of=template(queue_name="theirs")) == (None, None)
    assert asked("cpu", {"queue_name": "kinetic"}) == ("250m", "1Gi")


def test_a_limit_range_of_the_namespace_speaks_for_itself():
    limited = Surroundings(limited=frozenset({"memory"}))
    assert asked("cpu", surroundings=limited) == ("250m", None)


def test_options_have_the_last_word():
    options = RunOptions().updated({"cpu": 8, "memory": "64Gi"})
    settings = '{"cpu": "1", "memory_request": "99Gi", "labels": {"a": "b"}}'
    environ = {"KINETIC_PROJECT": "acme-ml-1", "KINETIC_JOB_VARIABLES": settings}
    cloud = resolve_settings(load_settings(environ), NoProfiles(), environ=environ).required_cloud()
    chosen = chosen_variables(options, cloud)
    assert chosen == {"cpu": "8", "memory": "64Gi", "labels": {"a": "b"}}
    said = asked_of_node(parse_accelerator("l4"), chosen, template())
    assert said["cpu"] == "8"
    assert said["memory"] == "64Gi"
    assert requests_of(chosen, template(memory_request="4Gi")).memory == "64Gi"


def test_a_request_above_its_limit_is_told():
    said = requests_of({"memory_request": "32Gi"}, template(memory="16Gi"))
    told = static_obstacle(parse_accelerator("cpu"), said)
    assert told == (
        "memory_request is 32Gi, and memory, which is the most that a pod may use, is 16Gi: say "
        "more memory, or ask for less"
    )


@pytest.mark.parametrize(
    ("accelerator", "requests", "told"),
    [
        ("tpu-v6e-8", {"memory": "2Ti"}, "2Ti of memory, and ct6e-standard-8t has 1381Gi for pods"),
        ("l4", {"cpu": "97"}, "97 CPUs, and g2-standard-96 has 95690m for pods"),
        ("h100x8", {"cpu": "300", "memory": "3Ti"}, "300 CPUs, and"),
    ],
)
def test_what_no_machine_could_hold_is_told(accelerator, requests, told):
    found = static_obstacle(parse_accelerator(accelerator), PodRequests(**requests))
    assert found.startswith(f"no machine with {accelerator} has {told}")


def test_machines_of_any_size_have_some_gpus():
    for accelerator in ("t4", "cpu"):
        assert not static_obstacle(parse_accelerator(accelerator), PodRequests(memory="200Gi"))


def test_what_no_node_of_the_cluster_holds_is_told_with_what_would_fit():
    pools = (pool("small", "e2-standard-4"), pool("large", "n2-standard-16"))
    cpu = parse_accelerator("cpu")
    assert not too_much(cpu, PodRequests(cpu="15", memory="50Gi"), pools)
    assert too_much(cpu, PodRequests(cpu="16", memory="80Gi"), pools) == (
        "no node with cpu has 16 CPUs (at most 15890m would fit) and 80Gi of memory (at most 57Gi "
        "would fit): the largest are those of node pool large, n2-standard-16; ask for less, or "
        "add a node pool of larger machines"
    )


def test_a_node_pool_of_which_nothing_is_known_may_hold_anything():
    pools = (pool("small", "e2-standard-4"), NodePool(name="odd", machine_type="z9-mega"))
    assert not too_much(parse_accelerator("cpu"), PodRequests(memory="900Gi"), pools)


def test_a_node_says_itself_what_it_leaves_to_pods():
    status = {"allocatable": {"cpu": "3920m", "memory": "13594488Ki"}, "capacity": {"cpu": "4"}}
    found = NodePool.from_node({"metadata": {"name": "n"}, "status": status})
    assert found.size == NodeSize(cpu_millis=3920, memory_bytes=13594488 * 1024)
    assert NodePool.from_node({"status": {"capacity": {"google.com/tpu": "4"}}}).size is None


def limit_range(**rules: Any) -> dict[str, Any]:
    limit = {"type": "Container", **rules}
    return {
        "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "PersistentVolumeClaim"}, limit]},
    }


def test_limit_ranges_say_what_containers_get():
    ranges = [limit_range(default={"memory": "512Mi"}, max={"cpu": "2"}, min={"cpu": "1m"})]
    assert limited_by(ranges) == {"cpu", "memory"}
    assert limited_by([limit_range(max={"ephemeral-storage": "1Gi"})]) == frozenset()
    assert list(check_limits(ranges, PodRequests(cpu="2", memory="1Gi", memory_limit="1Gi"))) == []
    assert list(check_limits(ranges, PodRequests(cpu="2500m", memory="1Gi"))) == [
        "limit range 'small' of the namespace allows 2 of cpu (max), and the run asks for 2500m",
        (
            "limit range 'small' of the namespace allows 512Mi of memory (default), and the run "
            "asks for 1Gi"
        ),
    ]


def test_what_a_quota_could_never_give_is_told():
    hard = {"requests.cpu": "16", "limits.memory": "64Gi", "pods": "3"}
    quota = {"metadata": {"name": "team"}, "spec": {"hard": hard}}
    said = PodRequests(cpu="8", memory="32Gi", memory_limit="32Gi")
    assert list(too_much_of_quota(quota, 2, said)) == []
    assert list(too_much_of_quota(quota, 2, PodRequests(memory="900Gi"))) == []
    assert list(too_much_of_quota(quota, 4, said)) == [
        (
            "resource quota 'team' of the namespace allows 16 requests.cpu, and the run asks for "
            "4 times 8"
        ),
        (
            "resource quota 'team' of the namespace allows 64Gi limits.memory, and the run asks "
            "for 4 times 32Gi"
        ),
    ]


@pytest.mark.parametrize(
    ("text", "size"), [("64Gi", 64 * GIB), ("500M", 500_000_000), ("1.5Ki", 1536), ("7", 7)]
)
def test_quantities_are_read_as_kubernetes_has_them(text, size):
    assert memory_bytes(text) == size


def test_what_is_no_quantity_is_none():
    assert [memory_bytes(text) for text in (None, "", "lots", "-1Gi", "1GiB")] == [None] * 5
    assert [cpu_millis(text) for text in (None, "", "1k", "-1")] == [None] * 4
    assert [cpu_millis(text) for text in ("8", "0.5", "250m", 2)] == [8000, 500, 250, 2000]
    assert [memory_quantity(size) for size in (GIB, GIB + 1, 0)] == ["1Gi", "1024Mi", "0Mi"]
