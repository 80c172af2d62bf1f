"""Whether the chips of a run do anything, read without its function's help.

- GPUs: NVIDIA's management library keeps for how many per cent of every fifth of a second each was
  busy, for the last seconds (`nvmlDeviceGetSamples`), so that what was done between two looks
  counts. A process of its own asks it, as a driver that hangs takes whoever asks along.
  https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
- TPUs: no process that has none of their device files open does anything with them; of the one
  that has, libtpu's metrics server tells (`tpu_metrics.py`).

What cannot be told is unknown, and never taken for idle.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from .contract import DEVICES_VARIABLE
from .tpu_metrics import NoServer, duty_cycles, metric_ports

BUSY, IDLE, UNKNOWN = "busy", "idle", "unknown"
ANSWER_SECONDS = 60.0
"""How long NVIDIA's driver may take to answer."""

_TPU_FILES = re.compile(r"/dev/(?:accel|vfio/)[0-9]+")

_ASK = """
import ctypes, sys
UTILIZATION = 1
class Sample(ctypes.Structure):
    _fields_ = [("time", ctypes.c_ulonglong), ("value", ctypes.c_ulonglong)]
class Rates(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]
class Gpu:
    def __init__(self, number):
        self.handle, self.last = ctypes.c_void_p(), 0
        check(nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(self.handle)))
    def use(self):
        samples = self.samples()
        if samples:
            self.last = max(each.time for each in samples)
            return max(each.value & 0xFFFFFFFF for each in samples)
        rates = Rates()
        check(nvml.nvmlDeviceGetUtilizationRates(self.handle, ctypes.byref(rates)))
        return rates.gpu
    def samples(self):
        kind, count, last = ctypes.c_int(), ctypes.c_uint(), ctypes.c_ulonglong(self.last)
        about = (self.handle, UTILIZATION, last, ctypes.byref(kind), ctypes.byref(count))
        if nvml.nvmlDeviceGetSamples(*about, None) or not count.value:
            return []
        found = (Sample * count.value)()
        return [] if nvml.nvmlDeviceGetSamples(*about, found) else found[: count.value]
def check(code):
    if code:
        raise OSError("NVML says: " + nvml.nvmlErrorString(code).decode(errors="replace"))
def gpus():
    check(nvml.nvmlInit_v2())
    count = ctypes.c_uint()
    check(nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)))
    return [Gpu(number) for number in range(count.value)]
known = None
for line in sys.stdin:
    try:
        if known is None:
            nvml = ctypes.CDLL("libnvidia-ml.so.1")
            nvml.nvmlErrorString.restype = ctypes.c_char_p
            known = gpus()
        used = [gpu.use() for gpu in known]
        print("busy" if any(used) else "idle" if used else "unknown NVML knows no GPU", flush=True)
    except (OSError, AttributeError) as error:
        print("unknown", str(error).replace(chr(10), " "), flush=True)
"""
"""Answers every line of its input with one."""


class Use(NamedTuple):
    """Whether chips do anything.

    Attributes:
        state: `busy`, `idle` or `unknown`.
        why: Why it is unknown; empty where it is not.
    """

    state: str
    why: str = ""


class GpuUse:
    """Asks about the GPUs of this container; what it was since it was asked before.

    Args:
        environ: The variables of who may use them.
    """

    chips = "GPU"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _ASK],
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def read(self) -> Use:
        """Ask, and wait for the answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(b"\n")
            stdin.flush()
            if not select.select([stdout], [], [], ANSWER_SECONDS)[0]:
                return Use(UNKNOWN, f"the driver has not answered for {ANSWER_SECONDS:g} s")
            answer = stdout.readline().decode(errors="replace").strip()
        except (OSError, ValueError) as error:
            # Closed meanwhile, or who asked the driver has ended.
            return Use(UNKNOWN, str(error))
        state, _, why = answer.partition(" ")
        return Use(state or UNKNOWN, why or ("" if state else "who asked the driver has ended"))

    def close(self) -> None:
        """End the process that asks."""
        self._process.kill()
        # Within a driver that hangs it may not even end so.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


class TpuUse:
    """Asks about the TPU chips of this container.

    Args:
        environ: The variables of who may use them.
        root: Where the file system's root is.
    """

    chips = "TPU chip"

    def __init__(self, environ: Mapping[str, str], root: str = "/") -> None:
        self._ports = metric_ports(environ)
        self._processes = os.path.join(root, "proc")
        self._has_answered = False

    def read(self) -> Use:
        """Ask every process that may have chips."""
        found: list[float] = []
        problem, is_served = "", False
        for port in self._ports:
            try:
                found += duty_cycles(port)
                is_served = True
            except NoServer:
                continue
            except (OSError, ValueError) as error:
                problem = f"libtpu's metrics server at port {port}: {error}"
        if any(found):
            self._has_answered = True
            return Use(BUSY)
        if problem:
            return Use(UNKNOWN, problem)
        if is_served:
            return self._without_work(found)
        if not is_held(self._processes):
            return Use(IDLE)
        return Use(UNKNOWN, "a process has the chips open, and serves no metrics of libtpu")

    def _without_work(self, found: list[float]) -> Use:
        # Before the first program is loaded there may be no numbers, and on other versions never.
        if found or self._has_answered:
            self._has_answered = True
            return Use(IDLE)
        return Use(UNKNOWN, "libtpu says nothing of how busy the chips are")

    def close(self) -> None:
        """Do nothing: nothing is kept open."""


Reader = GpuUse | TpuUse


def is_held(processes: str = "/proc") -> bool:
    """Whether a process of this container has a TPU chip's device file open.

    Args:
        processes: Where the kernel lists processes.
    """
    return any(
        _TPU_FILES.fullmatch(_target(os.path.join(processes, process, "fd", name)))
        for process in _names(processes)
        if process.isdigit()
        for name in _names(os.path.join(processes, process, "fd"))
    )


def reader_of(environ: Mapping[str, str]) -> Reader | None:
    """Return what reads the use of the chips that a run asked for; None where it asked for none.

    Args:
        environ: The variables of the function's process.
    """
    kind = environ.get(DEVICES_VARIABLE, "").partition(":")[0]
    if kind == "gpu":
        return GpuUse(environ)
    return TpuUse(environ) if kind == "tpu" else None


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
