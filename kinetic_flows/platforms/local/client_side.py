"""What a run on this machine has of its client, so that it can fetch data for its function.

A pod's image has Google's libraries, and its node an identity. An environment of this machine has
what the project names, and what this client's user can read it reads with this user's
credentials; its function's process gets none of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

CLIENT_VARIABLE = "KINETIC_CLIENT"
"""Environment variable that a run's process is told it in, as JSON."""

DATA_CACHE_VARIABLE = "KINETIC_DATA_CACHE"
"""Environment variable that names the directory in which runs keep copies of data."""

_PACKAGES = ("site-packages", "dist-packages")

_CREDENTIALS = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "CLOUDSDK_CONFIG",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_QUOTA_PROJECT",
    "STORAGE_EMULATOR_HOST",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HOME",
    "HF_ENDPOINT",
    "XDG_CACHE_HOME",
)
"""Variables by which Google's libraries and the hub's find what one may read."""


def client_side(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that a run's process gets, which runs the same Python as this one.

    Args:
        environ: This process's variables.
    """
    told = {
        # Not the project's own directories, whose modules may be called like anybody's.
        "path": [path for path in sys.path if Path(path).name in _PACKAGES],
        "environment": {name: environ[name] for name in _CREDENTIALS if name in environ},
    }
    return {CLIENT_VARIABLE: json.dumps(told)}
