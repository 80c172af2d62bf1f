"""What a deployment's runs need is kept as a whole, and goes when nothing needs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.errors import ObjectNotFoundError
from kinetic_flows.core.job import CodeSpec, JobTemplate, StoredTemplate, sha256_hex
from kinetic_flows.core.job_parts import ObjectRef, RequirementsSpec
from kinetic_flows.core.job_reading import read_job
from kinetic_flows.core.object_names import deployment_prefix, deployment_prefix_of
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.deployment_objects import deploy_job, known_prefix, remove_objects

PREFIX = deployment_prefix("train", "every night", "5b0c79a2")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def put(store: LocalStore, name: str, data: bytes) -> ObjectRef:
    store.put_if_absent(name, data)
    return ObjectRef(name=name, sha256=sha256_hex(data), size_bytes=len(data))


def a_job(store: LocalStore, payload: bytes) -> StoredTemplate:
    template = JobTemplate(
        name="train",
        python="3.11",
        runner=put(store, "runners/1.pyz", b"runner"),
        code=CodeSpec(
            packs=(put(store, "packs/1", b"one"), put(store, "packs/2", b"two")),
            manifest=put(store, "packs/1.json", b"{}"),
        ),
        requirements=RequirementsSpec(
            lock=put(store, "locks/1.txt", b"lock"),
            wheels=(put(store, "wheels/1/a-1-py3-none-any.whl", b"wheel"),),
        ),
        payload_sha256=sha256_hex(payload),
        payload_size_bytes=len(payload),
    )
    return StoredTemplate(template=template, payload_name="jobs/1.pkl", outputs="outputs")


CALL = {"jobs/1.pkl": b"call"}


def changed(job: StoredTemplate, **changes: Any) -> StoredTemplate:
    return replace(job, template=replace(job.template, **changes))


def test_a_deployed_job_needs_nothing_outside_its_own_version(store: LocalStore) -> None:
    job = a_job(store, b"call")
    deployed = deploy_job(job, CALL, PREFIX, store)
    for name in ("runners/", "packs/", "locks/", "wheels/"):
        remove_objects(store, name)
    data = store.get(deployed.name).data
    assert sha256_hex(data) == deployed.digest
    stored = read_job(data)
    found = stored.template
    assert stored.payload_name.startswith(deployed.version_prefix)
    assert sha256_hex(store.get(stored.payload_name).data) == found.payload_sha256
    assert found.code is not None
    assert found.requirements is not None
    kept = [found.runner, found.code.manifest, *found.code.packs]
    for ref in (*kept, found.requirements.lock, *found.requirements.wheels):
        assert ref.name.startswith(deployed.version_prefix)
        assert sha256_hex(store.get(ref.name).data) == ref.sha256
    assert found.content_digest() == deployed.content_digest
    (wheel,) = found.requirements.wheels
    assert wheel.name.endswith("/a-1-py3-none-any.whl"), "uv reads a wheel's name"


def test_where_somebody_has_the_project_makes_no_other_version(store: LocalStore) -> None:
    job = a_job(store, b"call")
    code = job.template.code
    assert code is not None
    versions = {
        deploy_job(changed(job, code=replace(code, root=root)), CALL, PREFIX, store).digest
        for root in ("/home/me/project", "/builds/123/project")
    }
    assert len(versions) == 1


def test_deploying_again_copies_nothing_and_another_job_is_another_version(
    store: LocalStore,
) -> None:
    job = a_job(store, b"call")
    first = deploy_job(job, CALL, PREFIX, store)
    again = deploy_job(job, CALL, PREFIX, store)
    assert (again.copied, again.digest, again.name) == (0, first.digest, first.name)
    other = deploy_job(changed(job, retries=1), CALL, PREFIX, store)
    assert other.version_prefix != first.version_prefix
    removed = remove_objects(store, PREFIX, keep=lambda name: name.startswith(other.version_prefix))
    assert removed == first.copied + 1
    assert store.get(other.name)
    with pytest.raises(ObjectNotFoundError):
        store.get(first.name)


def test_an_interrupted_deploy_is_finished_by_the_next(store: LocalStore) -> None:
    job = a_job(store, b"call")
    whole = deploy_job(job, CALL, PREFIX, store)
    store.delete(f"{whole.version_prefix}packs/2")
    store.delete(whole.name)
    assert deploy_job(job, CALL, PREFIX, store).copied == 1
    assert store.get(whole.name)


def test_where_a_deployments_objects_are_is_read_from_its_job(store: LocalStore) -> None:
    assert PREFIX == "deployments/train-every-night-5b0c79a2/"
    deployed = deploy_job(a_job(store, b"call"), CALL, PREFIX, store)
    env = {"KINETIC_JOB": f"{store.uri}/{deployed.name}"}
    assert known_prefix({"env": env}, store.uri) == PREFIX
    assert known_prefix({"env": env}, "gs://elsewhere") is None
    assert known_prefix({}, store.uri) is None
    assert deployment_prefix_of("runs/1/job.json") is None
