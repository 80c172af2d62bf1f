"""Other frameworks than JAX: whose runtime a project gets, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.errors import LockError
from kinetic_flows.dependencies.guests import (
    advice,
    brings_its_own,
    cuda_releases,
    refuse_what_cannot_work,
    runtime_for_jax,
)

# As PyPI had them at the end of 2026.
CUDA_13 = {"nvidia-cublas": "13.4.1.3", "nvidia-cufft": "12.2.0.57", "nvidia-nccl-cu13": "2.30.7"}
CUDA_12 = {"nvidia-cublas-cu12": "12.8.4.1", "nvidia-cuda-runtime-cu12": "12.8.90"}
JAX = {"jax": "0.12.0.1", "jaxlib": "0.12.0.1"}
JAX_12 = {**JAX, "jax-cuda12-plugin": "0.12.0.1", "nvidia-cublas-cu12": "12.9.3.13"}
TORCH = {"torch": "2.15.0", **CUDA_13}
OLD_TORCH = {"torch": "2.7.1", **CUDA_12}


@pytest.mark.parametrize(
    ("versions", "releases"),
    [
        ({}, set()),
        (JAX, set()),
        (JAX_12, {12}),
        (TORCH, {13}),
        (OLD_TORCH, {12}),
        ({**TORCH, **JAX_12}, {12, 13}),
        ({"nvidia-nccl-cu12": "2.32.3", "nvidia-ml-py": "13.0"}, set()),
    ],
)
def test_the_cuda_that_packages_bring_is_read_off_their_names_and_versions(
    versions: dict[str, str], releases: set[int]
) -> None:
    assert cuda_releases(versions) == releases


@pytest.mark.parametrize(
    ("versions", "own"),
    [
        ({"numpy": "2.4"}, False),
        ({"keras": "3.15"}, False),
        ({**JAX, "flax": "0.12"}, False),
        (JAX_12, False),
        ({"xgboost": "3.2", "nvidia-nccl-cu12": "2.32"}, False),
        ({"torch": "2.15.0+cpu"}, True),
        ({**JAX, "torch": "2.15.0+cpu"}, False),
        (TORCH, True),
        ({**TORCH, **JAX}, True),
        ({"tensorflow": "2.21.0"}, True),
        ({"some-cuda-thing": "1", **CUDA_13}, True),
    ],
)
def test_a_project_gets_the_base_that_its_packages_want(
    versions: dict[str, str], own: bool
) -> None:
    assert brings_its_own(versions, "gpu") is own
    assert not brings_its_own(versions, "cpu")


@pytest.mark.parametrize(
    ("category", "versions", "wanted"),
    [
        ("gpu", TORCH, None),
        ("gpu", {**TORCH, **JAX}, "jax[cuda13]"),
        ("gpu", {**OLD_TORCH, **JAX}, "jax[cuda12]"),
        ("gpu", {**TORCH, **JAX, "jax-cuda13-plugin": "0.12.0.1"}, None),
        ("gpu", JAX, "jax[cuda12]"),
        ("tpu", JAX, "jax[tpu]"),
        ("tpu", {**JAX, "libtpu": "0.0.48"}, None),
        ("cpu", {**TORCH, **JAX}, None),
    ],
)
def test_a_jax_of_the_projects_own_gets_the_runtime_of_its_accelerator(
    category: Category, versions: dict[str, str], wanted: str | None
) -> None:
    assert runtime_for_jax(versions, category) == wanted


def test_two_releases_of_cuda_in_one_process_are_refused_in_words() -> None:
    with pytest.raises(LockError) as caught:
        refuse_what_cannot_work({**TORCH, **JAX_12}, "gpu")
    for part in ("jax 0.12.0.1", "torch 2.15.0", "CUDA 12", "CUDA 13"):
        assert part in caught.value.message
    assert "jax[cuda13]" in (caught.value.hint or "")


@given(
    xla=st.tuples(st.integers(2, 3), st.integers(0, 20)),
    torch=st.tuples(st.integers(2, 3), st.integers(0, 20)),
    local=st.sampled_from(["", "+cpu", ".post1"]),
)
def test_torch_xla_works_with_the_torch_of_its_number_alone(
    xla: tuple[int, int], torch: tuple[int, int], local: str
) -> None:
    versions = {
        "torch-xla": f"{xla[0]}.{xla[1]}.0",
        "torch": f"{torch[0]}.{torch[1]}.1{local}",
    }
    if xla == torch:
        refuse_what_cannot_work(versions, "tpu")
        return
    with pytest.raises(LockError) as caught:
        refuse_what_cannot_work(versions, "tpu")
    assert f"torch-xla {versions['torch-xla']}" in caught.value.message
    assert f"torch=={xla[0]}.{xla[1]}.*" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("category", "versions", "parts"),
    [
        ("cpu", {"torch": "2.15.0+cpu"}, []),
        ("cpu", JAX, []),
        ("gpu", TORCH, []),
        ("tpu", {"torch": "2.9.0", "torch-xla": "2.9.0"}, []),
        ("tpu", TORCH, ["torch 2.15.0", "torch-xla"]),
        ("cpu", TORCH, ["torch==2.15.0+cpu", "https://download.pytorch.org/whl/cpu", "3 packages"]),
    ],
)
def test_what_a_torch_is_no_use_for_is_said_with_what_to_write(
    category: Category, versions: dict[str, str], parts: list[str]
) -> None:
    told = advice(versions, category)
    assert len(told) == (1 if parts else 0)
    for part in parts:
        assert part in told[0]
