"""Which layers an image has, told from what it starts from and from its wheels."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from assembly_values import (
    LIBRARY,
    PURE,
    base,
    blob,
    facts_of,
    from_documents,
    image,
    upstream,
    wheel,
)
from kinetic_flows.core.errors import ImageError
from kinetic_flows.images.assembly.layer_plan import HeldPackage, LayerPlan, read_history
from kinetic_flows.images.assembly.plan import (
    MAX_LAYERS,
    ImagePlan,
    plan_image,
    settled,
    without_site_packages,
)
from kinetic_flows.images.assembly.start import StartImage


def kinds(plan: ImagePlan) -> list[str]:
    return [f"{item.kind} {' '.join(p.name for p in item.packages)}".strip() for item in plan.added]


def test_base_has_content_of_any_python_shared_and_bytecode_once() -> None:
    parts = (wheel("jax", PURE), wheel("nvidia", LIBRARY), wheel("numpy"))
    plan = plan_image(image(*parts, starts_from="upstream", files={"/a": b"a"}), upstream())
    assert kinds(plan) == [
        "site",
        "wheel jax",
        "wheel numpy",
        "wheel nvidia",
        "bytecode jax nvidia",
        "files",
    ]
    assert [item.python for item in plan.added[1:4]] == [None, "3.11", None]
    assert len(plan.kept) == 2


def test_plain_python_of_a_base_is_one_layer_whatever_the_accelerator_and_the_python() -> None:
    core = (wheel("idna", PURE), wheel("certifi", PURE))
    layers = []
    for python, parts in (("3.11", core), ("3.12", (*core, wheel("libtpu", LIBRARY)))):
        start = replace(image(*parts, wheel("jax", PURE), starts_from="upstream"), python=python)
        plan = plan_image(start, upstream())
        assert kinds(plan)[:3] == ["site", "merged certifi idna", "wheel jax"]
        layers.append(plan.added[1])
    assert layers[0] == layers[1]
    assert layers[0].tag.endswith("-any-l1")
    assert read_history(layers[0].to_history()) == layers[0]


def test_project_has_bytecode_with_pure_wheels_and_beside_libraries() -> None:
    assembly = image(wheel("attrs", PURE), wheel("nvidia", LIBRARY), wheel("scipy"))
    plan = plan_image(assembly, base(wheel("numpy")))
    assert kinds(plan) == ["wheel attrs", "wheel nvidia", "wheel scipy", "bytecode nvidia"]
    assert [item.python for item in plan.added] == ["3.11", None, "3.11", "3.11"]


@pytest.mark.parametrize(("source_bytes", "has_it"), [(64 << 10, True), ((64 << 10) - 1, False)])
def test_bytecode_of_a_library_with_little_source_is_no_layer(
    source_bytes: int, has_it: bool
) -> None:
    library = wheel("nvidia", LIBRARY)
    assembly = image(library)
    plan = plan_image(assembly, base(wheel("numpy")))
    facts = {library.sha256: facts_of(library, source_bytes=source_bytes)}
    assert ("bytecode nvidia" in kinds(settled(plan, facts, assembly))) is has_it


def test_wheels_that_the_base_has_are_no_layers_again() -> None:
    held = (wheel("jax", PURE), wheel("numpy"))
    start = base(*held)
    plan = plan_image(image(*held, wheel("scipy")), start)
    assert kinds(plan) == ["wheel scipy"]
    assert plan.kept == start.layers


def test_other_version_takes_the_place_of_the_bases() -> None:
    start = base(wheel("numpy"), wheel("scipy"))
    plan = plan_image(image(wheel("numpy", version="2.0")), start)
    assert kinds(plan) == ["wheel numpy"]
    kept = [item.plan.title for item in plan.kept if item.plan]
    assert kept == ["site-packages of the image of Python", "scipy 1.0", "files /app/x"]
    assert [str(item) for item in plan.packages] == ["numpy 2.0", "scipy 1.0"]


def test_bytecode_of_what_gives_way_is_made_anew_from_the_bases() -> None:
    start = base(wheel("jax", PURE), wheel("flax", PURE), wheel("numpy"))
    plan = plan_image(image(wheel("flax", PURE, version="2.0")), start)
    assert kinds(plan) == ["bytecode jax", "wheel flax"]
    (source,) = plan.made_from.values()
    assert source.plan is not None
    assert [item.name for item in source.plan.packages] == ["flax", "jax"]
    alone = plan_image(image(wheel("jax", PURE), starts_from="upstream"), upstream())
    assert plan.added[0].tag == alone.added[2].tag


def test_bytecode_that_nothing_is_left_of_goes() -> None:
    plan = plan_image(image(wheel("jax", PURE, version="2.0")), base(wheel("jax", PURE)))
    assert kinds(plan) == ["wheel jax"]
    assert all(item.plan is None or item.plan.kind != "bytecode" for item in plan.kept)


def test_upstreams_own_package_gives_way_to_a_wheel() -> None:
    assembly = image(wheel("setuptools", PURE), starts_from="upstream")
    plan = plan_image(assembly, upstream())
    found = replace(
        plan.added[0],
        packages=(
            HeldPackage(name="pip", version="24.0"),
            HeldPackage(name="setuptools", version="65.5"),
        ),
    )
    part = without_site_packages(plan, found, assembly)
    assert kinds(part)[0] == "site pip"
    assert part.added[0].tag != plan.added[0].tag
    whole = without_site_packages(plan, found, image(starts_from="upstream"))
    assert whole.added[0].tag == plan.added[0].tag


def test_bases_own_site_layer_is_made_anew_for_a_project_with_setuptools() -> None:
    start = base(wheel("numpy"))
    site = LayerPlan(
        kind="site",
        python="3.11",
        upstream=f"sha256:{'1' * 64}",
        packages=(HeldPackage(name="setuptools", version="65.5"),),
    )
    layers = tuple(
        replace(layer, plan=site) if layer.plan and layer.plan.kind == "site" else layer
        for layer in start.layers
    )
    plan = plan_image(image(wheel("setuptools", PURE)), replace(start, layers=layers))
    assert kinds(plan) == ["site", "wheel setuptools"]
    assert list(plan.made_from) == [plan.added[0].tag]


def test_image_of_nothing_has_its_wheels_alone() -> None:
    assembly = image(wheel("attrs", PURE), wheel("numpy"), starts_from="nothing")
    plan = plan_image(assembly, StartImage())
    assert kinds(plan) == ["wheel attrs", "wheel numpy"]
    assert not plan.kept


def test_too_many_layers_are_merged_the_smallest_first() -> None:
    wheels = [wheel(f"p{number:03}", size_bytes=1000 - number) for number in range(120)]
    start = base(wheel("numpy"))
    plan = plan_image(image(*wheels), start)
    assert len(plan.kept) + len(plan.added) == MAX_LAYERS
    (merged,) = [item for item in plan.added if item.kind == "merged"]
    assert [item.name for item in merged.packages] == [
        f"p{number:03}" for number in range(120 - len(merged.packages), 120)
    ]
    assert len(plan.packages) == 121


def test_wheels_that_cannot_be_merged_are_refused_by_number() -> None:
    wheels = [wheel(f"p{number:03}", LIBRARY) for number in range(120)]
    with pytest.raises(ImageError, match="would have 124 layers, and an image can have 100"):
        plan_image(image(*wheels, starts_from="upstream"), upstream())


def test_base_of_somebodys_own_dockerfile_is_refused() -> None:
    with pytest.raises(ImageError, match="was not assembled from layers"):
        plan_image(image(wheel("numpy")), upstream())


def test_base_with_a_foreign_layer_on_top_is_not_assembled() -> None:
    start = base(wheel("numpy"))
    config = json.loads(json.dumps(start.config))
    config["rootfs"]["diff_ids"].append(blob("apt").diff_id)
    config["history"].append({"created_by": "RUN apt-get install"})
    blobs = [*(layer.blob for layer in start.layers), blob("apt")]
    assert start.is_assembled
    assert not from_documents(blobs, config).is_assembled


@pytest.mark.parametrize(
    "plan",
    [
        LayerPlan(kind="site", python="3.11", upstream=f"sha256:{'a' * 64}"),
        LayerPlan(
            kind="site",
            python="3.11",
            upstream=f"sha256:{'a' * 64}",
            packages=(HeldPackage(name="pip", version="24.0"),),
        ),
        LayerPlan(
            kind="wheel", packages=(HeldPackage(name="jax", version="1.0+x", sha256="b" * 64),)
        ),
        LayerPlan(
            kind="merged",
            python="3.12",
            packages=(
                HeldPackage(name="a-b", version="1", sha256="b" * 64),
                HeldPackage(name="c", version="2!1.0rc1", sha256="c" * 64),
            ),
        ),
        LayerPlan(kind="files", files=("/app/a", "/app/b")),
    ],
)
def test_history_tells_what_a_layer_is(plan: LayerPlan) -> None:
    assert read_history(plan.to_history()) == plan


@pytest.mark.parametrize(
    "line",
    [
        "kinetic",
        "RUN pip install numpy",
        "/bin/sh -c kinetic wheel numpy==1.0",
    ],
)
def test_other_lines_of_a_history_are_none_of_ours(line: str) -> None:
    assert read_history(line) is None


@pytest.mark.parametrize(
    "line",
    [
        "kinetic wheel numpy==1.0",
        "kinetic wheel numpy==1.0 py3.11 extra",
        f"kinetic wheel a==1 sha256:{'a' * 64} b==1 sha256:{'b' * 64} py3.11",
        f"kinetic wheel numpy==1.0 sha256:{'a' * 63} py3.11",
        f"kinetic wheel  numpy==1.0 sha256:{'a' * 64} py3.11",
        "kinetic something numpy==1.0 py3.11",
    ],
)
def test_damaged_line_of_ours_is_refused(line: str) -> None:
    with pytest.raises(ImageError, match="history has a line that cannot be read"):
        read_history(line)
