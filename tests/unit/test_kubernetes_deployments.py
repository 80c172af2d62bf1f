"""The manifests that ship for a worker in the cluster."""

from __future__ import annotations

import itertools
import re
from importlib import resources
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prefect.settings import Settings
from prefect_kubernetes.settings import KubernetesSettings

from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.rights import HELPFUL, INSTALLING, NEEDED, OPTIONAL
from loopback.kubernetes.pod_security import violations

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "gke.md"
FILES = ("rbac.yaml", "worker.yaml")


def read(name: str) -> list[dict[str, Any]]:
    folder = resources.files("kinetic_flows.deployments")
    return list(yaml.safe_load_all(folder.joinpath("worker", name).read_text()))


def shipped_flows() -> list[dict[str, Any]]:
    text = resources.files("kinetic_flows.deployments").joinpath("prefect.yaml").read_text()
    return list(yaml.safe_load(text)["deployments"])


def worker_container() -> dict[str, Any]:
    (deployment,) = read("worker.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize("name", FILES)
def test_every_manifest_is_valid(name, version):
    for manifest in read(name):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_role_allows_all_that_launching_does():
    (role,) = (each for each in read("rbac.yaml") if each["kind"] == "Role")
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    for each in (*NEEDED, *HELPFUL, *OPTIONAL, *INSTALLING):
        if each.resource == "nodes" or each.group == "storage.k8s.io":
            continue  # Of the cluster, not of a namespace.
        resource = f"{each.resource}/{each.subresource}" if each.subresource else each.resource
        assert (each.group, resource, each.verb) in allowed


def test_the_documentation_lists_what_launching_does():
    said = documented_rights()
    for each in (*NEEDED, *HELPFUL, *OPTIONAL, *INSTALLING):
        (verbs,) = (verbs for what, verbs in said.items() if what.startswith(each.resource))
        assert re.search(rf"\b{each.verb}\b", verbs), each
        assert each.subresource in verbs


def documented_rights() -> dict[str, str]:
    """Return the verbs that the table of rights lists, by resource."""
    text = DOCUMENTATION.read_text().partition("| What | Verbs |\n| --- | --- |\n")[2]
    rows = itertools.takewhile(lambda line: line.startswith("|"), text.splitlines())
    cells = (row.strip("| ").split(" | ") for row in rows)
    return {what.replace(" ", "").lower(): verbs for what, verbs in cells}


def test_a_namespace_that_takes_only_restricted_pods_takes_the_worker():
    (deployment,) = read("worker.yaml")
    assert violations("restricted", deployment["spec"]["template"]["spec"]) == ""


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
