"""How the packages of a prebuilt run come to it: decided from what is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.environment import EnvironmentSpec, ImageRequest
from kinetic_flows.core.errors import ImageError, LockError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.launcher import LaunchNeeds, Preflight
from kinetic_flows.core.settings.cloud import Prebuilt
from kinetic_flows.dependencies.installation import packages_environment
from kinetic_flows.dependencies.lockfile import LockedPackage, environment_spec, format_lock
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.images.labels import LABEL_BASE_IDENTITY
from kinetic_flows.plans.look_ahead import with_packages
from kinetic_flows.plans.packages import UNASKED, Packages, decide_packages
from kinetic_flows.platforms.image_sources import DecidedBaseImage

BASE = ResolvedImage(reference="r/b@sha256:1", digest="sha256:1", labels={})
VOLUME = ResolvedImage(reference="r/packages@sha256:2", digest="sha256:2", labels={})
OWN_BASE = replace(BASE, labels={LABEL_BASE_IDENTITY: "inputs"})
TARGET = Target(
    python="3.11",
    platform="x86_64-manylinux_2_36",
    category="cpu",
    base_identity="inputs",
    constraints=("jax==0.7.0",),
    preferences=("numpy==2.1.0", "httpx==0.28.1"),
)
CAN = Preflight(no_image_volumes="")
CANNOT = Preflight(no_image_volumes="the nodes are old")


def package(name: str, version: str) -> LockedPackage:
    return LockedPackage(name=name, version=version, hashes=("sha256:" + "a" * 64,))


PACKAGES = (
    package("httpx", "0.28.0"),
    package("jax", "0.7.0"),
    package("numpy", "2.1.0"),
    package("rich", "14.0.0"),
)
LOCK = Lock(
    text=format_lock(PACKAGES),
    packages=PACKAGES,
    wheels=(),
    target=TARGET,
    inputs_sha256=Sha256("0" * 64),
    from_cache=True,
)


def names(environment: EnvironmentSpec) -> list[str]:
    return [f"{each.name}=={each.version}" for each in environment.packages]


def test_a_volume_holds_what_the_base_lacks_or_has_in_another_version() -> None:
    assert names(packages_environment(LOCK, OWN_BASE)) == ["httpx==0.28.0", "rich==14.0.0"]


def test_of_a_base_that_nobody_knows_all_but_the_accelerators_packages_are_mounted() -> None:
    found = packages_environment(LOCK, BASE)
    assert names(found) == ["httpx==0.28.0", "numpy==2.1.0", "rich==14.0.0"]


def test_a_base_that_is_made_anew_needs_no_other_volume_and_another_python_does() -> None:
    def identity(**changes: Any) -> str:
        target = replace(TARGET, **changes)
        base = replace(BASE, labels={LABEL_BASE_IDENTITY: target.base_identity})
        return packages_environment(replace(LOCK, target=target), base).dependency_hash

    assert identity() == identity(base_identity="other inputs")
    assert identity() != identity(python="3.12")


class Asked:
    """Answers about one image."""

    def __init__(self, image: ResolvedImage | None, without: tuple[str, ...] = ()) -> None:
        self.image = image
        self.without = without
        self.asked: list[str] = []

    def resolve(self, request: ImageRequest) -> ResolvedImage | None:
        self.asked.append(request.reference)
        return self.image

    def without_wheel(self, environment: EnvironmentSpec) -> tuple[str, ...]:
        self.asked.append(environment.dependency_hash)
        if self.without == ("nobody knows",):
            raise LockError("the index does not answer")
        return self.without


def decide(
    prebuilt: Prebuilt,
    found: Preflight | None,
    asked: Asked,
    packages: tuple[LockedPackage, ...] = PACKAGES,
) -> Packages:
    lock = replace(LOCK, packages=packages, text=format_lock(packages))
    lacking = packages_environment(lock, OWN_BASE)
    decided = DecidedBaseImage(
        reference="r/b:1",
        image=OWN_BASE,
        lock=lock,
        environment=environment_spec(lock.text, TARGET),
        ship_wheels=False,
        warnings=(),
        prebuilt=prebuilt,
        lacking=lacking,
        volume=ImageRequest(
            reference="r/packages:cpu-1", mode="prebuilt", dependency_hash=lacking.dependency_hash
        ),
    )
    return decide_packages(decided, found, asked, asked)  # type: ignore[arg-type]


def test_a_cluster_that_can_has_the_packages_mounted_by_what_they_are() -> None:
    for prebuilt in ("auto", "volume"):
        found = decide(prebuilt, CAN, Asked(VOLUME))  # type: ignore[arg-type]
        assert found.volume
        assert found.volume.image is VOLUME
        mounted = found.volume.mounted(VOLUME)
        assert mounted.image == VOLUME.reference
        assert mounted.identity == found.volume.environment.dependency_hash


def test_a_cluster_that_cannot_has_them_installed_and_the_reason_is_told() -> None:
    asked = Asked(VOLUME)
    found = decide("auto", CANNOT, asked)
    assert found.told == "packages are installed when the run starts: the nodes are old"
    assert decide("install", CAN, asked) == Packages()
    assert asked.asked == []


def test_a_cluster_that_cannot_be_asked_is_believed_only_when_a_person_says_so() -> None:
    assert decide("auto", None, Asked(VOLUME)).why_installed == UNASKED
    assert decide("volume", None, Asked(VOLUME)).volume


def test_nothing_is_mounted_where_the_base_has_everything() -> None:
    asked = Asked(VOLUME)
    assert decide("auto", CAN, asked, (package("numpy", "2.1.0"),)) == Packages()
    assert asked.asked == []


def test_packages_without_wheels_are_installed_unless_a_volume_is_demanded() -> None:
    found = decide("auto", CAN, Asked(None, ("old-package",)))
    assert found.volume is None
    assert "only a source archive: old-package" in found.why_installed
    with pytest.raises(ImageError, match="old-package") as caught:
        decide("volume", CAN, Asked(None, ("old-package",)))
    assert "container_image='bundled'" in str(caught.value.hint)


def test_an_index_that_does_not_answer_is_left_to_the_pod_unless_a_volume_is_demanded() -> None:
    away = ("nobody knows",)
    assert decide("auto", CAN, Asked(None, away)).why_installed == "the index does not answer"
    with pytest.raises(LockError):
        decide("volume", CAN, Asked(None, away))


def test_a_volume_that_is_there_is_not_asked_for_its_wheels() -> None:
    asked = Asked(VOLUME, ("old-package",))
    assert decide("auto", CAN, asked).volume
    assert asked.asked == ["r/packages:cpu-1"]


def judged(prebuilt: Prebuilt, found: Preflight, template: str = "") -> Preflight:
    needs: Mapping[str, Any] = {"packages": prebuilt, "no_packages_volume": template}
    return with_packages(found, LaunchNeeds(accelerator=parse_accelerator("cpu"), **needs))


def test_a_volume_that_is_demanded_and_cannot_be_is_in_the_way() -> None:
    (problem,) = judged("volume", CANNOT).problems
    assert problem == (
        "KINETIC_PREBUILT is 'volume', and packages cannot be mounted: the nodes are old"
    )
    assert judged("volume", CAN).problems == ()
    assert judged("auto", CANNOT).problems == ()


def test_a_template_without_a_place_is_warned_of_where_the_cluster_could() -> None:
    old = "the template is old"
    found = judged("auto", CAN, old)
    assert found.warnings == ("packages are installed when the run starts: the template is old",)
    # It is told once.
    assert decide("auto", found, Asked(VOLUME)) == Packages()
    assert judged("auto", CANNOT, old).warnings == ()
    assert judged("auto", Preflight(), old) == Preflight()
