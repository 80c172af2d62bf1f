"""The chips that a run asked for, looked for before its function is called."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from kinetic_flows.runner_image.runner.contract import Fault
from kinetic_flows.runner_image.runner.devices import (
    DeviceCheck,
    Wanted,
    ask,
    describe_driver,
    missing_files,
    missing_libtpu,
    wanted_devices,
)

from kinetic_flows.core.job import EXIT_DEVICES_MISSING
from runner_jobs import Job

SOURCE = "def main():\n    print('computing on the CPU')\n    return 1\n"


def a_root(path: Path, *files: str) -> str:
    """Make a root directory with device files."""
    for name in files:
        file = path / "dev" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return str(path)


@pytest.mark.parametrize(
    ("wanted", "files"),
    [
        (Wanted("tpu", 4), ["accel0", "accel1", "accel2", "accel3"]),
        (Wanted("tpu", 2), ["vfio/vfio", "vfio/0", "vfio/1"]),
        (Wanted("tpu", 1), ["accel0", "vfio/vfio"]),
        (Wanted("gpu", 2), ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"]),
        (Wanted("gpu", 1), ["nvidia3", "nvidia7"]),
    ],
)
def test_device_files_as_device_plugins_give_them_are_enough(
    tmp_path: Path, wanted: Wanted, files: list[str]
) -> None:
    assert missing_files(wanted, a_root(tmp_path, *files)) == []


@pytest.mark.parametrize(
    ("wanted", "files", "words"),
    [
        (Wanted("tpu", 8), [], "8 TPU chips (of /dev/accel{n} or /dev/vfio/{n} this pod has none)"),
        (Wanted("tpu", 4), ["vfio/vfio", "vfio/0", "vfio/1"], "this pod has 2)"),
        (Wanted("gpu", 1), ["nvidiactl", "nvidia-uvm"], "1 GPU (of /dev/nvidia{n} this pod has n"),
        (Wanted("gpu", 8), ["nvidia0"], "8 GPUs (of /dev/nvidia{n} this pod has 1)"),
    ],
)
def test_device_files_that_are_not_there_are_named(
    tmp_path: Path, wanted: Wanted, files: list[str], words: str
) -> None:
    (problem,) = missing_files(wanted, a_root(tmp_path, *files))
    assert words in problem


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"KINETIC_DEVICES": ""},
        {"KINETIC_DEVICES": "tpu:0"},
        {"KINETIC_DEVICES": "npu:4"},
        {"KINETIC_DEVICES": "tpu:8", "KINETIC_DEVICE_CHECK": "0"},
    ],
)
def test_without_a_wish_that_is_understood_nothing_is_looked_for(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    assert wanted_devices(environ) is None
    DeviceCheck(environ, str(tmp_path)).finish()


def test_jax_without_libtpu_is_missing_something_wherever_packages_are(tmp_path: Path) -> None:
    packages, others = tmp_path / "packages", tmp_path / "others"
    (packages / "jax").mkdir(parents=True)
    places = [str(others), str(packages)]
    assert "install jax[tpu]" in missing_libtpu({}, places, str(tmp_path))[0]
    assert missing_libtpu({}, [str(others)], str(tmp_path)) == [], "no JAX, nothing to say"
    library = tmp_path / "libtpu-of-ours.so"
    library.touch()
    assert missing_libtpu({"TPU_LIBRARY_PATH": str(library)}, places, str(tmp_path)) == []
    (others / "libtpu").mkdir(parents=True)
    assert missing_libtpu({}, places, str(tmp_path)) == []


def test_a_tpu_with_its_files_and_its_library_is_there(tmp_path: Path) -> None:
    root = a_root(tmp_path, "vfio/0")
    for package in ("jax", "libtpu"):
        (tmp_path / "packages" / package).mkdir(parents=True)
    DeviceCheck({"KINETIC_DEVICES": "tpu:1"}, root).finish([str(tmp_path / "packages")])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"cuda": "", "nvml": "", "count": 4}, []),
        ({"cuda": "", "nvml": "", "count": None}, []),
        ({"cuda": "libcuda.so.1: not found", "nvml": "", "count": None}, ["LD_LIBRARY_PATH"]),
        ({"cuda": "", "nvml": "Driver/library version mismatch", "count": None}, ["mismatch"]),
        ({"cuda": "", "nvml": "", "count": 3}, ["4 GPUs that work (the driver knows 3)"]),
        ({"silent": "it has not answered for 60 s"}, ["has not answered"]),
    ],
)
def test_what_a_driver_says_of_itself_is_passed_on(
    answer: Mapping[str, object], words: list[str]
) -> None:
    problems = describe_driver(answer, 4)
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


def test_a_driver_that_does_not_answer_is_given_up() -> None:
    hangs = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert ask(hangs, {}, 0.3) == {"silent": "it has not answered for 0.3 s"}
    dies = [sys.executable, "-c", "import os; os.abort()"]
    assert "ended with -6" in ask(dies, {}, 60)["silent"]
    assert ask([sys.executable, "-c", "print('{\"count\": 1}')"], {}, 60) == {"count": 1}


def test_a_gpu_is_missing_with_its_files_and_its_driver_at_once(tmp_path: Path) -> None:
    check = DeviceCheck({"KINETIC_DEVICES": "gpu:512"}, str(tmp_path))
    with pytest.raises(Fault, match=r"512 GPUs .*; ") as caught:
        check.finish()
    assert caught.value.exit_code == EXIT_DEVICES_MISSING


def test_a_run_without_its_chips_ends_before_its_function_is_called(tmp_path: Path) -> None:
    job = Job(tmp_path, SOURCE, variables={"KINETIC_DEVICES": "tpu:512"})
    ended = job.run()
    assert ended.exit_code == EXIT_DEVICES_MISSING
    assert "computing" not in ended.output
    said = "kinetic: what the run asked for is not there: 512 TPU chips"
    assert said in ended.output + ended.errors
    header = job.envelope().header
    assert (header.status, header.exit_code) == ("crashed", EXIT_DEVICES_MISSING)
    assert "512 TPU chips" in header.message
    assert job.again().exit_code == EXIT_DEVICES_MISSING, "the first start's result is kept"


def test_who_knows_better_has_nothing_looked_for(tmp_path: Path) -> None:
    job = Job(tmp_path, SOURCE, variables={"KINETIC_DEVICES": "tpu:512"})
    assert job.run(KINETIC_DEVICE_CHECK="0").exit_code == 0
    assert job.value() == 1
