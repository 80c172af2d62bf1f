"""Which backend Keras begins with in a run where nobody has chosen one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kinetic_flows.runner_image.runner.keras_backend import choose_keras_backend


def chosen(installed: str, home: Path, **environ: str) -> str | None:
    variables = {"KERAS_HOME": str(home), **environ}
    choose_keras_backend(variables, installed.split().__contains__)
    return variables.get("KERAS_BACKEND")


@pytest.mark.parametrize(
    ("installed", "backend"),
    [
        ("keras jax", "jax"),
        ("keras torch", "torch"),
        ("keras jax torch", None),
        ("keras", None),
        ("jax", None),
        ("keras jax tensorflow", None),
    ],
)
def test_the_one_backend_that_is_installed_is_taken_where_tensorflow_is_not(
    tmp_path: Path, installed: str, backend: str | None
) -> None:
    assert chosen(installed, tmp_path) == backend


def test_what_somebody_chose_stays(tmp_path: Path) -> None:
    assert chosen("keras jax", tmp_path, KERAS_BACKEND="openvino") == "openvino"


@pytest.mark.parametrize(
    ("file", "backend"),
    [
        (json.dumps({"backend": "tensorflow"}), "jax"),  # what Keras writes by itself
        (json.dumps({"backend": "jax"}), None),
        (json.dumps(["jax"]), "jax"),
        ("{", "jax"),
    ],
)
def test_keras_own_file_is_heeded_where_its_backend_is_there(
    tmp_path: Path, file: str, backend: str | None
) -> None:
    (tmp_path / "keras.json").write_text(file)
    assert chosen("keras jax", tmp_path) == backend
