"""Data of runs on the loopback cloud, whose pods are processes: sent once, found by every run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from projects import make_project

import kinetic
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core.errors import PackagingError, UsageError
from loopback.__main__ import JOBS_BUCKET
from loopback.hub import HubServer
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import kinetic

    @kinetic.run(accelerator="cpu")
    def read(*sources):
        found = {}
        for source in sources:
            files = [source] if source.is_file() else source.rglob("*")
            found |= {file.name: file.read_text() for file in files if file.is_file()}
        return found

    @kinetic.run(accelerator="cpu")
    def lines(table):
        return len(table.read_text().splitlines())
"""


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer().start()
    yield server
    server.stop()


@pytest.fixture
def functions(
    quick_cloud: QuickCloud,
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[ModuleType]:
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    project = make_project(tmp_path / "project", monkeypatch, {"data_functions.py": FUNCTIONS})
    yield project.module("data_functions")
    sys.modules.pop("data_functions", None)


@pytest.fixture
def store(quick_cloud: QuickCloud) -> Iterator[GoogleStore]:
    endpoint = quick_cloud.environment["STORAGE_EMULATOR_HOST"]
    with closing(GoogleStore(JOBS_BUCKET, endpoint=endpoint)) as store:
        yield store


@pytest.fixture
def images(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    (images / "cats").mkdir(parents=True)
    (images / "cats" / "one.txt").write_text("a cat")
    (images / "labels.csv").write_text("one,cat\n")
    return images


def test_runs_read_files_of_this_machine_of_the_hub_and_of_buckets(
    functions: ModuleType, hub: HubServer, store: GoogleStore, images: Path
) -> None:
    hub.commit("dataset", "o/set", {"hub.txt": b"from the hub"})
    store.put_if_absent("elsewhere/bucket.txt", b"from a bucket")
    data = (
        kinetic.Data(images),
        kinetic.Data("hf://datasets/o/set"),
        kinetic.Data(f"gs://{JOBS_BUCKET}/elsewhere/bucket.txt"),
    )
    planned = functions.read.plan(*data)
    assert [item.how for item in planned.data] == ["sent", "fetched", "fetched"]
    assert planned.data[0].unsent_bytes == 13
    assert not list(store.list("data/"))
    reading = functions.read.with_options(cache_for=True)
    run = reading.submit(*data)
    expected = {
        "one.txt": "a cat",
        "labels.csv": "one,cat\n",
        "hub.txt": "from the hub",
        "bucket.txt": "from a bucket",
    }
    assert run.result(timeout_seconds=120) == expected
    assert functions.read.plan(*data).data[0].unsent_bytes == 0
    assert run.retry().result(timeout_seconds=120) == expected
    assert reading(*data) == expected
    assert kinetic.list_runs(state="cached", limit=1)[0].result() == expected
    (images / "labels.csv").write_text("one,dog\n")
    assert reading(*data)["labels.csv"] == "one,dog\n"


def test_inputs_of_a_sweep_have_data_of_their_own(functions: ModuleType, tmp_path: Path) -> None:
    tables = []
    for number in range(1, 4):
        (tmp_path / f"table-{number}").write_text("line\n" * number)
        tables.append(kinetic.Data(tmp_path / f"table-{number}"))
    assert list(functions.lines.map(tables).results()) == [1, 2, 3]


def test_what_is_not_there_ends_a_call_before_anything_is_sent(
    functions: ModuleType, store: GoogleStore, images: Path
) -> None:
    before = {info.name for info in store.list("packs/")}
    with pytest.raises(UsageError, match="does not exist, or is private"):
        functions.read(kinetic.Data(images), kinetic.Data("hf://models/o/missing"))
    (images / "empty").mkdir()
    with pytest.raises(PackagingError, match="there is no file in it"):
        functions.read(kinetic.Data(images / "empty"))
    assert {info.name for info in store.list("packs/")} == before


def test_a_deployment_has_its_files_and_takes_buckets_as_they_are_then(
    functions: ModuleType, store: GoogleStore, images: Path
) -> None:
    deployed = functions.lines.with_options(
        volumes={"/images": kinetic.Data(images), "/set": kinetic.Data(f"gs://{JOBS_BUCKET}/x")}
    ).deploy("nightly")
    try:
        jobs = [info.name for info in store.list("deployments/") if info.name.endswith("job.json")]
        job = json.loads(store.get(jobs[-1]).data)
        own, elsewhere = job["data"]
        assert not store.missing([own["manifest"]["name"]])
        assert elsewhere["identity"] == ""
    finally:
        deployed.delete()
