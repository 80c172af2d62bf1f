"""What is found out about a cluster before anything is built for a run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes_runs import a_launcher

from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesUnreachable,
    core_path,
)
from kinetic_flows.core.accelerators import Accelerator, parse_accelerator
from kinetic_flows.core.accelerators.node_requests import NodeRequest
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.launcher import LaunchNeeds, PodRequests, Preflight
from kinetic_flows.core.pod_security import AS_THE_IMAGE_SAYS, RESTRICTED
from kinetic_flows.core.secret_sources import parse_secrets
from kinetic_flows.core.volumes import parse_volumes
from kinetic_flows.platforms.gke.preflight import preflight
from kinetic_flows.platforms.gke.preflight_request import PreflightRequest
from kinetic_flows.platforms.gke.work_pool import ensure_headless_service
from loopback.kubernetes.access import Denial
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup, node_group

V6E_8 = parse_accelerator("tpu-v6e-8")
CPU = parse_accelerator("cpu")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        yield running


@pytest.fixture
def client(cluster: LoopbackCluster) -> Iterator[KubernetesClient]:
    made = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
    yield made
    made.close()


def place_in(cluster: LoopbackCluster) -> str:
    with a_launcher(cluster) as launcher:
        return launcher.place()


def test_a_ready_cluster_has_no_problems(cluster, client):
    cluster.add_nodes(
        NodeGroup(name="v6e", labels=V6E_8.node_selector, capacity={"google.com/tpu": 8}, nodes=1)
    )
    found = preflight(client, PreflightRequest(accelerator=V6E_8))
    assert (found.problems, found.warnings) == ((), ())
    found.raise_for_problems()


def test_every_problem_is_listed_at_once_and_soon(cluster, client):
    cluster.access.denials += [
        Denial(resource="jobs", verb="create"),
        Denial(resource="secrets", verb="patch"),
    ]
    request = PreflightRequest(
        accelerator=parse_accelerator("tpu-v5p-2x2x2"), service_account="trainer"
    )
    begun = time.monotonic()
    found = preflight(client, request)
    assert time.monotonic() - begun < 5
    with pytest.raises(LaunchError) as caught:
        found.raise_for_problems()
    told = str(caught.value)
    assert "4 problems" in told
    assert "you may not create jobs.batch in namespace 'default', which is needed to launch" in told
    assert "you may not patch secrets" in told
    assert "there is no service account 'trainer' in namespace 'default'" in told
    assert "create it with `kinetic pool create --namespace default`" in told


def test_a_missing_namespace_is_told_from_a_missing_service_account(client):
    found = preflight(client, PreflightRequest(accelerator=CPU, namespace="research"))
    (problem,) = found.problems
    assert problem.startswith("the cluster has no namespace 'research'; create it with `kubectl")


def test_nodes_that_are_not_there_yet_are_a_warning_that_lists_what_is(client):
    # Kubernetes itself knows nothing of node pools that are scaled to zero.
    found = preflight(client, PreflightRequest(accelerator=V6E_8))
    assert not found.problems
    assert found.warnings == ("no node yet has tpu-v6e-8; there are: default (no accelerator)",)


def test_somebody_who_may_not_see_nodes_is_not_stopped(cluster, client):
    cluster.access.denials.append(Denial(resource="nodes"))
    assert preflight(client, PreflightRequest(accelerator=V6E_8)) == Preflight()


def test_what_only_explains_is_a_warning_where_it_is_not_allowed(cluster, client):
    cluster.access.denials.append(Denial(resource="pods/log"))
    found = preflight(client, PreflightRequest(accelerator=CPU))
    assert not found.problems
    assert "you may not get pods/log" in found.warnings[0]
    assert "which is needed to show what runs print" in found.warnings[0]


def test_a_slice_of_several_hosts_needs_the_service_that_pool_create_makes(client):
    request = PreflightRequest(accelerator=parse_accelerator("tpu-v5p-2x2x2"))
    assert "no Service 'kinetic-hosts'" in preflight(client, request).problems[0]
    assert ensure_headless_service(client, "default")
    assert not preflight(client, request).problems
    assert not ensure_headless_service(client, "default")


def test_an_unreachable_cluster_is_one_error(tmp_path, cluster):
    text = cluster.kubeconfig().read_text().replace(cluster.url, "http://127.0.0.1:9")
    (tmp_path / "dead").write_text(text)
    client = KubernetesClient(Kubeconfig(path=str(tmp_path / "dead")))
    try:
        with pytest.raises(KubernetesUnreachable, match=r"http://127\.0\.0\.1:9 cannot be reached"):
            preflight(client, PreflightRequest(accelerator=CPU))
    finally:
        client.close()


def test_credentials_that_are_not_accepted_are_one_error(cluster):
    client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig(token="expired"))))
    try:
        with pytest.raises(LaunchError, match="does not accept the credentials") as caught:
            preflight(client, PreflightRequest(accelerator=CPU))
    finally:
        client.close()
    assert "gcloud auth application-default login" in (caught.value.hint or "")


def test_a_quota_that_can_never_hold_the_run_is_a_problem_and_a_used_one_a_warning(cluster, client):
    cluster.add_quota("few", {"requests.google.com/tpu": "4"}, {"requests.google.com/tpu": "0"})
    cluster.add_quota("pods", {"pods": "3"}, {"pods": "3"})
    found = preflight(client, PreflightRequest(accelerator=V6E_8))
    (problem,) = found.problems
    assert "quota 'few' of the namespace allows 4 requests.google.com/tpu" in problem
    assert problem.endswith("and tpu-v6e-8 needs 8")
    waits = "resource quota 'pods' of the namespace has 3 of 3 pods in use: the run waits"
    assert any(warning.startswith(waits) for warning in found.warnings)


def test_a_full_quota_on_jobs_is_a_refusal_which_no_waiting_helps(cluster, client):
    cluster.add_quota("jobs", {"count/jobs.batch": "3"}, {"count/jobs.batch": "3"})
    found = preflight(client, PreflightRequest(accelerator=CPU))
    (problem,) = found.problems
    assert problem.startswith("resource quota 'jobs' of the namespace is used up (requested: ")
    assert "Jobs that have finished count for as long as they are there" in problem
    assert any("and Jobs do not wait" in warning for warning in found.warnings)
    assert cluster.list("jobs") == [], "it was only tried"


def test_quotas_that_may_not_be_read_stop_nobody(cluster, client):
    cluster.access.denials.append(Denial(resource="resourcequotas"))
    assert preflight(client, PreflightRequest(accelerator=CPU)) == Preflight()


def test_a_namespace_is_told_from_one_of_its_name_in_another_cluster(tmp_path, cluster):
    (tmp_path / "other").mkdir()
    with LoopbackCluster(tmp_path / "other") as other:
        here, again, there = (place_in(each) for each in (cluster, cluster, other))
    assert here == again
    assert here != there
    assert here.partition("/")[0] == there.partition("/")[0] == "default"
    cluster.access.denials.append(Denial(resource="serviceaccounts"))
    assert place_in(cluster) == "default", "who may not ask knows the name alone"


def asked(level: str, context: Mapping[str, object] | None) -> PreflightRequest:
    return PreflightRequest(
        accelerator=CPU,
        namespace=f"team-{level}",
        security_context=None if context is None else json.dumps(dict(context)),
    )


@pytest.mark.parametrize("level", ["privileged", "baseline", "restricted"])
def test_a_namespace_says_what_its_pods_have_to_fulfil(cluster, client, level):
    cluster.add_namespace(f"team-{level}", enforce=level)
    assert preflight(client, asked(level, RESTRICTED)) == Preflight(), "our default fulfils all"
    found = preflight(client, asked(level, AS_THE_IMAGE_SAYS))
    if level != "restricted":
        assert not found.problems
        return
    (problem,) = found.problems
    assert problem.startswith("namespace 'team-restricted' enforces Pod Security 'restricted', wh")
    assert "runAsNonRoot is not true" in problem
    assert "job_variables={'security_context': 'restricted'}" in problem
    unknown = preflight(client, asked(level, None))
    assert not unknown.problems, "which user an image of one's own has is known later"
    assert any("the image's USER has to be a number" in each for each in unknown.warnings)


def test_what_a_namespace_only_warns_of_is_a_warning(cluster, client):
    cluster.add_namespace("team-b", warn="restricted")
    request = replace(asked("b", AS_THE_IMAGE_SAYS), namespace="team-b")
    found = preflight(client, request)
    assert not found.problems
    (warning,) = found.warnings
    assert warning.startswith("the namespace warns: pods violate Pod Security 'restricted': ")
    assert 'container "prefect-job" must set' in warning, "quotes are those of the answer"


def test_what_a_webhook_says_of_a_trial_is_no_more_than_a_warning(cluster, client):
    words = 'admission webhook "p.example.com" denied the request: set a memory limit'
    cluster.admission.webhooks.append(lambda plural, _: words if plural == "jobs" else None)
    found = preflight(client, PreflightRequest(accelerator=CPU))
    assert not found.problems
    assert "of a Job that was only tried: admission webhook 'p.example.com'" in found.warnings[0]


def test_a_namespace_that_may_not_be_read_stops_nobody(cluster, client):
    cluster.add_namespace("team-a", enforce="restricted")
    cluster.access.denials.append(Denial(resource="namespaces"))
    request = replace(asked("a", AS_THE_IMAGE_SAYS), namespace="team-a")
    found = preflight(client, request)
    assert not found.problems
    assert "pods violate Pod Security 'restricted'" in found.warnings[0]


# Image volumes


NEW = "containerd://2.1.4"
MOUNTS = PreflightRequest(accelerator=CPU, packages="auto")


def volumes_of(
    directory: Path, version: str, request: PreflightRequest = MOUNTS, **about: Any
) -> tuple[Preflight, list[str]]:
    """Return what is found of a cluster of a version, and what it was asked for."""
    gate, kubelet = about.pop("image_volumes", None), about.pop("kubelet", "")
    group = NodeGroup(name="default", nodes=1, kubelet=kubelet, runtime=about.pop("runtime", NEW))
    with LoopbackCluster(directory, version=version, image_volumes=gate) as cluster:
        cluster.add_nodes(group)
        cluster.access.denials += about.pop("denials", ())
        client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
        try:
            return preflight(client, request), list(cluster.requests)
        finally:
            client.close()


def test_a_cluster_that_mounts_images_is_asked_nothing_more_for_it(tmp_path):
    (tmp_path / "other").mkdir()
    found, asked = volumes_of(tmp_path, "1.35")
    assert (found.no_image_volumes, found.problems, found.warnings) == ("", (), ())
    plain = PreflightRequest(accelerator=CPU)
    without, fewer = volumes_of(tmp_path / "other", "1.35", plain)
    assert without.no_image_volumes is None
    assert sorted(asked) == sorted(fewer)


@pytest.mark.parametrize("version", ["1.30", "1.33"])
def test_a_server_that_takes_no_image_volumes_is_named_with_its_version(tmp_path, version):
    found, _ = volumes_of(tmp_path, version)
    assert found.no_image_volumes.startswith(
        f"the cluster's API server (Kubernetes v{version}.0) takes no image volumes"
    )
    assert (found.problems, found.warnings) == ((), ())


def test_an_older_server_whose_gate_was_opened_counts(tmp_path):
    assert volumes_of(tmp_path, "1.33", image_volumes=True)[0].no_image_volumes == ""


def test_one_whose_gate_was_shut_does_not(tmp_path):
    assert "takes no image" in volumes_of(tmp_path, "1.35", image_volumes=False)[0].no_image_volumes


def test_nodes_that_cannot_mount_images_are_named_with_what_they_have(tmp_path):
    found, _ = volumes_of(tmp_path, "1.35", runtime="containerd://2.0.5")
    assert found.no_image_volumes == (
        "nodes of the pool default have containerd 2.0.5, and image volumes need containerd 2.1 "
        "or cri-o 1.31"
    )


def test_where_nodes_are_hidden_the_server_alone_tells(tmp_path):
    found, _ = volumes_of(
        tmp_path, "1.35", runtime="containerd://1.7.0", denials=[Denial(resource="nodes")]
    )
    assert found.no_image_volumes == ""


def test_a_volume_that_admission_refuses_is_no_problem_of_the_run(tmp_path):
    def refuse(plural: str, item: Mapping[str, Any]) -> str | None:
        pod = item["spec"]["template"]["spec"] if plural == "jobs" else {}
        return "no image volumes here" if pod.get("volumes") else None

    with LoopbackCluster(tmp_path, version="1.35") as cluster:
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        cluster.admission.webhooks.append(refuse)
        client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
        try:
            found = preflight(client, MOUNTS)
        finally:
            client.close()
    assert "no image volumes here" in found.no_image_volumes
    assert found.problems == ()


@pytest.mark.parametrize(
    ("version", "packages", "why"),
    [
        ("1.35", "auto", ""),
        ("1.34", "auto", "whether the cluster's API server (Kubernetes v1.34.0) takes image"),
        ("1.34", "volume", ""),
    ],
)
def test_a_refusal_of_any_job_says_nothing_of_the_volume(tmp_path, version, packages, why):
    with LoopbackCluster(tmp_path, version=version) as cluster:
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        cluster.admission.webhooks.append(
            lambda plural, _: "no label" if plural == "jobs" else None
        )
        client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
        try:
            found = preflight(client, replace(MOUNTS, packages=packages))
        finally:
            client.close()
    assert found.no_image_volumes.startswith(why)
    assert bool(found.no_image_volumes) is bool(why)
    (warning,) = found.warnings
    assert "of a Job that was only tried" in warning


def test_nodes_of_a_pool_that_is_being_upgraded_are_judged_by_the_oldest(tmp_path):
    with LoopbackCluster(tmp_path, version="1.35") as cluster:
        cluster.add_nodes(NodeGroup(name="default", nodes=2, max_nodes=2))
        name = cluster.list("nodes")[0]["metadata"]["name"]
        old = {"kubeletVersion": "v1.33.1", "containerRuntimeVersion": "containerd://2.0.5"}
        cluster.change("nodes", name, lambda node: node["status"].update(nodeInfo=old), "")
        client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
        try:
            found = preflight(client, MOUNTS)
        finally:
            client.close()
    assert "have Kubernetes v1.33.1" in found.no_image_volumes


def with_volumes(accelerator: Accelerator = CPU, **volumes: Data | str) -> PreflightRequest:
    parsed = parse_volumes("volumes", {f"/{name}": each for name, each in volumes.items()})
    return PreflightRequest(accelerator=accelerator, volumes=tuple(parsed.values()))


MOUNTED = Data("gs://corpus/c4", mode="mount")


def test_a_cluster_with_all_that_volumes_need_has_no_problems(cluster, client):
    cluster.add_claim("datasets")
    cluster.add_fuse_driver()
    request = with_volumes(a=MOUNTED, b="pvc:datasets", c="scratch:500Gi", d="gs://corpus")
    found = preflight(client, request)
    assert (found.problems, found.warnings) == ((), ())
    (notice,) = found.notices
    assert "pods mount gs://corpus as the Kubernetes service account default/default" in notice
    assert "roles/storage.objectViewer" in notice


def test_every_volume_that_is_not_there_is_named(client):
    found = preflight(client, with_volumes(a=MOUNTED, b="pvc:datasets", c="pvc:weights"))
    assert not found.warnings
    claims = [problem for problem in found.problems if "PersistentVolumeClaim" in problem]
    assert [problem.partition(" in ")[0] for problem in claims] == [
        "there is no PersistentVolumeClaim 'datasets'",
        "there is no PersistentVolumeClaim 'weights'",
    ]
    (driver,) = set(found.problems) - set(claims)
    assert "--update-addons=GcsFuseCsiDriver=ENABLED" in driver


def test_volumes_that_may_not_be_looked_up_are_not_taken_for_missing(cluster, client):
    cluster.access.denials += [
        Denial(resource="csidrivers"),
        Denial(resource="persistentvolumeclaims"),
    ]
    found = preflight(client, with_volumes(a=MOUNTED, b="pvc:datasets"))
    assert not found.problems
    assert sorted(warning.partition(" (")[0] for warning in found.warnings) == [
        "PersistentVolumeClaim 'datasets' cannot be looked up",
        "the Cloud Storage FUSE driver cannot be looked up",
    ]


def with_secrets(**sources: str) -> PreflightRequest:
    secrets = parse_secrets("secrets", sources)
    return PreflightRequest(accelerator=CPU, secrets=tuple(secrets.values()))


def test_keys_of_secrets_are_looked_for_and_no_value_is_told(cluster, client):
    cluster.add_secret("hub", {"token": "hush", "other": "hush"})
    assert preflight(client, with_secrets(A="k8s:hub/token", B="k8s:hub/other")) == Preflight()
    found = preflight(client, with_secrets(A="k8s:hub/tok", B="k8s:wandb/key", C="k8s:wandb/id"))
    assert set(found.problems) == {
        "A: Secret 'hub' in namespace 'default' has no key 'tok'; it has other, token",
        (
            "B, C: there is no Secret 'wandb' in namespace 'default'; make it with `kubectl create "
            "secret generic wandb --namespace default --from-literal=key=VALUE "
            "--from-literal=id=VALUE`"
        ),
    }
    assert "hush" not in repr(found)


def test_secrets_that_may_not_be_looked_up_are_not_taken_for_missing(cluster, client):
    cluster.access.denials.append(Denial(resource="secrets", verb="get"))
    found = preflight(client, with_secrets(A="k8s:hub/token"))
    assert not found.problems
    (warning,) = found.warnings
    assert warning.startswith("Secret 'hub', for A, cannot be looked up")


@pytest.mark.parametrize(
    ("storage_class", "problems", "warnings"),
    [
        ("late", [], []),
        ("early", [], ["its storage class 'early' binds it at once, and has not yet"]),
        ("missing", ["the storage class 'missing', which does not exist"], []),
        ("", [], ["no PersistentVolume has been found for it"]),
    ],
)
def test_a_claim_that_is_not_bound_may_wait_for_its_first_pod(
    cluster, client, storage_class, problems, warnings
):
    cluster.add_storage_class("late", "WaitForFirstConsumer")
    cluster.add_storage_class("early", "Immediate")
    cluster.add_claim("datasets", phase="Pending", storage_class=storage_class)
    found = preflight(client, with_volumes(a="pvc:datasets"))
    for said, expected in ((found.problems, problems), (found.warnings, warnings)):
        assert len(said) == len(expected)
        assert all(part in text for text, part in zip(said, expected, strict=True))


def test_a_claim_of_one_node_is_refused_to_a_slice_of_several(cluster, client):
    assert ensure_headless_service(client, "default")
    cluster.add_claim("datasets")
    request = with_volumes(parse_accelerator("tpu-v5p-2x2x2"), a="pvc:datasets")
    (problem,) = preflight(client, request).problems
    assert "one node has it at a time, and the run has 2 pods" in problem


def test_what_no_node_has_is_told_with_what_would_fit(cluster, client):
    cluster.add_nodes(node_group("l4", "l4s", nodes=1, taints=()))

    def told(**requests: str) -> tuple[str, ...]:
        asked = PreflightRequest(
            accelerator=parse_accelerator("l4"), requests=PodRequests(**requests)
        )
        return preflight(client, asked).warnings

    assert told(cpu="11", memory="40Gi") == ()
    assert told(memory="64Gi") == (
        (
            "no node with l4 has 64Gi of memory (at most 42Gi would fit): the largest are those of "
            "node pool l4s, g2-standard-12; ask for less, or add a node pool of larger machines"
        ),
    )


def test_what_was_found_out_of_some_nodes_is_kept_beside_that_of_others(cluster):
    cluster.add_nodes(node_group("l4", "l4s", nodes=1, taints=()))
    l4 = parse_accelerator("l4")

    def asking(**labels: tuple[str, ...]) -> LaunchNeeds:
        return LaunchNeeds(accelerator=l4, nodes=NodeRequest(labels=labels))

    with a_launcher(cluster) as launcher:
        for needs, pools in ((asking(), 1), (asking(team=("a",)), 0), (asking(), 1)):
            launcher.preflight(needs)
            assert len(launcher.surroundings[l4].pools) == pools


def test_what_a_namespace_allows_of_cpus_and_memory_is_found_out(cluster, client):
    limit = {"type": "Container", "max": {"memory": "8Gi"}}
    body = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "small"},
        "spec": {"limits": [limit]},
    }
    client.ask("POST", core_path("default", "limitranges"), body=body)
    asked = PreflightRequest(accelerator=CPU, requests=PodRequests(memory="16Gi"))
    found = preflight(client, asked)
    assert found.problems == (
        (
            "limit range 'small' of the namespace allows 8Gi of memory (max), and the run asks for "
            "16Gi"
        ),
    )
    assert found.limited == {"memory"}
