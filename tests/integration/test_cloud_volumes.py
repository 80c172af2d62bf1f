"""Whole calls whose functions find volumes at paths, in pods of the loopback cloud and here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from projects import make_project

import kinetic
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core.errors import LaunchError, UsageError
from loopback.kubernetes.runtime import MOUNTS
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import os
    import kinetic

    @kinetic.run(accelerator="cpu")
    def look(*paths):
        return [sorted(os.listdir(path)) for path in paths]
"""
BUCKET = "corpus-for-volumes"


@pytest.fixture
def functions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[ModuleType]:
    if subprocess.run([sys.executable, MOUNTS, "[]"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    project = make_project(tmp_path / "project", monkeypatch, {"volume_functions.py": FUNCTIONS})
    yield project.module("volume_functions")
    sys.modules.pop("volume_functions", None)


@pytest.fixture
def cloud(quick_cloud: QuickCloud, monkeypatch: pytest.MonkeyPatch) -> QuickCloud:
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)
    return quick_cloud


@pytest.fixture
def images(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    (images / "cats").mkdir(parents=True)
    (images / "cats" / "one.txt").write_text("a cat")
    (images / "labels.csv").write_text("one,cat\n")
    return images


@pytest.fixture
def corpus(cloud: QuickCloud, tmp_path: Path) -> str:
    """A bucket with a file, which pods of the cluster can mount."""
    cloud.storage.create_bucket(BUCKET)
    endpoint = cloud.environment["STORAGE_EMULATOR_HOST"]
    with closing(GoogleStore(BUCKET, endpoint=endpoint)) as store:
        store.put_if_absent("c4/en/0.txt", b"text")
    (tmp_path / "bucket" / "c4" / "en").mkdir(parents=True)
    (tmp_path / "bucket" / "c4" / "en" / "0.txt").write_text("text")
    cloud.cluster.buckets.directories[BUCKET] = tmp_path / "bucket"
    cloud.cluster.add_fuse_driver()
    return f"gs://{BUCKET}/c4"


def test_a_pod_finds_what_its_call_says_and_so_does_the_run_that_repeats_it(
    cloud: QuickCloud, functions: ModuleType, images: Path, corpus: str
) -> None:
    claimed = functions.look.with_options(volumes={"/kinetic-test/d": "pvc:team-disk"})
    with pytest.raises(LaunchError, match="there is no PersistentVolumeClaim 'team-disk'"):
        claimed("/kinetic-test/d")
    cloud.cluster.add_claim("team-disk")
    look = functions.look.with_options(
        volumes={
            "/kinetic-test/images": kinetic.Data(images),
            "/kinetic-test/c4": kinetic.Data(corpus, mode="mount"),
            "/kinetic-test/s": "scratch:1Gi",
            "/kinetic-test/d": "pvc:team-disk:ro",
        }
    )
    paths = [f"/kinetic-test/{name}" for name in ("images", "c4", "s", "d")]
    mounted = kinetic.Data(f"{corpus}/en", mode="mount")
    run = look.submit(*paths, mounted)
    found = [["cats", "labels.csv"], ["en"], [], [], ["0.txt"]]
    assert run.result() == found
    assert run.retry().result() == found
    plan = look.plan(*paths, mounted)
    assert plan.obstacles == ()
    assert [line for line in plan.notices if "roles/storage.objectViewer" in line]
    assert "volume_5" in plan.job_variables


def test_here_the_same_paths_are_there_and_a_claim_is_refused(
    functions: ModuleType, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = {"/kinetic-test/images": kinetic.Data(images), "/kinetic-test/s": "scratch:1Gi"}
    look = functions.look.with_options(volumes=volumes)
    assert look(*volumes) == [["cats", "labels.csv"], []]
    assert not Path("/kinetic-test").exists()
    with pytest.raises(UsageError, match="a PersistentVolumeClaim, and runs are on this machine"):
        functions.look.with_options(volumes={"/kinetic-test/d": "pvc:team-disk"})("/d")
