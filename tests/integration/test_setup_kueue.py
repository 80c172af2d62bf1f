"""JobSet and Kueue in a cluster of the loopback Google, from manifests like those they publish."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.kubernetes.apply import delete_object
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.core.errors import CloudError, ConfigurationError, UsageError
from kinetic_flows.platforms.gke.setup.apply import apply_all, remove_all
from kinetic_flows.platforms.gke.setup.clusters import cluster, node_pools
from kinetic_flows.platforms.gke.setup.clusters.pool_admin import PoolAdmin
from kinetic_flows.platforms.gke.setup.clusters.pool_options import parse_pools
from kinetic_flows.platforms.gke.setup.compare import compare_all, needed, plan_removal
from kinetic_flows.platforms.gke.setup.found import QUEUE, with_found_options
from kinetic_flows.platforms.gke.setup.kubernetes import jobset, kueue
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import cluster_of
from kinetic_flows.platforms.gke.setup.kubernetes.manifest_sources import check_source
from kinetic_flows.platforms.gke.setup.model import Stage, Wanted
from kinetic_flows.platforms.gke.setup.profile_values import profile_values
from kinetic_flows.platforms.gke.setup.request import SetupRequest
from loopback.google.server import LoopbackGoogle
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.idle import IdleRuntime
from setup_accounts import add_nodes_account

PATH = "projects/loopback/locations/us-central1-a/clusters/lab"


def definition(plural: str, kind: str, scope: str) -> dict[str, Any]:
    names = {"plural": plural, "kind": kind, "singular": kind.lower()}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1beta2",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    spec = {"group": "kueue.x-k8s.io", "names": names, "scope": scope, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.kueue.x-k8s.io"},
        "spec": spec,
    }


def manifest(project: str) -> str:
    """A manifest of the kinds that the projects' own have."""
    namespace, labels = f"{project}-system", {"app": project}
    container = {"name": "manager", "image": f"registry.example/{project}:v1"}
    controller = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{project}-controller-manager", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        definition("resourceflavors", "ResourceFlavor", "Cluster"),
        definition("clusterqueues", "ClusterQueue", "Cluster"),
        definition("localqueues", "LocalQueue", "Namespaced"),
        controller,
    ]
    return yaml.safe_dump_all(objects)


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackGoogle]:
    """Google's APIs with a cluster that was made by us, and a node pool."""
    directory = tmp_path_factory.mktemp("google")

    def serve(place: Path) -> LoopbackCluster:
        return LoopbackCluster(place, runtime=IdleRuntime())

    with LoopbackGoogle(directory, serve=serve) as running:
        running.switch_on("container", "compute")
        add_nodes_account(running, "lab")
        with closing(running.apis()) as apis:
            request = SetupRequest(
                project="loopback",
                location="us-central1-a",
                cluster="lab",
                pools=parse_pools(["l4"], max_nodes=3),
            )
            wanted = Wanted(request=request, apis=apis)
            for title, resources in (
                ("cluster", cluster.resources(wanted)),
                ("node pools", node_pools.resources(wanted)),
            ):
                apply_all((Stage(title=title, resources=resources),), lambda _: None)
        yield running


@pytest.fixture
def apis(google: LoopbackGoogle) -> Iterator[GoogleApis]:
    with closing(google.apis()) as found:
        yield found


@pytest.fixture
def wanted(apis: GoogleApis, tmp_path: Path) -> Wanted:
    (tmp_path / "kueue.yaml").write_text(manifest("kueue"))
    request = SetupRequest(
        project="loopback",
        location="us-central1-a",
        cluster="lab",
        kueue=True,
        kueue_manifest=str(tmp_path / "kueue.yaml"),
    )
    return Wanted(request=request, apis=apis)


@pytest.fixture
def both(wanted: Wanted, tmp_path: Path) -> Wanted:
    """Likewise with JobSet."""
    source = tmp_path / "jobset.yaml"
    source.write_text(manifest("jobset"))
    request = replace(wanted.request, jobset=True, jobset_manifest=str(source))
    return replace(wanted, request=request)


@pytest.fixture
def client(wanted: Wanted) -> Iterator[KubernetesClient]:
    """The cluster's API, as setting up asks it."""
    with closing(cluster_of(wanted.request, wanted.apis).client) as found:
        yield found


@pytest.fixture
def lab(google: LoopbackGoogle, client: KubernetesClient) -> Iterator[LoopbackCluster]:
    """The cluster, without what a test puts into it."""
    running = google.cluster("lab")
    yield running
    for plural in ("localqueues", "clusterqueues", "resourceflavors"):
        for item in list(running.list(plural)):
            delete_object(client, item)
    for item in list(running.list("customresourcedefinitions")):
        delete_object(client, item)
    for item in list(running.list("namespaces")):
        if item["metadata"]["name"].endswith("-system"):
            delete_object(client, item)


def stages(wanted: Wanted) -> tuple[Stage, ...]:
    add_ons = (*jobset.resources(wanted), *kueue.resources(wanted))
    return (
        Stage(title="in the cluster", resources=add_ons),
        Stage(title="queue", resources=kueue.queues(wanted)),
    )


def actions(wanted: Wanted) -> dict[str, str]:
    compared = compare_all(stages(wanted))
    return {change.name: change.action for each in compared for change in each.changes}


def make(wanted: Wanted) -> int:
    return apply_all(needed(compare_all(stages(wanted))), lambda _: None)


def one(lab: LoopbackCluster, plural: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in lab.list(plural) if each["metadata"]["name"] == name]
    return found


def gpus_of(lab: LoopbackCluster) -> dict[str, str]:
    """How many GPUs each flavor of the queue has."""
    (group,) = one(lab, "clusterqueues", "kinetic")["spec"]["resourceGroups"]
    return {
        each["name"]: amount["nominalQuota"]
        for each in group["flavors"]
        for amount in each["resources"]
        if amount["name"] == "nvidia.com/gpu"
    }


def test_both_are_put_into_the_cluster_once_with_a_queue_for_its_pools(
    both: Wanted, lab: LoopbackCluster
) -> None:
    assert set(actions(both).values()) == {"create"}
    make(both)
    assert one(lab, "namespaces", "jobset-system")["metadata"]["labels"]["kinetic-cluster"] == "lab"
    flavor = one(lab, "resourceflavors", "l4")
    assert flavor["spec"]["nodeLabels"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    (group,) = one(lab, "clusterqueues", "kinetic")["spec"]["resourceGroups"]
    quotas = {each["name"]: each["resources"] for each in group["flavors"]}
    gpus = {"name": "nvidia.com/gpu", "nominalQuota": "3"}
    assert gpus in quotas["l4"]
    assert {"name": "nvidia.com/gpu", "nominalQuota": "0"} in quotas["kinetic-any"]
    assert {each["name"] for each in quotas["l4"]} == set(group["coveredResources"])
    assert one(lab, "localqueues", "kinetic")["spec"] == {"clusterQueue": "kinetic"}

    assert set(actions(both).values()) == {"keep"}
    assert make(both) == 0


def test_a_pool_that_may_have_more_nodes_changes_the_queue(
    wanted: Wanted, lab: LoopbackCluster, google: LoopbackGoogle
) -> None:
    make(wanted)
    (l4,) = [each for each in google.clusters.clusters[PATH].node_pools if each.name == "l4"]
    l4.autoscaling.max_node_count = 5
    try:
        assert actions(wanted)["default/kinetic"] == "change"
        make(wanted)
        assert gpus_of(lab) == {"kinetic-any": "0", "l4": "5"}
    finally:
        l4.autoscaling.max_node_count = 3


def test_the_queue_follows_the_node_pools_where_there_is_one(
    wanted: Wanted, lab: LoopbackCluster, google: LoopbackGoogle
) -> None:
    admin = PoolAdmin(request=wanted.request, apis=wanted.apis)
    assert not admin.follow()
    make(wanted)
    assert not admin.follow()
    apply_all(admin.adding(parse_pools(["t4:spot"])), lambda _: None)
    assert admin.follow()
    spot = one(lab, "resourceflavors", "t4-spot")["spec"]["nodeLabels"]
    assert spot["cloud.google.com/gke-spot"] == "true"
    fresh = PoolAdmin(request=wanted.request, apis=wanted.apis)
    remove_all(fresh.removing(fresh.removable(["t4:spot"])), lambda _: None)
    assert fresh.follow()
    assert gpus_of(lab) == {"kinetic-any": "0", "l4": "3"}


def test_the_queue_counts_on_pools_that_are_made_with_it(
    wanted: Wanted, lab: LoopbackCluster
) -> None:
    """What is compared before the pools are made is right afterwards."""
    make(wanted)
    request = replace(wanted.request, pools=parse_pools(["l4", "t4"], max_nodes=6))
    more = replace(wanted, request=request)
    assert actions(more)["default/kinetic"] == "change"
    make(more)
    assert gpus_of(lab) == {"kinetic-any": "0", "l4": "6", "t4": "6"}
    # Of what nobody says a number, the pool's own counts.
    unsaid = replace(wanted, request=replace(request, pools=parse_pools(["l4"])))
    make(unsaid)
    assert gpus_of(lab)["l4"] == "3"


def test_a_setup_that_does_not_name_kueue_keeps_the_queue(
    wanted: Wanted, lab: LoopbackCluster
) -> None:
    plain = replace(wanted, request=replace(wanted.request, kueue=False, kueue_manifest=None))
    assert not with_found_options(plain, (QUEUE,)).request.kueue
    make(wanted)
    found = with_found_options(plain, (QUEUE,))
    assert found.request.kueue
    assert set(actions(found).values()) == {"keep"}


def test_what_was_stopped_half_way_is_done_again(
    wanted: Wanted, lab: LoopbackCluster, client: KubernetesClient
) -> None:
    make(wanted)
    # The note of the release comes last.
    client.ask("DELETE", "/api/v1/namespaces/kueue-system/configmaps/kinetic-release")
    assert actions(wanted)["Kueue"] == "create"
    make(wanted)
    assert set(actions(wanted).values()) == {"keep"}


def test_what_somebody_else_has_put_there_is_left(wanted: Wanted, lab: LoopbackCluster) -> None:
    for item in yaml.safe_load_all(manifest("kueue")):
        plural = {
            "Namespace": "namespaces",
            "CustomResourceDefinition": "customresourcedefinitions",
        }
        if item["kind"] in plural:
            lab.store.create(plural[item["kind"]], "", item)
    found = compare_all(stages(wanted))
    change = next(c for each in found for c in each.changes if c.name == "Kueue")
    assert (change.action, change.why) == ("leave", "it is there, put there by somebody else")
    make(wanted)
    # The queue of runs is made in it all the same.
    assert one(lab, "clusterqueues", "kinetic")


def test_the_queue_is_made_as_soon_as_kueue_answers(wanted: Wanted, lab: LoopbackCluster) -> None:
    make(wanted)
    (made,) = kueue.queues(wanted)
    assert isinstance(made, kueue.RunQueue)
    refusals = iter(['failed calling webhook "vclusterqueue.kb.io": connection refused'] * 2)

    def answer(plural: str, item: dict[str, Any]) -> str | None:
        return next(refusals, None) if plural == "clusterqueues" else None

    lab.admission.webhooks.append(answer)
    told: list[str] = []
    try:
        replace(made, pauses_seconds=(0.0, 0.0)).apply(told.append)
    finally:
        lab.admission.webhooks.remove(answer)
    assert told.count("waiting for Kueue to answer") == 2
    assert one(lab, "clusterqueues", "kinetic")


def test_another_release_is_a_change(wanted: Wanted, lab: LoopbackCluster, tmp_path: Path) -> None:
    make(wanted)
    other = tmp_path / "newer.yaml"
    other.write_text(manifest("kueue"))
    changed = replace(wanted, request=replace(wanted.request, kueue_manifest=str(other)))
    assert actions(changed)["Kueue"] == "change"
    make(changed)
    assert actions(changed)["Kueue"] == "keep"


def test_they_go_with_a_cluster_of_our_own_and_alone_from_one_of_others(
    both: Wanted, lab: LoopbackCluster, google: LoopbackGoogle
) -> None:
    make(both)
    planned = plan_removal(stages(both), purge=False)
    add_ons = [c for each in planned for c in each.changes if c.kind == "add-on"]
    assert {change.details for change in add_ons} == {("with the cluster",)}
    remove_all(needed(planned), lambda _: None)
    assert lab.list("deployments")

    joined = replace(both, request=replace(both.request, joins=True))
    planned = plan_removal(stages(joined), purge=False)
    assert {c.action for each in planned for c in each.changes} == {"remove"}
    remove_all(needed(planned), lambda _: None)
    assert not lab.list("deployments")
    assert not lab.list("customresourcedefinitions")
    assert not needed(plan_removal(stages(joined), purge=False))


def test_a_manifest_is_fetched_by_its_url(
    wanted: Wanted, lab: LoopbackCluster, tmp_path: Path
) -> None:
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/kueue.yaml"
        by_url = replace(wanted, request=replace(wanted.request, kueue_manifest=url))
        make(by_url)
        server.shutdown()
    (noted,) = lab.list("configmaps", "kueue-system")
    assert noted["data"] == {"source": url, "version": "another release"}
    assert one(lab, "deployments", "kueue-controller-manager")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (None, CloudError, "cannot be fetched"),
        ("a: [1", ConfigurationError, "is no manifest"),
        ("just words", ConfigurationError, "is no manifest"),
        ("", ConfigurationError, "is no manifest"),
    ],
)
def test_what_is_no_manifest_puts_nothing_into_the_cluster(
    wanted: Wanted,
    lab: LoopbackCluster,
    tmp_path: Path,
    content: str | None,
    error: type[Exception],
    said: str,
) -> None:
    source = "http://127.0.0.1:9/kueue.yaml"
    if content is not None:
        (tmp_path / "odd.yaml").write_text(content)
        source = str(tmp_path / "odd.yaml")
    odd = replace(wanted, request=replace(wanted.request, kueue_manifest=source))
    with pytest.raises(error, match=said) as refused:
        make(odd)
    assert "kueue" in str(getattr(refused.value, "hint", "")).lower()
    assert "kueue-system" not in {each["metadata"]["name"] for each in lab.list("namespaces")}


def test_a_manifest_that_is_no_file_and_no_url_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"--kueue-manifest is 'nowhere\.yaml'"):
        check_source("nowhere.yaml", "--kueue-manifest")


def test_runs_go_to_the_queue_by_the_profile(wanted: Wanted) -> None:
    assert profile_values(wanted.request)["job_variables"]["queue_name"] == "kinetic"
