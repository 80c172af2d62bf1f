"""Servers that the integration tests share: one of each for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import give_database
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings
from prefect_workers import RunningWorker, a_worker

from kinetic_flows.clients.prefect.api import PrefectApi, connect
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.clients.prefect.work_pools import LOCAL_WORK_POOL
from loopback.quick_cloud import QuickCloud, a_quick_cloud


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackgroundServer]:
    """A real Prefect server with a database of its own."""
    home = tmp_path_factory.mktemp("prefect-server")
    give_database(home)
    server = BackgroundServer(home, os.environ)
    access = server.environment(server.ensure())
    # Tests ask it with Prefect's own client, too, which reads variables only once.
    with temporary_settings({PREFECT_API_AUTH_STRING: access["PREFECT_API_AUTH_STRING"]}):
        yield server
        # What Prefect has to log yet would find no server when this process ends.
        APILogHandler().flush()
    server.stop()


@pytest.fixture(scope="session")
def shared_kinetic_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `KINETIC_HOME` whose environments tests may share, as runs of one person do."""
    return tmp_path_factory.mktemp("kinetic-home")


@pytest.fixture
def prefect_api_url(prefect_server: BackgroundServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The API of the shared server, set as `PREFECT_API_URL` for this test, with its password."""
    record = prefect_server.status()
    assert record is not None, prefect_server.log_file.read_text()
    for name, value in prefect_server.environment(record).items():
        monkeypatch.setenv(name, value)
    return record.api_url


@pytest.fixture
def api(prefect_api_url: str) -> Iterator[PrefectApi]:
    """A connection to the shared server."""
    with connect(prefect_api_url) as connection:
        yield connection


@pytest.fixture(scope="module")
def worker(
    prefect_server: BackgroundServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningWorker]:
    """A process worker of this machine; it makes its work pool if it has to."""
    record = prefect_server.status()
    assert record is not None
    directory = tmp_path_factory.mktemp("worker")
    access = prefect_server.environment(record)
    with a_worker(LOCAL_WORK_POOL, "process", directory, **access) as worker:
        yield worker


@pytest.fixture(scope="module")
def quick_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuickCloud]:
    """A Google Cloud of this machine whose pods are processes."""
    with a_quick_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(params=["local", "cluster"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test twice: with functions running on this machine, and in pods of a cluster."""
    if request.param == "cluster":
        cloud: QuickCloud = request.getfixturevalue("quick_cloud")
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value)
