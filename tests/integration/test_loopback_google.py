"""The loopback Google answers as Google's APIs do, and the product's clients understand it."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
from google.cloud import container_v1

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.operations import (
    find_cluster_operation,
    wait_for_cluster,
    wait_for_operation,
)
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.clients.kubernetes.access import (
    GkeCluster,
    describe_gke_cluster,
    gke_node_pools,
    load_configuration,
)
from loopback.google.answers import stock_out
from loopback.google.server import LoopbackGoogle

pytest_plugins = ["loopback.fixtures"]

ZONE = "projects/loopback/locations/us-central1-a"


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
