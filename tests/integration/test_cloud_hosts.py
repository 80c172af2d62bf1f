"""Calls on several slices of the loopback cloud, from the decorator to the value."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from projects import make_project
from stuck_hosts import HANGS, hanging

import kinetic
from kinetic_flows.cli.main import main
from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.artifacts import RunArtifacts
from kinetic_flows.clients.prefect.flow_names import RUN_ARTIFACT
from kinetic_flows.core.errors import LaunchError, RunCrashed, RunTimedOut
from kinetic_flows.platforms.gke.work_pool import ensure_headless_service
from kinetic_flows.runs.settle import ticket_of
from loopback.kubernetes.node_groups import node_group
from loopback.quick_cloud import QuickCloud, a_quick_cloud

FUNCTIONS = """
    import os

    import kinetic
    from hanging import one_hangs, one_waits

    @kinetic.run(accelerator="tpu-v5p-2x2x2", slices=2, framework="none")
    def pretrain():
        host = os.environ["KINETIC_HOST"]
        print("host", host, "of slice", os.environ["MEGASCALE_SLICE_ID"])
        return os.environ["KINETIC_HOSTS"]
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuickCloud]:
    """One with what hosts find one another by, and two node pools, each a slice."""
    with a_quick_cloud(tmp_path_factory.mktemp("cloud"), forks_pods=True) as running:
        client = KubernetesClient(Kubeconfig(path=str(running.cluster.kubeconfig())))
        with closing(client):
            ensure_headless_service(client, "default")
        for name in ("slice-a", "slice-b"):
            running.cluster.add_nodes(node_group("tpu-v5p-2x2x2", name, nodes=2, max_nodes=2))
        yield running


@pytest.fixture
def functions(
    cloud: QuickCloud,
    prefect_api_url: str,
    shared_kinetic_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ModuleType]:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    files = {"node_functions.py": FUNCTIONS, "hanging.py": HANGS, "requirements.txt": ""}
    yield make_project(tmp_path / "project", monkeypatch, files).module("node_functions")
    for name in ("node_functions", "hanging"):
        sys.modules.pop(name, None)


def test_slices_of_a_call_are_a_job_each(functions: ModuleType, api: PrefectApi) -> None:
    assert functions.pretrain() == "4"
    run = kinetic.list_runs(limit=1)[0]
    lines = {f"[host {host}] host {host} of slice {host // 2}" for host in range(4)}
    assert lines <= set(run.logs())
    again = run.retry()
    assert again.result() == "4"
    assert [ticket_of(api.read_run(each.id)).slices for each in (run, again)] == [2, 2]


def test_of_pods_that_took_too_long_the_one_is_named_that_was_stuck(
    functions: ModuleType, api: PrefectApi, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"accelerator": "tpu-v5p-2x2x2", "slices": 2, "framework": "none"}
    run = kinetic.run(**options, timeout_seconds=4)(functions.one_waits).submit()
    named = r"Host 1 \(one-waits-\S+ on node \S+\) was stuck waiting for a word of another thread "
    with pytest.raises(RunTimedOut, match=named + r"in read_batch \(hanging\.py:14\)"):
        run.result()
    printed = command(capsys, "runs", "why", run.id)
    assert re.match(named, printed)
    assert ", while hosts 0, 2, 3 waited for it in all_reduce (hanging.py:21), there in" in printed
    assert "\nhosts\n  host" in printed
    told = json.loads(command(capsys, "runs", "why", run.id, "--json"))
    assert (told["cause"], told["host"], told["is_certain"]) == ("host_stuck", 1, False)
    assert told["unknown"] == []
    threads = told["hosts"][1]["black_box"]["stacks"]["threads"]
    assert [each["function"] for each in threads[0]["frames"]][:2] == ["one_waits", "read_batch"]
    page = RunArtifacts(api).read_markdown(run.id, RUN_ARTIFACT)
    assert page is not None
    assert "## Why it ended\n\nHost 1 " in page.text


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command prints."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_a_pod_that_hangs_in_native_code_is_named_and_one_whose_node_is_gone_with_it(
    functions: ModuleType, cloud: QuickCloud
) -> None:
    options = {"accelerator": "tpu-v5p-2x2x2", "slices": 2, "framework": "none"}
    with hanging(kinetic.run(**options)(functions.one_hangs)) as run:
        seen = run.stacks()
        assert [group.numbers for group in seen.groups] == [(0, 2, 3), (1,)]
        assert "ctypes.PyDLL(None).pause()" in str(seen)
        pods = [each.place for each in seen.hosts]
        assert len(set(pods)) == 4
        assert all(pod.startswith("one-hangs-") for pod in pods), pods
        node = cloud.cluster.store.get("pods", "default", pods[3])["spec"]["nodeName"]
        cloud.cluster.trouble.lose(pods[3])
        with pytest.raises(
            RunCrashed, match=r"Host 3 \(\S+ on node \S+\) was stopped: its node is gone"
        ):
            run.result()
    why = run.why()
    assert (why.cause, why.host) == ("node_lost", 3)
    assert why.sentence == f"Host 3 ({pods[3]} on node {node}) was stopped: its node is gone."
    assert "because it does not exist in the cloud provider" in "\n".join(why.evidence)
    assert "nothing was left" in str(why)


def test_a_worker_is_not_asked_for_slices(
    functions: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_DISPATCH", "worker")
    with pytest.raises(LaunchError, match="starts one Job for each run, and slices=2 is a Job"):
        functions.pretrain()
