"""Packages that are mounted as a volume: found, checked, and in front of the image's own."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import packages as runner
from kinetic_flows.runner_image.runner.contract import Fault

from kinetic_flows.core.job import EXIT_REQUIREMENTS_FAILED
from kinetic_flows.core.job_parts import PackagesSpec
from runner_jobs import Ended, Job, make_bare_python, start_runner, wait

IMAGE = "r.example/kinetic/packages@sha256:" + "0" * 64
SPEC = {"image": IMAGE, "identity": "abc"}
SOURCE = """
    import json, os, subprocess, sys
    def main():
        import paint, extra
        child = subprocess.run(
            [sys.executable, "-c", "import paint, extra; print(paint.COLOUR, extra.NAME)"],
            capture_output=True, text=True)
        command = subprocess.run(["paint-it"], capture_output=True, text=True)
        told = {name: os.environ.get(name) for name in ("XDG_DATA_DIRS", "KINETIC_PACKAGES")}
        return paint.COLOUR, extra.NAME, child.stdout, command.stdout, told
"""


def make_volume(root: Path, identity: str = "abc") -> Path:
    """Make the tree of an image with a package, a command, a `.pth` file and a data file."""
    site = root / "usr/local/lib/python3/site-packages"
    scripts, share = root / "usr/local/bin", root / "usr/local/share/paint"
    for directory in (site / "more", scripts, share):
        directory.mkdir(parents=True)
    (root / "kinetic.json").write_text(json.dumps({"identity": identity}))
    (site / "paint.py").write_text("COLOUR = 'red 1.0'\n")
    (site / "paint.pth").write_text("more\n")
    (site / "more" / "extra.py").write_text("NAME = 'extra'\n")
    (scripts / "paint-it").write_text("#!/bin/sh\necho painted\n")
    (scripts / "paint-it").chmod(0o755)
    (share / "colours.txt").write_text("red\n")
    return root


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return make_volume(tmp_path / "volume")


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an image that has cloudpickle, and an older version of the package."""
    python = make_bare_python(tmp_path / "image", with_cloudpickle=True)
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    (packages / "paint.py").write_text("COLOUR = 'red 0.9'\n")
    return python


def run(tmp_path: Path, python: Path, identity: str = "abc", **variables: str) -> tuple[Job, Ended]:
    job = Job(tmp_path / "store", source=SOURCE)
    job.changes = {"packages": PackagesSpec(image=IMAGE, identity=identity)}
    launch = {**job.write(), "PATH": "/usr/bin:/bin", **variables}
    return job, wait(start_runner(launch, python=python))


def test_mounted_packages_come_before_the_images_here_and_in_started_processes(
    tmp_path: Path, python: Path, volume: Path
) -> None:
    job, ended = run(tmp_path, python, KINETIC_PACKAGES=str(volume))
    assert ended.exit_code == 0, ended.output
    share = volume / "usr/local/share"
    assert job.value() == (
        "red 1.0",
        "extra",
        "red 1.0 extra\n",
        "painted\n",
        {"XDG_DATA_DIRS": f"{share}:/usr/local/share:/usr/share", "KINETIC_PACKAGES": None},
    )
    assert "the project's packages are mounted: nothing is installed" in ended.output


def test_another_image_than_the_jobs_runs_nothing(
    tmp_path: Path, python: Path, volume: Path
) -> None:
    job, ended = run(tmp_path, python, identity="xyz", KINETIC_PACKAGES=str(volume))
    assert ended.exit_code == EXIT_REQUIREMENTS_FAILED
    message = job.envelope().header.message
    assert message == (
        f"what is mounted at {volume} is not {IMAGE}: it says 'abc' where the job says 'xyz'"
    )


def refused(environ: dict[str, str], spec: dict[str, Any] = SPEC) -> str:
    with pytest.raises(Fault) as caught:
        runner.mounted_packages(spec, environ)
    assert caught.value.exit_code == EXIT_REQUIREMENTS_FAILED
    return caught.value.message


def test_an_empty_directory_in_place_of_the_image_says_what_to_do(tmp_path: Path) -> None:
    # As an API server makes it that never heard of such volumes.
    message = refused({"KINETIC_PACKAGES": str(tmp_path)})
    assert message.startswith(f"{IMAGE} is not mounted at {tmp_path}")
    assert "KINETIC_PREBUILT=install" in message


def test_a_pod_that_is_not_told_where_says_so() -> None:
    assert refused({}) == f"KINETIC_PACKAGES must say where {IMAGE} is mounted"


@pytest.mark.parametrize("text", ["", "[]", "{}", "nothing"])
def test_a_marker_that_cannot_be_read_is_refused(volume: Path, text: str) -> None:
    (volume / "kinetic.json").write_text(text)
    assert "kinetic.json of what is mounted" in refused({"KINETIC_PACKAGES": str(volume)})


def test_a_mount_that_lets_nothing_be_executed_is_refused(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To mount it so takes rights that tests do not have.
    flags = [*os.statvfs(volume)]
    flags[8] |= os.ST_NOEXEC
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(flags))
    message = refused({"KINETIC_PACKAGES": str(volume)})
    assert "noexec" in message
    assert "KINETIC_PREBUILT=install" in message


def test_libraries_and_jupyters_files_are_found_where_there_are_any(volume: Path) -> None:
    environ = {"KINETIC_PACKAGES": str(volume), "LD_LIBRARY_PATH": "/driver"}
    assert "LD_LIBRARY_PATH" not in runner.mounted_packages(SPEC, environ).variables
    prefix = volume / "usr/local"
    (prefix / "lib" / "libtbb.so.12").touch()
    (prefix / "share" / "jupyter").mkdir()
    found = runner.mounted_packages(SPEC, environ).variables
    assert found["LD_LIBRARY_PATH"] == f"{prefix}/lib:/driver"
    assert found["JUPYTER_PATH"] == f"{prefix}/share/jupyter"


def test_a_volume_may_be_read_only(tmp_path: Path, python: Path, volume: Path) -> None:
    for path in (volume, *volume.rglob("*")):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        job, ended = run(tmp_path, python, KINETIC_PACKAGES=str(volume))
    finally:
        for path in (volume, *volume.rglob("*")):
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert ended.exit_code == 0, ended.output
    assert job.value()[0] == "red 1.0"
