"""kinetic-flows: run a Python function on cloud accelerators as a Prefect flow run.

Importing this package imports nothing heavy: each public name is loaded when first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from kinetic_flows.core.public_names import EARLIER_MODULES, HOMES

if TYPE_CHECKING:
    from kinetic_flows.api.decorator import run as run
    from kinetic_flows.api.rehearsal import Rehearsal as Rehearsal
    from kinetic_flows.api.remote_function import RemoteFunction as RemoteFunction
    from kinetic_flows.api.run import Run as Run
    from kinetic_flows.api.run import attach as attach
    from kinetic_flows.api.run import list_runs as list_runs
    from kinetic_flows.api.run_group import RunGroup as RunGroup
    from kinetic_flows.api.run_group import attach_group as attach_group
    from kinetic_flows.core.data import Data as Data
    from kinetic_flows.core.errors import DevicesMissing as DevicesMissing
    from kinetic_flows.core.errors import KineticError as KineticError
    from kinetic_flows.core.errors import RehearsalError as RehearsalError
    from kinetic_flows.core.errors import ResultError as ResultError
    from kinetic_flows.core.errors import RunCancelled as RunCancelled
    from kinetic_flows.core.errors import RunCrashed as RunCrashed
    from kinetic_flows.core.errors import RunError as RunError
    from kinetic_flows.core.errors import RunFailed as RunFailed
    from kinetic_flows.core.errors import RunTimedOut as RunTimedOut
    from kinetic_flows.core.errors import WaitTimeout as WaitTimeout
    from kinetic_flows.core.inside_run import checkpoint_dir as checkpoint_dir
    from kinetic_flows.core.inside_run import output_dir as output_dir
    from kinetic_flows.plans.plan import RunPlan as RunPlan

__all__ = (
    "Data",
    "DevicesMissing",
    "KineticError",
    "Rehearsal",
    "RehearsalError",
    "RemoteFunction",
    "ResultError",
    "Run",
    "RunCancelled",
    "RunCrashed",
    "RunError",
    "RunFailed",
    "RunGroup",
    "RunPlan",
    "RunTimedOut",
    "WaitTimeout",
    "attach",
    "attach_group",
    "checkpoint_dir",
    "list_runs",
    "output_dir",
    "run",
)


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module(f"{__name__}.core.version").VERSION
    if name in HOMES:
        return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    if name in EARLIER_MODULES:
        return sys.modules[f"{__name__}.{name}"]
    if name.startswith("__"):
        # Who looks at every module asks for these.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    raise import_module(f"{__name__}.core.keras_kinetic").missing_name(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])


class _EarlierModule(ModuleType):
    """A module of an earlier version, whose names are found where they are now."""

    def __getattr__(self, name: str) -> object:
        # `inspect` asks every module for its `__file__`; in a run most of ours are not there.
        homes = () if name.startswith("__") else EARLIER_MODULES[self.__name__.partition(".")[2]]
        cause = None
        for home in homes:
            try:
                found = vars(import_module(f"{__name__}.{home}"))
            except ModuleNotFoundError as error:
                cause = error
                continue
            if name in found:
                return found[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from cause


for _name in EARLIER_MODULES:
    sys.modules[f"{__name__}.{_name}"] = _EarlierModule(f"{__name__}.{_name}")
del _name
