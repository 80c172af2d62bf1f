"""Lines of a run's output that tell of a fault below the function."""

from __future__ import annotations

import pytest
from kinetic_flows.runner_image.runner.error_lines import FIRST, KINDS, LAST, errors_in, kind_of
from kinetic_flows.runner_image.runner.noted_lines import FAULT_WORDS, NOTED_LINES
from kinetic_flows.runner_image.runner.output import Output

FAULTS = {
    "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.": "xid",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB": "chip_memory",
    "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes": (
        "chip_memory"
    ),
    "[3] NCCL WARN Call to ibv_create_qp failed": "nccl",
    "[Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9)": "nccl",
    "ncclRemoteError: A call failed possibly due to a network error": "nccl",
    "RuntimeError: CUDA error: an illegal memory access was encountered": "cuda",
    "CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered": "cuda",
    "E0101 tpu_runtime.cc: ICI link 3 of chip 2 is down": "tpu",
    "Unable to initialize backend 'tpu': INTERNAL: no chips": "tpu",
    "libtpu lockfile: another process has failed to release it, error 3": "tpu",
    "MegaScale hang detected on slice 1, aborting": "tpu",
    "The following tasks are unhealthy (stopped sending heartbeats): "
    "/job:jax_worker/replica:0/task:1": "lost_process",
    "[../third_party/gloo/pair.cc:534] Connection closed by peer [10.0.0.7]:2201": "lost_process",
    "OSError: [Errno 28] No space left on device: '/tmp/x'": "disk",
    "ERROR: Unexpected bus error encountered in worker. This might be caused by "
    "insufficient shared memory (shm).": "shared_memory",
    "terminate called after throwing an instance of 'std::bad_alloc'": "host_memory",
    "Fatal Python error: Segmentation fault": "python_fatal",
    "malloc(): corrupted top size": "abort",
    "double free or corruption (!prev)": "abort",
    "Illegal instruction": "illegal_instruction",
}
ORDINARY = (
    "epoch 3: loss 0.25",
    "using CUDA 12.8 on 8 GPUs",
    "NCCL version 2.21.5+cuda12.4",
    "TPU v6e with 8 chips; HBM 32 GiB each",
    "rank 3 of 8 has rank 0 as its peer",
    "out of memory of old days",
    "the coordination service listens at 10.0.0.3:8476",
    "CUDNN_STATUS_SUCCESS",
)


@pytest.mark.parametrize(("line", "kind"), FAULTS.items(), ids=FAULTS.values())
def test_a_line_that_tells_of_a_fault_is_known_by_its_kind(line, kind):
    assert kind_of(line) == kind


@pytest.mark.parametrize("line", ORDINARY)
def test_an_ordinary_line_tells_of_none(line):
    assert kind_of(line) is None


def test_of_many_lines_of_a_kind_the_first_and_the_last_are_kept():
    printed = [f"NCCL WARN number {number}" for number in range(100)]
    kept, counts = errors_in(["epoch 1", *printed, "No space left on device " + "x" * 2_000])
    told = [entry["line"].split()[-1] for entry in kept[:-1]]
    assert told == ["0", "1", "2", "3", "96", "97", "98", "99"]
    assert len(told) == FIRST + LAST
    assert kept[-1]["kind"] == "disk"
    assert len(kept[-1]["line"]) == 500
    assert counts == {"nccl": 100, "disk": 1}
    assert [each["line"] for each in errors_in(printed[:5])[0]] == printed[:5]


def test_output_keeps_what_may_tell_of_one_however_much_is_printed():
    assert set(FAULT_WORDS) == {word for kind in KINDS for word in kind.words}
    output = Output(lambda *_: None)
    output.say("CUDA error: what the runner itself says does not count")
    for number in range(1_000):
        output.tell(f"NCCL WARN number {number}", 20, "train")
        output.tell("an ordinary line", 20, "train")
    noted = [line.rpartition(" ")[2] for line in output.noted]
    assert noted == [
        str(number) for number in (*range(NOTED_LINES), *range(1_000 - NOTED_LINES, 1_000))
    ]
