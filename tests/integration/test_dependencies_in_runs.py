"""Dependencies as a person meets them: in plans, in Prefect, and never with a credential."""

from __future__ import annotations

import base64
import gzip
import json
import os
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect_http import PREFECT
from projects import Project, make_project

from corpus.dependencies.simple_index import SimpleIndex, serve, wheel
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.errors import DependencyError, LockError

TOKEN = "tok-only-in-runs-9876543210"
BASIC = base64.b64encode(f"joe:{TOKEN}".encode())

FUNCTIONS = """
    import kinetic

    @kinetic.run()
    def sauce():
        import secretsauce
        return secretsauce.__name__

    @kinetic.run(requirements=["nowhere-to-be-found-in-any-index"])
    def nowhere():
        pass

    @kinetic.run()
    def nothing():
        pass

    @kinetic.run(requirements=[])
    def modern():
        import keras
        return keras.__version__

    @kinetic.run()
    def release():
        from importlib import metadata
        (command,) = metadata.entry_points(group="console_scripts", name="dependent")
        return metadata.version("dependent"), command.value
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    sys.modules.pop("dependent", None)
    yield make_project(tmp_path / "project", monkeypatch, {"dependent.py": FUNCTIONS})
    sys.modules.pop("dependent", None)


@pytest.fixture
def private_index() -> Iterator[SimpleIndex]:
    with serve([wheel("secretsauce", "1.0")], login=("joe", TOKEN)) as served:
        yield served


def _asked(api_url: str, route: str, **body: Any) -> Any:
    return PREFECT.post(f"{api_url}/{route}", json=body).json()


# ---------------------------------------------------------------- plans


def test_a_plan_names_what_declares_the_dependencies_when_it_is_no_file(project: Project) -> None:
    remote = project.module("dependent").nothing
    plan = remote.with_options(requirements=[]).plan()
    assert plan.dependency_file is None
    assert plan.dependency_source == "requirements="
    assert "dependencies  requirements=, " in plan.explain()


def test_an_import_that_no_dependency_has_is_told_before_launch_and_refused_where_that_is_strict(
    project: Project, prefect_api_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    modern = project.module("dependent").modern
    sentence = "dependent.py imports keras, which is not among the dependencies (requirements=)"
    assert [line for line in modern.plan().warnings if sentence in line]
    assert not [
        line
        for line in modern.with_options(requirements=["six", "keras-nightly"]).plan().warnings
        if "imports" in line
    ]
    monkeypatch.setenv("KINETIC_STRICT_IMPORTS", "1")
    for refused in (modern.plan, modern):
        with pytest.raises(DependencyError, match="add keras to the list"):
            refused()


def test_a_later_plan_says_what_changed_since_the_environment_that_was_made(
    project: Project, prefect_api_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = project.module("dependent").nothing
    with serve([wheel("alpha", "1.0"), wheel("alpha", "1.1")]) as served:
        monkeypatch.setenv("UV_INDEX", served.url)
        project.write({"requirements.txt": "alpha==1.0\n"})
        remote()
        project.write({"requirements.txt": "alpha==1.1\n"})
        plan = remote.plan()
    assert plan.why == ("alpha 1.0 → 1.1",)
    assert "why  alpha 1.0 → 1.1\n" in plan.explain() + "\n"


# ---------------------------------------------------------------- in Prefect


def test_every_run_shows_its_environment_and_the_changes_as_an_artifact(
    project: Project, prefect_api_url: str
) -> None:
    remote = project.module("dependent").nothing
    for _ in range(2):
        remote()
    found = _asked(
        prefect_api_url,
        "artifacts/filter",
        artifacts={"key": {"any_": ["environment"]}},
        sort="CREATED_DESC",
        limit=2,
    )
    second, first = found
    assert first["flow_run_id"] != second["flow_run_id"]
    assert "`first environment of this project on this machine`" in first["description"]
    assert "first environment" not in second["description"]
    [row] = json.loads(second["data"])
    assert row["package"] == "cloudpickle"
    assert row["before"] == row["version"]


def test_a_run_knows_its_projects_version_and_a_new_one_is_no_new_environment(
    project: Project, prefect_api_url: str
) -> None:
    text = '[project]\nname = "dependent"\nversion = "%s"\nscripts.dependent = "dependent:main"\n'
    remote = project.module("dependent").release
    environments = set()
    for version in ("1.0", "1.1"):
        project.write({"pyproject.toml": text % version})
        assert remote() == (version, "dependent:main")
        environments.add(remote.plan().image)
    assert len(environments) == 1


# ---------------------------------------------------------------- credentials


WAYS = ["named index", "variable in the file", "url in the environment"]


@pytest.mark.parametrize("way", WAYS)
def test_a_private_index_leaves_its_token_nowhere_after_a_call(
    project: Project,
    private_index: SimpleIndex,
    prefect_server: BackgroundServer,
    prefect_api_url: str,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    text = "secretsauce\n"
    if way == "named index":
        monkeypatch.setenv("UV_INDEX", f"sauce={private_index.url}")
        monkeypatch.setenv("UV_INDEX_SAUCE_USERNAME", "joe")
        monkeypatch.setenv("UV_INDEX_SAUCE_PASSWORD", TOKEN)
    elif way == "url in the environment":
        monkeypatch.setenv("UV_EXTRA_INDEX_URL", private_index.url_with_login())
    else:
        address = private_index.url.replace("http://", "http://joe:${SAUCE_TOKEN}@")
        text = f"--extra-index-url {address}\n{text}"
        monkeypatch.setenv("SAUCE_TOKEN", TOKEN)
    project.write({"requirements.txt": text})
    module = project.module("dependent")

    assert module.sauce() == "secretsauce"
    with pytest.raises(LockError, match="nowhere-to-be-found") as caught:
        module.nowhere()

    _wait_for_logs(prefect_api_url, str(project.root))
    shown = capfd.readouterr()
    assert "requirements.txt: 2 packages" in shown.err
    assert not _holds_token((shown.out + shown.err + str(caught.value)).encode())
    for place in (prefect_server.directory, Path(os.environ["KINETIC_HOME"])):
        files = [path for path in place.rglob("*") if path.is_file()]
        assert len(files) > 3
        assert [str(path) for path in files if _holds_token_inside(path)] == []


def test_the_search_for_a_token_finds_one(tmp_path: Path) -> None:
    for name, data in {
        "plain": TOKEN.encode(),
        "basic": BASIC,
        "packed": gzip.compress(TOKEN.encode()),
    }.items():
        (tmp_path / name).write_bytes(b"" if name == "packed" else b"before ")
        with (tmp_path / name).open("ab") as file:
            file.write(data)
    with zipfile.ZipFile(tmp_path / "zipped", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", TOKEN * 10)
    found = {path.name for path in tmp_path.iterdir() if _holds_token_inside(path)}
    assert found == {"plain", "basic", "packed", "zipped"}


def _wait_for_logs(api_url: str, text: str) -> None:
    """Wait until Prefect's server has the logs of the calls in a project."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        logs = _asked(api_url, "logs/filter", sort="TIMESTAMP_DESC", limit=200)
        if any(text in log["message"] for log in logs) and any(
            "nowhere-to-be-found" in log["message"] for log in logs
        ):
            return
        time.sleep(0.2)
    raise AssertionError(f"no log says {text!r}")


def _holds_token(data: bytes) -> bool:
    return TOKEN.encode() in data or BASIC in data


def _holds_token_inside(path: Path) -> bool:
    """Whether a file holds the token, as it is or in what is compressed in it."""
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        data += zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            data += b"".join(archive.read(name) for name in archive.namelist())
    return _holds_token(data)
