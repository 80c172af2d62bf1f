"""Variables that begin like a setting and are none: most often one that was misspelt."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.settings.table import PREFIX, rows

if TYPE_CHECKING:
    from kinetic_flows.core import keras_kinetic
else:
    keras_kinetic = LazyModule("kinetic_flows.core.keras_kinetic")

OF_COMMANDS = frozenset(
    {
        "KINETIC_DOCKERHUB_USERNAME",
        "KINETIC_DOCKERHUB_TOKEN",
        "KINETIC_CONTROLLER_IMAGE",
    }
)
"""What single commands and the deployments that ship read, and no table has."""

OF_RUNS = frozenset(
    {
        *("KINETIC_RUN_ID", "KINETIC_RUN_KEY", "KINETIC_RESTART_COUNT", "KINETIC_RETRY"),
        *("KINETIC_JOB", "KINETIC_JOB_SHA256", "KINETIC_STORE"),
        *("KINETIC_LAUNCH", "KINETIC_LAUNCHED_RUN"),
        *("KINETIC_PACKAGES", "KINETIC_SEAL_KEY", "KINETIC_SEAL_BLOCK"),
        *("KINETIC_COMPILE_CACHE_KEY", "KINETIC_COMPILE_CACHE_BLOCK"),
        *("KINETIC_CLIENT", "KINETIC_DATA_CACHE", "KINETIC_METRICS", "KINETIC_VOLUMES"),
        *("KINETIC_STORAGE_EMULATOR", "KINETIC_DEVICES", "KINETIC_DEVICE_CHECK"),
        *("KINETIC_HOST", "KINETIC_HOSTS", "KINETIC_HOSTS_SERVICE", "KINETIC_HOSTNAMES"),
        *("KINETIC_HOSTS_DIRECTORY", "KINETIC_SLICES", "KINETIC_SLICE"),
        *("KINETIC_COORDINATOR_ADDRESS", "KINETIC_CATEGORY", "KINETIC_PYTHON"),
    }
)
"""What runs and the images they come from have, or give themselves."""

_OF_A_SERVICE = re.compile(r"_(?:SERVICE_HOST|SERVICE_PORT|PORT)(?:_|$)")
"""What Kubernetes tells pods of a Service (https://kubernetes.io/docs/concepts/services-networking
/service/#environment-variables); somebody's may be called kinetic-ui."""

_told: set[str] = set()
_told_lock = threading.Lock()


def unknown_variables(environ: Mapping[str, str], tables: Iterable[type]) -> list[str]:
    """Return what to say of each variable that begins like a setting and is none.

    Args:
        environ: Variables.
        tables: The tables of settings.
    """
    settings = {row.variable for table in tables for row in rows(table).values()}
    known = settings | OF_COMMANDS
    ours = (name for name in environ if name.startswith(PREFIX) and not _OF_A_SERVICE.search(name))
    return [_said_of(name, known) for name in sorted(set(ours) - known - OF_RUNS)]


def tell_once(texts: Iterable[str], tell: Callable[[str], None]) -> None:
    """Say what this process has not said yet."""
    for text in texts:
        with _told_lock:
            is_new = text not in _told
            _told.add(text)
        if is_new:
            tell(text)


def _said_of(name: str, known: Iterable[str]) -> str:
    theirs = keras_kinetic.variable_hint(name)
    if theirs:
        return f"{name} is set and is no setting; {theirs}"
    nearest = get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    meant = f"did you mean {nearest[0]}?" if nearest else "`kinetic config` shows those there are"
    return f"{name} is set and is no setting: {meant}"
