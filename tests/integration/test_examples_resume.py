"""Training that is killed in the middle goes on from its checkpoint: the examples as they are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest
from projects import Project, make_project

import kinetic
from kinetic_flows.code.runner_bundle import STUBS, runner_bundle
from kinetic_flows.core.errors import RunCrashed
from loopback.storage import StorageServer
from torch_builds import torch_requirement

pytest_plugins = ["loopback.fixtures"]

EXAMPLES = Path(__file__).parents[2] / "examples"
STEPS, KILLED_BEHIND = 30, 3


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example, how many steps its checkpoint has seen, what of it dies and what comes then."""

    name: str
    steps: Callable[[Path], int]
    dies: Literal["function", "run"]
    goes_on_by: Literal["call", "retry"]
    requirements: Sequence[str] | None = None


def _of_orbax(directory: Path) -> int:
    # A directory with another name is not whole yet.
    return max((int(each.name) for each in directory.glob("*") if each.name.isdigit()), default=0)


class _Replacements:
    """Counts how often a file has been replaced, as far as it was looked at."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: set[tuple[int, int]] = set()

    def __call__(self, directory: Path) -> int:
        file = directory / self._name
        if file.exists():
            found = file.stat()
            self._seen.add((found.st_ino, found.st_mtime_ns))
        return len(self._seen)


@pytest.fixture(params=["orbax", "keras", "torch"])
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Example:
    if request.param == "orbax":
        return Example(name="resume_orbax", steps=_of_orbax, dies="run", goes_on_by="retry")
    if request.param == "keras":
        steps = _Replacements("model.keras")
        return Example(name="resume_keras", steps=steps, dies="function", goes_on_by="call")
    return Example(
        name="resume_torch",
        steps=_Replacements("checkpoint.pt"),
        dies="function",
        goes_on_by="retry",
        requirements=[torch_requirement(monkeypatch), "gcsfs"],
    )


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Project:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return make_project(tmp_path / "project", monkeypatch, {})


def expected_weights(steps: int) -> list[float]:
    """Return what as many steps come to, done at once: gradient descent with momentum."""
    features = [[(3 * row + column) / 12 for column in range(3)] for row in range(4)]
    wanted = [sum(a * b for a, b in zip(row, (1, -2, 3), strict=True)) for row in features]
    weights, velocity = [0.0] * 3, [0.0] * 3
    for _ in range(steps):
        wrong = [
            sum(a * b for a, b in zip(row, weights, strict=True)) - each
            for row, each in zip(features, wanted, strict=True)
        ]
        for at in range(3):
            slope = sum(error * row[at] for error, row in zip(wrong, features, strict=True)) / 2
            velocity[at] = 0.9 * velocity[at] - 0.1 * slope
        weights = [a + b for a, b in zip(weights, velocity, strict=True)]
    return weights


def kill_in_the_middle(run: kinetic.Run[Any], example: Example) -> None:
    """Kill a run when its checkpoint has seen some steps: its function's process, or all of it."""
    directory = Path(run.outputs) / "checkpoints"
    deadline = time.monotonic() + 120
    while example.steps(directory) < KILLED_BEHIND:
        assert time.monotonic() < deadline, run.logs()
        time.sleep(0.01)
    record = Path(os.environ["KINETIC_HOME"]) / "runs" / run.id / "process.json"
    runner = json.loads(record.read_text())["pid"]
    if example.dies == "run":
        os.killpg(runner, signal.SIGKILL)
    else:
        for child in psutil.Process(runner).children():
            child.kill()


def on_a_cluster(example: Example, project: Project, bucket_url: str, uri: str) -> list[Any]:
    """Return what two calls in one directory of a bucket return, in the run's environment.

    The function is called as a pod calls it, which has of `kinetic` what runs have.
    """
    archive = project.root / "runner.pyz"
    archive.write_bytes(runner_bundle().data)
    program = f"""if True:
        import json, sys
        sys.path[:0] = [{str(project.root)!r}, {f"{archive}/{STUBS}"!r}]
        from {example.name} import train
        print(json.dumps([train(5, 0), train(9, 0)]))
    """
    homes = (Path(os.environ["KINETIC_HOME"]) / "environments").iterdir()
    newest = max(homes, key=lambda each: each.stat().st_mtime)
    called = subprocess.run(
        [newest / "bin" / "python", "-I", "-c", program],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(project.root),
            "KERAS_BACKEND": "jax",
            "KINETIC_RUN_ID": "0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e",
            "KINETIC_OUTPUT_DIR": uri,
            "STORAGE_EMULATOR_HOST": bucket_url,
            "TENSORSTORE_GCS_HTTP_URL": bucket_url,
            # What else gcsfs asks of a bucket, the server does not speak.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "NO_GCE_CHECK": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert called.returncode == 0, called.stderr
    told: list[Any] = json.loads(called.stdout.splitlines()[-1])
    return told


def test_a_killed_training_goes_on_where_its_checkpoint_is(
    example: Example, project: Project, storage_server: StorageServer, bucket_name: str
) -> None:
    shutil.copy(EXAMPLES / f"{example.name}.py", project.root)
    train = project.module(example.name).train
    if example.requirements:
        train = train.with_options(requirements=example.requirements)
    killed = train.submit(STEPS, 0.02)
    kill_in_the_middle(killed, example)
    with pytest.raises(RunCrashed):
        killed.result()

    further = killed.retry() if example.goes_on_by == "retry" else train.submit(STEPS, 0.02)
    assert further.outputs == killed.outputs
    told = further.result()
    assert KILLED_BEHIND <= told["began_at"] < STEPS
    assert told["weights"] == pytest.approx(expected_weights(STEPS), abs=1e-4)

    bucket = storage_server.create_bucket(bucket_name)
    told = on_a_cluster(example, project, storage_server.url, f"gs://{bucket}/outputs")
    assert [each["began_at"] for each in told] == [0, 5]
    assert told[1]["weights"] == pytest.approx(expected_weights(9), abs=1e-4)
