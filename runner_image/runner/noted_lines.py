"""Keeping the lines of a run's output that may tell of a fault below its function."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

NOTED_LINES = 200
MAX_NOTED_CHARACTERS = 1_000
FAULT_WORDS = (
    *("Xid", "out of memory", "OutOfMemory", "OUT_OF_MEMORY", "RESOURCE_EXHAUSTED"),
    *("memory space hbm", "NCCL WARN", "NCCL error", "NCCL failure", "ncclSystemError"),
    *("ncclRemoteError", "ncclInternalError", "ncclUnhandledCudaError", "atchdog caught"),
    *("ProcessGroupNCCL", "CUDA error", "CUDA_ERROR", "cudaError", "CUDNN_STATUS"),
    *("CUBLAS_STATUS", "ncorrectable", "ICI", "unhealthy", "slice health", "egascale"),
    *("egaScale", "initialize backend", "libtpu", "TPU initialization", "TPU driver"),
    *("TPU backend", "already in use", "ensorcore", "ensorCore", "HBM", "oordination"),
    *("eartbeat", "arrier timed out", "by peer", "by remote peer", "ranks", "No space left"),
    *("quota exceeded", "ENOSPC", "shared memory", "Bus error", "</torch_", "bad_alloc"),
    *("Cannot allocate memory", "MemoryError", "Killed process", "Out of memory"),
    *("Fatal Python error", "terminate called", "corrupted", "double free"),
    *("invalid pointer", "stack smashing", "ssertion", "llegal instruction"),
)
"""What such lines have; `error_lines.py`, which knows them, is imported at the run's end alone."""


class NotedLines:
    """Such lines of one run: the first and the last of them."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=NOTED_LINES)

    def __iter__(self) -> Iterator[str]:
        yield from self._first
        yield from self._last

    def take(self, line: str) -> None:
        """Keep a line that may be one."""
        for word in FAULT_WORDS:
            if word in line:
                kept = self._first if len(self._first) < NOTED_LINES else self._last
                kept.append(line[:MAX_NOTED_CHARACTERS])
                return
