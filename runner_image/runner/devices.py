"""Whether the chips that a run asked for are there, before its function is called.

A framework whose chip does not come up may go on with the CPU, and a run that was to take
minutes takes days. What can be told without a framework is told here, while the code is fetched:

- the device files that Kubernetes' device plugins give a container: `/dev/accel{n}` or, from
  TPU v5e on, `/dev/vfio/{n}` of TPUs
  (https://github.com/AI-Hypercomputer/cloud-accelerator-diagnostics), `/dev/nvidia{n}` of GPUs;
- whether NVIDIA's driver can be loaded and answers, which a process of its own is asked, as a
  driver that hangs takes whoever asks along;
- whether JAX has the libtpu that it needs for TPUs.

    KINETIC_DEVICES        what the run asked for, such as `tpu:8` or `gpu:1`; the launch sets it
    KINETIC_DEVICE_CHECK   0 to look for nothing
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from .contract import DEVICES_VARIABLE, EXIT_DEVICES_MISSING, Fault

CHECK_VARIABLE = "KINETIC_DEVICE_CHECK"
DRIVER_SECONDS = 60.0
"""How long NVIDIA's driver may take to answer; without persistence mode it first wakes the GPUs."""
KILL_SECONDS = 1.0

_WANTED = re.compile(r"(tpu|gpu):([1-9][0-9]*)")
_PLACES_OF_LIBTPU = ("/lib", "/usr/lib", "/usr/local/lib")

_ASK_DRIVER = """
import ctypes, json
found = {"cuda": "", "nvml": "", "count": None}
try:
    ctypes.CDLL("libcuda.so.1")
except OSError as error:
    found["cuda"] = str(error)
try:
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
except OSError:
    nvml = None
if nvml is not None:
    nvml.nvmlErrorString.restype = ctypes.c_char_p
    count = ctypes.c_uint()
    code = nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    if code:
        found["nvml"] = nvml.nvmlErrorString(code).decode(errors="replace")
    else:
        found["count"] = count.value
print(json.dumps(found))
"""
"""Asks NVIDIA's libraries, as https://docs.nvidia.com/deploy/nvml-api/ documents them."""


class Wanted(NamedTuple):
    """What a run asked for on each host: a kind of chip, and how many."""

    kind: str
    devices: int


class DeviceCheck:
    """A check that begins when it is made.

    Args:
        environ: This process's environment.
        root: Where the file system's root is.
    """

    def __init__(self, environ: Mapping[str, str], root: str = "/") -> None:
        self._environ = environ
        self._root = root
        self._wanted = wanted_devices(environ)
        self._driver: dict[str, Any] = {}
        self._asking: threading.Thread | None = None
        if self._wanted and self._wanted.kind == "gpu":
            self._asking = threading.Thread(target=self._ask_driver, daemon=True)
            self._asking.start()

    def finish(self, paths: Iterable[str] = ()) -> None:
        """Wait for the answer.

        Args:
            paths: Where the function will find packages, besides this process's own `sys.path`.

        Raises:
            Fault: Something is missing; the message says what.
        """
        if self._wanted is None:
            return
        problems = missing_files(self._wanted, self._root)
        if self._asking is not None:
            self._asking.join()
            # What has no device file is not counted again.
            problems += describe_driver(self._driver, 0 if problems else self._wanted.devices)
        elif not problems:
            problems += missing_libtpu(self._environ, [*paths, *sys.path], self._root)
        if problems:
            raise Fault(
                EXIT_DEVICES_MISSING,
                f"what the run asked for is not there: {'; '.join(problems)}",
            )

    def _ask_driver(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", _ASK_DRIVER]
        self._driver = ask(command, self._environ, DRIVER_SECONDS)


def wanted_devices(environ: Mapping[str, str]) -> Wanted | None:
    """Return what a run asked for; None when there is nothing to look for.

    Args:
        environ: This process's environment.
    """
    found = _WANTED.fullmatch(environ.get(DEVICES_VARIABLE, ""))
    if found is None or environ.get(CHECK_VARIABLE) == "0":
        return None
    return Wanted(found[1], int(found[2]))


def missing_files(wanted: Wanted, root: str = "/") -> list[str]:
    """Say which device files are not there, in a sentence or none.

    Args:
        wanted: What the run asked for.
        root: Where the file system's root is.
    """
    devices = os.path.join(root, "dev")
    if wanted.kind == "tpu":
        found = _numbered(devices, "accel") or _numbered(os.path.join(devices, "vfio"), "")
        unit, files = "TPU chip", "/dev/accel{n} or /dev/vfio/{n}"
    else:
        found = _numbered(devices, "nvidia")
        unit, files = "GPU", "/dev/nvidia{n}"
    if found >= wanted.devices:
        return []
    units = unit if wanted.devices == 1 else f"{unit}s"
    return [f"{wanted.devices} {units} (of {files} this pod has {found or 'none'})"]


def missing_libtpu(environ: Mapping[str, str], paths: Iterable[str], root: str = "/") -> list[str]:
    """Say that JAX has no libtpu, in a sentence or none; other frameworks bring their own.

    Args:
        environ: This process's environment.
        paths: Where packages are found.
        root: Where the file system's root is.
    """
    places = list(paths)
    libraries = [os.path.join(root, place[1:], "libtpu.so") for place in _PLACES_OF_LIBTPU]
    named = environ.get("TPU_LIBRARY_PATH")
    if any(map(os.path.exists, [*libraries, *([named] if named else [])])):
        return []
    if _has_package("libtpu", places) or not _has_package("jax", places):
        return []
    return ["libtpu, without which JAX knows no TPU (install jax[tpu] in the image)"]


def describe_driver(found: Mapping[str, Any], count: int) -> list[str]:
    """Say what is wrong with NVIDIA's driver, a sentence each.

    Args:
        found: What `ask` returned.
        count: GPUs that the run asked for.
    """
    if found.get("silent"):
        return [f"NVIDIA's driver ({found['silent']})"]
    problems = []
    if found.get("cuda"):
        problems.append(
            f"NVIDIA's driver library ({found['cuda']}; GKE has it in /usr/local/nvidia/lib64, "
            "which must be in LD_LIBRARY_PATH)"
        )
    if found.get("nvml"):
        problems.append(f"a driver that works (NVML says: {found['nvml']})")
    answered = found.get("count")
    if answered is not None and answered < count:
        problems.append(f"{count} GPUs that work (the driver knows {answered})")
    return problems


def ask(command: list[str], environ: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Return what a program prints as JSON, or under `silent` why it did not.

    Args:
        command: The program and its arguments.
        environ: Its environment variables.
        seconds: How long it may take.
    """
    process = subprocess.Popen(
        command,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        answer: dict[str, Any] = json.loads(output)
    except subprocess.TimeoutExpired:
        process.kill()
        # Within a driver that hangs it may not even end so.
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=KILL_SECONDS)
        return {"silent": f"it has not answered for {seconds:g} s"}
    except ValueError:
        return {"silent": f"who asked it ended with {process.returncode}"}
    return answer


def _numbered(directory: str, prefix: str) -> int:
    """Return how many files there are whose names are a prefix and a number."""
    try:
        names = os.listdir(directory)
    except OSError:
        return 0
    return sum(name.startswith(prefix) and name[len(prefix) :].isdigit() for name in names)


def _has_package(name: str, places: Iterable[str]) -> bool:
    return any(os.path.isdir(os.path.join(place or ".", name)) for place in places)


def package_places(prepared: Mapping[str, Any]) -> list[str]:
    """Return where the function will find packages besides the image's own."""
    workspace, packages = prepared["workspace"], prepared["packages"]
    return [
        *(os.path.join(workspace, item) for item in prepared["sys_path"]),
        *([packages] if packages else []),
    ]
