"""`kinetic nodepools` on a cluster of the loopback Google, as people and as machines call it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kinetic_flows.cli.main import main
from kinetic_flows.clients.kubernetes import client as kubernetes
from kinetic_flows.clients.kubernetes.access import GkeCluster
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.platforms.gke.setup.apply import apply_all
from kinetic_flows.platforms.gke.setup.clusters import cluster
from kinetic_flows.platforms.gke.setup.model import Stage, Wanted
from kinetic_flows.platforms.gke.setup.request import SetupRequest
from loopback.google.answers import stock_out
from loopback.google.server import LoopbackGoogle
from setup_accounts import add_nodes_account

pytest_plugins = ["loopback.fixtures"]

ZONE = "us-central1-a"
PATH = f"projects/loopback/locations/{ZONE}/clusters/lab"
RUN = "0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e"

Kinetic = Callable[..., tuple[int, str, str]]


@pytest.fixture
def google(loopback_google: LoopbackGoogle) -> LoopbackGoogle:
    """Google's APIs with a cluster that was made by us."""
    loopback_google.switch_on("container", "compute")
    add_nodes_account(loopback_google, "lab")
    with closing(loopback_google.apis()) as apis:
        wanted = Wanted(
            request=SetupRequest(project="loopback", location=ZONE, cluster="lab"), apis=apis
        )
        apply_all((Stage(title="cluster", resources=cluster.resources(wanted)),), lambda _: None)
    return loopback_google


@pytest.fixture
def kinetic(
    google: LoopbackGoogle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Kinetic:
    """Call the command for that cluster; return its exit code, output and messages."""
    for name, value in google.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KINETIC_ZONE", ZONE)
    monkeypatch.setenv("KINETIC_CLUSTER", "lab")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["nodepools", *arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def pools(google: LoopbackGoogle) -> list[str]:
    return [each.name for each in google.clusters.clusters[PATH].node_pools]


def put_run(google: LoopbackGoogle) -> None:
    """Have a run wait for a node with an L4 that will not come."""
    with closing(google.apis()) as apis:
        access = GkeCluster(
            project="loopback",
            location=ZONE,
            name="lab",
            endpoint=google.url,
            credentials=apis.credentials,
        )
        client = KubernetesClient(access)
        selector = {"cloud.google.com/gke-accelerator": "nvidia-l4", "never": "there"}
        pod = {
            "metadata": {"name": "train-0", "labels": {"prefect.io/flow-run-id": RUN}},
            "spec": {
                "nodeSelector": selector,
                "containers": [{"name": "main", "image": "none", "command": ["true"]}],
            },
        }
        with closing(client):
            client.ask("POST", "/api/v1/namespaces/default/pods", body=pod)


def test_a_pool_is_added_listed_and_removed(kinetic: Kinetic, google: LoopbackGoogle) -> None:
    code, _, err = kinetic("add", "l4", "v5e-4:spot", "--max-nodes", "2")
    assert (code, pools(google)) == (0, ["kinetic-cpu", "l4", "tpu-v5litepod-4-spot"])
    assert "1 GPU on 1 host of g2-standard-12, 0 to 2 nodes" in err
    assert "node pool l4: $2.00 (2 x g2-standard-12)" in err
    assert "on Spot VMs, for less than the $9.60" in err

    code, out, _ = kinetic("ls")
    assert [line.split()[:5] for line in out.splitlines()[1:]] == [
        ["kinetic-cpu", "cpu", "e2-standard-4", "1", "1"],
        ["l4", "l4", "g2-standard-12", "0", "0"],
        ["tpu-v5litepod-4-spot", "tpu-v5litepod-4:spot", "ct5lp-hightpu-4t", "0", "0"],
    ]
    code, _, err = kinetic("remove", "l4", "v5e-4:spot")
    assert (code, pools(google)) == (0, ["kinetic-cpu"])


def test_a_dry_run_prints_and_does_nothing(kinetic: Kinetic, google: LoopbackGoogle) -> None:
    code, out, _ = kinetic("add", "a100-80gb", "--dry-run")
    assert (code, pools(google)) == (0, ["kinetic-cpu"])
    assert "+ node pool a100-80gb" in out
    assert "quota NVIDIA_A100_80GB_GPUS in us-central1 is 0: too few for a node" in out
    assert "not known" in out


def test_what_machines_read_is_one_document(kinetic: Kinetic, google: LoopbackGoogle) -> None:
    code, out, _ = kinetic("add", "l4", "--json")
    told = json.loads(out)
    assert (code, told["cluster"], told["done"]) == (0, "lab", 1)
    assert told["changes"][0]["cost"]["hourly_usd"] == pytest.approx(4.0, abs=0.01)
    _, out, _ = kinetic("add", "l4", "--json")
    assert json.loads(out)["changes"][0]["action"] == "keep"
    _, out, _ = kinetic("ls", "--json")
    assert [(each["name"], each["nodes"], each["runs"]) for each in json.loads(out)] == [
        ("kinetic-cpu", 1, []),
        ("l4", 0, []),
    ]
    _, out, _ = kinetic("remove", "l4", "--json")
    assert json.loads(out) == {"cluster": "lab", "removed": ["l4"]}


def test_a_pool_that_a_run_waits_for_is_not_removed_without_a_yes(
    kinetic: Kinetic, google: LoopbackGoogle
) -> None:
    kinetic("add", "l4")
    put_run(google)
    code, out, _ = kinetic("ls")
    assert "train-0 (0b8d6c1e, waiting)" in out
    code, _, err = kinetic("remove", "l4")
    assert code == 2
    assert "node pool l4 may be used by train-0 (0b8d6c1e, waiting)" in err
    assert "--yes" in err
    assert "l4" in pools(google)
    assert kinetic("remove", "l4", "--yes")[0] == 0
    assert "l4" not in pools(google)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["add"], 2, "no accelerator is given"),
        (["add", "l44"], 2, "did you mean 'l4'"),
        (["add", "l4", "--max-nodes", "0"], 2, "give --max-nodes from 1"),
        (["add", "l4", "--cluster", "other"], 3, "has no cluster 'other'"),
        (["remove"], 2, "no node pool is given"),
        (["remove", "l4"], 3, "has no node pool 'l4'"),
        (["remove", "kinetic-cpu"], 2, "it goes with the cluster: kinetic down"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_changed(
    kinetic: Kinetic, google: LoopbackGoogle, arguments: list[str], code: int, said: str
) -> None:
    before = len(google.calls.names())
    ended, _, err = kinetic(*arguments)
    assert (ended, said in err) == (code, True), err
    assert pools(google) == ["kinetic-cpu"]
    changing = ("CreateNodePool", "DeleteNodePool", "SetNodePoolAutoscaling")
    assert not [name for name in google.calls.names()[before:] if name.endswith(changing)]


def test_a_pool_of_somebody_else_is_not_removed(kinetic: Kinetic, google: LoopbackGoogle) -> None:
    kinetic("add", "l4")
    google.clusters.clusters[PATH].node_pools[1].config.resource_labels.clear()
    code, _, err = kinetic("remove", "l4")
    assert (code, "was made elsewhere" in err) == (3, True)
    assert "gcloud container node-pools delete l4 --cluster=lab" in err


def test_a_stock_out_says_what_to_try_and_the_rerun_goes_on(
    kinetic: Kinetic, google: LoopbackGoogle
) -> None:
    with google.fault("CreateNodePool", stock_out(ZONE), operation="fails"):
        code, _, err = kinetic("add", "l4")
    assert (code, "another zone" in err) == (13, True), err
    _, out, _ = kinetic("ls")
    assert "error" in out.splitlines()[2]
    assert kinetic("add", "l4")[0] == 0
    assert "error" not in kinetic("ls")[1]


def test_without_a_right_to_see_pods_a_pool_is_not_removed_unasked(
    kinetic: Kinetic, google: LoopbackGoogle, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinetic("add", "l4")
    google.serving.stop(PATH)
    monkeypatch.setattr(kubernetes, "RETRY_SECONDS", ())
    code, _, err = kinetic("remove", "l4")
    assert code == 2
    assert "the cluster cannot be asked for its nodes" in err
    assert "runs that these credentials are not shown" in err
