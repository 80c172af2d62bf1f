"""What NVIDIA's own library says of a real GPU, through the runner: `./dev hardware` on a machine
that has one. Nothing here is skipped where none is: it fails.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from kinetic_flows.runner_image.runner.chip_use import BUSY, IDLE, GpuUse
from kinetic_flows.runner_image.runner.measured import readings_of
from kinetic_flows.runner_image.runner.readings import merge

from runner_jobs import RUN_ID, Job

# No framework is needed: the driver compiles the kernel, of which one thread waits for the clock.
WORK = r'''
import ctypes, time

SPIN = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry spin(.param .u64 ticks)
{
    .reg .pred %p<2>;
    .reg .u64 %rd<4>;
    ld.param.u64 %rd1, [ticks];
    mov.u64 %rd2, %clock64;
again:
    mov.u64 %rd3, %clock64;
    sub.u64 %rd3, %rd3, %rd2;
    setp.lt.u64 %p1, %rd3, %rd1;
    @%p1 bra again;
    ret;
}
"""
MEMORY_BYTES = 2 << 30

def use(seconds, idle_seconds):
    cuda = ctypes.CDLL("libcuda.so.1")
    def check(code):
        if code:
            raise RuntimeError(f"CUDA says {code}")
    context, module, kernel, memory = (ctypes.c_void_p() for _ in range(4))
    check(cuda.cuInit(0))
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
    check(cuda.cuCtxSetCurrent(context))
    check(cuda.cuModuleLoadData(ctypes.byref(module), SPIN))
    check(cuda.cuModuleGetFunction(ctypes.byref(kernel), module, b"spin"))
    check(cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(MEMORY_BYTES)))
    ticks = ctypes.c_ulonglong(100_000_000)
    arguments = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(ticks), ctypes.c_void_p))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        check(cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, None, arguments, None))
        check(cuda.cuCtxSynchronize())
    time.sleep(idle_seconds)
    return "done"

def main():
    return use(*TIMES)
'''
GPU = {"KINETIC_DEVICES": "gpu:1", "KINETIC_METRICS": "1"}


def a_job(tmp_path: Path, seconds: float, idle_seconds: float = 0.0, **changes: Any) -> Job:
    """Return a run whose function uses its GPU, and then does not."""
    source = f"TIMES = {seconds!r}, {idle_seconds!r}\n{WORK}"
    return Job(tmp_path / "store", source, changes=changes)


def used(job: Job) -> dict[str, Any]:
    """Return what the run has left of what it used."""
    path = job.root / "runs" / RUN_ID / "metrics" / "host-0.json"
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_a_run_leaves_what_its_gpu_did(tmp_path: Path) -> None:
    job = a_job(tmp_path, 8.0)
    ended = job.run(**GPU)
    assert ended.exit_code == 0, ended.output
    document = used(job)
    print(json.dumps({name: document[name] for name in document if name != "picture"}))
    assert (document["chip_kind"], document["ended"]) == ("gpu", True)
    assert document["chip_name"].startswith("NVIDIA")
    chip = merge(readings_of(document)).chips[0]
    assert chip.memory_bytes is not None
    assert chip.memory_total_bytes is not None
    assert 2 << 30 <= chip.memory_bytes <= chip.memory_total_bytes
    assert chip.power_watts is not None
    assert 10 < chip.power_watts < 2_000
    # The first second went by before it was looked at, or with loading the driver.
    assert chip.used_percent is not None
    assert chip.used_percent > 60
    assert document["words"][0].startswith("the GPU was used ")


def test_half_a_runs_time_is_half_its_use(tmp_path: Path) -> None:
    job = a_job(tmp_path, 6.0, 6.0)
    ended = job.run(**GPU)
    assert ended.exit_code == 0, ended.output
    readings = readings_of(used(job))
    uses = [each.chips[0].used_percent or 0.0 for each in readings if each.chips]
    print(uses)
    assert max(uses) > 90
    assert min(uses) == 0
    assert 25 < (merge(readings).chips[0].used_percent or 0.0) < 75


def test_a_run_whose_gpu_does_nothing_is_ended(tmp_path: Path) -> None:
    job = a_job(tmp_path, 3.0, 600.0, idle_timeout_seconds=4.0)
    ended = job.run(**GPU)
    assert "its chips did nothing for 4 s: they were last used 0:00:0" in ended.output
    assert job.envelope().header.status == "timed_out"


def test_a_gpu_that_nobody_uses_is_idle_and_one_that_a_run_uses_is_busy(tmp_path: Path) -> None:
    reader = GpuUse({})
    try:
        until_idle(reader)
        runner = a_job(tmp_path, 6.0).start(**GPU)
        while reader.read().state != BUSY:
            assert runner.poll() is None
            time.sleep(0.2)
        assert runner.wait() == 0
        until_idle(reader)
    finally:
        reader.close()
    assert reader.name.startswith("NVIDIA")


def until_idle(reader: GpuUse) -> None:
    while reader.read().state != IDLE:
        time.sleep(0.2)
