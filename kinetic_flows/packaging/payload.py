"""The payload: one call, pickled for the run.

A payload is a pickle of `{"environment": {name: value}, "function": {"module", "qualname"} or
None, "call": bytes}`, whose `call` is a pickle of `(function or None, args, kwargs)`, so that
the runner can set the environment before it imports anything of the project.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kinetic_flows.errors import ConfigurationError
from kinetic_flows.job import Sha256, sha256_hex
from kinetic_flows.packaging.pickling import (
    PROTOCOL,
    found_by_name,
    is_importable_in_run,
    is_reachable_by_name,
    pickle_call,
)
from kinetic_flows.packaging.reprs import argument_reprs
from kinetic_flows.packaging.root import PackageRoot
from kinetic_flows.packaging.unpicklable import largest_part, unpicklable_error
from kinetic_flows.packaging.wording import megabytes

__all__ = ["Payload", "argument_reprs", "pack_call", "require_same_python"]

LARGE_BYTES = 50_000_000


@dataclass(frozen=True, kw_only=True)
class Payload:
    """A pickled call.

    Attributes:
        data: The bytes to store; they may hold captured environment variables.
        sha256: Their digest.
        warnings: What the person should know, a sentence each.
    """

    data: bytes
    sha256: Sha256
    warnings: tuple[str, ...]


def pack_call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    environment: Mapping[str, str],
    root: PackageRoot,
) -> Payload:
    """Pickle a call.

    Args:
        function: The plain function.
        args: Its positional arguments, `self` included.
        kwargs: Its keyword arguments.
        environment: Variables to set in the run before anything else.
        root: The package root, which decides what a run can import.

    Raises:
        UnpicklableError: An argument, or something the function uses, cannot be pickled.
    """
    reference = function_reference(function, root)
    call = (None if reference else function, args, kwargs)
    try:
        data, by_value = pickle_call(call, root)
    except Exception as error:  # pickling runs other people's code
        raise unpicklable_error(function, call, error, root) from error
    framed = {"environment": dict(environment), "function": reference, "call": data}
    payload = pickle.dumps(framed, protocol=PROTOCOL)
    return Payload(
        data=payload,
        sha256=sha256_hex(payload),
        warnings=(*_by_value_warnings(by_value), *_size_warnings(call, len(data), root)),
    )


def function_reference(function: Callable[..., Any], root: PackageRoot) -> dict[str, str] | None:
    """Return the name by which a run imports a function; None when it has to be pickled."""
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if not module or not qualname or module == "__main__":
        return None
    if not is_reachable_by_name(function, found_by_name(function)):
        return None
    if not is_importable_in_run(module, root):
        return None
    return {"module": module, "qualname": qualname}


def require_same_python(client: str, runner: str) -> None:
    """Refuse a run whose Python would misread this one's pickles.

    Args:
        client: Python minor version here, such as `3.11`.
        runner: Python minor version in the run.

    Raises:
        ConfigurationError: They differ.
    """
    if client != runner:
        raise ConfigurationError(
            f"this is Python {client}, and the run would be Python {runner}",
            value=runner,
            hint=f"run this with Python {runner} (uv run --python {runner} ...), or use an image "
            f"with Python {client}",
        )


def _by_value_warnings(modules: frozenset[str]) -> tuple[str, ...]:
    if not modules:
        return ()
    names = ", ".join(sorted(modules))
    warning = (
        f"what {names} defines travels by value, because it is neither installed nor under the "
        "package root; move it there, or set KINETIC_PACKAGE_ROOT to a directory that holds both"
    )
    return (warning,)


def _size_warnings(
    call: tuple[Any, tuple[Any, ...], dict[str, Any]], size_bytes: int, root: PackageRoot
) -> tuple[str, ...]:
    if size_bytes <= LARGE_BYTES:
        return ()
    name, part_bytes = largest_part(call, root)
    warning = (
        f"the call is {megabytes(size_bytes)} pickled, of which {name} is "
        f"{megabytes(part_bytes)}; pass large data as a path or a URI that the run can read"
    )
    return (warning,)
