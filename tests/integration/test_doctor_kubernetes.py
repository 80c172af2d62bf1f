"""What `kinetic doctor` says of a cluster, its namespace and its work pool."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient, core_path, jobs_path
from kinetic_flows.clients.prefect.profiles import SavedProfiles
from kinetic_flows.clients.prefect.records import NewRun
from kinetic_flows.clients.prefect.work_pools import WorkPools
from kinetic_flows.core.findings import Fact, Finding
from kinetic_flows.core.settings.settings import load_settings, resolve_settings
from kinetic_flows.platforms.checking import Surroundings
from kinetic_flows.platforms.gke.checks.cluster import server_findings
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts, cluster_facts
from kinetic_flows.platforms.gke.checks.insight import insight_findings
from kinetic_flows.platforms.gke.checks.namespace import namespace_findings
from kinetic_flows.platforms.gke.checks.orphans import job_findings, secret_findings
from kinetic_flows.platforms.gke.checks.probe import Probe, probe_findings, reach_findings
from kinetic_flows.platforms.gke.checks.work_pool import work_pool_findings, worker_findings
from kinetic_flows.platforms.gke.manifests import base_job_template, run_secret
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL
from kinetic_flows.platforms.gke.templates import marked, without_mark
from kinetic_flows.platforms.gke.work_pool import install, plan_installation
from kinetic_flows.runs.doctor import examine
from loopback.kubernetes.access import Denial
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup
from loopback.wire import Request, Response, WireServer

WORKER = {"KINETIC_DISPATCH": "worker"}

A_RUN = NewRun(
    flow="train",
    name="train()",
    parent_flow_run_id=None,
    parameters={},
    tags=("kinetic", "cpu"),
    labels={},
    job_variables={},
)


def a_job(run_id: str) -> dict[str, Any]:
    labels = {RUN_ID_POD_LABEL: run_id}
    container = {"name": "prefect-job", "image": "any", "command": ["sleep", "600"]}
    pod = {"restartPolicy": "Never", "containers": [container]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"job-{run_id}", "namespace": "default", "labels": labels},
        "spec": {"backoffLimit": 0, "template": template},
    }


def remove_job(client: KubernetesClient, run_id: str) -> None:
    path = jobs_path("default", f"job-{run_id}")
    client.ask("DELETE", path, body={"propagationPolicy": "Background"})


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path_factory.mktemp("cluster")) as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        yield running


@pytest.fixture
def cluster(shared_cluster: LoopbackCluster) -> Iterator[LoopbackCluster]:
    yield shared_cluster
    shared_cluster.access.denials.clear()


@pytest.fixture
def place(cluster: LoopbackCluster, prefect_api_url: str, tmp_path: Path, monkeypatch) -> Any:
    """Return the variables by which the cluster and Prefect are found, and no Google."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kinetic_flows.platforms.gke.checks.probe.LOOK_SECONDS", 0.05)
    return {
        **os.environ,
        "HOME": str(tmp_path),
        "NO_GCE_CHECK": "true",
        "KINETIC_PROJECT": "my-project",
        "KUBECONFIG": str(cluster.kubeconfig()),
        "PREFECT_API_URL": prefect_api_url,
        "KINETIC_WORK_POOL": f"pool-{uuid4().hex[:8]}",
    }


def found(environ: Mapping[str, str], **more: str) -> dict[str, Finding]:
    return {
        each.finding.subject: each.finding
        for each in examine({**environ, **more}, seconds=60.0, probe="probe" in more)
    }


def asked(look: Callable[[ClusterFacts], Iterable[Finding]], environ: Mapping[str, str]) -> Finding:
    """Return what a single check finds."""
    settings = resolve_settings(
        load_settings(environ), SavedProfiles(lambda: None), environ=environ
    )
    url = Fact("an API", lambda: environ["PREFECT_API_URL"])
    surroundings = Surroundings(settings=settings, environ=environ, api_url=url)
    with surroundings.at_end:
        (finding,) = look(cluster_facts(surroundings))
    return finding


def test_a_cluster_is_well_also_where_google_cannot_be_asked(place) -> None:
    findings = found(place)
    assert findings["Kubernetes API"].level == "ok"
    assert findings["namespace default"].level == "ok"
    assert findings["looking into runs"].level == "ok"
    assert findings["Jobs of ended runs"].level == "ok"
    assert findings["Secrets without a Job"].level == "ok"
    login = findings["Google credentials"]
    assert login.level == "wrong"
    assert "there are no Google Cloud credentials" in login.text
    for subject in ("APIs", "bucket of runs", "rights on the project", "GKE version"):
        assert findings[subject].level == "unknown"
        assert findings[subject].text.startswith("not asked without ")


def test_what_a_launch_would_be_refused_for_is_wrong(cluster, place) -> None:
    cluster.access.denials += [
        Denial(resource="secrets", verb="create"),
        Denial(resource="pods/log", verb="get"),
    ]
    variables = json.dumps({"service_account_name": "trainer"})
    environ = {**place, "KINETIC_JOB_VARIABLES": variables}
    wrong = [
        each.finding
        for each in examine(environ, seconds=60.0)
        if each.group == "namespace" and each.finding.level == "wrong"
    ]
    texts = " ".join(each.text for each in wrong)
    assert "you may not create secrets" in texts
    account = next(each for each in wrong if "'trainer'" in each.text)
    assert account.command == "kubectl create serviceaccount trainer --namespace default"


def test_who_may_not_look_into_runs_is_told_what_grants_it(cluster, place) -> None:
    cluster.access.denials.append(Denial(resource="pods/exec", verb="create"))
    finding = asked(insight_findings, place)
    assert finding.level == "warning"
    assert "you may not create pods/exec" in finding.text
    assert finding.command is not None
    assert finding.command.startswith("kubectl create role kinetic-insight --namespace default")


def test_who_may_not_launch_is_told_as_one_whose_runs_a_worker_starts(cluster, place) -> None:
    cluster.access.denials.append(Denial(resource="jobs", verb="create"))
    environ = {**place, "KINETIC_DISPATCH": "auto"}
    told = [e.finding for e in examine(environ, seconds=60.0) if e.group == "namespace"]
    assert "wrong" not in {each.level for each in told}
    assert any("you may not create jobs.batch" in each.text for each in told)
    assert "a worker launches runs" in asked(namespace_findings, {**place, **WORKER}).text
    broken = {**place, **WORKER, "KUBECONFIG": "/nowhere"}
    assert asked(server_findings, broken).level == "unknown"


def test_a_cluster_that_does_not_answer_is_told_once(place, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("kinetic_flows.clients.kubernetes.client.RETRY_SECONDS", ())
    config = json.loads(Path(place["KUBECONFIG"]).read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:9"
    broken = tmp_path / "broken"
    broken.write_text(json.dumps(config))
    findings = found(place, KUBECONFIG=str(broken))
    assert findings["Kubernetes API"].level == "wrong"
    assert "127.0.0.1:9 cannot be reached" in findings["Kubernetes API"].text
    assert findings["namespace"].text == "not asked without an answer of the cluster's API server"


def test_a_work_pool_is_made_and_brought_up_to_date_but_no_edit_is_undone(place) -> None:
    pools, name = WorkPools(place["PREFECT_API_URL"]), place["KINETIC_WORK_POOL"]
    missing = asked(work_pool_findings, place)
    assert (missing.level, missing.command) == ("warning", "kinetic pool create")
    assert asked(work_pool_findings, {**place, **WORKER}).level == "wrong"
    assert missing.fix is not None
    assert missing.fix() == "created it"
    assert asked(work_pool_findings, place).level == "ok"

    old = without_mark(base_job_template())
    pod = old["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    del pod["containers"][0]["securityContext"]
    del old["variables"]["properties"]["security_context"]
    pools.update(name, marked(old))
    drifted = asked(work_pool_findings, place)
    assert drifted.level == "warning"
    assert drifted.fix is not None
    drifted.fix()
    assert plan_installation(pools, name).is_done

    edited = base_job_template()
    edited["job_configuration"]["job_manifest"]["spec"]["suspend"] = True
    pools.update(name, edited)
    finding = asked(work_pool_findings, place)
    assert (finding.level, finding.fix) == ("warning", None)
    assert "spec.suspend" in finding.text


def test_a_worker_is_missed_only_where_runs_wait_for_one(place, cluster) -> None:
    pools, name = WorkPools(place["PREFECT_API_URL"]), place["KINETIC_WORK_POOL"]
    install(pools, name, plan_installation(pools, name))
    assert asked(worker_findings, place).level == "ok"
    assert asked(worker_findings, {**place, **WORKER}).level == "wrong"
    cluster.access.denials.append(Denial(resource="jobs", verb="create"))
    assert asked(worker_findings, place).level == "wrong"
    pools._ask(lambda client: client.send_worker_heartbeat(name, "atlas", 30.0))
    online = asked(worker_findings, {**place, **WORKER})
    assert (online.level, online.text) == ("ok", "online: atlas")


def test_secrets_of_launches_that_were_interrupted_are_removed(cluster, place) -> None:
    client = KubernetesClient(Kubeconfig(path=place["KUBECONFIG"]))
    launched, hour = str(uuid4()), timedelta(hours=1)
    client.ask("POST", jobs_path("default"), body=a_job(launched))
    secrets = (
        ("old-keys", hour, str(uuid4())),
        ("new-keys", timedelta(), str(uuid4())),
        ("used-keys", hour, launched),
    )
    for name, age, run_id in secrets:
        secret = run_secret(name, "default", run_id, {"key": "x"})
        client.ask("POST", core_path("default", "secrets"), body=secret)
        created = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%SZ")
        cluster.change(
            "secrets", name, lambda item, at=created: item["metadata"].update(creationTimestamp=at)
        )
    finding = asked(secret_findings, place)
    assert finding.command == "kubectl delete secret --namespace default old-keys"
    assert finding.fix is not None
    assert finding.fix() == "deleted 1 Secret"
    left = client.ask("GET", core_path("default", "secrets"))["items"]
    names = {each["metadata"]["name"] for each in left}
    assert {"new-keys", "used-keys"} <= names
    assert "old-keys" not in names
    remove_job(client, launched)
    client.close()


def test_a_pod_asks_for_prefect_and_is_removed(cluster, place) -> None:
    everything = examine(place, seconds=60.0, probe=True)
    (probed,) = [e.finding for e in everything if e.finding.subject == "Prefect from a pod"]
    assert probed.level == "ok"
    assert probed.text.endswith("answers a pod in default (200)")
    assert not cluster.list("jobs")


def test_a_pod_that_cannot_reach_prefect_says_why_and_is_removed(cluster, place) -> None:
    probed = asked(probe_findings, {**place, "PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert probed.level == "wrong"
    assert "cannot reach http://127.0.0.1:9/api" in probed.text
    assert "refused" in probed.text
    assert not cluster.list("jobs")


def test_a_pod_that_ends_without_a_word_says_nothing_of_prefect(place, monkeypatch) -> None:
    monkeypatch.setattr("kinetic_flows.platforms.gke.checks.probe.PROGRAM", "")
    probed = asked(probe_findings, place)
    assert (probed.level, "without a word" in probed.text) == ("unknown", True)


def test_a_pod_that_was_to_be_removed_before_it_was_started_is_not_started(cluster, place) -> None:
    client = KubernetesClient(Kubeconfig(path=place["KUBECONFIG"]))
    probe = Probe(client, a_job(str(uuid4())))
    probe.remove()
    probe.start()
    assert not cluster.list("jobs")
    client.close()


def test_an_address_that_pods_have_for_prefect_is_the_one_that_counts(place) -> None:
    here = asked(reach_findings, place)
    assert here.level == "warning"
    assert "this machine's own" in here.text
    theirs = {**place, "KINETIC_PODS_API_URL": "http://prefect-server.prefect.svc/api"}
    there = asked(reach_findings, theirs)
    assert there.level == "ok"
    assert "http://prefect-server.prefect.svc/api" in there.text


def test_a_pod_is_removed_where_the_command_is_left_before_it_has_ended(cluster, place) -> None:
    def silent(_: Request) -> Response:
        left.wait(30)
        return Response(status=503)

    left = threading.Event()
    server = WireServer(silent).start()
    settings = resolve_settings(load_settings(place), SavedProfiles(lambda: None), environ=place)
    url = Fact("an API", lambda: f"{server.url}/api")
    surroundings = Surroundings(settings=settings, environ=place, api_url=url)
    probing = threading.Thread(
        target=lambda: list(probe_findings(cluster_facts(surroundings))), daemon=True
    )
    with surroundings.at_end:
        probing.start()
        cluster.wait_for("pods", lambda pod: (pod.get("status") or {}).get("phase") == "Running")
    assert not cluster.list("jobs")
    left.set()
    probing.join(30)
    server.stop()


def test_a_pod_that_may_not_be_started_is_unknown(cluster, place) -> None:
    cluster.access.denials.append(Denial(resource="jobs", verb="create"))
    everything = examine(place, seconds=60.0, probe=True)
    (probed,) = [e.finding for e in everything if e.finding.subject == "Prefect from a pod"]
    assert probed.level == "unknown"
    assert "may not create jobs.batch" in probed.text


def test_jobs_whose_run_has_ended_are_removed(cluster, place, api, monkeypatch) -> None:
    monkeypatch.setattr("kinetic_flows.platforms.gke.checks.orphans.ENDING_TIME", timedelta())
    ended, going = (api.create_run(A_RUN) for _ in range(2))
    api.set_state(ended, "CRASHED", message="its client died")
    client = KubernetesClient(Kubeconfig(path=place["KUBECONFIG"]))
    for run_id in (ended, going):
        client.ask("POST", jobs_path("default"), body=a_job(run_id))
        cluster.wait_for(
            "jobs",
            lambda job, name=f"job-{run_id}": (
                job["metadata"]["name"] == name and job.get("status", {}).get("active")
            ),
        )
    finding = asked(job_findings, place)
    assert finding.level == "warning"
    assert finding.command == f"kubectl delete job --namespace default job-{ended}"
    assert finding.fix is not None
    assert finding.fix() == "deleted 1 Job"
    assert [job["metadata"]["name"] for job in cluster.list("jobs")] == [f"job-{going}"]
    remove_job(client, going)
    client.close()
