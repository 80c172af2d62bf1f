"""The module that has each public name of this package, now and in earlier versions."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")

HOMES = {
    "Data": "core.data",
    "DevicesMissing": "core.errors",
    "KineticError": "core.errors",
    "Rehearsal": "api.rehearsal",
    "RehearsalError": "core.errors",
    "RemoteFunction": "api.remote_function",
    "ResultError": "core.errors",
    "Run": "api.run",
    "RunCancelled": "core.errors",
    "RunCrashed": "core.errors",
    "RunError": "core.errors",
    "RunFailed": "core.errors",
    "RunGroup": "api.run_group",
    "RunPlan": "plans.plan",
    "RunTimedOut": "core.errors",
    "WaitTimeout": "core.errors",
    "attach": "api.run",
    "attach_group": "api.run_group",
    "checkpoint_dir": "core.inside_run",
    "list_runs": "api.run",
    "output_dir": "core.inside_run",
    "run": "api.decorator",
}

EARLIER_MODULES = {
    "clients.kubernetes_access": ("clients.kubernetes.access",),
    "clients.kubernetes_client": ("clients.kubernetes.client",),
    "decorators": ("api.decorator",),
    "deployment": ("api.deployment",),
    "errors": ("core.errors",),
    "groups": ("api.run_group",),
    "inputs": ("plans.inputs",),
    "inside_run": ("core.inside_run",),
    "job": ("core.job", "core.envelope"),
    "options": ("core.options",),
    "plan": ("plans.plan", "core.environment"),
    "remote_function": ("api.remote_function",),
    "settings": ("core.settings.settings",),
    "tasks": (),
    "tasks.base_images": ("flows.build_image_task",),
}
"""Where the names of modules of version 0.1 are now: pickles and people's imports name them."""


def without_attribute(owner: object, name: str) -> Any:
    """Answer for an attribute that a public object lacks: raise what says so.

    Args:
        owner: The object.
        name: The attribute.

    Raises:
        AttributeError: Always, unless it was a property's own error and there is a value now.
    """
    if not name.startswith("_"):
        words = import_module("kinetic_flows.core.keras_kinetic")
        kind = type(owner).__name__
        if name in words.OWNERS.get(kind, ()):
            raise words.missing_attribute(f"{kind!r} object", name, words.OWNERS[kind])
    return object.__getattribute__(owner, name)


def public(kind: type[T]) -> type[T]:
    """Have a class say that it is `kinetic`'s: in what it prints, in tracebacks and in pickles."""
    return importable_from("kinetic", kind)


def importable_from(module: str, kind: type[T]) -> type[T]:
    """Have a class name the module that people import it from, which leads to it.

    Args:
        module: The module.
        kind: The class; what its annotations mean is found out while its own module is known.
    """
    own = inspect.get_annotations(kind)
    if own:
        hints = get_type_hints(kind, include_extras=True)
        kind.__annotations__ = {name: hints[name] for name in own}
    kind.__module__ = module
    return kind
