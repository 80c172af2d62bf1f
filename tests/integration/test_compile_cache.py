"""Programs that one person's run compiles are found by another's, unless somebody changed them.

They are the CPU's. Pods of the cloud are processes of this machine; they find jax in a directory.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from projects import make_project

import kinetic
from kinetic_flows.cli.main import main
from kinetic_flows.dependencies.uv import find_uv
from loopback.quick_cloud import QuickCloud

LOCKS = Path(__file__).parents[2] / "runner_image" / "base-locks"

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

    @kinetic.run(accelerator="cpu", compile_cache=True)
    def compiles_much():
        # It takes long to look through all of it.
        import zlib
        from pathlib import Path

        squeezed = zlib.compressobj()
        first = squeezed.compress(bytes(1 << 24)) + squeezed.flush(zlib.Z_FULL_FLUSH)
        next_one = squeezed.compress(bytes(1 << 24)) + squeezed.flush(zlib.Z_FULL_FLUSH)
        path = Path(os.environ["JAX_COMPILATION_CACHE_DIR"], "jit_much-cache")
        path.write_bytes(first + next_one * 5_000)
        return os.getppid()
"""


@pytest.fixture(scope="module")
def with_jax(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which this Python finds jax, of the version that other tests have, too."""
    directory = tmp_path_factory.mktemp("with-jax")
    lock = LOCKS / f"tpu-py{sys.version_info.major}.{sys.version_info.minor}.txt"
    command = [find_uv(), "pip", "install", "-q", "--python", sys.executable, "-c", lock]
    subprocess.run([*command, "--target", directory, "jax"], check=True)
    return directory


@pytest.fixture
def functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api_url: str, with_jax: Path
) -> Iterator[ModuleType]:
    monkeypatch.setenv("WITH_JAX", str(with_jax))
    project = make_project(tmp_path / "project", monkeypatch, {"compiling.py": FUNCTIONS})
    yield project.module("compiling")
    sys.modules.pop("compiling", None)


def test_what_one_person_has_compiled_the_next_finds(
    functions: ModuleType,
    quick_cloud: QuickCloud,
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


def test_hosts_keep_what_they_have_compiled_apart_and_load_nothing_that_was_tampered_with(
    functions: ModuleType,
    shared_kinetic_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    # What they compile is not the same.
    assert told(functions.on_hosts.submit().wait()) == {(host, 3, 0) for host in (0, 1)}
    kept = list((shared_kinetic_home / "store").glob("compile-cache/*/cpu-2-hosts/1/*-cache"))
    tampered = kept[0].read_bytes()
    kept[0].write_bytes(tampered[:-1] + bytes([tampered[-1] ^ 1]))
    second = functions.on_hosts.submit().wait()
    assert told(second) == {(0, 3, 3), (1, 3, 2)}
    assert len([line for line in second.logs() if "ignored" in line]) == 1
    with pytest.raises(SystemExit):
        main(["cache", "ls", "--json"])
    (listed,) = json.loads(capsys.readouterr().out)["environments"]
    assert (listed["accelerator"], listed["hosts"]) == ("cpu-2-hosts", 2)


def test_nobody_waits_for_what_a_run_stores_of_its_programs_when_it_is_over(
    functions: ModuleType, shared_kinetic_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    run = functions.compiles_much.submit()
    runner = psutil.Process(run.result())
    try:
        assert runner.status() != psutil.STATUS_ZOMBIE, "it stores yet"
        assert run.state == "Completed"
    finally:
        runner.kill()


def told(run: kinetic.Run) -> set[tuple[int, ...]]:
    """Return how many programs each host asked for, and how many it found."""
    lines = re.findall(r"^\[host (\d)\] asked for (\d+), found (\d+)$", "\n".join(run.logs()), re.M)
    return {tuple(map(int, line)) for line in lines}
