"""kinetic-flows: run a Python function on cloud accelerators as a Prefect flow run.

Importing this package imports nothing heavy: each public name is loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kinetic_flows.public_names import HOMES

if TYPE_CHECKING:
    from kinetic_flows.decorators import run as run
    from kinetic_flows.errors import DevicesMissing as DevicesMissing
    from kinetic_flows.errors import KineticError as KineticError
    from kinetic_flows.errors import ResultError as ResultError
    from kinetic_flows.errors import RunCancelled as RunCancelled
    from kinetic_flows.errors import RunCrashed as RunCrashed
    from kinetic_flows.errors import RunError as RunError
    from kinetic_flows.errors import RunFailed as RunFailed
    from kinetic_flows.errors import RunTimedOut as RunTimedOut
    from kinetic_flows.errors import WaitTimeout as WaitTimeout
    from kinetic_flows.groups import RunGroup as RunGroup
    from kinetic_flows.groups import attach_group as attach_group
    from kinetic_flows.plan import RunPlan as RunPlan
    from kinetic_flows.remote_function import RemoteFunction as RemoteFunction
    from kinetic_flows.runs import Run as Run
    from kinetic_flows.runs import attach as attach
    from kinetic_flows.runs import list_runs as list_runs

__all__ = (
    "DevicesMissing",
    "KineticError",
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
    "list_runs",
    "run",
)


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module(f"{__name__}.own_version").VERSION
    if name in HOMES:
        return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
