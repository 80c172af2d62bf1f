"""deployments/terraform makes what `kinetic up` makes: the same names, roles and settings.

Terraform itself is not run here. The module is parsed and evaluated for the same inputs, its
arguments are held to those that the provider has, and what comes out is compared with the requests
that `kinetic up` sends, as Google's own messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

import hcl2
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import container_v1

from kinetic_flows.cli.setup.options import SetupOptions
from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.platforms.gke.setup import names, profile_values
from kinetic_flows.platforms.gke.setup.clusters.cluster import GkeClusterResource
from kinetic_flows.platforms.gke.setup.clusters.cluster_messages import wanted_cluster
from kinetic_flows.platforms.gke.setup.clusters.node_pools import NodePoolResource
from kinetic_flows.platforms.gke.setup.clusters.pool_messages import accelerator_pool, cpu_pool
from kinetic_flows.platforms.gke.setup.model import Resource, Wanted
from kinetic_flows.platforms.gke.setup.project.accounts import ServiceAccount
from kinetic_flows.platforms.gke.setup.project.buckets import Bucket
from kinetic_flows.platforms.gke.setup.project.network import CloudNat, Network
from kinetic_flows.platforms.gke.setup.project.registry import Repository
from kinetic_flows.platforms.gke.setup.project.roles import Roles
from kinetic_flows.platforms.gke.setup.project.services import APIS, Project, Services
from kinetic_flows.platforms.gke.setup.request import PoolRequest, SetupRequest
from kinetic_flows.platforms.gke.setup.wanted import stages
from terraform_accelerators import FILE, MODULE, accelerators, text
from terraform_values import Instance, Module, Refused

SCHEMA: Mapping[str, Any] = json.loads(
    (MODULE.parents[1] / "tests/corpus/terraform/google_6.50.0.json").read_text(encoding="utf-8")
)
"""The arguments that version 6.50.0 of the provider has, by resource and block."""

NOT_OF_TERRAFORM = {"joins", "jobset", "kueue", "jobset_manifest", "kueue_manifest"} | {
    "prefect",
    "work_pool",
}
"""What is in the cluster or in Prefect, which `kinetic up` makes afterwards."""

LAST_STAGE = "node pools"
"""What is made after it is in the cluster and in Prefect."""


def pool(accelerator: str, **options: Any) -> PoolRequest:
    return PoolRequest(accelerator=parse_accelerator(accelerator), **options)


PLAIN = SetupRequest(project="my-project-1", location="us-central1-a", cluster="kinetic-cluster")

REQUESTS = {
    "plain": PLAIN,
    "zonal": replace(
        PLAIN,
        location="us-central1-ai1a",
        machine_type="n2-standard-8",
        max_nodes=9,
        retention_days=7,
        pools=(
            pool("l4"),
            pool("l4:spot", max_nodes=2),
            pool("h100x8", reservation="mine"),
            pool("b200"),
            pool("t4", zones=("us-central1-a", "us-central1-b")),
            pool("tpu-v6e-8:spot", max_nodes=3),
            pool("tpu-v6e-16", max_nodes=4),
        ),
    ),
    "regional": replace(
        PLAIN,
        location="europe-west4",
        private_nodes=True,
        namespace="training",
        worker=True,
        members=("user:alice@example.com", "group:ml@example.com"),
        pools=(
            pool("a100-80gbx8", zones=("europe-west4-a", "europe-west4-b")),
            pool("tpu-v5p-2x2x2", max_nodes=2),
        ),
    ),
    "autopilot": replace(
        PLAIN, location="us-east5", mode="autopilot", private_nodes=True, worker=True
    ),
    "long names": replace(
        PLAIN,
        project="example.com:an-old-project-of-30-chars",
        cluster="a-cluster-of-forty-characters-of-a-te-m",
        members=("serviceAccount:ci@other-project.iam.gserviceaccount.com",),
    ),
}


@pytest.fixture(params=sorted(REQUESTS))
def request_of(request: pytest.FixtureRequest) -> SetupRequest:
    return REQUESTS[request.param]


def variables(request: SetupRequest) -> dict[str, Any]:
    """Return a request as the module takes it."""
    given = {
        each.name: getattr(request, each.name)
        for each in fields(request)
        if each.name not in NOT_OF_TERRAFORM | {"pools"}
    }
    given["members"] = list(request.members)
    given["pools"] = [
        {
            "accelerator": str(each.accelerator),
            "max_nodes": each.max_nodes,
            "reservation": each.reservation,
            "zones": list(each.zones),
        }
        for each in request.pools
    ]
    return given


def module(request: SetupRequest, **others: Any) -> Module:
    return Module(MODULE, {**variables(request), **others})


def resources(request: SetupRequest) -> Iterator[Resource]:
    """Yield what `kinetic up` makes outside the cluster."""
    apis = GoogleApis(request.project, credentials=AnonymousCredentials())
    made = stages(Wanted(request=request, apis=apis))
    until = [stage.title for stage in made].index(LAST_STAGE) + 1
    for stage in made[:until]:
        yield from stage.resources


def made(request: SetupRequest, kind: type) -> list[Any]:
    return [each for each in resources(request) if isinstance(each, kind)]


def arguments(found: Module, kind: str, name: str) -> list[dict[str, Any]]:
    return [instance.arguments for instance in found.of(kind, name)]


def test_the_module_has_each_option_with_its_default() -> None:
    assert (
        Module(MODULE, {"project": "p"}).variables.keys()
        - {
            *("nat", "deletion_protection", "force_destroy"),
        }
        == {each.name for each in fields(SetupRequest)} - NOT_OF_TERRAFORM
    )
    by_default = Module(MODULE, {"project": PLAIN.project}).scope["var"]
    for name, value in variables(PLAIN).items():
        assert by_default[name] == value, name


def test_nothing_that_is_made_outside_the_cluster_is_missing(request_of: SetupRequest) -> None:
    known = {Project, Services, ServiceAccount, Network, CloudNat, Bucket, Repository, Roles}
    known |= {GkeClusterResource, NodePoolResource}
    assert {type(each) for each in resources(request_of)} <= known
    kinds = {kind for kind, _ in module(request_of).resources}
    assert kinds == set(SCHEMA)


def test_every_argument_is_one_of_the_providers(request_of: SetupRequest) -> None:
    for (kind, name), instances in module(request_of).resources.items():
        for instance in instances:
            assert not list(_unknown(instance.arguments, SCHEMA[kind], f"{kind}.{name}"))


def _unknown(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> Iterator[str]:
    for name, value in given.items():
        if name not in known:
            yield f"{where}.{name}"
        elif known[name] is not None and known[name] != {}:
            for block in value:
                yield from _unknown(block, known[name], f"{where}.{name}")


def test_the_apis_are_turned_on_and_left_on() -> None:
    found = arguments(module(PLAIN), "google_project_service", "apis")
    assert [each["service"] for each in found] == sorted(APIS)
    assert {each["disable_on_destroy"] for each in found} == {False}


def test_the_accounts_are_the_same(request_of: SetupRequest) -> None:
    found = arguments(module(request_of), "google_service_account", "accounts")
    wanted = made(request_of, ServiceAccount)
    assert {(each["account_id"], each["display_name"]) for each in found} == {
        (each.name, f"kinetic: {each._title}"[:100]) for each in wanted
    }
    assert all(names.is_marked(each["description"], request_of.cluster) for each in found)
    emails = module(request_of).local("accounts")
    assert {each.email for each in wanted} <= set(emails.values())


def test_the_buckets_are_the_same(request_of: SetupRequest) -> None:
    found = arguments(module(request_of), "google_storage_bucket", "buckets")
    wanted = made(request_of, Bucket)
    assert [each["name"] for each in found] == [each.bucket for each in wanted]
    for given, bucket in zip(found, wanted, strict=True):
        assert [_rule(each) for each in given["lifecycle_rule"]] == list(bucket.rules)
        assert (given["location"], given["project"]) == (bucket.region, bucket.project)
        assert given["labels"] == names.labels(request_of.cluster)
        assert given["uniform_bucket_level_access"] is True
        assert given["public_access_prevention"] == "enforced"
        assert given["force_destroy"] is False


def _rule(given: Mapping[str, Any]) -> dict[str, Any]:
    (action,), (condition,) = given["action"], given["condition"]
    renamed = {"age": "age", "matches_prefix": "matchesPrefix"}
    return {
        "action": action,
        "condition": {renamed[name]: value for name, value in condition.items()},
    }


def test_the_repository_is_the_same(request_of: SetupRequest) -> None:
    (given,) = arguments(module(request_of), "google_artifact_registry_repository", "images")
    (wanted,) = made(request_of, Repository)
    assert given == {
        "project": wanted.project,
        "location": wanted.region,
        "repository_id": wanted.name,
        "description": f"images of kinetic runs on {request_of.cluster}",
        "format": "DOCKER",
        "labels": names.labels(request_of.cluster),
    }


def test_cloud_nat_is_the_same_where_nodes_are_private(request_of: SetupRequest) -> None:
    found = module(request_of)
    routers = arguments(found, "google_compute_router", "nat")
    gateways = arguments(found, "google_compute_router_nat", "nat")
    wanted = [each._router() for each in made(request_of, CloudNat)]
    as_sent = [
        {
            "name": router["name"],
            "description": names.description(request_of.cluster),
            "network": router["network"],
            "nats": [
                {
                    "name": gateway["name"],
                    "natIpAllocateOption": gateway["nat_ip_allocate_option"],
                    "sourceSubnetworkIpRangesToNat": gateway["source_subnetwork_ip_ranges_to_nat"],
                }
            ],
        }
        for router, gateway in zip(routers, gateways, strict=True)
    ]
    assert as_sent == wanted
    for each in (*routers, *gateways):
        assert each["region"] == request_of.region
    assert all(names.is_marked(each["description"], request_of.cluster) for each in routers)
    assert module(request_of, nat=False).of("google_compute_router", "nat") == []


def test_the_roles_are_the_same_and_on_the_same(request_of: SetupRequest) -> None:
    found = module(request_of)
    wanted = {
        (roles.holder.resource, grant.role, grant.member)
        for roles in made(request_of, Roles)
        for grant in roles.grants()
    }
    assert set(_granted(found, request_of)) == wanted


def _granted(found: Module, request: SetupRequest) -> Iterator[tuple[str, str, str]]:
    for (kind, name), instances in found.resources.items():
        for instance in instances:
            given = instance.arguments
            if kind.endswith("_iam_member"):
                yield _holder(kind, name, instance, found, request), given["role"], given["member"]


def _holder(kind: str, name: str, instance: Instance, found: Module, request: SetupRequest) -> str:
    """Return what a role is on, as Google's APIs name it."""
    given, project = instance.arguments, request.project
    match kind:
        case "google_project_iam_member":
            return f"projects/{given['project']}"
        case "google_storage_bucket_iam_member":
            return f"gs://{given['bucket']}"
        case "google_artifact_registry_repository_iam_member":
            location = f"projects/{given['project']}/locations/{given['location']}"
            return f"{location}/repositories/{given['repository']}"
    of = re.fullmatch(
        r"google_service_account\.accounts\[(\w+)\]\.name", given["service_account_id"]
    )
    assert of is not None, (kind, name)
    return f"projects/{project}/serviceAccounts/{found.local('accounts')[of[1]]}"


def test_the_cluster_is_the_same(request_of: SetupRequest) -> None:
    found = module(request_of)
    standard = arguments(found, "google_container_cluster", "standard")
    autopilot = arguments(found, "google_container_cluster", "autopilot")
    assert (len(standard), len(autopilot)) == ((1, 0) if request_of.mode == "standard" else (0, 1))
    (given,) = (*standard, *autopilot)
    assert (given["project"], given["location"]) == (request_of.project, request_of.location)
    wanted = wanted_cluster(request_of)
    assert names.is_marked(given["description"], request_of.cluster)
    wanted.description = given["description"]
    wanted.node_pools = []  # resources of their own
    assert _cluster(given) == wanted


def test_the_node_pools_are_the_same(request_of: SetupRequest) -> None:
    found = module(request_of)
    given = [
        *arguments(found, "google_container_node_pool", "cpu"),
        *arguments(found, "google_container_node_pool", "accelerators"),
    ]
    wanted = [
        cpu_pool(request_of) if each.pool is None else accelerator_pool(request_of, each.pool)
        for each in made(request_of, NodePoolResource)
    ]
    assert [_node_pool(each) for each in given] == wanted
    for each in given:
        assert (each["project"], each["location"]) == (request_of.project, request_of.location)
        assert each["cluster"] == request_of.cluster


def test_every_accelerator_makes_the_same_node_pool() -> None:
    for location in ("us-central1-a", "us-central1"):
        pools = tuple(
            PoolRequest(
                accelerator=replace(each, spot=is_spot),
                max_nodes=max(each.hosts, 4) if each.hosts == 1 else each.hosts,
            )
            for each in accelerators()
            for is_spot in (False, True)
        )
        request = replace(PLAIN, location=location, pools=pools)
        given = arguments(module(request), "google_container_node_pool", "accelerators")
        wanted = {made.name: made for made in (accelerator_pool(request, each) for each in pools)}
        assert {each["name"]: _node_pool(each) for each in given} == wanted


def test_the_table_of_accelerators_is_written_anew() -> None:
    current = FILE.read_text(encoding="utf-8")
    assert current == text(), "run: python tests/terraform_accelerators.py"


def test_the_profile_is_the_same(request_of: SetupRequest) -> None:
    wanted = dict(profile_values.profile_values(request_of))
    del wanted["work_pool"]  # `kinetic up` makes it
    assert module(request_of).output("profile") == wanted


def test_what_comes_next_is_a_command_that_there_is(request_of: SetupRequest) -> None:
    words = module(request_of).output("next").split()
    assert words[:2] == ["kinetic", "up"]
    said = _options(words[2:])
    options = SetupOptions(**said)
    options.check()
    assert options.values()["project"] == request_of.project
    assert (options.mode or "standard") == request_of.mode
    assert tuple(options.member) == request_of.members


def _options(words: list[str]) -> dict[str, Any]:
    """Return what a command line says; a word that nothing follows is a switch."""
    said: dict[str, Any] = {}
    for word, value in zip(words, [*words[1:], "--"], strict=True):
        name = word.removeprefix("--").replace("-", "_")
        if word.startswith("--") and name == "member":
            said[name] = (*said.get(name, ()), value)
        elif word.startswith("--"):
            number = name in ("retention_days", "max_nodes")
            said[name] = True if value.startswith("--") else int(value) if number else value
    return said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cluster": "My_Cluster"}, "40 lower-case letters"),
        ({"mode": "serverless"}, "standard or autopilot"),
        ({"pools": [{"accelerator": "l44"}]}, "No accelerator is called l44"),
        (
            {"pools": [{"accelerator": "l4:spot", "reservation": "mine"}]},
            "not taken from reservations",
        ),
        ({"mode": "autopilot"}, "in a region"),
        (
            {"mode": "autopilot", "location": "us-central1", "pools": [{"accelerator": "l4"}]},
            "has no node pools",
        ),
        ({"pools": [{"name": "l4"}]}, "has not the fields"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        Module(MODULE, {"project": "my-project-1", **given})


def test_a_pool_has_four_nodes_at_most_where_nothing_is_said() -> None:
    found = Module(MODULE, {"project": "my-project-1", "pools": [{"accelerator": "l4"}]})
    (given,) = arguments(found, "google_container_node_pool", "accelerators")
    assert given["autoscaling"] == [
        {"location_policy": "ANY", "min_node_count": 0, "max_node_count": 4}
    ]


@cache
def _files() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in MODULE.glob("*.tf")}


@pytest.mark.parametrize("name", sorted(_files()))
def test_a_file_is_laid_out_as_terraform_fmt_does(name: str) -> None:
    source = _files()[name]
    hcl2.loads(source)
    assert "\t" not in source
    assert source.endswith("\n")
    assert not re.search(r" +$", source, re.MULTILINE)
    for group in re.findall(r"(?:^ *\w+ += (?![^\n]*[\[{(]$)[^\n]+\n)+", source, re.MULTILINE):
        columns = {line.index("=") for line in group.splitlines()}
        indents = {len(line) - len(line.lstrip()) for line in group.splitlines()}
        assert len(columns) == 1 or len(indents) > 1, group


def _cluster(given: Mapping[str, Any]) -> container_v1.Cluster:
    """Return the cluster that the provider asks for."""
    left = dict(given)
    for name in ("project", "location", "deletion_protection"):
        left.pop(name)
    if left.pop("remove_default_node_pool", False):
        del left["initial_node_count"], left["node_config"]
    assert left.pop("networking_mode") == "VPC_NATIVE"
    (private,) = left.pop("private_cluster_config")
    network = {"default_enable_private_nodes": private["enable_private_nodes"]}
    if "datapath_provider" in left:
        network["datapath_provider"] = left.pop("datapath_provider")
    made = _message(left, _CLUSTER_NAMES)
    if "shielded_nodes" in made:
        made["shielded_nodes"] = {"enabled": made["shielded_nodes"]}
    if "autopilot" in made:
        made["autopilot"] = {"enabled": made["autopilot"]}
    made["ip_allocation_policy"]["use_ip_aliases"] = True
    return container_v1.Cluster(**made, network_config=network)


def _node_pool(given: Mapping[str, Any]) -> container_v1.NodePool:
    """Return the node pool that the provider asks for."""
    left = {k: v for k, v in given.items() if k not in ("project", "location", "cluster")}
    made = _message(left, _POOL_NAMES)
    made["autoscaling"]["enabled"] = True
    return container_v1.NodePool(**made)


_CLUSTER_NAMES = {
    "enable_shielded_nodes": "shielded_nodes",
    "enable_autopilot": "autopilot",
    "cluster_autoscaling": "autoscaling",
    "enabled": {"cluster_autoscaling": "enable_node_autoprovisioning"},
    "auto_provisioning_defaults": "autoprovisioning_node_pool_defaults",
}
_POOL_NAMES = {
    "node_config": "config",
    "node_locations": "locations",
    "guest_accelerator": "accelerators",
    "type": {"guest_accelerator": "accelerator_type", "placement_policy": "type_"},
    "count": {"guest_accelerator": "accelerator_count"},
}
_SEVERAL = {"guest_accelerator"}


def _message(given: Mapping[str, Any], renamed: Mapping[str, Any], inside: str = "") -> Any:
    """Return arguments under the names that Google's API has for them."""
    made = {}
    for name, value in given.items():
        new = renamed.get(name, name)
        if isinstance(new, Mapping):
            new = new.get(inside, name)
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            blocks = [_message(each, renamed, name) for each in value]
            made[new] = blocks if name in _SEVERAL else blocks[0]
        else:
            made[new] = value
    return made
