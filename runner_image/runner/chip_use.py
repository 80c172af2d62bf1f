"""What the chips of a run do, read without its function's help.

- GPUs: NVIDIA's management library keeps for how many per cent of every fifth of a second each was
  busy, for the last seconds (`nvmlDeviceGetSamples`), so that what was done between two looks
  counts. A process of its own asks it (`nvml.py`).
- TPUs: no process that has none of their device files open does anything with them; of the one
  that has, libtpu's metrics server tells (`tpu_metrics.py`), and its monitoring library of the
  tensor cores (`tensor_cores.py`).

What cannot be told is unknown, and never taken for idle.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .chip_asking import Asker
from .contract import DEVICES_VARIABLE
from .nvml import ASK
from .readings import ChipReading
from .tensor_cores import TensorCores
from .tpu_metrics import NoServer, TpuChips, metric_ports, read_chips

BUSY, IDLE, UNKNOWN = "busy", "idle", "unknown"
ANSWER_SECONDS = 60.0
"""How long NVIDIA's driver may take to answer before that is spoken of."""

_TPU_FILES = re.compile(r"/dev/(?:accel|vfio/)[0-9]+")


class Use(NamedTuple):
    """What chips do.

    Attributes:
        state: `busy`, `idle` or `unknown`.
        why: Why it is unknown; empty where it is not, or where an answer is still waited for.
        chips: What each chip does, as far as it is known.
    """

    state: str
    why: str = ""
    chips: tuple[ChipReading, ...] = ()


class GpuUse:
    """Asks about the GPUs of this container; what it was since it was asked before.

    Args:
        environ: The variables of who may use them.
    """

    kind = "gpu"
    chips = "GPU"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._asker = Asker(ASK, (), environ)
        self.name = ""
        """What the driver calls them; empty before it has answered."""

    def read(self) -> Use:
        """Ask, and wait a while for the answer, or go on waiting for one that has not come."""
        try:
            answer = self._asker.ask()
        except (OSError, ValueError) as error:
            return Use(UNKNOWN, str(error))
        if answer is not None:
            return self._used(answer)
        is_long = self._asker.waited_seconds >= ANSWER_SECONDS
        return Use(
            UNKNOWN, f"the driver has not answered for {ANSWER_SECONDS:g} s" if is_long else ""
        )

    def _used(self, answer: Mapping[str, Any]) -> Use:
        if "gpus" not in answer:
            return Use(UNKNOWN, answer["why"])
        self.name = answer["name"]
        gpus = answer["gpus"]
        chips = tuple(_gpu_reading(each) for each in gpus)
        if any(each.get("most") for each in gpus):
            return Use(BUSY, "", chips)
        why = next((each["why"] for each in gpus if each["why"]), "")
        why = why if gpus else "NVML knows no GPU"
        return Use(UNKNOWN if why else IDLE, why, chips)

    def close(self) -> None:
        """End the process that asks."""
        self._asker.close()


def _gpu_reading(gpu: Mapping[str, Any]) -> ChipReading:
    mean = gpu.get("mean")
    return ChipReading(
        used_percent=None if mean is None else round(mean, 1),
        memory_bytes=gpu.get("memory"),
        memory_total_bytes=gpu.get("total"),
        power_watts=gpu.get("watts"),
    )


class TpuUse:
    """Asks about the TPU chips of this container.

    Args:
        environ: The variables of who may use them.
        root: Where the file system's root is.
    """

    kind = "tpu"
    chips = "TPU chip"
    name = ""

    def __init__(self, environ: Mapping[str, str], root: str = "/") -> None:
        self._ports = metric_ports(environ)
        self._processes = os.path.join(root, "proc")
        self._cores = TensorCores(environ, self._processes)
        self._has_answered = False

    def read(self) -> Use:
        """Ask every process that may have chips."""
        found: list[TpuChips] = []
        problem = ""
        for port in self._ports:
            try:
                found.append(read_chips(port))
            except NoServer:
                continue
            except (OSError, ValueError) as error:
                problem = f"libtpu's metrics server at port {port}: {error}"
        chips = self._with_cores([chip for each in found for chip in _tpu_readings(each)])
        cycles = [cycle for each in found for cycle in each.duty_cycles]
        if any(cycles):
            self._has_answered = True
            return Use(BUSY, "", chips)
        if problem:
            return Use(UNKNOWN, problem, chips)
        if found:
            return self._without_work(cycles, chips)
        if not is_held(self._processes):
            return Use(IDLE)
        return Use(UNKNOWN, "a process has the chips open, and serves no metrics of libtpu")

    def _with_cores(self, chips: list[ChipReading]) -> tuple[ChipReading, ...]:
        used = self._cores.read(len(chips)) if chips else []
        return tuple(
            chip._replace(tensor_core_percent=each) for chip, each in zip(chips, used, strict=True)
        )

    def _without_work(self, cycles: list[float], chips: tuple[ChipReading, ...]) -> Use:
        # Before the first program is loaded there may be no numbers, and on other versions never.
        if cycles or self._has_answered:
            self._has_answered = True
            return Use(IDLE, "", chips)
        return Use(UNKNOWN, "libtpu says nothing of how busy the chips are", chips)

    def close(self) -> None:
        """End the process that asks."""
        self._cores.close()


def _tpu_readings(found: TpuChips) -> list[ChipReading]:
    """Return a reading for each chip of a process.

    Duty cycles are a chip's, memory is each TensorCore's device, of which a chip has one or two.
    """
    used, totals = found.memory_bytes, found.memory_total_bytes
    count = len(found.duty_cycles) or len(used)
    each = len(used) // count if count else 0
    readings = []
    for number in range(count):
        cores = slice(number * each, (number + 1) * each)
        readings.append(
            ChipReading(
                used_percent=found.duty_cycles[number] if found.duty_cycles else None,
                memory_bytes=sum(used[cores]) if each else None,
                memory_total_bytes=sum(totals[cores]) if each and totals[cores] else None,
            )
        )
    return readings


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
