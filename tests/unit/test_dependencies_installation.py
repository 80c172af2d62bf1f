"""What a run in a prebuilt base installs, and what is sent along for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.dependencies.installation import (
    BASE_CONSTRAINTS,
    Installation,
    objects_of,
    plan_installation,
    upload_installation,
)
from kinetic_flows.dependencies.lockfile import LockedPackage, ShippedWheel, parse_lock
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.images.labels import LABEL_BASE_IDENTITY
from kinetic_flows.platforms.local.store import LocalStore

WHEEL = b"not read by anybody here"
DIGEST = sha256_hex(WHEEL)
IDENTITY = "b" * 64

TARGET = Target(
    python="3.11",
    platform="x86_64-manylinux_2_28",
    category="cpu",
    base_identity=IDENTITY,
    constraints=("jax==0.6.0", "jaxlib==0.6.0"),
    preferences=("numpy==2.1.0",),
)


def locked(name: str, version: str, *, ships: bool = False) -> LockedPackage:
    wheel = ShippedWheel(
        filename=f"{name}-{version}-py3-none-any.whl", sha256=DIGEST, size_bytes=len(WHEEL)
    )
    hashes = (f"sha256:{DIGEST}",)
    return LockedPackage(name=name, version=version, hashes=hashes, wheel=wheel if ships else None)


def base(identity: str | None = None) -> ResolvedImage:
    labels = {LABEL_BASE_IDENTITY: identity} if identity else {}
    return ResolvedImage(reference="r@sha256:1", digest="sha256:1", labels=labels)


def ship(packages: tuple[LockedPackage, ...]) -> tuple[LockedPackage, ...]:
    """Stand for a download of wheels."""
    return tuple(locked(item.name, item.version, ships=True) for item in packages)


LOCK = (locked("jax", "0.6.0"), locked("mine", "1.0", ships=True), locked("numpy", "2.1.0"))


def names(installation: Installation) -> list[str]:
    return [item.name for item in installation.packages]


def test_the_accelerators_own_packages_are_left_to_the_image(tmp_path: Path) -> None:
    planned = plan_installation(LOCK, TARGET, base(), home=tmp_path)

    assert names(planned) == ["mine", "numpy"]
    assert planned.constraints == BASE_CONSTRAINTS


def test_an_accelerator_package_that_the_project_keeps_comes_along_and_lifts_the_constraints(
    tmp_path: Path,
) -> None:
    own = (locked("jax", "0.7.0"), locked("numpy", "2.1.0"))

    planned = plan_installation(own, TARGET, base(), home=tmp_path)

    assert names(planned) == ["jax", "numpy"]
    assert planned.constraints is None


def test_only_wheels_that_no_index_has_are_sent_unless_all_are_asked_for(tmp_path: Path) -> None:
    some = plan_installation(LOCK, TARGET, base(), home=tmp_path)
    everything = plan_installation(LOCK, TARGET, base(), home=tmp_path, ship=ship)

    assert [wheel.filename for wheel in some.wheels] == ["mine-1.0-py3-none-any.whl"]
    assert not some.offline
    assert len(everything.wheels) == 2
    assert everything.offline


def test_wheels_of_what_a_known_base_has_stay_here(tmp_path: Path) -> None:
    planned = plan_installation(LOCK, TARGET, base(IDENTITY), home=tmp_path, ship=ship)

    assert [wheel.filename for wheel in planned.wheels] == ["mine-1.0-py3-none-any.whl"]
    assert names(planned) == ["mine", "numpy"], "the runner checks that the image has it"
    assert planned.offline


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    planned = plan_installation(LOCK, TARGET, base(), home=tmp_path / "home")
    (wheel,) = planned.wheels
    wheel.path.parent.mkdir(parents=True)
    wheel.path.write_bytes(WHEEL)
    return planned


def test_an_upload_puts_lock_and_wheels_and_a_second_one_puts_nothing(
    installation: Installation, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "store")

    first, second = (upload_installation(installation, store) for _ in range(2))

    assert first.spec == second.spec
    assert first.bytes_uploaded > len(WHEEL)
    assert second.bytes_uploaded == 0
    assert not store.missing(objects_of(first.spec))
    lock = store.get(first.spec.lock.name).data
    assert sha256_hex(lock) == first.spec.lock.sha256
    assert parse_lock(lock.decode()) == installation.packages
    (ref,) = first.spec.wheels
    assert (store.get(ref.name).data, ref.sha256) == (WHEEL, Sha256(DIGEST))


def test_what_was_deleted_from_the_store_is_uploaded_again(
    installation: Installation, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "store")
    spec = upload_installation(installation, store).spec
    store.delete(spec.wheels[0].name)

    assert upload_installation(installation, store).bytes_uploaded == len(WHEEL)
