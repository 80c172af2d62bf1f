"""Secrets of every kind: in the run, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest
from prefect_workers import RunningWorker, a_cluster_worker, install_work_pool
from projects import Project, make_project

import kinetic
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.deployments import PrefectDeployments
from kinetic_flows.clients.prefect.records import environment_of
from kinetic_flows.clients.prefect.secret_blocks import SecretBlocks
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.errors import LaunchError, RunCrashed, SecretError
from kinetic_flows.core.job import COMPILE_CACHE_BLOCK_VARIABLE
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.cloud_names import WORK_POOL
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL
from kinetic_flows.runs.cleanup import find_expired, remove
from kinetic_flows.runs.sealed_values import BLOCK_PREFIX
from kinetic_flows.runs.session import own_session
from loopback.__main__ import BUILDS_BUCKET, JOBS_BUCKET, PROJECT
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import hashlib, logging, os, sys
    import kinetic

    NAMES = ("FROM_MANAGER", "FROM_CLUSTER", "FROM_BLOCK", "FROM_HERE", "WANDB_API_KEY")

    @kinetic.run(
        accelerator="cpu",
        capture_env_vars=["WANDB_*"],
        secrets={
            "FROM_MANAGER": "secret-manager:kn-token",
            "FROM_CLUSTER": "k8s:kn-secret/key",
            "FROM_BLOCK": "prefect:kn-block",
            "FROM_HERE": "env:KN_HERE",
        },
    )
    def digest(raises: bool = False):
        for name in NAMES:
            print(name, os.environ[name], flush=True)
            print(name, os.environ[name], file=sys.stderr, flush=True)
            logging.warning("%s is %s", name, os.environ[name])
        print("project", os.environ["WANDB_PROJECT"])
        if raises:
            raise ValueError(f"no good: {os.environ['FROM_BLOCK']}")
        return [hashlib.sha256(os.environ[name].encode()).hexdigest() for name in NAMES]

    @kinetic.run(accelerator="cpu", secrets={"FROM_BLOCK": "prefect:kn-block"})
    def echo():
        return {"token": os.environ["FROM_BLOCK"]}
"""


@pytest.fixture
def values(
    api: PrefectApi, quick_cloud: QuickCloud, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """A value of each kind, where its kind has it."""
    names = ("FROM_MANAGER", "FROM_CLUSTER", "FROM_BLOCK", "FROM_HERE", "WANDB_API_KEY")
    made = {name: f"{name.lower()}-{uuid4().hex}" for name in names}
    blocks = SecretBlocks(api)
    blocks.delete(["kn-block"])
    assert blocks.keep("kn-block", made["FROM_BLOCK"]) == made["FROM_BLOCK"]
    monkeypatch.setenv("KN_HERE", made["FROM_HERE"])
    monkeypatch.setenv("WANDB_API_KEY", made["WANDB_API_KEY"])
    monkeypatch.setenv("WANDB_PROJECT", "of cats")
    cluster = quick_cloud.cluster
    if "kn-secret" not in [item["metadata"]["name"] for item in cluster.list("secrets")]:
        cluster.add_secret("kn-secret", {"key": ""})
    encoded = base64.b64encode(made["FROM_CLUSTER"].encode()).decode()
    cluster.change("secrets", "kn-secret", lambda item: item.update(data={"key": encoded}))
    name = f"projects/{PROJECT}/secrets/kn-token"
    quick_cloud.secrets.add_bytes(name, made["FROM_MANAGER"].encode())
    return made


@pytest.fixture
def project(
    values: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shared_kinetic_home: Path,
) -> Project:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    # What local runs leave of theirs while they run, and what they should not.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delitem(sys.modules, "secret_functions", raising=False)
    return make_project(tmp_path / "project", monkeypatch, {"secret_functions.py": FUNCTIONS})


@pytest.fixture
def functions(project: Project) -> ModuleType:
    return project.module("secret_functions")


@pytest.fixture
def on_cluster(quick_cloud: QuickCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def on_this_machine(quick_cloud: QuickCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = quick_cloud.environment["KINETIC_SECRET_MANAGER_ENDPOINT"]
    monkeypatch.setenv("KINETIC_SECRET_MANAGER_ENDPOINT", endpoint)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)


@pytest.fixture(scope="module")
def cluster_worker(
    quick_cloud: QuickCloud,
    prefect_server: BackgroundServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningWorker]:
    record = prefect_server.status()
    assert record is not None
    install_work_pool(record.api_url, WORK_POOL)
    served = prefect_server.environment(record)
    kubeconfig = quick_cloud.cluster.kubeconfig()
    with a_cluster_worker(WORK_POOL, served, tmp_path_factory.mktemp("worker"), kubeconfig) as it:
        yield it


@dataclass(frozen=True, kw_only=True)
class Rest:
    """Everything that is at rest after a run, Secrets of the cluster excepted."""

    prefect: Path
    home: Path
    scratch: Path
    cloud: QuickCloud

    def texts(self) -> Iterator[tuple[str, bytes]]:
        for place in (self.prefect, self.home, self.scratch, self.cloud.directory):
            for path in (each for each in place.rglob("*") if each.is_file()):
                # Somebody may take a file away meanwhile: a journal of the database.
                with suppress(FileNotFoundError):
                    yield str(path), path.read_bytes()
        for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
            store = GoogleStore(bucket, endpoint=self.cloud.storage.url)
            for info in store.list(""):
                yield f"gs://{bucket}/{info.name}", store.get(info.name).data
        for kind in ("jobs", "pods", "events"):
            yield kind, json.dumps(self.cloud.cluster.list(kind)).encode()

    def holding(self, values: Mapping[str, str]) -> list[str]:
        """Return where values are found, as they are or in base64."""
        forms = {
            name: (value.encode(), base64.b64encode(value.encode())[:40])
            for name, value in values.items()
        }
        return [
            f"{name} in {where}"
            for where, text in self.texts()
            for name, both in forms.items()
            if any(form in text for form in both)
        ]


@pytest.fixture
def rest(
    prefect_server: BackgroundServer,
    shared_kinetic_home: Path,
    tmp_path: Path,
    quick_cloud: QuickCloud,
) -> Rest:
    return Rest(
        prefect=prefect_server.directory,
        home=shared_kinetic_home,
        scratch=tmp_path,
        cloud=quick_cloud,
    )


def _digests(values: Mapping[str, str]) -> list[str]:
    return [hashlib.sha256(value.encode()).hexdigest() for value in values.values()]


def _logged(api: PrefectApi, run_id: str) -> str:
    return "\n".join(line.message for line in api.logs(run_id))


def test_the_search_finds_what_is_there(
    functions: ModuleType, rest: Rest, values: dict[str, str], on_this_machine: None
) -> None:
    """What a function returns is its own affair, and is how we know that we look well."""
    assert functions.echo() == {"token": values["FROM_BLOCK"]}
    (found,) = rest.holding(values)
    assert re.fullmatch(r"FROM_BLOCK in .*/store/runs/[^/]+/result.pkl", found)


def test_nothing_is_left_of_secrets_on_this_machine(
    functions: ModuleType,
    rest: Rest,
    values: dict[str, str],
    api: PrefectApi,
    on_this_machine: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FROM_CLUSTER", values["FROM_CLUSTER"])
    assert functions.digest() == _digests(values)
    with pytest.raises(ValueError, match=r"no good: \*\*\*"):
        functions.digest(raises=True)
    assert rest.holding(values) == []
    shown = "".join(capfd.readouterr())
    assert "FROM_BLOCK ***" in shown
    assert "project of cats" in shown
    for run in kinetic.list_runs(limit=2):
        assert "FROM_HERE is ***" in _logged(api, run.id)
        assert not any(value in shown + repr(run) + str(run.logs()) for value in values.values())
    assert run.retry().result(timeout_seconds=60) == _digests(values)
    both = functions.digest.map([False, False])
    assert both.results(timeout_seconds=60) == [_digests(values)] * 2
    sealed = [rest.home / "store" / "runs" / each.id / "sealed" for each in both.runs]
    assert len({path.read_bytes() for path in sealed}) == 2, "each run has a key of its own"
    assert rest.holding(values) == []


def test_nothing_is_left_of_secrets_on_a_cluster(
    functions: ModuleType,
    rest: Rest,
    values: dict[str, str],
    api: PrefectApi,
    on_cluster: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert functions.digest() == _digests(values)
    assert rest.holding(values) == []
    assert "FROM_MANAGER ***" in capfd.readouterr().out
    (run,) = kinetic.list_runs(limit=1)
    assert "FROM_CLUSTER is ***" in _logged(api, run.id)
    (secret,) = [
        item
        for item in rest.cloud.cluster.list("secrets")
        if item["metadata"].get("labels", {}).get(RUN_ID_POD_LABEL) == run.id
    ]
    assert "KINETIC_SEAL_KEY" in secret["data"]
    key = base64.b64decode(secret["data"]["KINETIC_SEAL_KEY"])
    assert [where for where, text in rest.texts() if key in text] == []
    kept = json.dumps(secret)
    assert not any(base64.b64encode(each.encode()).decode() in kept for each in values.values())


def test_nothing_is_left_of_secrets_where_a_worker_starts_runs(
    functions: ModuleType,
    rest: Rest,
    values: dict[str, str],
    api: PrefectApi,
    on_cluster: None,
    cluster_worker: RunningWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KINETIC_DISPATCH", "worker")
    digest = functions.digest.with_options(compile_cache=True)
    assert digest() == _digests(values), cluster_worker.log
    deployment = digest.deploy("of-secrets")
    deployed = PrefectDeployments(api).find("digest", "of-secrets")
    assert deployed is not None
    of_programs = environment_of(deployed.job_variables)[COMPILE_CACHE_BLOCK_VARIABLE]
    assert SecretBlocks(api).exists(of_programs)
    run = deployment.run()
    assert run.result(timeout_seconds=120) == _digests(values), cluster_worker.log
    assert rest.holding(values) == []
    assert len(_seal_blocks(api)) == 2
    again = digest.deploy("of-secrets")
    assert again.change == "unchanged"
    monkeypatch.setenv("KN_HERE", "another value of the same variable")
    changed = digest.deploy("of-secrets")
    assert changed.change == "updated", "its runs get what it is now"
    changed.delete()
    assert len(_seal_blocks(api)) == 1, "keys go with what they opened"
    with own_session(NullProgress()) as session:
        later = datetime.now(UTC) + timedelta(hours=2)
        list(remove(find_expired(session, older_than=timedelta(0), now=later), session))
    assert _seal_blocks(api) == []


def _seal_blocks(api: PrefectApi) -> list[str]:
    documents = api.client.read_block_documents_by_type("secret")
    return [str(each.name) for each in documents if str(each.name).startswith(BLOCK_PREFIX)]


def test_what_no_block_can_be_named_after_is_an_error_and_no_key(api: PrefectApi) -> None:
    with pytest.raises(ValueError, match="name"):
        SecretBlocks(api).keep("no name / of a block", "a key")


def test_all_that_is_missing_is_named_before_anything_is_built(
    functions: ModuleType, on_cluster: None, values: dict[str, str]
) -> None:
    lacking = functions.digest.with_options(
        secrets={
            "ONE": "secret-manager:no-token",
            "TWO": "k8s:no-secret/key",
            "THREE": "k8s:kn-secret/no-key",
            "FOUR": "prefect:no-block",
        }
    )
    with pytest.raises(LaunchError) as caught:
        lacking()
    told = caught.value.message
    assert "4 problems" in told
    assert "ONE: there is no secret no-token in project" in told
    assert "TWO: there is no Secret 'no-secret' in namespace 'default'" in told
    assert (
        "THREE: Secret 'kn-secret' in namespace 'default' has no key 'no-key'; it has key" in told
    )
    assert "FOUR: Prefect has no Secret block 'no-block'" in told
    obstacles = "\n".join(lacking.plan().obstacles)
    for name in ("no-token", "no-secret", "no-key", "no-block"):
        assert name in obstacles


def test_what_a_run_may_not_read_is_told_with_the_command_that_lets_it(
    functions: ModuleType,
    on_cluster: None,
    quick_cloud: QuickCloud,
    capfd: pytest.CaptureFixture[str],
) -> None:
    quick_cloud.secrets.denied.add(f"projects/{PROJECT}/secrets/kn-token")
    try:
        with pytest.raises(RunCrashed, match="may not read the secret kn-token") as caught:
            functions.digest()
    finally:
        quick_cloud.secrets.denied.clear()
    assert "roles/secretmanager.secretAccessor" in str(caught.value)
    assert "kn-token" in capfd.readouterr().err, "the client could not look it up, and says so"


def test_missing_secrets_of_this_machine_are_named(
    functions: ModuleType, on_this_machine: None
) -> None:
    with pytest.raises(SecretError) as caught:
        functions.digest.with_options(
            secrets={
                "ONE": "secret-manager:no-token",
                "TWO": "k8s:kn-secret/key",
                "FOUR": "prefect:no-block",
            }
        )()
    told = caught.value.message
    assert "3 secrets cannot be had" in told
    assert "export TWO to have them take what it is" in told


def test_a_plan_names_secrets_and_never_their_values(
    functions: ModuleType, on_cluster: None, values: dict[str, str]
) -> None:
    plan = functions.digest.plan()
    text = plan.explain() + repr(plan) + json.dumps(plan.to_json())
    for source in ("secret-manager:kn-token", "k8s:kn-secret/key", "prefect:kn-block"):
        assert source in text
    assert "env:KN_HERE" in text
    assert not any(value in text for value in values.values())
