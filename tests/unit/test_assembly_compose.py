"""An assembled image's documents, and what its smoke test says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assembly_values import assembled, base, blob, facts_of, image, upstream, wheel
from kinetic_flows.images.assembly.compose import (
    CREATED,
    ImageLayer,
    architecture_of,
    compose,
)
from kinetic_flows.images.assembly.plan import held_package, plan_image
from kinetic_flows.images.assembly.smoke_test import smoke_test
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.assembly.start import StartImage


def documents(assembly: Assembly, start: StartImage) -> tuple[dict[str, Any], dict[str, Any]]:
    plan = plan_image(assembly, start)
    layers = [ImageLayer(plan=layer, blob=blob(layer.tag)) for layer in plan.added]
    made = compose(assembly, start, plan.kept, layers)
    return json.loads(made.manifest), json.loads(made.config)


def test_configuration_says_what_the_start_does_and_what_is_asked_for() -> None:
    assembly = image(
        wheel("numpy"),
        starts_from="upstream",
        environment={"PATH": "$PATH:/opt/bin", "EMPTY": "${NOTHING}x", "COST": "5$"},
        command=("python3", "-u"),
        labels={"kinetic.kind": "base"},
    )
    _, config = documents(assembly, upstream(Cmd=["bash"], User="me", Labels={"a": "b"}))
    assert config["created"] == CREATED
    assert config["config"] == {
        "Env": [
            "PATH=/usr/local/bin:/bin:/opt/bin",
            "PYTHON_VERSION=3.11.9",
            "COST=5$",
            "EMPTY=x",
        ],
        "Cmd": ["python3", "-u"],
        "User": "me",
        "Labels": {"a": "b", "kinetic.kind": "base", "kinetic.layers": "1"},
    }


def test_history_has_one_line_for_each_layer() -> None:
    manifest, config = documents(image(wheel("numpy"), starts_from="upstream"), upstream())
    lines = [entry["created_by"] for entry in config["history"] if not entry.get("empty_layer")]
    assert len(lines) == len(manifest["layers"]) == len(config["rootfs"]["diff_ids"])
    assert lines[:2] == ["RUN 0", "RUN 1"]
    numpy = wheel("numpy")
    assert lines[3] == f"kinetic wheel numpy==1.0 sha256:{numpy.sha256} py3.11"


def test_media_types_are_all_of_one_family() -> None:
    manifest, _ = documents(image(wheel("numpy"), starts_from="upstream"), upstream())
    assert {item["mediaType"] for item in manifest["layers"][2:]} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }
    assert manifest["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    manifest, config = documents(image(wheel("numpy"), starts_from="nothing"), StartImage())
    assert [item["mediaType"] for item in manifest["layers"]] == [
        "application/vnd.oci.image.layer.v1.tar+gzip"
    ]
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert (config["os"], config["architecture"]) == ("linux", "amd64")


def test_equal_assemblies_are_equal_images() -> None:
    assembly = image(wheel("numpy"), wheel("scipy"), labels={"a": "b"})
    again = Assembly.from_json(assembly.to_json())
    assert assembled(assembly, base()).digest == assembled(again, base()).digest
    settings = {"starts_from": "upstream", "labels": {"b": "1", "a": "2"}}
    assembly = image(
        wheel("numpy"),
        environment={"B": "1", "A": "2"},
        files={"/b": b"1", "/a": b"2"},
        **settings,
    )
    again = Assembly.from_json(assembly.to_json())
    assert assembled(assembly, upstream()).digest == assembled(again, upstream()).digest


def test_layers_that_are_not_kept_leave_no_line() -> None:
    _, config = documents(image(wheel("numpy", version="2.0")), base(wheel("numpy")))
    lines = [entry["created_by"] for entry in config["history"]]
    assert not [line for line in lines if line.startswith("kinetic wheel numpy==1.0")]
    assert lines.count("CMD") == 1


@pytest.mark.parametrize(
    ("platform", "architecture"),
    [("x86_64-manylinux_2_36", "amd64"), ("aarch64-manylinux_2_36", "arm64")],
)
def test_architecture_is_named_as_images_name_it(platform: str, architecture: str) -> None:
    assert architecture_of(platform) == architecture


def said(*described: tuple[str, dict[str, Any]], python: str = "3.11") -> tuple[str, ...]:
    wheels = [(wheel(name), more) for name, more in described]
    facts = {file.sha256: facts_of(file, **more) for file, more in wheels}
    return smoke_test([held_package(file) for file, _ in wheels], facts, python)


def test_set_that_fits_has_nothing_to_say() -> None:
    requires = ("b>=1", "c; python_version<'3.9'", "d; extra=='x'", "e; sys_platform=='win32'")
    requires += ("f; python_version ~= '3'", "not a requirement")
    assert said(("a", {"requires": requires, "requires_python": ">=3.9"}), ("b", {})) == ()


def test_requirement_on_the_python_release_is_met_by_some_release() -> None:
    assert (
        said(("a", {"requires_python": ">=3.11.4"}), ("b", {"requires_python": "!=3.11.0"})) == ()
    )


def test_unmet_requirements_are_told_by_name() -> None:
    found = said(("a", {"requires": ("B_b>=2", "c==1"), "requires_python": "<3.10"}), ("b-b", {}))
    assert found == (
        "a 1.0 asks for Python <3.10, and the image has Python 3.11",
        "a 1.0 asks for B_b>=2, and the image has B_b 1.0",
        "a 1.0 asks for c==1, which the image does not have",
    )


def test_part_of_an_image_may_lack_what_it_asks_for_but_not_have_another() -> None:
    a, b = wheel("a"), wheel("b")
    facts = {a.sha256: facts_of(a, requires=("b>=2", "c")), b.sha256: facts_of(b)}
    found = smoke_test([held_package(a), held_package(b)], facts, "3.11", is_whole=False)
    assert found == ("a 1.0 asks for b>=2, and the image has b 1.0",)


def test_places_that_two_wheels_share_are_told_with_both_names() -> None:
    files = {f"usr/x/{number}": "1" for number in range(5)}
    other = {**files, **{f"usr/x/{number}": "2" for number in range(4)}}
    (sentence,) = said(("a", {"files": files}), ("b", {"files": other}))
    assert sentence == (
        "a 1.0 and b 1.0 both have /usr/x/0, /usr/x/1, /usr/x/2 and 1 more, with different "
        "contents: the image has one of them"
    )


def test_equal_files_of_two_wheels_are_fine() -> None:
    files = {"usr/local/lib/python3/site-packages/google/__init__.py": "1"}
    assert said(("a", {"files": files}), ("b", {"files": files})) == ()
