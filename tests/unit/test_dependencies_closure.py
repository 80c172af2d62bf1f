"""What is asked of the accelerator's own packages, against what the image has of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.errors import DependencyError
from kinetic_flows.dependencies.closure import Judged, judge
from kinetic_flows.dependencies.requirements_file import requirement_list
from kinetic_flows.dependencies.targets import Target, cloud_target

CUDA = "nvidia-cublas-cu12==12.9.1\njax-cuda12-pjrt==0.12.0\njax-cuda12-plugin==0.12.0\n"
LOCKS: dict[Category, str] = {
    "cpu": "jax==0.12.0\njaxlib==0.12.0\nnumpy==2.4.0\n",
    "gpu": f"jax==0.12.0\njaxlib==0.12.0\n{CUDA}numpy==2.4.0\n",
    "tpu": "jax==0.12.0\njaxlib==0.12.0\nlibtpu==0.0.48\nnumpy==2.4.0\n",
}
VERSIONS = st.builds("0.{}.{}".format, st.integers(9, 14), st.integers(0, 2))
SPECIFIERS = st.builds(
    "{}{}".format, st.sampled_from(["==", ">=", "<=", "<", ">", "!=", "~="]), VERSIONS
)


def target(category: Category) -> Target:
    return cloud_target(category, "3.12", base_lock=LOCKS[category], base_identity="base")


def judged(category: Category, *lines: str) -> Judged:
    found = requirement_list(lines, base=Path("/nowhere"))
    return judge(found.lines, target(category))


def remaining(found: Judged) -> list[str]:
    return [line.text for line in found.lines]


@given(
    category=st.sampled_from(["cpu", "gpu", "tpu"]),
    name=st.sampled_from(["jax", "jaxlib", "JAX", "jaxlib "]),
    specifiers=st.lists(SPECIFIERS, max_size=3),
)
def test_a_line_is_left_out_with_the_images_version_or_refused_with_both(
    category: Category, name: str, specifiers: list[str]
) -> None:
    line = name + ",".join(specifiers)
    canonical = name.strip().lower()
    if SpecifierSet(",".join(specifiers)).contains("0.12.0"):
        found = judged(category, line)
        assert remaining(found) == []
        assert f"the image has {canonical} 0.12.0, which satisfies it" in found.sentences[0]
    else:
        with pytest.raises(DependencyError) as caught:
            judged(category, line)
        assert f"{canonical} 0.12.0" in caught.value.message
        assert line in caught.value.message


@given(
    category=st.sampled_from(["cpu", "gpu", "tpu"]),
    line=st.builds("{}{}".format, st.sampled_from(["jax", "jaxlib"]), SPECIFIERS),
)
def test_a_kept_line_stays_whatever_the_image_has(category: Category, line: str) -> None:
    found = judged(category, f"{line}  # kn:keep")
    assert remaining(found) == [line]
    assert [item.text for item in found.kept] == [line]
    assert found.sentences == ()


@pytest.mark.parametrize(
    ("category", "line"),
    [
        ("gpu", "jax[cuda13]"),
        ("gpu", "jax-cuda13-plugin"),
        ("gpu", "nvidia-cublas-cu12<12.9"),
        ("tpu", "libtpu<0.0.48"),
        ("tpu", "libtpu-nightly==0.1.dev1"),
        ("tpu", "jax @ https://example.com/jax-0.12.0-py3-none-any.whl"),
    ],
)
def test_another_runtime_than_the_images_is_refused_with_every_way_out(
    category: Category, line: str
) -> None:
    with pytest.raises(DependencyError) as caught:
        judged(category, line)
    assert line in caught.value.message
    assert "the image has" in caught.value.message
    ways = ("another version", "# kn:keep", "framework='none'", "kinetic build-image --dockerfile")
    for way in ways:
        assert way in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("category", "line"),
    [
        ("cpu", "jax[tpu]>=0.10"),
        ("cpu", "jax[cuda13]"),
        ("gpu", "jax[cuda12]>=0.10"),
        ("gpu", "jax[cuda]"),
        ("gpu", "jax[cuda12-local]"),
        ("cpu", "libtpu==0.0.1"),
        ("gpu", "libtpu-nightly"),
        ("tpu", "jax-cuda12-plugin==0.4.0"),
    ],
)
def test_what_other_accelerators_need_is_left_out(category: Category, line: str) -> None:
    found = judged(category, line)
    assert remaining(found) == []
    assert len(found.sentences) == 1


@pytest.mark.parametrize(
    ("category", "line"),
    [
        ("gpu", "nvidia-ml-py"),
        ("gpu", "nvidia-cublas-cu13"),
        ("tpu", "nvidia-cublas-cu12==1"),
        ("cpu", "jaxtyping"),
        ("tpu", "jax<0.5 ; sys_platform == 'darwin'"),
    ],
)
def test_what_the_image_does_not_decide_is_left_alone(category: Category, line: str) -> None:
    assert remaining(judged(category, line)) == [line]


def test_other_extras_of_a_line_that_is_left_out_bring_their_packages() -> None:
    assert remaining(judged("tpu", "jax[k8s,tpu]>=0.10")) == ["jax[k8s]"]


def test_beside_a_kept_line_the_projects_other_lines_count_too() -> None:
    found = judged("cpu", "jax==0.9.0  # kn:keep", "libtpu")
    assert remaining(found) == ["jax==0.9.0"]
    found = judge(
        requirement_list(["jax==0.9.0 # kn:keep", "jaxlib==0.9.0", "libtpu"], base=Path("/")).lines,
        target("cpu"),
        held=False,
    )
    assert remaining(found) == ["jax==0.9.0", "jaxlib==0.9.0"]
