"""Data of runs on this machine: fetched with what the client may read, and kept for all runs."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from projects import make_project

import kinetic
from kinetic_flows.core.errors import RunCrashed
from loopback.hub import HubServer
from loopback.storage import StorageServer

pytest_plugins = ["loopback.fixtures"]

FUNCTIONS = """
    import os

    import kinetic

    @kinetic.run
    def read(*sources):
        found = {}
        for source in sources:
            files = [source] if source.is_file() else source.rglob("*")
            found |= {file.name: file.read_text() for file in files if file.is_file()}
        told = sorted({"HF_TOKEN", "KINETIC_CLIENT", "KINETIC_DATA_CACHE"} & os.environ.keys())
        return found, told, [str(source) for source in sources]
"""


@pytest.fixture
def functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api_url: str
) -> Iterator[ModuleType]:
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "home"))
    project = make_project(tmp_path / "project", monkeypatch, {"local_data.py": FUNCTIONS})
    yield project.module("local_data")
    sys.modules.pop("local_data", None)


def test_what_is_elsewhere_is_fetched_as_this_user_and_kept_for_other_runs(
    functions: ModuleType,
    hub: HubServer,
    storage_server: StorageServer,
    bucket_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run's own environment has nothing of Google's, and no token."""
    files = {"hub.txt": b"from the hub", "large.txt": b"from its other server"}
    readers = frozenset({"hf_reader"})
    hub.commit("dataset", "o/set", files, large=frozenset({"large.txt"}), readers=readers)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage_server.url)
    storage_server.create_bucket(bucket_name)
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    client.bucket(bucket_name).blob("deep/bucket.txt").upload_from_string("from a bucket")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "here.txt").write_text("from here")
    web = f"{hub.url}/datasets/o/open/resolve/main/web.txt"
    hub.commit("dataset", "o/open", {"web.txt": b"from the web"})
    data = (
        kinetic.Data("hf://datasets/o/set"),
        kinetic.Data(f"gs://{bucket_name}/deep"),
        kinetic.Data(web, sha256=hashlib.sha256(b"from the web").hexdigest()),
        kinetic.Data(tmp_path / "here"),
    )
    found, told, paths = functions.read(*data)
    assert found == {
        "hub.txt": "from the hub",
        "large.txt": "from its other server",
        "bucket.txt": "from a bucket",
        "web.txt": "from the web",
        "here.txt": "from here",
    }
    assert told == []
    assert [Path(path).is_relative_to(tmp_path / "home" / "data") for path in paths] == [
        *[True] * 3,
        False,
    ]
    asked = len(hub.network.requests)
    assert functions.read(*data) == (found, told, paths)
    assert len(hub.network.requests) == asked


def test_data_that_cannot_be_had_is_named(
    functions: ModuleType, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit("model", "o/open", {"web.txt": b"from the web"})
    url = f"{hub.url}/o/open/resolve/main/web.txt"
    with pytest.raises(RunCrashed) as caught:
        functions.read(kinetic.Data(url, sha256="1" * 64))
    found = hashlib.sha256(b"from the web").hexdigest()
    assert f"{url} is refused: its SHA-256 is {found}, not {'1' * 64}" in str(caught.value)
    assert not list((Path(os.environ["KINETIC_HOME"]) / "data").glob("*/whole"))
