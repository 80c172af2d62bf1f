"""GPUs that do nothing: read from a library that stands in for NVIDIA's."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from kinetic_flows.runner_image.runner.chip_use import BUSY, IDLE, UNKNOWN, GpuUse, Use
from kinetic_flows.runner_image.runner.readings import ChipReading

from kinetic_flows.core.job import EXIT_RAISED
from kinetic_flows.core.run_metrics import read_metrics
from loopback.tools import find_tool
from runner_jobs import Job

NVML = Path(__file__).parents[1] / "loopback" / "nvml.c"
WAITS = "import time\ndef main():\n    print('waiting', flush=True)\n    time.sleep(600)\n"


class Gpu:
    """A GPU that is as busy as a file says, of which a library for NVIDIA's own tells."""

    def __init__(self, directory: Path, library: Path) -> None:
        self.file = directory / "use"
        self.environ = {
            "KINETIC_DEVICES": "gpu:1",
            "KINETIC_DEVICE_CHECK": "0",
            "LD_LIBRARY_PATH": str(library.parent),
            "STAND_IN_NVML": str(self.file),
        }

    def uses(self, *per_cent: int) -> None:
        self.file.write_text(" ".join(map(str, per_cent)))

    def fails(self, code: int) -> None:
        self.file.write_text(f"error {code}")

    def hangs(self) -> None:
        self.file.write_text("hang")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that answers as NVIDIA's does."""
    made = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    subprocess.run([find_tool("tcc"), "-shared", "-o", str(made), str(NVML)], check=True)
    return made


@pytest.fixture
def gpu(tmp_path: Path, library: Path) -> Gpu:
    return Gpu(tmp_path, library)


@pytest.mark.parametrize("metrics", ["5", "0"])
def test_a_run_whose_gpu_does_nothing_times_out_with_those_words(
    tmp_path: Path, gpu: Gpu, metrics: str
) -> None:
    gpu.uses(0)
    job = Job(tmp_path / "store", WAITS, changes={"idle_timeout_seconds": 0.4})
    ended = job.run(**gpu.environ, KINETIC_METRICS=metrics)
    message = "its chips did nothing for 0.4 s: no GPU was used since the function was called"
    assert ended.exit_code == EXIT_RAISED
    assert message in ended.output
    header = job.envelope().header
    assert (header.status, header.message) == ("timed_out", message)
    assert header.log_tail[0] == "waiting"


def test_what_a_gpu_did_is_kept_with_the_run(tmp_path: Path, gpu: Gpu) -> None:
    gpu.uses(40, 60)
    go = tmp_path / "go"
    source = (
        "import os, time\n"
        "def main():\n"
        "    while not os.path.exists(os.environ['GO']):\n"
        "        time.sleep(0.02)\n"
    )
    job = Job(tmp_path / "store", source)
    environ = {**gpu.environ, "KINETIC_DEVICES": "gpu:2", "TMPDIR": str(tmp_path)}
    runner = job.start(**environ, KINETIC_METRICS="0.1", GO=str(go))
    while not list(tmp_path.glob("kinetic-*/metrics.json")):
        assert runner.poll() is None
        time.sleep(0.02)
    go.touch()
    assert runner.wait() == 0
    (left,) = (job.root / "runs").glob("*/metrics/host-0.json")
    host = read_metrics(json.loads(left.read_text()))
    assert (host.chip_kind, host.chip_name) == ("gpu", "NVIDIA Stand-in")
    assert (host.chips_used_percent, host.chip_memory_bytes) == (pytest.approx(50.0), 3 << 30)
    assert host.words[0] == "the 2 GPUs were used 50 % of the time, from 40 % to 60 %"


def test_a_gpu_that_cannot_be_read_ends_nothing_and_is_told_once(tmp_path: Path, gpu: Gpu) -> None:
    gpu.fails(3)
    # It runs for several looks at the chips.
    source = (
        "import os, time\n"
        "def main():\n"
        "    while not os.path.exists(os.environ['GO']):\n"
        "        time.sleep(0.05)\n"
    )
    go = tmp_path / "go"
    job = Job(tmp_path / "store", source, changes={"idle_timeout_seconds": 0.1})
    runner = job.start(**gpu.environ, GO=str(go))
    assert runner.stdout is not None
    words = (
        "whether its chips do anything cannot be told (NVML says: error 3): idle_timeout_seconds"
    )
    lines = iter(runner.stdout.readline, b"")
    assert any(words in line.decode() for line in lines)
    gpu.fails(4)
    go.touch()
    rest = b"".join(lines).decode()
    assert runner.wait() == 0
    assert "cannot be told" not in rest
    assert job.envelope().header.status == "returned"


def a_gpu(used_percent: float, number: int) -> ChipReading:
    """Return what the library says of a GPU."""
    return ChipReading(
        used_percent=used_percent,
        memory_bytes=number << 30,
        memory_total_bytes=80 << 30,
        power_watts=100.5,
    )


def test_gpus_are_busy_as_long_as_one_is(gpu: Gpu) -> None:
    reader = GpuUse(gpu.environ)
    try:
        gpu.uses(0, 0)
        assert reader.read().state == IDLE
        gpu.uses(0, 1)
        assert reader.read() == Use(BUSY, "", (a_gpu(0, 1), a_gpu(1, 2)))
        assert reader.name == "NVIDIA Stand-in"
        gpu.uses(0, 0)
        assert reader.read().state == IDLE
        gpu.fails(3)
        nothing = (ChipReading(), ChipReading())
        assert reader.read() == Use(UNKNOWN, "NVML says: error 3", nothing)
    finally:
        reader.close()
    assert reader.read().state == UNKNOWN


def test_a_driver_that_hangs_outlives_no_supervisor(tmp_path: Path, gpu: Gpu) -> None:
    gpu.hangs()
    runner = Job(tmp_path / "store", WAITS, changes={"idle_timeout_seconds": 1}).start(
        **gpu.environ, TMPDIR=str(tmp_path)
    )
    supervisor = psutil.Process(runner.pid)
    while not (asking := [each for each in supervisor.children() if is_asking(each)]):
        assert runner.poll() is None
        time.sleep(0.02)
    runner.kill()
    runner.wait()
    while asking[0].is_running() and asking[0].status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)


def is_asking(process: psutil.Process) -> bool:
    """Whether a process has NVIDIA's library, and waits in it."""
    try:
        return any("libnvidia-ml" in each.path for each in process.memory_maps())
    except psutil.Error:
        return False


def test_who_cannot_be_asked_is_unknown(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/python")
    reader = GpuUse(gpu.environ)
    used = reader.read()
    reader.close()
    assert used.state == UNKNOWN
    assert "/no/python" in used.why
