"""Which node pools a run may be on, and what is said where none is."""

from __future__ import annotations

from typing import Any

import pytest

from kinetic_flows.core.accelerators import NodePool, parse_accelerator
from kinetic_flows.core.accelerators.node_pools import Taint
from kinetic_flows.platforms.gke.placement import Placement, node_request
from kinetic_flows.platforms.gke.pool_choice import choose_pools

L4 = {"accelerator": "nvidia-l4", "count_per_host": 1}
ON_DEMAND = NodePool(name="l4-pool", zones=("us-central1-a",), **L4)
SPOT = NodePool(name="l4-spot", spot=True, zones=("us-central1-b",), **L4)
FLEX = NodePool(
    name="l4-flex",
    flex=True,
    is_queued=True,
    max_run_seconds=3600.0,
    taints=(Taint(key="cloud.google.com/gke-queued", value="true"),),
    **L4,
)
RESERVED = NodePool(name="l4-ours", reservation="projects/p/reservations/ours", **L4)
CLASSED = NodePool(name="l4-class", compute_class="gpus", **L4)
TEAM = NodePool(name="l4-team", taints=(Taint(key="team", value="a"),), **L4)
CPUS = NodePool(name="cpus", machine_type="e2-standard-4")


def chosen(
    accelerator: str,
    pools: list[NodePool],
    job_variables: dict[str, Any] | None = None,
    **placement: Any,
) -> tuple[list[str], str]:
    wanted = parse_accelerator(accelerator)
    nodes = node_request(wanted, Placement(**placement), job_variables or {})
    found = choose_pools(pools, wanted, nodes)
    return [pool.name for pool in found.fitting], found.missing


@pytest.mark.parametrize(
    ("accelerator", "asked", "names"),
    [
        ("l4", {}, ["l4-pool", "l4-spot", "l4-ours", "l4-class"]),
        ("l4:spot", {}, ["l4-spot"]),
        ("l4:flex", {}, ["l4-flex"]),
        ("l4", {"zones": ("us-central1-b", "us-central1-c")}, ["l4-spot", "l4-ours", "l4-class"]),
        ("l4", {"reservation": "ours"}, ["l4-ours"]),
        ("l4", {"compute_class": "gpus"}, ["l4-class"]),
        ("l4", {"node_pool": "l4-pool"}, ["l4-pool"]),
        ("l4", {"job_variables": {"tolerations": [{"operator": "Exists"}]}}, None),
        ("cpu", {"node_pool": "cpus"}, ["cpus"]),
    ],
)
def test_pools_fit_by_each_thing_that_is_asked_for(accelerator, asked, names):
    pools = [ON_DEMAND, SPOT, FLEX, RESERVED, CLASSED, TEAM, CPUS]
    fitting, missing = chosen(accelerator, pools, **asked)
    assert missing == ""
    everywhere = ["l4-pool", "l4-spot", "l4-ours", "l4-class", "l4-team"]
    assert fitting == (everywhere if names is None else names)


@pytest.mark.parametrize(
    ("accelerator", "pools", "asked", "words"),
    [
        (
            "h100x8",
            [ON_DEMAND],
            {},
            "no node pool has h100x8; the cluster has: l4-pool (nvidia-l4)",
        ),
        ("l4:spot", [ON_DEMAND], {}, "no node pool has l4 on Spot VMs; l4-pool (nvidia-l4) has it"),
        ("l4:flex", [ON_DEMAND], {}, "no node pool has l4 by flex-start; l4-pool (nvidia-l4)"),
        (
            "l4",
            [FLEX],
            {},
            "l4 is to be had by flex-start alone, in l4-flex (nvidia-l4 flex-start)",
        ),
        ("l4", [ON_DEMAND], {"node_pool": "gone"}, "there is no node pool gone, which node_pool"),
        ("l4", [ON_DEMAND, CPUS], {"node_pool": "cpus"}, "node pool cpus, which node_pool names,"),
        (
            "l4",
            [ON_DEMAND, SPOT],
            {"zones": ("us-central1-f",)},
            (
                "no node pool with l4 is in us-central1-f; node pools l4-pool, l4-spot are in "
                "us-central1-a, us-central1-b"
            ),
        ),
        (
            "l4",
            [ON_DEMAND, RESERVED],
            {"reservation": "theirs"},
            (
                "no node pool with l4 uses the reservation theirs; there is l4-ours (nvidia-l4 "
                "reservation projects/p/reservations/ours)"
            ),
        ),
        ("l4", [ON_DEMAND], {"reservation": "any"}, "no node pool with l4 uses any reservation"),
        ("l4", [ON_DEMAND], {"compute_class": "gpus"}, "is of the compute class gpus"),
        (
            "l4",
            [TEAM],
            {},
            (
                "the nodes of node pool l4-team have taints that the run does not tolerate: "
                "team=a:NoSchedule; add to tolerations in job_variables"
            ),
        ),
        (
            "l4:flex",
            [FLEX],
            {"max_run_seconds": 7200.0},
            (
                "flex-start takes nodes of l4-flex back after 1 h, and "
                "max_run_duration_seconds asks for 2 h"
            ),
        ),
        (
            "l4",
            [NodePool(name="p", is_all_known=True, labels={"disk": "hdd"}, **L4)],
            {"job_variables": {"node_selector": {"disk": "ssd"}}},
            "no node pool with l4 has the label disk=ssd",
        ),
    ],
)
def test_what_no_pool_has_is_said_by_what_was_asked_for(accelerator, pools, asked, words):
    fitting, missing = chosen(accelerator, pools, **asked)
    assert fitting == []
    assert words in missing
