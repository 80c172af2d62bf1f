"""Lines of a run's output that tell of a fault below the function, such as of a driver or a chip.

They may scroll away long before the run ends, so the first and the last of each kind are kept.
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
import time
from typing import Any, NamedTuple

LINE_CHARACTERS = 500
FIRST, LAST = 4, 4
"""How many lines of each kind are kept: the first are mostly the cause, the last the end."""


class _Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        name: What it is called in a black box.
        words: One of them stands in every such line; looked for first, as that is cheap.
        pattern: What such a line looks like.
    """

    name: str
    words: tuple[str, ...]
    pattern: re.Pattern[str]


def _kind(name: str, words: tuple[str, ...], pattern: str) -> _Kind:
    return _Kind(name, words, re.compile(pattern))


KINDS = (
    _kind("xid", ("Xid",), r"NVRM: Xid|\bXid\b\D{0,40}\d+"),
    _kind(
        "chip_memory",
        ("out of memory", "OutOfMemory", "OUT_OF_MEMORY", "RESOURCE_EXHAUSTED", "memory space hbm"),
        r"(?:CUDA|HIP)(?: error:)? out of memory|CUDA_ERROR_OUT_OF_MEMORY"
        r"|torch\.(?:cuda\.)?OutOfMemory"
        r"|RESOURCE_EXHAUSTED.*(?i:memory|allocat|hbm)|[Rr]an out of memory in memory space hbm",
    ),
    _kind(
        "nccl",
        ("NCCL", "nccl"),
        r"NCCL WARN|NCCL (?:error|failure)|nccl\w*Error|[Ww]atchdog caught collective"
        r"|ProcessGroupNCCL.*(?:[Tt]imeout|[Tt]imed out|terminat)",
    ),
    _kind(
        "cuda",
        ("CUDA", "cuda", "CUDNN", "CUBLAS"),
        r"CUDA error|CUDA_ERROR_(?!OUT_OF_MEMORY)[A-Z_]+|cudaError(?!OutOfMemory)[A-Z]\w+"
        r"|CUDNN_STATUS_(?!SUCCESS)[A-Z_]+|CUBLAS_STATUS_(?!SUCCESS)[A-Z_]+"
        r"|[Uu]ncorrectable (?:ECC|NVLink) error",
    ),
    _kind(
        "tpu",
        (
            "TPU",
            "libtpu",
            "ICI",
            "ici_",
            "slice health",
            "egascale",
            "MegaScale",
            "ensorcore",
            "HBM",
            "initialize backend",
        ),
        r"\bICI\b.*(?i:error|fail|down|unhealthy|lost|timeout|timed out|reset)"
        r"|(?i:unhealthy|failed|bad).*\bICI\b|slice health check (?:failed|error)|slice .*unhealthy"
        r"|[Mm]ega[Ss]cale.*(?i:error|hang|timeout|timed out|abort|unhealthy)"
        r"|TPU (?:initialization failed|driver .*(?:fail|error)|is already in use|backend .*error)"
        r"|[Uu]nable to initialize backend '?tpu|libtpu.*(?i:error|fail|fatal|lockfile)"
        r"|[Tt]ensor[Cc]ore.*(?i:halted|hung|hang|timed out|error)"
        r"|HBM.*(?i:uncorrectable|ecc error)",
    ),
    _kind(
        "lost_process",
        ("oordination", "heartbeat", "Barrier", "peer", "rank", "task:"),
        r"(?:unhealthy|stopped sending heartbeats|[Hh]eartbeat (?:timeout|timed out))"
        r"|[Cc]oordination [Ss]ervice.*(?i:error|fail|abort|unavailable|shut)"
        r"|[Bb]arrier timed out|[Cc]onnection (?:closed|reset) by (?:remote )?peer"
        r"|[Ss]ome (?:NCCL|of the).*ranks? .*(?:failed|exited)",
    ),
    _kind(
        "disk",
        ("No space left", "quota exceeded", "ENOSPC"),
        r"No space left on device|[Dd]isk quota exceeded|\bENOSPC\b",
    ),
    _kind(
        "shared_memory",
        ("shared memory", "Bus error", "</torch_"),
        r"out of shared memory|insufficient shared memory"
        r"|unable to (?:open|resize|allocate) shared memory"
        r"|Bus error|unable to write to file </torch_",
    ),
    _kind(
        "host_memory",
        ("bad_alloc", "Cannot allocate memory", "MemoryError", "Killed process", "Out of memory"),
        r"std::bad_alloc|Cannot allocate memory|\bMemoryError\b|Out of memory: Kill"
        r"|Killed process \d+",
    ),
    _kind("python_fatal", ("Fatal Python error",), r"Fatal Python error: .+"),
    _kind(
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
    _kind("illegal_instruction", ("llegal instruction",), r"[Ii]llegal instruction"),
)
"""In the order in which a line is held against them."""

_WORDS = tuple(dict.fromkeys(word for kind in KINDS for word in kind.words))


def kind_of(line: str) -> str | None:
    """Return what kind of fault a line tells of; None for any other line."""
    if not any(word in line for word in _WORDS):
        return None
    for kind in KINDS:
        if any(word in line for word in kind.words) and kind.pattern.search(line):
            return kind.name
    return None


class ErrorLines:
    """The lines of note of one run, in the order they came; of each kind the first and the last."""

    def __init__(self) -> None:
        self._first: dict[str, list[dict[str, Any]]] = {}
        self._last: dict[str, list[dict[str, Any]]] = {}
        self._counts: dict[str, int] = {}
        self._number = 0

    def note(self, line: str) -> None:
        """Take a line that was printed or logged."""
        kind = kind_of(line)
        if kind is None:
            return
        self._number += 1
        self._counts[kind] = self._counts.get(kind, 0) + 1
        entry = {
            "kind": kind,
            "line": line.strip()[:LINE_CHARACTERS],
            "at": round(time.time(), 3),
            "number": self._number,
        }
        first = self._first.setdefault(kind, [])
        if len(first) < FIRST:
            first.append(entry)
            return
        last = self._last.setdefault(kind, [])
        last.append(entry)
        del last[:-LAST]

    @property
    def counts(self) -> dict[str, int]:
        """How many lines there were of each kind."""
        return dict(self._counts)

    def document(self) -> list[dict[str, Any]]:
        """Return what was kept, as JSON values, in the order it came."""
        kept = [
            entry
            for lines in (self._first, self._last)
            for entries in lines.values()
            for entry in entries
        ]
        return sorted(kept, key=lambda entry: entry["number"])
