"""Deciding a rehearsal: what of a function holds for it, and where it can compile."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import AcceleratorError, RehearsalError, UsageError
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.cloud import resolve_cloud
from kinetic_flows.core.settings.settings import Settings, load_settings
from kinetic_flows.plans.draft import Call, Draft, draft_call
from kinetic_flows.plans.rehearsal import code_digest
from kinetic_flows.plans.rehearsal_plan import (
    lacks_for_images,
    plan_rehearsal,
    rehearsal_choice,
    rehearsal_options,
    rehearsed_accelerators,
    require_rehearsal,
    run_of,
)
from kinetic_flows.platforms.base import ImageOptions, Platform
from kinetic_flows.platforms.gke.platform import GoogleCloudPlatform
from kinetic_flows.platforms.image_sources import ProjectImage
from kinetic_flows.platforms.local.platform import LocalPlatform

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
V5E, V6E = parse_accelerator("tpu-v5e-8"), parse_accelerator("tpu-v6e-8")
CLOUD = resolve_cloud(arguments={"project": "my-project"}, environ={}, profile=None)


PROJECT = {
    "pyproject.toml": '[project]\nname = "p"\nversion = "1"\n',
    "rehearsed_job.py": "def train(rate=0.1): ...\ndef steps(devices): ...\n",
}


def options(**given: Any) -> RunOptions:
    return RunOptions().updated(given)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"KINETIC_HOME": str(tmp_path / "home")})


@pytest.fixture
def here(settings: Settings) -> LocalPlatform:
    return LocalPlatform(settings.home, {})


@pytest.fixture
def drafted(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Draft]]:
    """Drafts a call of the project's function."""
    project = tmp_path / "project"
    project.mkdir()
    for name, text in PROJECT.items():
        (project / name).write_text(text)
    monkeypatch.syspath_prepend(str(project))
    job = import_module("rehearsed_job")

    def draft(platform: Platform, own: RunOptions | None = None) -> Draft:
        given = own or options(accelerator=["tpu-v5e-8", "tpu-v6e-8"])
        call = Call(
            function=job.train,
            args=(),
            kwargs={},
            options=given,
            may_lack_arguments=True,
            rehearsal=job.steps,
        )
        first = rehearsed_accelerators(given, settings, platform)[0]
        return draft_call(
            call,
            settings,
            platform,
            cwd=project,
            sys_path=sys.path,
            environ={},
            choice=rehearsal_choice(first, given, settings, platform),
        )

    yield draft
    del sys.modules["rehearsed_job"]


def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("platform.system", lambda: "Darwin")


def test_what_makes_a_run_last_or_repeat_does_not_hold_for_its_rehearsal() -> None:
    given = options(
        accelerator="tpu-v6e-8",
        retries=3,
        timeout_seconds=60,
        idle_timeout_seconds=60,
        stuck_after_seconds=60,
        max_cost=3,
        cache_for=True,
        secrets={"TOKEN": "secret-manager:token"},
        volumes={"/data": "scratch:10Gi"},
        output_dir="out",
        debug=True,
        profile=True,
        rehearse=True,
        reservation="any",
        node_pool="tpus",
        compile_cache=True,
        job_variables={"memory": "64Gi", "node_selector": {"a": "b"}, "queue_name": "team"},
    )

    own = rehearsal_options(given, None)

    assert own == options(accelerator="tpu-v6e-8", job_variables={"queue_name": "team"})


def test_what_decides_the_packages_holds_for_a_rehearsal() -> None:
    given = {
        "accelerator": "tpu-v6e-8",
        "container_image": "prebuilt",
        "requirements": ["keras"],
        "framework": "jax",
        "capture_env_vars": ["KERAS_*"],
        "tags": ["team"],
        "cluster": "mine",
    }

    assert rehearsal_options(options(**given), None) == options(**given)


def test_a_list_of_accelerators_is_a_comparison_of_all(
    settings: Settings, here: LocalPlatform
) -> None:
    given = options(accelerator=["tpu-v5e-8", "tpu-v6e-8:spot", "trillium-8"])

    assert rehearsed_accelerators(given, settings, here) == (V5E, V6E)


def test_other_accelerators_may_be_named(settings: Settings, here: LocalPlatform) -> None:
    given = rehearsal_options(options(accelerator="tpu-v5e-8"), ["tpu-v6e-8"])

    assert rehearsed_accelerators(given, settings, here) == (V6E,)


def test_slices_are_of_tpus_and_hosts_of_gpus(settings: Settings, here: LocalPlatform) -> None:
    given = replace(options(accelerator=["tpu-v6e-16", "h100x8"]), slices=2, hosts=4)

    tpu, gpu = rehearsed_accelerators(given, settings, here)

    assert (tpu.slices, tpu.hosts, gpu.hosts, gpu.count) == (2, 8, 4, 32)


def test_a_cpu_is_not_rehearsed_for(settings: Settings, here: LocalPlatform) -> None:
    with pytest.raises(RehearsalError, match="rehearsals are for TPUs and GPUs"):
        rehearsed_accelerators(options(), settings, here)


def test_an_accelerator_that_there_is_not_is_refused() -> None:
    with pytest.raises(AcceleratorError):
        rehearsal_options(options(), ["tpu-v6e-7"])


def test_a_function_without_a_rehearsal_is_told_what_to_write() -> None:
    with pytest.raises(UsageError, match="train has no rehearsal") as refused:
        require_rehearsal("train", None, ())

    assert "@train.rehearsal\n    def _(devices):" in str(refused.value)


def test_a_rehearsal_is_given_the_devices_and_a_method_its_instance() -> None:
    class Trainer:
        def steps(self, devices: Any) -> None: ...

    with pytest.raises(UsageError, match="is given the devices, and nothing else"):
        require_rehearsal("train", lambda: None, ())
    assert require_rehearsal("fit", Trainer.steps, (Trainer(),)) is Trainer.steps


def test_its_packages_are_locked_as_those_of_runs_on_a_cluster_are(here: LocalPlatform) -> None:
    cloud = GoogleCloudPlatform(CLOUD, os.environ, Path("unused"))

    for accelerator in (V5E, V6E, parse_accelerator("tpu7x-2x2x1"), parse_accelerator("h100x8")):
        ours, theirs = (
            each.accelerator_image(ImageOptions(), accelerator) for each in (here, cloud)
        )
        assert isinstance(ours, ProjectImage)
        assert isinstance(theirs, ProjectImage)
        assert ours.target == theirs.target


def test_it_compiles_here_and_as_one_run_without_chips(
    drafted: Callable[..., Draft], here: LocalPlatform
) -> None:
    draft = drafted(here)
    plan = plan_rehearsal(draft, {})
    run = run_of(plan.wanted, plan, plan.wanted[0].draft.image, {})

    assert plan.compiles_here
    assert (plan.function, plan.code_sha256) == ("rehearsed_job:train", code_digest(draft))
    assert str(run.accelerator) == "cpu"
    assert run.name == "train-rehearsal"
    assert run.call.function is draft.rehearsal
    assert run.compiles_for is not None
    assert run.compiles_for.name == "train"
    names = [each.accelerator for each in run.compiles_for.targets]
    assert names == ["tpu-v5litepod-8", "tpu-v6e-8"]


def test_where_a_cluster_is_configured_it_still_compiles_here(
    drafted: Callable[..., Draft], settings: Settings
) -> None:
    cloud = GoogleCloudPlatform(CLOUD, os.environ, settings.home)

    plan = plan_rehearsal(drafted(cloud), {})

    assert plan.platform.name == "local"
    assert plan.wanted[0].draft.platform is cloud


def test_from_a_mac_it_compiles_on_a_cpu_of_the_cluster(
    drafted: Callable[..., Draft], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = GoogleCloudPlatform(CLOUD, os.environ, settings.home)
    draft = drafted(cloud)
    on_a_mac(monkeypatch)

    plan = plan_rehearsal(draft, {})
    run = run_of(plan.wanted, plan, plan.wanted[0].draft.image, {})

    assert plan.platform is cloud
    assert str(run.accelerator) == "cpu"
    assert isinstance(run.image, ProjectImage)
    assert run.image.target.category == "tpu"


def test_an_image_of_ones_own_compiles_on_the_cluster(
    drafted: Callable[..., Draft], settings: Settings
) -> None:
    cloud = GoogleCloudPlatform(CLOUD, os.environ, settings.home)
    given = options(accelerator="tpu-v6e-8", container_image="r.io/mine:v1")

    assert plan_rehearsal(drafted(cloud, given), {}).platform is cloud


def test_a_mac_with_nothing_configured_is_told_what_to_do(
    drafted: Callable[..., Draft], here: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = drafted(here)
    on_a_mac(monkeypatch)

    with pytest.raises(RehearsalError, match="this is Darwin on arm64") as refused:
        plan_rehearsal(draft, {})
    assert "KINETIC_PROJECT" in str(refused.value)


def test_images_of_another_python_are_not_made_here() -> None:
    assert lacks_for_images(PYTHON) == ""
    assert lacks_for_images("3.9") == f"Python {PYTHON} in place of 3.9"
