"""Wheels of everything a project locks, so that a pod needs no index: found, held to the lock."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from prefect_workers import eventually

from corpus.dependencies.simple_index import SimpleIndex, sdist, serve, wheel
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core.errors import LockError
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.dependencies.installation import Installation, upload_installation
from kinetic_flows.dependencies.lockfile import LockedPackage
from kinetic_flows.dependencies.targets import cloud_target
from kinetic_flows.dependencies.wheels import LocalWheel, WheelCache, local_wheels
from loopback.storage_wire import WireStorage
from loopback.wire import Fault

pytest_plugins = ["loopback.fixtures"]

ALPHA = wheel("alpha", "1.0")
SOURCES = sdist("onlysources", "2.0")
TARGET = cloud_target("cpu", "3.11", base_lock="", base_identity="base")


def locked(name: str, version: str, content: bytes) -> LockedPackage:
    return LockedPackage(name=name, version=version, hashes=(f"sha256:{sha256_hex(content)}",))


@pytest.fixture(scope="module")
def index() -> Iterator[SimpleIndex]:
    with serve((ALPHA, SOURCES, wheel("alpha", "2.0"))) as served:
        yield served


@pytest.fixture
def cache(index: SimpleIndex, tmp_path: Path) -> WheelCache:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "nobody"),
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
        "UV_DEFAULT_INDEX": index.url,
        "UV_PYTHON_DOWNLOADS": "never",
    }
    project, home = tmp_path / "project", tmp_path / "home"
    project.mkdir()
    return WheelCache(target=TARGET, project_root=project, home=home, environ=environ)


def test_every_package_becomes_a_wheel_and_sources_are_built_here(cache: WheelCache) -> None:
    packages = (locked("alpha", "1.0", ALPHA[1]), locked("onlysources", "2.0", SOURCES[1]))

    alpha, built = cache.ship(packages)

    assert alpha.hashes == packages[0].hashes
    assert alpha.wheel is not None
    assert alpha.wheel.filename == ALPHA[0]
    assert built.wheel is not None
    assert built.wheel.filename == "onlysources-2.0-py3-none-any.whl"
    assert built.hashes != packages[1].hashes, "the lock names the wheel, not its sources"
    for item in local_wheels((alpha, built), home=cache.home):
        assert sha256_hex(item.path.read_bytes()) == item.sha256


def test_a_file_that_the_lock_does_not_allow_is_never_taken(cache: WheelCache) -> None:
    with pytest.raises(LockError, match=r"no file that the lock allows for alpha 1\.0") as raised:
        cache.ship((locked("alpha", "1.0", b"another file"),))

    assert "--upgrade" in str(raised.value)


INTERRUPTED = """
import pickle, sys
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.dependencies.installation import upload_installation

try:
    with open(sys.argv[1], "rb") as file:
        installation = pickle.load(file)
    upload_installation(installation, GoogleStore("wheels", endpoint=sys.argv[2]))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """Eight wheels that come along."""
    wheels = []
    for number in range(8):
        name, content = wheel(f"package{number}", "1.0")
        path = tmp_path / name
        path.write_bytes(content)
        size, digest = len(content), sha256_hex(content)
        wheels.append(LocalWheel(filename=name, sha256=digest, size_bytes=size, path=path))
    return Installation(packages=(), wheels=tuple(wheels), offline=True, constraints=None)


def test_an_upload_that_was_interrupted_leaves_whole_objects_and_is_finished_by_the_next(
    installation: Installation, wire_storage: WireStorage, tmp_path: Path
) -> None:
    wire_storage.create_bucket("wheels")
    pickled = tmp_path / "installation.pkl"
    pickled.write_bytes(pickle.dumps(installation))
    stalled = Fault(kind="stall", method="POST", pause_seconds=2)
    with wire_storage.server.fault(stalled):
        command = [sys.executable, "-c", INTERRUPTED, str(pickled), wire_storage.url]
        with subprocess.Popen(command) as process:
            eventually(lambda: stalled.times == 0, seconds=60)
            process.send_signal(signal.SIGINT)
        assert process.returncode == 130

    with closing(GoogleStore("wheels", endpoint=wire_storage.url)) as store:
        assert not list(store.list("requirements/")), "the lock comes last"
        there = [info.size_bytes for info in store.list("wheels/")]
        upload = upload_installation(installation, store)
        assert upload.bytes_uploaded == sum(
            (*(item.size_bytes for item in installation.wheels), upload.spec.lock.size_bytes)
        ) - sum(there)
        for ref in (upload.spec.lock, *upload.spec.wheels):
            assert sha256_hex(store.get(ref.name).data) == ref.sha256


def test_what_ships_already_is_left_as_it_is(cache: WheelCache) -> None:
    (shipped,) = cache.ship((locked("alpha", "1.0", ALPHA[1]),))
    offline = replace(cache, environ={**cache.environ, "UV_DEFAULT_INDEX": "http://127.0.0.1:9"})

    assert offline.ship((shipped,)) == (shipped,)
