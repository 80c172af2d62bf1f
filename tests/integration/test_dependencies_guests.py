"""What people bring, on every kind of accelerator: releases of today, or the reason why not.

The packages are resolved against PyPI as a plan would, but nothing of them is downloaded.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.accelerators.packages import pins_of
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.settings.cloud import resolve_cloud
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.guests import advice, cuda_releases
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv import Uv, run_process
from kinetic_flows.dependencies.variants import Found, find_for_base
from kinetic_flows.images.bases import read_base_inputs
from kinetic_flows.platforms.base import ImageOptions
from kinetic_flows.platforms.gke.images import ClusterImages
from kinetic_flows.platforms.image_sources import ProjectImage

PYTHON = "3.12"
ACCELERATORS = ("tpu-v6e-8", "tpu7x-4", "l4", "h100x8", "cpu")
SETS: Mapping[str, tuple[str, ...]] = {
    "keras": ("keras",),
    "flax": ("flax", "optax", "orbax-checkpoint"),
    "vllm-tpu": ("vllm-tpu",),
    "google-tunix": ("google-tunix",),
    "torch": ("torch",),
    "torch and jax": ("torch", "jax"),
    "tensorflow": ("tensorflow",),
    "torch-xla": ("torch-xla[tpu]", "torch==2.9.*"),
}
IMAGE, OWN = "the image's jax", "no jax of the image"
TABLE: Mapping[str, Mapping[str, str]] = {
    "keras": dict.fromkeys(ACCELERATORS, IMAGE),
    "flax": dict.fromkeys(ACCELERATORS, IMAGE),
    "google-tunix": dict.fromkeys(ACCELERATORS, IMAGE),
    # It pins a jax and a libtpu of its own; on CPUs the image's jax holds it back, with a word.
    "vllm-tpu": {"tpu-v6e-8": OWN, "tpu7x-4": OWN, "l4": OWN, "h100x8": OWN, "cpu": IMAGE},
    "torch": {"tpu-v6e-8": IMAGE, "tpu7x-4": IMAGE, "l4": OWN, "h100x8": OWN, "cpu": IMAGE},
    "torch and jax": {"tpu-v6e-8": IMAGE, "tpu7x-4": IMAGE, "l4": OWN, "h100x8": OWN, "cpu": IMAGE},
    "tensorflow": {"tpu-v6e-8": IMAGE, "tpu7x-4": IMAGE, "l4": OWN, "h100x8": OWN, "cpu": IMAGE},
    "torch-xla": {"tpu-v6e-8": OWN, "tpu7x-4": "libtpu"},
}
"""By what is asked for and accelerator: whose runtime the packages get, or why they cannot be."""

ROWS = [(asked, accelerator) for asked, row in TABLE.items() for accelerator in row]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one: the packages, or the error."""

    target: Target
    found: Found | None
    error: str = ""


class NoRegistry:
    """A registry that must not be asked."""

    def resolve(self, reference: str, *, architecture: str = "amd64") -> ResolvedImage | None:
        raise AssertionError(f"asked for {reference}")


IMAGES = ClusterImages(
    cloud=resolve_cloud(arguments={"project": "my-project"}, environ={}, profile=None),
    registry=NoRegistry(),
    python=PYTHON,
)


def _target(accelerator: str) -> Target:
    source = IMAGES.source(ImageOptions(), parse_accelerator(accelerator))
    assert isinstance(source, ProjectImage)
    return source.target


def _resolved(asked: str, target: Target, directory: Path) -> Row:
    source = DependencySource(
        kind="list", path=None, project_root=directory, requirements=SETS[asked]
    )
    # The person's own cache, where it is warm.
    uv = Uv(cwd=directory, environ=dict(os.environ), run=run_process)
    try:
        return Row(target=target, found=find_for_base(source, target, uv=uv))
    except KineticError as error:
        return Row(target=target, found=None, error=str(error))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Row]:
    """Everything of the table, resolved at once; what is the same is resolved once."""
    directory = tmp_path_factory.mktemp("project")
    targets = {accelerator: _target(accelerator) for accelerator in ACCELERATORS}
    different = {
        (asked, _same(targets[accelerator])): targets[accelerator] for asked, accelerator in ROWS
    }
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda item: _resolved(item[0][0], item[1], directory), different.items())
        rows = dict(zip(different, made, strict=True))
    return {
        (asked, accelerator): rows[asked, _same(targets[accelerator])]
        for asked, accelerator in ROWS
    }


def _same(target: Target) -> str:
    """Return what two targets have in common that give the same packages."""
    return repr(replace(target, template_sha256=""))


@pytest.fixture(scope="module")
def uploads() -> Mapping[str, Mapping[str, date]]:
    """When each release of what is asked for appeared."""
    names = {name.partition("[")[0].partition("=")[0] for each in SETS.values() for name in each}
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(_uploads, names), strict=True))


def _uploads(name: str) -> Mapping[str, date]:
    request = urllib.request.Request(
        f"https://pypi.org/simple/{name}/",
        headers={"Accept": "application/vnd.pypi.simple.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        files: list[dict[str, Any]] = json.load(answer)["files"]
    return {
        item["filename"].split("-")[1]: date.fromisoformat(item["upload-time"][:10])
        for item in files
        if item["filename"].endswith(".whl")
    }


@pytest.mark.parametrize(("asked", "accelerator"), ROWS)
def test_what_people_bring_resolves_to_releases_of_today_or_says_why_not(
    asked: str,
    accelerator: str,
    table: Mapping[tuple[str, str], Row],
    uploads: Mapping[str, Mapping[str, date]],
) -> None:
    row, expected = table[asked, accelerator], TABLE[asked][accelerator]
    if row.found is None:
        assert expected in row.error, row.error
        return
    assert expected in (IMAGE, OWN), f"it resolves: {row.found.versions}"
    _check_runtime(row.found, is_the_images=expected == IMAGE)
    held_back = {item.name for item in row.found.held_back}
    for requirement in SETS[asked]:
        name, _, pinned = requirement.partition("==")
        name = name.partition("[")[0]
        released = uploads[name][row.found.versions[name]]
        a_year_before_the_newest = max(uploads[name].values()) - timedelta(days=365)
        assert pinned or name in held_back or released >= a_year_before_the_newest


def _check_runtime(found: Found, *, is_the_images: bool) -> None:
    category, versions = found.target.category, found.versions
    jax = dict(pin.split("==") for pin in pins_of(read_base_inputs(category, PYTHON).lock))["jax"]
    assert found.target.variant == ("jax" if is_the_images else "lean")
    assert not is_the_images or versions["jax"] == jax
    if category == "gpu":
        assert len(cuda_releases(versions)) <= 1, "one process has one CUDA"
        has_plugin = any(name.startswith("jax-cuda") for name in versions)
        assert has_plugin == ("jax" in versions), "a jax without it computes on the CPU"
    if category == "tpu":
        assert "libtpu" in versions


@pytest.mark.parametrize(
    ("asked", "accelerator", "parts"),
    [
        ("torch", "cpu", ["packages of CUDA", "+cpu", "https://download.pytorch.org/whl/cpu"]),
        ("torch", "tpu-v6e-8", ["does not see the TPU", "torch-xla"]),
        ("torch-xla", "tpu-v6e-8", []),
        ("torch", "l4", []),
    ],
)
def test_what_a_torch_is_no_use_for_is_said(
    asked: str, accelerator: str, parts: list[str], table: Mapping[tuple[str, str], Row]
) -> None:
    row = table[asked, accelerator]
    assert row.found is not None, row.error
    told = " ".join(advice(row.found.versions, row.target.category))
    assert bool(told) == bool(parts)
    assert all(part in told for part in parts)
