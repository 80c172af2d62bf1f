"""The backend that Keras begins with where nobody has chosen one.

Keras 3 takes TensorFlow unless `KERAS_BACKEND` or its own file names another, and cannot be
imported where that is not installed (https://keras.io/getting_started/#configuring-your-backend).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, MutableMapping

from .missing_modules import is_there

VARIABLE = "KERAS_BACKEND"
DEFAULT = "tensorflow"
INSTEAD = ("jax", "torch")


def choose_keras_backend(
    environ: MutableMapping[str, str], is_installed: Callable[[str], bool] = is_there
) -> None:
    """Have Keras begin with the one backend that is installed, where its own choice is not.

    With several of them installed nothing is chosen: the function's code may be about to.

    Args:
        environ: The variables that are set.
        is_installed: Whether a module can be imported.
    """
    if environ.get(VARIABLE) or not is_installed("keras") or is_installed(DEFAULT):
        return
    found = [name for name in INSTEAD if is_installed(name)]
    if len(found) == 1 and _of_file(environ) not in found:
        environ[VARIABLE] = found[0]


def _of_file(environ: MutableMapping[str, str]) -> str:
    """Return the backend that Keras's own file names, which it writes at its first import."""
    folder = environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    try:
        with open(os.path.join(folder, "keras.json"), encoding="utf-8") as file:
            return str(json.load(file)["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT
