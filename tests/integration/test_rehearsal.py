"""Rehearsals of functions, from the call to the table on the page in Prefect."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect_http import PREFECT
from projects import make_project

import kinetic
from kinetic_flows.cli import main
from kinetic_flows.clients.prefect import labels
from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery, RunRecord
from kinetic_flows.clients.prefect.flow_names import (
    ENVIRONMENT_ARTIFACT,
    REHEARSAL_ARTIFACT,
    REHEARSE_FLOW,
)
from kinetic_flows.plans.rehearsal_records import RehearsalRecords
from kinetic_flows.platforms.local.platform import LocalPlatform
from loopback.quick_cloud import QuickCloud
from loopback.small_wheels import make_wheel

FUNCTIONS = """
    import kinetic
    from sizes import WIDTH

    @kinetic.run(accelerator=["l4", "tpu-v5e-1", "tpu-v6e-1"], retries=2, output_dir="{width}")
    def train(width):
        raise AssertionError("nobody calls it")

    @train.rehearsal
    def _(devices):
        import jax
        import jax.numpy as jnp

        home = jax.sharding.SingleDeviceSharding(devices[0])
        matrix = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.bfloat16, sharding=home)
        return jax.jit(lambda x: jnp.tanh(x @ x)), (matrix,)
"""


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shared_kinetic_home: Path,
    prefect_api_url: str,
) -> Callable[..., Any]:
    """Makes a project whose function compiles a product of matrices."""
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))

    def made(width: int) -> Any:
        for name in ("rehearsed_functions", "sizes"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        files = {"rehearsed_functions.py": FUNCTIONS, "sizes.py": f"WIDTH = {width}\n"}
        project = make_project(tmp_path / "project", monkeypatch, files)
        return project.module("rehearsed_functions").train

    return made


def last_rehearsal(api: PrefectApi) -> tuple[RunRecord, list[RunRecord]]:
    """Return the flow run of the newest rehearsal, and its children."""
    (flow_run,) = api.find_runs(RunQuery(flow=REHEARSE_FLOW), limit=1)
    return flow_run, list(api.find_runs(RunQuery(parent=flow_run.id)))


def artifact(run: RunRecord, key: str, api_url: str) -> str:
    """Return what an artifact of a flow run shows."""
    wanted = {"artifacts": {"flow_run_id": {"any_": [run.id]}, "key": {"any_": [key]}}}
    (shown,) = PREFECT.post(f"{api_url}/artifacts/filter", json=wanted).json()
    return str(shown["data"])


def test_a_function_is_rehearsed_here_with_the_packages_of_those_accelerators_that_have_any(
    project: Callable[..., Any],
    api: PrefectApi,
    prefect_api_url: str,
    shared_kinetic_home: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # 1 << 32 elements of two bytes are 8 GiB, twice: a v6e has room for both, a v5e for one.
    train = project(65536)
    # Images for GPUs have another version, so that nothing can be locked for them.
    make_wheel(Path.cwd(), "jax_cuda12_pjrt", "0.1")
    Path("requirements.txt").write_text("./jax_cuda12_pjrt-0.1-py3-none-any.whl\n")
    rehearsal = train.rehearse()

    assert isinstance(rehearsal, kinetic.Rehearsal)
    assert [each.fits for each in rehearsal.reports] == [None, False, True]
    assert "you require jax-cuda12-pjrt==" in rehearsal.reports[0].message
    assert "or tpu-v6e-1 · tpu-v6e-1 fits · " in capfd.readouterr().err
    assert (rehearsal.fits, rehearsal.smallest) == (True, "tpu-v6e-1")
    assert "tpu-v5litepod-1" in str(rehearsal)
    assert "libtpu" in rehearsal.reports[1].versions
    flow_run, (run,) = last_rehearsal(api)
    assert flow_run.state_type == run.state_type == "COMPLETED"
    assert run.labels[labels.ACCELERATOR_LABEL] == "cpu"
    assert "tpu-v6e-1" in artifact(flow_run, REHEARSAL_ARTIFACT, prefect_api_url)
    platform = LocalPlatform(shared_kinetic_home, {})
    records = RehearsalRecords(
        home=shared_kinetic_home, store=platform.store, trust=platform.store_trust
    )
    assert records.last("project/rehearsed_functions:train") == rehearsal.record


def test_where_packages_cannot_be_installed_a_cpu_of_the_cluster_compiles(
    project: Callable[..., Any],
    api: PrefectApi,
    prefect_api_url: str,
    quick_cloud: QuickCloud,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)
    project(8)
    monkeypatch.setattr("platform.machine", lambda: "arm64")

    # Pods have the Python of these tests here, in which there is no libtpu.
    words = ("rehearsed_functions:train", "--accelerator", "tpu-v6e-8", "--json")
    with pytest.raises(SystemExit) as ended:
        main(["rehearse", *words])

    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert "✗ rehearsal of train on tpu-v6e-8 · it is not known to fit" in shown.err
    assert (ended.value.code, told["smallest_that_fits"]) == (1, None)
    assert [each["problem"] for each in told["reports"]] == ["no-compiler"]
    flow_run, (run,) = last_rehearsal(api)
    assert flow_run.state_type == "FAILED"
    assert run.labels[labels.ACCELERATOR_LABEL] == "cpu"
    assert run.labels[labels.PLATFORM_LABEL] == "gke"
    assert "libtpu" in artifact(run, ENVIRONMENT_ARTIFACT, prefect_api_url)
