"""How a cluster is found and reached."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from google.auth.credentials import AnonymousCredentials
from google.oauth2.credentials import Credentials

from kinetic_flows.clients.kubernetes.access import (
    GkeCluster,
    InCluster,
    Kubeconfig,
    describe_gke_cluster,
    expected_context,
    find_access,
    load_configuration,
)
from kinetic_flows.clients.kubernetes.node_pools import gke_node_pools, makes_node_pools
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import ConfigurationError, LaunchError
from kinetic_flows.core.settings.cloud import resolve_cloud
from kinetic_flows.platforms.gke.placement import Placement, node_request
from kinetic_flows.platforms.gke.platform import GoogleCloudPlatform, gke_cluster
from kinetic_flows.platforms.gke.pool_preflight import check_node_pools
from kinetic_flows.platforms.gke.preflight_request import PreflightRequest
from kinetic_flows.platforms.gke.reach import loopback_warning

GKE = GkeCluster(project="my-project", location="us-central1-a", name="tpus")
IN_A_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture
def pod_token(tmp_path: Path) -> Path:
    """A service account's token, as pods have one mounted."""
    path = tmp_path / "token"
    path.write_text("a-token")
    return path


@pytest.fixture
def metadata() -> Iterator[MetadataServer]:
    """Google's metadata server, of a pod of GKE's."""
    with MetadataServer() as server, _serving(server):
        yield server


def test_an_explicit_kubeconfig_wins_over_everything(pod_token, metadata):
    found = find_access(
        {"KUBECONFIG": "/k", **IN_A_POD, **metadata.variables}, GKE, pod_token=pod_token
    )
    assert found == Kubeconfig(path="/k", expected=GKE)
    assert metadata.asked == []


@pytest.mark.parametrize("is_chosen", [True, False])
@pytest.mark.parametrize(
    ("around", "own"),
    [
        ({}, True),
        ({"instance/attributes/cluster-name": "notebooks"}, False),
        ({"instance/attributes/cluster-location": "us-central1-b"}, False),
        ({"project/project-id": "their-project"}, False),
    ],
)
def test_a_pod_uses_its_service_account_where_its_own_cluster_is_the_configured_one(
    pod_token, metadata, around, own, is_chosen
):
    metadata.attributes |= around
    gke = replace(GKE, is_chosen=is_chosen)
    found = find_access({**IN_A_POD, **metadata.variables}, gke, pod_token=pod_token)
    assert found == (InCluster() if own else gke)


@pytest.mark.parametrize("flavor", ["Google", "Elsewhere"])
def test_a_pod_that_nothing_tells_where_it_is_uses_its_own_cluster_unless_one_is_named(
    pod_token, metadata, flavor
):
    metadata.flavor = flavor
    if flavor == "Google":
        del metadata.attributes["instance/attributes/cluster-name"]
    environ = {**IN_A_POD, **metadata.variables}
    assert find_access(environ, GKE, pod_token=pod_token) == GKE
    unnamed = replace(GKE, is_chosen=False)
    assert find_access(environ, unnamed, pod_token=pod_token) == InCluster()


def test_a_pod_asks_where_it_is_until_it_is_told_and_then_no_more(pod_token, metadata):
    environ = {**IN_A_POD, **metadata.variables}
    metadata.flavor = "not yet"
    assert find_access(environ, GKE, pod_token=pod_token) == GKE
    metadata.flavor = "Google"
    assert find_access(environ, GKE, pod_token=pod_token) == InCluster()
    asked = len(metadata.asked)
    assert find_access(environ, GKE, pod_token=pod_token) == InCluster()
    assert len(metadata.asked) == asked


def test_a_pod_without_a_token_and_whoever_is_no_pod_use_the_configured_cluster(
    tmp_path, pod_token, metadata
):
    assert find_access({**IN_A_POD, **metadata.variables}, GKE, pod_token=tmp_path / "no") == GKE
    assert find_access(metadata.variables, GKE, pod_token=pod_token) == GKE
    assert metadata.asked == []


def test_a_pod_with_nothing_configured_uses_its_own_cluster(tmp_path, pod_token):
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").touch()
    environ = {"HOME": str(tmp_path), **IN_A_POD}
    assert find_access(environ, pod_token=pod_token) == InCluster()


def test_a_pod_whose_token_is_not_mounted_is_told_so(tmp_path):
    access = find_access({"HOME": str(tmp_path), **IN_A_POD}, pod_token=tmp_path / "no")
    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(load_configuration(access))
    assert "mount its token" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("variables", "named"),
    [({}, False), ({"KINETIC_CLUSTER": "tpus"}, True), ({"KINETIC_ZONE": "europe-west4-a"}, True)],
)
def test_the_settings_tell_whether_somebody_named_the_cluster(variables, named):
    environ = {"KINETIC_PROJECT": "my-project-1", **variables}
    cloud = resolve_cloud(arguments={}, environ=environ, profile=None)
    assert gke_cluster(cloud, None).is_chosen is named


def test_kubectls_usual_file_is_the_last_resort(tmp_path):
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").touch()
    assert find_access({"HOME": str(tmp_path)}) == Kubeconfig(path=str(tmp_path / ".kube/config"))


def test_without_any_cluster_the_error_says_what_to_set(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        find_access({"HOME": str(tmp_path)})
    assert caught.value.hint == "name the GKE cluster, or set KUBECONFIG"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [(["minikube", GKE.context], "gke_my-project_us-central1-a_tpus"), (["minikube"], None)],
)
def test_the_configured_clusters_context_wins_over_the_current_one(tmp_path, names, chosen):
    contexts = [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in names]
    config = {
        "current-context": "minikube",
        "contexts": contexts,
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    assert expected_context(Kubeconfig(path=str(path), expected=GKE)) == chosen


class MetadataServer(HTTPServer):
    """Says which cluster a pod is in, as the metadata server of GKE's nodes does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MetadataAnswer)
        self.flavor = "Google"
        self.asked: list[str] = []
        self.attributes = {
            "project/project-id": GKE.project,
            "instance/attributes/cluster-location": GKE.location,
            "instance/attributes/cluster-name": GKE.name,
        }

    @property
    def variables(self) -> dict[str, str]:
        return {"GCE_METADATA_HOST": f"127.0.0.1:{self.server_port}"}


class MetadataAnswer(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_GET(self) -> None:
        assert self.headers["Metadata-Flavor"] == "Google"
        path = self.path.removeprefix("/computeMetadata/v1/")
        self.server.asked.append(path)
        body = self.server.attributes.get(path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Metadata-Flavor", self.server.flavor)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""


@contextmanager
def _serving(server: HTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


class ContainerApi(HTTPServer):
    """Describes one cluster, or refuses to."""

    status = 200
    described: dict[str, Any]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.described = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: ContainerApi

    def do_GET(self) -> None:
        expected = "/v1/projects/my-project/locations/us-central1-a/clusters/tpus"
        status = self.server.status if self.path == expected else 500
        body = json.dumps(self.server.described).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""


@pytest.fixture
def container_api() -> Iterator[ContainerApi]:
    with ContainerApi() as server, _serving(server):
        yield server


def gke(api: ContainerApi) -> GkeCluster:
    token = Credentials("a-token")  # type: ignore[no-untyped-call]
    return replace(GKE, endpoint=api.endpoint, credentials=token)


def test_a_gke_cluster_is_reached_by_its_address_and_certificate_with_a_google_token(container_api):
    certificate = b"-----BEGIN CERTIFICATE-----"
    container_api.described = {
        "endpoint": "34.1.2.3",
        "masterAuth": {"clusterCaCertificate": base64.b64encode(certificate).decode()},
    }
    found = asyncio.run(load_configuration(gke(container_api)))
    assert found.host == "https://34.1.2.3"
    assert Path(found.ssl_ca_cert).read_bytes() == certificate
    token = asyncio.run(found.get_api_key_with_prefix("BearerToken"))
    assert token == "Bearer a-token"
    Path(found.ssl_ca_cert).unlink()


def test_the_dns_endpoint_is_preferred_where_it_may_be_reached(container_api):
    container_api.described = {
        "endpoint": "10.0.0.2",
        "controlPlaneEndpointsConfig": {
            "dnsEndpointConfig": {
                "endpoint": "gke-1.us-central1-a.gke.goog",
                "allowExternalTraffic": True,
            }
        },
    }
    found = asyncio.run(load_configuration(gke(container_api)))
    assert found.host == "https://gke-1.us-central1-a.gke.goog"
    assert found.ssl_ca_cert is None


@pytest.mark.parametrize(
    ("status", "words", "hint"),
    [
        (404, "project my-project has no GKE cluster 'tpus' in us-central1-a", "clusters list"),
        (403, "Google does not describe the GKE cluster 'tpus'", "roles/container.developer"),
    ],
)
def test_a_cluster_that_google_does_not_describe_is_named(container_api, status, words, hint):
    container_api.status = status
    access = replace(
        gke(container_api),
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
    )
    with pytest.raises(LaunchError, match=words) as caught:
        describe_gke_cluster(access)
    assert hint in (caught.value.hint or "")


def test_gkes_node_pools_offer_what_their_machines_have_even_without_nodes():
    described = {
        "nodePools": [
            {"name": "cpus", "config": {"machineType": "e2-standard-4"}},
            {
                "name": "l4s",
                "config": {
                    "machineType": "g2-standard-4",
                    "accelerators": [{"acceleratorType": "nvidia-l4", "acceleratorCount": "1"}],
                },
            },
            {"name": "v6e", "config": {"machineType": "ct6e-standard-8t", "spot": True}},
            {
                "name": "v5p",
                "config": {"machineType": "ct5p-hightpu-4t"},
                "placementPolicy": {"tpuTopology": "2x2x2"},
            },
        ]
    }
    pools = {pool.name: pool for pool in gke_node_pools(described)}
    assert pools["l4s"].offers(parse_accelerator("l4"))
    assert pools["v6e"].offers(parse_accelerator("tpu-v6e-8:spot"))
    assert pools["v5p"].offers(parse_accelerator("tpu-v5p-2x2x2"))
    assert not pools["cpus"].offers(parse_accelerator("l4"))
    assert not pools["v5p"].offers(parse_accelerator("tpu-v5p-2x2x4"))


@pytest.mark.parametrize(
    ("api", "cluster", "warns"),
    [
        ("http://127.0.0.1:4200/api", "https://34.1.2.3", True),
        ("http://localhost:4200/api", "https://34.1.2.3", True),
        ("http://[::1]:4200/api", "https://34.1.2.3", True),
        ("https://prefect.example/api", "https://34.1.2.3", False),
        ("http://127.0.0.1:4200/api", "https://127.0.0.1:41523", True),
        ("http://localhost:4200/api", "http://[::1]:8001", True),
        ("http://192.168.49.1:4200/api", "https://127.0.0.1:41523", False),
        (None, "https://34.1.2.3", False),
    ],
)
def test_a_prefect_api_that_pods_cannot_reach_is_warned_about(api, cluster, warns):
    warning = loopback_warning(api, cluster)
    assert (warning is not None) is warns
    if warning:
        assert "reach" in warning
        assert "set PREFECT_API_URL to a" in warning
        here = urlsplit(cluster).hostname in ("127.0.0.1", "::1")
        assert ("kind, minikube" in warning) is here


def test_calls_of_one_process_share_the_watcher_of_a_namespace(tmp_path):

    def launcher(namespace: str) -> object:
        environ = {"KINETIC_PROJECT": "my-project-1", "KINETIC_NAMESPACE": namespace}
        cloud = resolve_cloud(arguments={}, environ=environ, profile=None)
        platform = GoogleCloudPlatform(cloud, {"KUBECONFIG": "/nowhere"}, tmp_path)
        return platform.launcher

    assert launcher("a") is launcher("a")
    assert launcher("a") is not launcher("b")


def test_gkes_node_pools_say_by_which_way_their_nodes_are_had():
    (pool,) = gke_node_pools(
        {
            "nodePools": [
                {
                    "name": "flex",
                    "locations": ["us-central1-a", "us-central1-b"],
                    "autoscaling": {"enabled": True, "totalMaxNodeCount": 4},
                    "queuedProvisioning": {"enabled": True},
                    "config": {
                        "machineType": "g2-standard-4",
                        "flexStart": True,
                        "maxRunDuration": "3600s",
                        "accelerators": [{"acceleratorType": "nvidia-l4", "acceleratorCount": "1"}],
                        "reservationAffinity": {
                            "consumeReservationType": "SPECIFIC_RESERVATION",
                            "values": ["projects/owner-1/reservations/big"],
                        },
                        "labels": {"cloud.google.com/compute-class": "big", "team": "a"},
                        "taints": [{"key": "team", "value": "a", "effect": "NO_SCHEDULE"}],
                    },
                }
            ]
        }
    )
    assert (pool.flex, pool.is_queued, pool.max_run_seconds) == (True, True, 3600.0)
    assert (pool.least, pool.most, pool.zones) == (0, 4, ("us-central1-a", "us-central1-b"))
    assert (pool.reservation, pool.compute_class) == ("projects/owner-1/reservations/big", "big")
    assert [str(each) for each in pool.taints] == [
        "team=a:NoSchedule",
        "cloud.google.com/gke-queued=true:NoSchedule",
    ]
    assert pool.may_have({"team": "a", "cloud.google.com/reservation-name": "big", "else": "?"})
    assert not pool.may_have({"team": "b"})


@pytest.mark.parametrize(
    ("scaling", "bounds"),
    [
        ({"enabled": True, "minNodeCount": 1, "maxNodeCount": 3}, (2, 6)),
        ({"enabled": True, "totalMinNodeCount": 1, "totalMaxNodeCount": 3}, (1, 3)),
        ({"maxNodeCount": 3}, (None, None)),
    ],
)
def test_bounds_that_are_no_totals_are_for_each_zone(scaling, bounds):
    zones = ["us-central1-a", "us-central1-b"]
    described = {"name": "l4", "locations": zones, "autoscaling": scaling}
    (pool,) = gke_node_pools({"nodePools": [described]})
    assert (pool.least, pool.most) == bounds
    assert pool.size is None


def test_what_a_machine_leaves_to_pods_is_known_of_a_pool_without_nodes():
    (pool,) = gke_node_pools(
        {"nodePools": [{"name": "cpus", "config": {"machineType": "e2-standard-4"}}]}
    )
    assert pool.size is not None
    assert pool.size.cpu_millis == 3920


@pytest.mark.parametrize(
    ("described", "is_so"),
    [
        ({}, False),
        ({"autopilot": {"enabled": True}}, True),
        ({"autoscaling": {"enableNodeAutoprovisioning": True}}, True),
    ],
)
def test_clusters_that_make_node_pools_are_told_from_those_that_do_not(described, is_so):
    assert makes_node_pools(described) is is_so


class OnlyDescribed:
    """A GKE cluster of which Google alone is asked."""

    def __init__(self, access: GkeCluster) -> None:
        self.access = access


L4_POOL = {
    "name": "l4s",
    "locations": ["us-central1-a"],
    "config": {
        "machineType": "g2-standard-4",
        "accelerators": [{"acceleratorType": "nvidia-l4", "acceleratorCount": "1"}],
    },
}


@pytest.mark.parametrize(
    ("cluster", "placement", "problem", "warning"),
    [
        ({}, {}, "", ""),
        ({}, {"reservation": "ours"}, "no node pool with l4 uses the reservation ours", ""),
        ({}, {"zones": ("us-central1-b",)}, "no node pool with l4 is in us-central1-b", ""),
        ({}, {"node_pool": "gone"}, "there is no node pool gone", ""),
        ({}, {"compute_class": "gpus"}, "", "is of the compute class gpus"),
        (
            {"autoscaling": {"enableNodeAutoprovisioning": True}},
            {"reservation": "ours"},
            "",
            "no node fits yet: no node pool with l4 uses the reservation ours",
        ),
        (
            {"autopilot": {"enabled": True}},
            {"node_pool": "l4s"},
            "an Autopilot cluster makes its nodes by itself: leave it out",
            "",
        ),
        (
            {"autopilot": {"enabled": True}},
            {"reservation": "any"},
            "an Autopilot cluster uses none but those that are named",
            "",
        ),
    ],
)
def test_what_gke_tells_of_its_node_pools_decides_before_a_launch(
    container_api, cluster, placement, problem, warning
):
    container_api.described = {"nodePools": [L4_POOL], **cluster}
    wanted = parse_accelerator("l4")
    request = PreflightRequest(
        accelerator=wanted, nodes=node_request(wanted, Placement(**placement), {})
    )
    client: Any = OnlyDescribed(gke(container_api))
    found = asyncio.run(check_node_pools(client, request))
    assert problem in " ".join(found.problems)
    assert warning in " ".join(found.warnings)
    assert (bool(found.problems), bool(found.warnings)) == (bool(problem), bool(warning))
    assert found.makes_pools is (bool(cluster) and not problem)
