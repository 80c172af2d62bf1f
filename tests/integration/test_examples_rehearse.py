"""The examples that are rehearsed: what fits and what does not, and that what is compiled runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from projects import Project, make_project

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Project:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return make_project(tmp_path / "project", monkeypatch, {})


@pytest.mark.parametrize("name", ["rehearse_keras"])
def test_an_example_fits_the_larger_of_its_accelerators_alone(name: str, project: Project) -> None:
    shutil.copy(EXAMPLES / f"{name}.py", project.root)

    rehearsal = project.module(name).train.rehearse()

    assert [each.fits for each in rehearsal.reports] == [False, True], str(rehearsal)
    assert rehearsal.smallest == "tpu-v6e-8"
    (step,) = rehearsal.reports[0].steps
    assert f"{name}.py" in str(step.buffers)


def test_the_transformer_trains_on_what_there_is(project: Project) -> None:
    """Its rehearsal takes minutes of a compiler's time; the step and its layout are these."""
    shutil.copy(EXAMPLES / "rehearse_flax.py", project.root)
    train = project.module("rehearse_flax").train

    (loss,) = train.with_options(accelerator="cpu")(steps=1, width=64, sequences=2)

    assert 0 < loss < 100
