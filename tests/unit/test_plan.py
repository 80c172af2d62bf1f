"""What a plan says to people and to machines."""

from __future__ import annotations

from dataclasses import replace

from kinetic_flows.core.environment import EnvironmentSpec, Package
from kinetic_flows.core.job import Sha256
from kinetic_flows.plans.plan import CodeSummary, RunPlan

LEFT_OUT = "requirements.txt:2: jax==0.4 is left out"

PLAN = RunPlan(
    name="train",
    platform="gke",
    accelerator="tpu-v6e-8",
    mode="bundled",
    build_step="Cloud Build (cached by dep hash)",
    packages_come="Baked into the image",
    image="registry/project:tpu-0123456789ab",
    cached=False,
    dependency_file="/home/me/requirements.txt",
    dependency_source="/home/me/requirements.txt",
    environment=EnvironmentSpec(
        category="tpu",
        python="3.11",
        platform="x86_64-manylinux_2_28",
        base_identity="base",
        lock="",
        packages=(Package(name="numpy", version="2.1.1"),),
        wheels=(),
        dependency_hash=Sha256("0123456789ab" + "0" * 52),
    ),
    code=CodeSummary(files=3, size_bytes=1_500_000),
    job_variables={},
    filtered=(LEFT_OUT,),
    warnings=("something else",),
    why=("numpy 2.1.0 → 2.1.1", "+ tqdm 4.70.1"),
)


def test_a_plan_explains_file_image_packages_reasons_and_what_was_left_out() -> None:
    assert PLAN.explain() == (
        "    function  train\n"
        "     runs on  tpu-v6e-8, Google Kubernetes Engine\n"
        "       image  registry/project:tpu-0123456789ab (bundled, has to be built)\n"
        "       build  Cloud Build (cached by dep hash)\n"
        "dependencies  /home/me/requirements.txt, baked into the image\n"
        "    packages  1 locked\n"
        "        hash  0123456789ab" + "0" * 52 + "\n"
        "        code  3 files, 1.5 MB\n"
        "         why  numpy 2.1.0 → 2.1.1\n"
        "         why  + tqdm 4.70.1\n"
        f"    left out  {LEFT_OUT}\n"
        "     warning  something else"
    )


def test_a_plan_tells_machines_the_same() -> None:
    told = PLAN.to_json()
    assert told["filtered"] == [LEFT_OUT]
    assert told["warnings"] == ["something else"]
    assert told["why"] == ["numpy 2.1.0 → 2.1.1", "+ tqdm 4.70.1"]
    assert told["packages"] == {"numpy": "2.1.1"}
    assert told["cached"] is False
    assert told["dependency_source"] == "/home/me/requirements.txt"


def test_a_plan_whose_image_exists_gives_no_reasons() -> None:
    cached = replace(PLAN, cached=True, why=None)
    assert "why" not in cached.explain()
    assert "(bundled, exists)" in cached.explain()
