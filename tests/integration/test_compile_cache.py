"""Programs that one person's run compiles are found by another's, unless somebody changed them.

They are the CPU's. Pods of the cloud are processes of this machine; they find jax in a directory.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from projects import make_project

import kinetic
from kinetic_flows.cli.main import main
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.deployments import PrefectDeployments
from kinetic_flows.clients.prefect.records import environment_of
from kinetic_flows.clients.prefect.secret_blocks import SecretBlocks
from kinetic_flows.core.job import COMPILE_CACHE_BLOCK_VARIABLE
from kinetic_flows.dependencies.uv import find_uv
from loopback.__main__ import JOBS_BUCKET
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import collections
    import os
    import sys

    import kinetic

    def compiled(scale):
        sys.path.insert(0, os.environ["WITH_JAX"])
        import jax
        import jax.numpy as jnp

        counts = collections.Counter()
        jax.monitoring.register_event_listener(
            lambda event, **_: counts.update([event.rpartition("/")[2]])
        )
        step = jax.jit(lambda x: jnp.tanh(x @ x).sum() * scale)
        value = float(step(jnp.ones((8, 8))))
        return value, counts["compile_requests_use_cache"], counts["cache_hits"]

    @kinetic.run(accelerator="cpu", compile_cache=True, capture_env_vars=["WITH_JAX"])
    def step(scale):
        return compiled(scale)

    @kinetic.run(hosts=2, compile_cache=True, capture_env_vars=["WITH_JAX"])
    def on_hosts():
        _, asked_for, found = compiled(int(os.environ["KINETIC_HOST"]) + 1)
        print(f"asked for {asked_for}, found {found}")
"""


@pytest.fixture(scope="module")
def with_jax(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which this Python finds jax."""
    directory = tmp_path_factory.mktemp("with-jax")
    command = [find_uv(), "pip", "install", "-q", "--python", sys.executable, "--target"]
    subprocess.run([*command, str(directory), "jax"], check=True)
    return directory


@pytest.fixture
def functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api_url: str, with_jax: Path
) -> Iterator[ModuleType]:
    monkeypatch.setenv("WITH_JAX", str(with_jax))
    project = make_project(tmp_path / "project", monkeypatch, {"compiling.py": FUNCTIONS})
    yield project.module("compiling")
    sys.modules.pop("compiling", None)


def test_what_one_person_has_compiled_the_next_finds_unless_it_was_tampered_with(
    functions: ModuleType,
    quick_cloud: QuickCloud,
    api: PrefectApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "ann"))
    value, programs, hits = functions.step(3)
    assert programs > hits == 0

    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "bob"))
    bobs = functions.step.submit(3)
    assert bobs.result() == (value, programs, programs), "nothing was compiled"
    assert any(f"{programs} programs, {programs} from the cache" in line for line in bobs.logs())

    with closing(GoogleStore(JOBS_BUCKET, endpoint=os.environ["STORAGE_EMULATOR_HOST"])) as store:
        stored = list(store.list("compile-cache/"))
        assert len(stored) == programs
        there = store.get(stored[0].name)
        changed = there.data[:-1] + bytes([there.data[-1] ^ 1])
        assert store.replace_if_unchanged(stored[0].name, changed, there.generation)
    again = bobs.retry()
    assert again.result() == (value, programs, programs - 1)
    assert len([line for line in again.logs() if "ignored" in line]) == 1

    # Runs that a worker starts read the key from a block.
    functions.step.deploy("compiled", parameters={"scale": 3})
    deployed = PrefectDeployments(api).find("step", "compiled")
    assert deployed is not None
    block = environment_of(deployed.job_variables)[COMPILE_CACHE_BLOCK_VARIABLE]
    assert SecretBlocks(api).exists(block)


def test_hosts_keep_what_they_have_compiled_apart(
    functions: ModuleType,
    shared_kinetic_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    first, second = functions.on_hosts.submit().wait(), functions.on_hosts.submit().wait()
    # What they compile is not the same.
    assert told(first) == {(host, 3, 0) for host in (0, 1)}
    assert told(second) == {(host, 3, 3) for host in (0, 1)}
    with pytest.raises(SystemExit):
        main(["cache", "ls", "--json"])
    (kept,) = json.loads(capsys.readouterr().out)["environments"]
    assert (kept["accelerator"], kept["hosts"]) == ("cpu-2-hosts", 2)


def told(run: kinetic.Run) -> set[tuple[int, ...]]:
    """Return how many programs each host asked for, and how many it found."""
    lines = re.findall(r"^\[host (\d)\] asked for (\d+), found (\d+)$", "\n".join(run.logs()), re.M)
    return {tuple(map(int, line)) for line in lines}
