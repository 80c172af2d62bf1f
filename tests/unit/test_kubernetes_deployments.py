"""The manifests that ship for a worker and a Prefect server in the cluster."""

from __future__ import annotations

import itertools
import re
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prefect.settings import Settings
from prefect_kubernetes.settings import KubernetesSettings

from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.rights import (
    FLEX_START,
    HELPFUL,
    INSIGHT,
    INSTALLING,
    NEEDED,
    OPTIONAL,
)
from kinetic_flows.platforms.gke.setup.names import PODS_URL
from kinetic_flows.platforms.gke.setup.prefect.prefect_server import SERVER, SERVER_POD, SERVER_PORT
from loopback.kubernetes.pod_security import PREFIX, violations

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "gke.md"
FILES = ("rbac.yaml", "worker.yaml")
SERVER_FILES = ("namespace.yaml", "database.yaml", "server.yaml", "access.yaml")


def read(name: str) -> list[dict[str, Any]]:
    folder = resources.files("kinetic_flows.deployments")
    place = "worker" if name in FILES else "prefect"
    return list(yaml.safe_load_all(folder.joinpath(place, name).read_text()))


def workloads() -> list[dict[str, Any]]:
    objects = [each for name in (*FILES, *SERVER_FILES) for each in read(name)]
    return [each for each in objects if each["kind"] in ("Deployment", "StatefulSet")]


def container_of(workload: dict[str, Any]) -> dict[str, Any]:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(container)


def shipped_flows() -> list[dict[str, Any]]:
    text = resources.files("kinetic_flows.deployments").joinpath("prefect.yaml").read_text()
    return list(yaml.safe_load(text)["deployments"])


def worker_container() -> dict[str, Any]:
    (deployment,) = read("worker.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("kubernetes", ["1.31", "1.37"])
@pytest.mark.parametrize("name", [*FILES, *SERVER_FILES])
def test_every_manifest_is_valid(name, kubernetes):
    for manifest in read(name):
        kubernetes_validate.validate(manifest, kubernetes, strict=True)


def test_the_role_allows_all_that_launching_does():
    (role,) = (each for each in read("rbac.yaml") if each["kind"] == "Role")
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    for each in (*NEEDED, *HELPFUL, *OPTIONAL, *FLEX_START, *INSTALLING):
        if each.resource == "nodes" or each.group in ("storage.k8s.io", "cloud.google.com"):
            continue  # Of the cluster, not of a namespace.
        resource = f"{each.resource}/{each.subresource}" if each.subresource else each.resource
        assert (each.group, resource, each.verb) in allowed


def test_the_role_of_looking_into_runs_allows_that_and_nothing_else():
    text = resources.files("kinetic_flows.deployments").joinpath("insight", "rbac.yaml").read_text()
    role = yaml.safe_load(text)
    kubernetes_validate.validate(role, "1.37", strict=True)
    (rule,) = role["rules"]
    allowed = {(resource, verb) for resource in rule["resources"] for verb in rule["verbs"]}
    assert allowed == {(f"{each.resource}/{each.subresource}", each.verb) for each in INSIGHT}


def test_the_documentation_lists_what_launching_does():
    said = documented_rights()
    for each in (*NEEDED, *HELPFUL, *OPTIONAL, *FLEX_START, *INSTALLING):
        (verbs,) = (verbs for what, verbs in said.items() if what.startswith(each.resource))
        assert re.search(rf"\b{each.verb}\b", verbs), each
        assert each.subresource in verbs


def documented_rights() -> dict[str, str]:
    """Return the verbs that the table of rights lists, by resource."""
    text = DOCUMENTATION.read_text().partition("| What | Verbs |\n| --- | --- |\n")[2]
    rows = itertools.takewhile(lambda line: line.startswith("|"), text.splitlines())
    cells = (row.strip("| ").split(" | ") for row in rows)
    return {what.replace(" ", "").lower(): verbs for what, verbs in cells}


def test_namespaces_that_take_only_restricted_pods_take_all_that_ship():
    for workload in workloads():
        assert violations("restricted", workload["spec"]["template"]["spec"]) == ""
    (namespace,) = read("namespace.yaml")
    assert namespace["metadata"]["labels"][f"{PREFIX}/enforce"] == "restricted"


def test_server_and_database_cannot_write_to_their_image_and_see_no_kubernetes():
    for workload in (read("database.yaml")[-1], read("server.yaml")[-1]):
        assert container_of(workload)["securityContext"]["readOnlyRootFilesystem"]
        assert workload["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_every_pod_that_ships_says_what_it_needs_and_whether_it_lives():
    for workload in workloads():
        container = container_of(workload)
        assert container["livenessProbe"]
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]


def test_the_images_have_the_prefect_that_is_tested():
    tags = [
        container_of(workload)["image"].partition(":")[2]
        for workload in workloads()
        if "prefecthq" in container_of(workload)["image"]
    ]
    assert [tag.partition("-")[0] for tag in tags] == [version("prefect")] * 2


def test_no_password_is_in_a_manifest():
    for name in (*FILES, *SERVER_FILES):
        for each in read(name):
            assert each["kind"] != "Secret"
    for workload in workloads():
        for variable in container_of(workload)["env"]:
            is_secret = "PASSWORD" in variable["name"] or "AUTH_STRING" in variable["name"]
            assert is_secret == ("secretKeyRef" in variable.get("valueFrom", {})), variable["name"]


def test_the_servers_settings_are_ones_that_prefect_knows(monkeypatch):
    for variable in container_of(read("server.yaml")[-1])["env"]:
        monkeypatch.setenv(variable["name"], variable.get("value", "secret"))
    server = Settings().server
    database = server.database
    assert (database.driver, database.host, database.port, database.name, database.user) == (
        "postgresql+asyncpg",
        "prefect-database",
        5432,
        "prefect",
        "prefect",
    )
    assert database.password is not None
    assert server.api.auth_string is not None
    assert (server.ui.api_url, server.ui.static_directory) == ("/api", "/home/prefect/ui")
    assert not server.analytics_enabled


def test_services_policies_and_rights_mean_the_pods_that_ship():
    for name in ("database.yaml", "server.yaml"):
        objects = {each["kind"]: each for each in read(name)}
        stateful = objects["StatefulSet"]
        labels = stateful["spec"]["template"]["metadata"]["labels"]
        assert objects["Service"]["spec"]["selector"] == labels
        assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
        assert stateful["spec"]["selector"]["matchLabels"] == labels
    role, _ = read("access.yaml")
    assert {name for rule in role["rules"] for name in rule["resourceNames"]} == {
        SERVER_POD,
        SERVER,
    }
    service = next(each for each in read("server.yaml") if each["kind"] == "Service")
    metadata = service["metadata"]
    assert f"http://{metadata['name']}.{metadata['namespace']}.svc/api" == PODS_URL
    assert container_of(read("server.yaml")[-1])["ports"][0]["containerPort"] == SERVER_PORT


def test_the_flows_that_ship_have_a_home_that_can_be_written_to():
    container = base_job_template()["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    given = container["containers"][0]["volumeMounts"]
    mounts = {mount["mountPath"] for mount in given if isinstance(mount, dict)}
    for flow in shipped_flows():
        assert flow["work_pool"]["job_variables"]["env"]["HOME"] in mounts


def test_the_workers_settings_are_ones_that_prefect_knows(monkeypatch):
    for variable in worker_container()["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    assert Settings().worker.enable_cancellation
    assert Settings().worker.cancellation_poll_seconds == 10
    kubernetes = KubernetesSettings()
    assert kubernetes.worker.store_env_as_secret
    assert kubernetes.worker.create_job_retry.max_retries == 1
    assert kubernetes.observer.namespaces == {"default"}


def test_the_worker_serves_the_pool_that_runs_go_to():
    arguments = worker_container()["args"]
    assert arguments[arguments.index("--pool") + 1] == "kinetic-gke"


def test_the_flows_that_ship_run_as_the_account_that_the_role_is_bound_to():
    binding, account = (
        next(each for each in read("rbac.yaml") if each["kind"] == kind)
        for kind in ("RoleBinding", "ServiceAccount")
    )
    assert account["metadata"]["name"] in [each["name"] for each in binding["subjects"]]
    for flow in shipped_flows():
        variables = flow["work_pool"]["job_variables"]
        assert variables["service_account_name"] == account["metadata"]["name"], flow["name"]
