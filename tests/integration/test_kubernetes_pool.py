"""`kinetic pool` on a real Prefect server and the loopback cluster."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.variables import Variable

from kinetic_flows.cli.main import main
from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient, jobs_path
from kinetic_flows.clients.prefect.job_rendering import render_job
from kinetic_flows.clients.prefect.work_pools import WorkPools
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import LaunchError, PrefectServerError
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.manifests import WORK_POOL_TYPE, base_job_template
from kinetic_flows.platforms.gke.templates import marked, without_mark
from loopback.kubernetes.access import Denial
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup, node_group


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig()))
        yield running


@pytest.fixture
def name() -> str:
    return f"kinetic-gke-{uuid.uuid4().hex[:6]}"


@pytest.fixture
def kinetic(capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capsys.readouterr()
        assert ended.value.code == 0, captured.err
        return captured.out

    return run


def test_creating_twice_makes_everything_once_and_says_so(prefect_api_url, cluster, name, kinetic):
    first = kinetic("pool", "create", "--name", name)
    assert f"work pool {name}: created" in first
    assert "service default/kinetic-hosts: created" in first
    second = kinetic("pool", "create", "--name", name)
    assert second == f"work pool {name}: unchanged\nservice default/kinetic-hosts: unchanged\n"
    (service,) = cluster.list("services")
    assert service["spec"]["clusterIP"] == "None"


def test_an_old_template_is_brought_up_to_date_and_the_difference_is_told(
    prefect_api_url, name, kinetic
):
    old = without_mark(base_job_template())
    del old["job_configuration"]["job_manifest"]["spec"]["podFailurePolicy"]
    old["variables"]["properties"]["shared_memory"]["default"] = "64Mi"
    pools = WorkPools(prefect_api_url)
    pools.create(name, WORK_POOL_TYPE, marked(old))
    shown = kinetic("pool", "show", "--name", name, "--no-cluster")
    told = kinetic("pool", "create", "--name", name, "--no-cluster")
    for words in (shown, told):
        assert "job_configuration.job_manifest.spec.podFailurePolicy: added" in words
        assert "variables.properties.shared_memory.default: '64Mi' is now '2Gi'" in words
    assert pools.read_template(name, WORK_POOL_TYPE) == base_job_template()
    assert "up to date" in kinetic("pool", "show", "--name", name, "--no-cluster")


def test_an_administrators_edit_is_never_undone_unasked(
    prefect_api_url, name, kinetic, capsys: pytest.CaptureFixture[str]
):
    edited = base_job_template()
    pod = edited["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["dnsPolicy"] = "ClusterFirst"
    edited["variables"]["properties"]["memory"]["description"] += " Ask the platform team first."
    pools = WorkPools(prefect_api_url)
    pools.create(name, WORK_POOL_TYPE, edited)
    with pytest.raises(SystemExit) as ended:
        main(["pool", "create", "--name", name, "--no-cluster"])
    assert ended.value.code != 0
    told = capsys.readouterr()
    assert "spec.template.spec.dnsPolicy: removed 'ClusterFirst'" in told.out
    assert "Ask the platform team" in told.out
    assert f"work pool {name} was left as it is" in told.err
    assert "give --yes" in told.err
    assert pools.read_template(name, WORK_POOL_TYPE) == edited
    assert "somebody's own changes" in kinetic("pool", "show", "--name", name, "--no-cluster")
    kinetic("pool", "create", "--name", name, "--no-cluster", "--yes")
    assert pools.read_template(name, WORK_POOL_TYPE) == base_job_template()


def test_defaults_that_the_template_leaves_open_stay_as_they_were_set(
    prefect_api_url, name, kinetic
):
    changed = base_job_template()
    changed["variables"]["properties"]["service_account_name"]["default"] = "trainer"
    pools = WorkPools(prefect_api_url)
    pools.create(name, WORK_POOL_TYPE, changed)
    assert kinetic("pool", "create", "--name", name, "--no-cluster") == (
        f"work pool {name}: unchanged\n"
    )


def test_what_is_missing_is_shown_as_missing(prefect_api_url, cluster, name, kinetic):
    shown = kinetic("pool", "show", "--name", name)
    assert f"work pool {name}: missing (`kinetic pool create` makes it)" in shown
    assert "service default/kinetic-hosts: missing" in shown


def test_a_work_pool_of_another_type_is_left_alone(prefect_api_url, name):
    pools = WorkPools(prefect_api_url)
    pools.create(name, "process", {})
    with pytest.raises(PrefectServerError, match="is of type 'process', not 'kubernetes'"):
        pools.read_template(name, WORK_POOL_TYPE)


def test_a_template_that_names_a_prefect_variable_is_filled_with_its_value(prefect_api_url):
    template = base_job_template()
    label = f"team_{uuid.uuid4().hex[:6]}"
    placeholder = f"{{{{ prefect.variables.{label} }}}}"
    template["job_configuration"]["job_manifest"]["metadata"]["annotations"] = {"team": placeholder}
    run_id = str(uuid.uuid4())
    request = PodRequest(
        run_id=run_id, name="train", image="r/i", accelerator=parse_accelerator("cpu")
    )
    with temporary_settings({PREFECT_API_URL: prefect_api_url}):
        Variable.set(label, "vision")
        manifest = render_job(template, job_variables(request), run_id=run_id, name="train")
    assert manifest["metadata"]["annotations"]["team"] == "vision"


def test_accelerators_that_the_cluster_has_are_shown_with_their_node_pools(cluster, kinetic):
    v6e = parse_accelerator("tpu-v6e-8")
    cluster.add_nodes(
        NodeGroup(name="v6e", labels=v6e.node_selector, capacity={"google.com/tpu": 8}, nodes=1)
    )
    rows = {row["name"]: row for row in json.loads(kinetic("accelerators", "--live", "--json"))}
    assert rows["tpu-v6e-8"]["node_pools"] == ["v6e"]
    assert rows["h100x8"]["node_pools"] == []
    line = kinetic("accelerators", "v6e", "--live").splitlines()[1]
    assert line.split() == ["v6e", "tpu-v6e-8", "1", "8", "of", "8", "chips"]
    assert "no node pool" in kinetic("accelerators", "h100", "--live")


def test_who_may_not_list_nodes_is_told_so(cluster, capsys):
    cluster.access.denials.append(Denial(resource="nodes"))
    with pytest.raises(SystemExit) as ended:
        main(["accelerators", "--live"])
    assert ended.value.code == LaunchError.exit_code
    assert "these credentials may not list the cluster's nodes" in capsys.readouterr().err


def launched(cluster: LoopbackCluster, accelerator: str, count: int) -> list[str]:
    """Start runs that do nothing, and return their ids."""
    runs = [str(uuid.uuid4()) for _ in range(count)]
    client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
    try:
        for run_id in runs:
            asked = PodRequest(
                run_id=run_id,
                name="train",
                image="r/i",
                accelerator=parse_accelerator(accelerator),
                entrypoint=("sleep",),
                arguments=("600",),
            )
            variables = job_variables(asked)
            job = render_job(base_job_template(), variables, run_id=run_id, name="train")
            client.ask("POST", jobs_path("default"), body=job)
    finally:
        client.close()
    return runs


def test_who_waits_and_why_no_node_is_added_is_shown_with_the_node_pools(cluster, kinetic):
    cluster.add_nodes(node_group("tpu-v6e-8", "v6e", nodes=1, max_nodes=2))
    cluster.capacity.stock_out("v6e")
    runs = launched(cluster, "tpu-v6e-8", 2)
    cluster.wait_for("events", lambda each: each["reason"] == "FailedScaleUp")
    shown = kinetic("accelerators", "--live").splitlines()
    row = next(line for line in shown if line.startswith("v6e"))
    assert "0 of 8 chips  8 chips  1 run" in row
    ((waits,),) = [
        each["waiting"]
        for row in json.loads(kinetic("accelerators", "tpu-v6e-8", "--live", "--json"))
        for each in row["rooms"]
    ]
    assert waits in runs
    assert f"1 run waits for v6e: train ({waits[:8]})" in shown
    assert "v6e: the autoscaler cannot add a node: the zone has none to give" in shown[-1]


def test_runs_without_accelerator_spread_over_nodes(cluster):
    small = node_group("cpu", "small", machine_type="e2-standard-2", nodes=1, max_nodes=3)
    cluster.add_nodes(small)
    launched(cluster, "cpu", 8)
    taken: set[str] = set()
    while len(taken) < 8:
        pod = cluster.wait_for(
            "pods",
            lambda each: each["spec"].get("nodeName") and each["metadata"]["name"] not in taken,
        )
        taken.add(pod["metadata"]["name"])
    nodes = Counter(each["spec"]["nodeName"] for each in cluster.list("pods"))
    assert sorted(nodes.values()) == [3, 5]
