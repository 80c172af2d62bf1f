"""Lines of a run's output that tell of a fault below the function, such as of a driver or a chip.

They may scroll away long before the run ends, so those that may be such are kept for their words
alone (`noted_lines.py`); which of them are, is found out when a black box is made.

What they say comes from:

- NVIDIA's driver, whose Xid messages the kernel logs (https://docs.nvidia.com/deploy/xid-errors/),
  NCCL (https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html) and CUDA;
- libtpu and XLA: ICI links, slices and the memory of chips
  (https://cloud.google.com/tpu/docs/troubleshooting/trouble-tpu-monitor,
  https://openxla.org/xla/errors/error_1000);
- JAX's coordination service, which names the process that it lost;
- Python's `faulthandler`, glibc's and the kernel's last words about a process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

LINE_CHARACTERS = 500
FIRST, LAST = 4, 4
"""How many lines of each kind are kept: the first are mostly the cause, the last the end."""


class _Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        name: What it is called in a black box.
        words: One of them stands in every such line; looked for first, as that is cheap.
        pattern: What such a line looks like; compiled when a line has one of the words, as most
            runs have none.
    """

    name: str
    words: tuple[str, ...]
    pattern: str


KINDS = (
    _Kind("xid", ("Xid",), r"NVRM: Xid|\bXid\b\D{0,40}\d+"),
    _Kind(
        "chip_memory",
        ("out of memory", "OutOfMemory", "OUT_OF_MEMORY", "RESOURCE_EXHAUSTED", "memory space hbm"),
        r"(?:CUDA|HIP)(?: error:)? out of memory|CUDA_ERROR_OUT_OF_MEMORY"
        r"|torch\.(?:cuda\.)?OutOfMemory"
        r"|RESOURCE_EXHAUSTED.*(?i:memory|allocat|hbm)|[Rr]an out of memory in memory space hbm",
    ),
    _Kind(
        "nccl",
        (
            "NCCL WARN",
            "NCCL error",
            "NCCL failure",
            "ncclSystemError",
            "ncclRemoteError",
            "ncclInternalError",
            "ncclUnhandledCudaError",
            "atchdog caught",
            "ProcessGroupNCCL",
        ),
        r"NCCL WARN|NCCL (?:error|failure)|nccl\w*Error|[Ww]atchdog caught collective"
        r"|ProcessGroupNCCL.*(?:[Tt]imeout|[Tt]imed out|terminat)",
    ),
    _Kind(
        "cuda",
        (
            "CUDA error",
            "CUDA_ERROR",
            "cudaError",
            "CUDNN_STATUS",
            "CUBLAS_STATUS",
            "ncorrectable",
        ),
        r"CUDA error|CUDA_ERROR_(?!OUT_OF_MEMORY)[A-Z_]+|cudaError(?!OutOfMemory)[A-Z]\w+"
        r"|CUDNN_STATUS_(?!SUCCESS)[A-Z_]+|CUBLAS_STATUS_(?!SUCCESS)[A-Z_]+"
        r"|[Uu]ncorrectable (?:ECC|NVLink) error",
    ),
    _Kind(
        "tpu",
        (
            "ICI",
            "unhealthy",
            "slice health",
            "egascale",
            "egaScale",
            "initialize backend",
            "libtpu",
            "TPU initialization",
            "TPU driver",
            "TPU backend",
            "already in use",
            "ensorcore",
            "ensorCore",
            "HBM",
        ),
        r"\bICI\b.*(?i:error|fail|down|unhealthy|lost|timeout|timed out|reset)"
        r"|(?i:unhealthy|failed|bad).*\bICI\b|slice health check (?:failed|error)|slice .*unhealthy"
        r"|[Mm]ega[Ss]cale.*(?i:error|hang|timeout|timed out|abort|unhealthy)"
        r"|TPU (?:initialization failed|driver .*(?:fail|error)|is already in use|backend .*error)"
        r"|[Uu]nable to initialize backend '?tpu|libtpu.*(?i:error|fail|fatal|lockfile)"
        r"|[Tt]ensor[Cc]ore.*(?i:halted|hung|hang|timed out|error)"
        r"|HBM.*(?i:uncorrectable|ecc error)",
    ),
    _Kind(
        "lost_process",
        (
            "oordination",
            "eartbeat",
            "arrier timed out",
            "by peer",
            "by remote peer",
            "unhealthy",
            "ranks",
        ),
        r"(?:unhealthy|stopped sending heartbeats|[Hh]eartbeat (?:timeout|timed out))"
        r"|[Cc]oordination [Ss]ervice.*(?i:error|fail|abort|unavailable|shut)"
        r"|[Bb]arrier timed out|[Cc]onnection (?:closed|reset) by (?:remote )?peer"
        r"|[Ss]ome (?:NCCL|of the).*ranks? .*(?:failed|exited)",
    ),
    _Kind(
        "disk",
        ("No space left", "quota exceeded", "ENOSPC"),
        r"No space left on device|[Dd]isk quota exceeded|\bENOSPC\b",
    ),
    _Kind(
        "shared_memory",
        ("shared memory", "Bus error", "</torch_"),
        r"out of shared memory|insufficient shared memory"
        r"|unable to (?:open|resize|allocate) shared memory"
        r"|Bus error|unable to write to file </torch_",
    ),
    _Kind(
        "host_memory",
        ("bad_alloc", "Cannot allocate memory", "MemoryError", "Killed process", "Out of memory"),
        r"std::bad_alloc|Cannot allocate memory|\bMemoryError\b|Out of memory: Kill"
        r"|Killed process \d+",
    ),
    _Kind("python_fatal", ("Fatal Python error",), r"Fatal Python error: .+"),
    _Kind(
        "abort",
        (
            "terminate called",
            "corrupted",
            "double free",
            "invalid pointer",
            "stack smashing",
            "ssertion",
        ),
        r"terminate called (?:after throwing|without)|\w+\(\): (?:corrupted|invalid|unaligned)"
        r"|malloc.*corrupted|double free or corruption|stack smashing detected"
        r"|Assertion [`'].*failed",
    ),
    _Kind("illegal_instruction", ("llegal instruction",), r"[Ii]llegal instruction"),
)
"""In the order in which a line is held against them."""


def kind_of(line: str) -> str | None:
    """Return what kind of fault a line tells of; None for any other line."""
    for kind in KINDS:
        if any(word in line for word in kind.words) and re.search(kind.pattern, line):
            return kind.name
    return None


def errors_in(lines: Iterable[str]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the lines that tell of faults, in their order, and how many there are of each kind.

    Args:
        lines: Lines of a run's output.

    Returns:
        Of each kind the first and the last lines, as JSON values; and the numbers.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for number, line in enumerate(lines):
        kind = kind_of(line)
        if kind is not None:
            found.setdefault(kind, []).append((number, line.strip()[:LINE_CHARACTERS]))
    kept = [
        (number, {"kind": kind, "line": line})
        for kind, told in found.items()
        for number, line in dict.fromkeys((*told[:FIRST], *told[-LAST:]))
    ]
    counts = {kind: len(told) for kind, told in found.items()}
    return [entry for _, entry in sorted(kept, key=lambda each: each[0])], counts
