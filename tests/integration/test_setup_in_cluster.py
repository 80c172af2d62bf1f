"""What setting up makes in a cluster: applied once or again, edited by others, and removed."""

from __future__ import annotations

import base64
import itertools
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.clients.prefect import server_access
from kinetic_flows.clients.prefect.logins import Login
from kinetic_flows.core.errors import CloudError
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import Look, SetupCluster
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_objects import ClusterObjects
from kinetic_flows.platforms.gke.setup.kubernetes.in_cluster import (
    namespace_objects,
    objects_of_runs,
)
from kinetic_flows.platforms.gke.setup.prefect.prefect_api import ByUrl, InTheCluster
from kinetic_flows.platforms.gke.setup.prefect.prefect_server import (
    database_objects,
    server_auth,
    server_objects,
)
from kinetic_flows.platforms.gke.setup.prefect.work_pool import WorkPoolResource
from kinetic_flows.platforms.gke.setup.prefect.worker import worker_objects
from kinetic_flows.platforms.gke.setup.request import SetupRequest
from loopback.kubernetes.access import Denial
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.idle import IdleRuntime
from loopback.kubernetes.node_groups import NodeGroup

REQUEST = SetupRequest(
    project="our-project",
    location="us-central1-a",
    cluster="team",
    namespace="research",
    members=("user:ada@example.com", "group:ml@example.com"),
    prefect="cluster",
    worker=True,
)
CLOUD = Login(url="https://prefect.example/api", key="pnu_first")

_told: list[str] = []


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackCluster]:
    directory = tmp_path_factory.mktemp("cluster")
    with LoopbackCluster(directory, runtime=IdleRuntime()) as running:
        running.add_nodes(NodeGroup(name="cpu", nodes=1))
        running.add_storage_class("standard-rwo", "WaitForFirstConsumer", is_default=True)
        yield running


@pytest.fixture(scope="module")
def client(loopback: LoopbackCluster) -> Iterator[KubernetesClient]:
    client = KubernetesClient(Kubeconfig(path=str(loopback.kubeconfig())))
    yield client
    client.close()


@pytest.fixture
def cluster(loopback: LoopbackCluster, client: KubernetesClient) -> Iterator[SetupCluster]:
    """An empty cluster that somebody else made."""
    yield SetupCluster("team", lambda: client, lambda: Look(standing="there"))
    loopback.access.denials.clear()
    for name in ("research", "prefect"):
        if any(each["metadata"]["name"] == name for each in loopback.list("namespaces")):
            client.ask("DELETE", f"/api/v1/namespaces/{name}")


def everything(cluster: SetupCluster, request: SetupRequest = REQUEST) -> list[ClusterObjects]:
    return [
        *namespace_objects(request, cluster),
        *objects_of_runs(request, cluster),
        *database_objects(cluster),
        *server_objects(request, cluster),
        worker_objects(request, cluster, InTheCluster(cluster)),
    ]


def make(resources: list[ClusterObjects]) -> None:
    for each in resources:
        each.apply(_told.append)


def named(resources: list[ClusterObjects], kind: str) -> ClusterObjects:
    return next(each for each in resources if each.kind == kind)


def the(loopback: LoopbackCluster, plural: str, name: str, namespace: str) -> dict[str, Any]:
    return next(
        each for each in loopback.list(plural, namespace) if each["metadata"]["name"] == name
    )


def secret_values(loopback: LoopbackCluster, name: str, namespace: str) -> dict[str, str]:
    data = the(loopback, "secrets", name, namespace)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def test_everything_is_made_once_and_found_as_wanted_afterwards(
    loopback: LoopbackCluster, cluster: SetupCluster
) -> None:
    resources = everything(cluster)
    assert {each.compare().action for each in resources} == {"create"}
    make(resources)
    auth = server_auth(cluster.client)
    password = secret_values(loopback, "prefect-database", "prefect")
    # Somebody else, on another machine, wants the same.
    again = everything(SetupCluster("team", lambda: cluster.client, cluster.look))
    assert [(each.name, each.compare()) for each in again if each.compare().action != "keep"] == []
    make(again)
    assert server_auth(cluster.client) == auth
    assert secret_values(loopback, "prefect-database", "prefect") == password
    assert auth is not None
    assert secret_values(loopback, "kinetic-prefect-api", "research") == {
        "PREFECT_API_AUTH_STRING": auth
    }


def test_no_password_is_ever_told(loopback: LoopbackCluster, cluster: SetupCluster) -> None:
    _told.clear()
    resources = everything(cluster)
    said = [repr(each.compare()) for each in resources]
    make(resources)
    said += [repr(each.compare()) for each in resources] + _told
    values = [
        *secret_values(loopback, "prefect-server", "prefect").values(),
        *secret_values(loopback, "prefect-database", "prefect").values(),
    ]
    for value in values:
        assert len(value) > 30
        assert value not in "".join(said)


def test_pods_act_as_their_google_account(loopback: LoopbackCluster, cluster: SetupCluster) -> None:
    make(everything(cluster))
    accounts = {
        name: the(loopback, "serviceaccounts", name, "research")["metadata"]["annotations"]
        for name in ("kinetic-runs", "kinetic-worker")
    }
    assert accounts == {
        "kinetic-runs": {
            "iam.gke.io/gcp-service-account": "kn-team-pods@our-project.iam.gserviceaccount.com"
        },
        "kinetic-worker": {
            "iam.gke.io/gcp-service-account": "kn-team-launch@our-project.iam.gserviceaccount.com"
        },
    }


def test_members_get_the_rights_to_launch_and_to_reach_prefect(
    loopback: LoopbackCluster, cluster: SetupCluster
) -> None:
    make(everything(cluster))
    for name, namespace in (("kinetic-members", "research"), ("prefect-access", "prefect")):
        binding = the(loopback, "rolebindings", name, namespace)
        assert [(each["kind"], each["name"]) for each in binding["subjects"]] == [
            ("User", "ada@example.com"),
            ("Group", "ml@example.com"),
        ]
        assert the(loopback, "roles", binding["roleRef"]["name"], namespace)


def test_the_server_lets_in_the_namespace_of_runs(
    loopback: LoopbackCluster, cluster: SetupCluster
) -> None:
    make(everything(cluster))
    policy = the(loopback, "networkpolicies", "prefect-server", "prefect")
    (peer,) = policy["spec"]["ingress"][0]["from"]
    assert peer == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "research"}}
    }


def test_what_somebody_has_edited_stays_and_is_told(
    loopback: LoopbackCluster, cluster: SetupCluster
) -> None:
    make(everything(cluster))

    def more(item: dict[str, Any]) -> None:
        container = item["spec"]["template"]["spec"]["containers"][0]
        container["resources"]["limits"]["memory"] = "4Gi"

    def other_port(item: dict[str, Any]) -> None:
        item["spec"]["ports"][0]["targetPort"] = 8080

    loopback.change("statefulsets", "prefect-server", more, "prefect")
    loopback.change("services", "prefect-server", other_port, "prefect")
    server = named(everything(cluster), "Prefect server")
    server.apply(_told.append)
    change = server.compare()
    assert change.action == "keep"
    field = '.spec.template.spec.containers[name="server"].resources.limits.memory'
    port = '.spec.ports[port=80,protocol="TCP"].targetPort'
    assert change.details == (
        f"Service prefect/prefect-server: {port} stays as kubectl-edit has set it",
        f"StatefulSet prefect/prefect-server: {field} stays as kubectl-edit has set it",
    )
    spec = the(loopback, "statefulsets", "prefect-server", "prefect")["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["memory"] == "4Gi"


def test_what_is_wanted_otherwise_is_changed_and_what_is_missing_made(
    loopback: LoopbackCluster, cluster: SetupCluster
) -> None:
    make(everything(cluster))
    loopback.remove("services", "prefect-server", "prefect")
    fewer = SetupRequest(**{**vars(REQUEST), "members": ("user:ada@example.com",)})
    resources = everything(cluster, fewer)
    server, rights = named(resources, "Prefect server"), named(resources, "rights in the cluster")
    assert server.compare().details == ("Service prefect/prefect-server: is missing",)
    assert rights.compare().action == "change"
    assert "ml@example.com" in "".join(rights.compare().details)
    make([server, rights])
    assert server.compare().action == rights.compare().action == "keep"
    members = the(loopback, "rolebindings", "kinetic-members", "research")
    assert [each["name"] for each in members["subjects"]] == ["ada@example.com"]


def test_a_refusal_half_way_is_told_and_a_rerun_goes_on(
    loopback: LoopbackCluster, cluster: SetupCluster
) -> None:
    resources = everything(cluster)
    make(resources[:-2])
    auth = server_auth(cluster.client)
    loopback.access.denials.append(Denial(resource="rolebindings", verb="patch"))
    with pytest.raises(CloudError, match="may not patch rolebindings") as refused:
        make(everything(cluster))
    assert "roles/container.admin" in str(refused.value.hint)
    loopback.access.denials.clear()
    make(everything(cluster))
    assert {each.compare().action for each in everything(cluster)} == {"keep"}
    assert server_auth(cluster.client) == auth


def test_a_password_that_may_not_be_read_is_told_in_words(
    loopback: LoopbackCluster, cluster: SetupCluster
) -> None:
    make(everything(cluster))
    loopback.access.denials.append(Denial(resource="secrets", verb="get"))
    for each in everything(cluster)[-3:]:
        if each.kind != "rights to reach Prefect":
            with pytest.raises(CloudError, match="may not get secrets") as refused:
                each.compare()
            assert "roles/container.admin" in str(refused.value.hint)


def test_another_key_reaches_the_worker_and_is_not_shown(
    loopback: LoopbackCluster, cluster: SetupCluster
) -> None:
    make(everything(cluster)[:-1])
    worker_objects(REQUEST, cluster, ByUrl(login=CLOUD)).apply(_told.append)
    rotated = ByUrl(login=replace(CLOUD, key="pnu_second"))
    worker = worker_objects(REQUEST, cluster, rotated)
    change = worker.compare()
    assert change.details[0] == "Secret research/kinetic-prefect-api: other values"
    assert "kinetic-flows/values" in change.details[1]
    worker.apply(_told.append)
    assert secret_values(loopback, "kinetic-prefect-api", "research") == {
        "PREFECT_API_KEY": "pnu_second"
    }


def test_a_new_password_starts_the_server_and_the_worker_again(
    loopback: LoopbackCluster, cluster: SetupCluster
) -> None:
    make(everything(cluster))
    before, auth = pods_of(loopback), server_auth(cluster.client)
    loopback.remove("secrets", "prefect-server", "prefect")
    make(everything(cluster))
    new = server_auth(cluster.client)
    assert new is not None
    assert new != auth
    started = pods_of(loopback).items() - before.items()
    assert {name.rpartition("-")[0] for name, _ in started} == {"prefect-server", "kinetic-worker"}
    assert set(secret_values(loopback, "kinetic-prefect-api", "research").values()) == {new}


def test_a_server_that_does_not_answer_hinders_neither_mending_nor_removing(
    loopback: LoopbackCluster, cluster: SetupCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_access, "_chosen", [])
    make(everything(cluster))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        monkeypatch.setitem(loopback.pod_ports, 4200, port)
        inside = WorkPoolResource(name="kinetic-gke", prefect=InTheCluster(cluster))
        assert inside.compare().action == "unknown"
        assert inside.plan_removal(purge=False).action == "keep"
        login = Login(url=f"http://127.0.0.1:{port}/api")
        elsewhere = WorkPoolResource(name="kinetic-gke", prefect=ByUrl(login=login))
        planned = elsewhere.plan_removal(purge=False)
    assert planned.action == "leave"
    assert "cannot be reached" in planned.why


def pods_of(loopback: LoopbackCluster) -> dict[str, str]:
    """Return the pods that are not on their way out, by name."""
    return {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in loopback.list("pods")
        if not pod["metadata"].get("deletionTimestamp")
    }


def test_removing_leaves_what_others_made_and_what_holds_data(
    loopback: LoopbackCluster, cluster: SetupCluster
) -> None:
    loopback.add_namespace("research")
    make(everything(cluster))
    resources = list(reversed(everything(cluster)))
    planned = {(each.kind, each.name): each.plan_removal(purge=False) for each in resources}
    kept = {key: change for key, change in planned.items() if change.action != "remove"}
    assert {key: change.action for key, change in kept.items()} == {
        ("namespace", "research"): "keep",
        ("namespace", "prefect"): "leave",
        ("disk of Prefect's database", "prefect/prefect-database"): "leave",
    }
    assert "--purge" in kept["namespace", "prefect"].why
    for each in resources:
        if (each.kind, each.name) not in kept:
            each.remove(_told.append)
    left = [
        each["metadata"]["name"]
        for plural, place in itertools.product(
            ("deployments", "statefulsets", "roles", "rolebindings", "networkpolicies"),
            ("research", "prefect"),
        )
        for each in loopback.list(plural, place)
    ]
    assert left == []
    assert secret_values(loopback, "prefect-database", "prefect")
    assert loopback.list("persistentvolumeclaims", "prefect")
    # Setting up again finds the data, and the password that goes with it.
    password = secret_values(loopback, "prefect-database", "prefect")
    make(everything(cluster))
    assert secret_values(loopback, "prefect-database", "prefect") == password


def test_purging_removes_the_disk_too(loopback: LoopbackCluster, cluster: SetupCluster) -> None:
    make(everything(cluster))
    resources = list(reversed(everything(cluster)))
    assert {each.plan_removal(purge=True).action for each in resources} == {"remove"}
    for each in resources:
        each.remove(_told.append)
    assert {each.plan_removal(purge=True).action for each in resources} == {"keep"}
    assert not loopback.list("persistentvolumeclaims", "prefect")


def test_what_goes_with_its_cluster_is_left_to_it_but_for_the_disk(
    loopback: LoopbackCluster, cluster: SetupCluster
) -> None:
    make(everything(cluster))
    ours = SetupCluster(
        "team", lambda: cluster.client, lambda: Look(standing="there", is_ours=True)
    )
    planned = {each.kind: each.plan_removal(purge=False) for each in everything(ours)}
    assert planned["service account of pods"].details == ("with the cluster",)
    assert planned["disk of Prefect's database"].action == "leave"
    named(everything(ours), "service account of pods").remove(_told.append)
    assert the(loopback, "serviceaccounts", "kinetic-runs", "research")


@pytest.mark.parametrize(("standing", "action"), [("missing", "create"), ("coming", "unknown")])
def test_a_cluster_that_is_not_there_yet_is_not_asked(
    client: KubernetesClient, standing: Any, action: str
) -> None:
    absent = SetupCluster("team", lambda: client, lambda: Look(standing=standing))
    assert {each.compare().action for each in everything(absent)} == {action}
    assert {each.plan_removal(purge=True).action for each in everything(absent)} == {"keep"}
