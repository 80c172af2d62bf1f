"""The locks of the base images are of today, agree with one another, and know every chip."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from kinetic_flows.runner_image.check_base_locks import DIRECTORY, problems, read_locks

from kinetic_flows.images.bases import GLIBC, PLATFORM, base_pythons

RELEASES: Mapping[str, Any] = json.loads((DIRECTORY / "releases.json").read_text())


def test_the_locks_that_ship_have_nothing_wrong() -> None:
    assert list(problems(read_locks(), RELEASES)) == []


def test_packages_are_resolved_for_the_glibc_of_the_base() -> None:
    assert PLATFORM.endswith(GLIBC.replace(".", "_"))


@pytest.mark.parametrize(
    ("category", "package", "version", "complaint"),
    [
        ("tpu", "jax", "0.5.2", "jax differs between the categories"),
        ("tpu", "libtpu", "0.0.10.1", "supports libtpu=="),
        ("tpu", "libtpu", "0.0.10.1", r"tpu7x-\S+ needs libtpu>=0\.0\.30"),
        ("gpu", "nvidia-cuda-runtime-cu12", "12.6.77", r"b200x8 needs .*>=12\.8"),
    ],
)
def test_a_lock_that_the_resolver_took_back_is_found(
    category: str, package: str, version: str, complaint: str
) -> None:
    locks = {key: dict(versions) for key, versions in read_locks().items()}
    locks[category, base_pythons()[0]][package] = version

    found = "\n".join(problems(locks, RELEASES))

    assert re.search(complaint, found), found


def test_a_jax_of_last_year_is_found() -> None:
    old = {**RELEASES["jax"], "0.10.2": {**RELEASES["jax"]["0.10.2"], "released": "2026-01-02"}}

    found = list(problems(read_locks(), {**RELEASES, "jax": old}))

    assert any("days older than" in line for line in found)
