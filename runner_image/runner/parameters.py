"""The parameters of a deployment's run, as Prefect keeps them, and the call they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .annotations import hints_of, readable
from .contract import EXIT_PARAMETERS_UNAVAILABLE, Fault
from .patience import PATIENCE_SECONDS, ask_patiently
from .prefect_api import TIMEOUT_SECONDS, ApiError, PrefectApi


def read_call(
    api: PrefectApi, say: Callable[[str], None], patience_seconds: float = PATIENCE_SECONDS
) -> tuple[str, dict[str, Any]]:
    """Return the flow run's name and parameters.

    Args:
        api: Where the flow run is.
        say: Called with a line to print, once, when that takes more than one try.
        patience_seconds: When to give up.

    Raises:
        Fault: Prefect does not say.
    """
    waiting_for = "Prefect to tell the run's parameters"
    try:
        return ask_patiently(
            lambda: api.read_call(TIMEOUT_SECONDS), say, waiting_for, patience_seconds
        )
    except ApiError as error:
        message = f"the run's parameters could not be read from Prefect: {error}"
        raise Fault(EXIT_PARAMETERS_UNAVAILABLE, message) from error


def with_parameters(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], parameters: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call to which parameters were added by name.

    Parameters are spread as Prefect spreads them: those that collect what is left (`*args`,
    `**kwargs`) are given whole, by their own names.
    https://docs.prefect.io/v3/concepts/deployments#parameters

    Args:
        function: The function.
        args: Its first positional arguments: the instance, for a method.
        kwargs: Its keyword arguments.
        parameters: JSON values by name.

    Raises:
        TypeError: The function has no parameter of such a name.
    """
    import inspect

    signature, hints = inspect.signature(function), hints_of(function)
    unknown = ", ".join(sorted(parameters.keys() - signature.parameters.keys()))
    if unknown:
        raise TypeError(f"it has no parameter {unknown}")
    bound = signature.bind_partial(*args, **kwargs)
    for name, parameter in signature.parameters.items():
        if name in parameters:
            collects = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            annotation = Any if collects else hints.get(name, parameter.annotation)
            bound.arguments[name] = converted(parameters[name], annotation)
    bound.apply_defaults()
    return bound.args, bound.kwargs


def converted(value: Any, annotation: Any) -> Any:
    """Return a JSON value as its annotation has it, where pydantic is there to tell how.

    Plain annotations need nothing. Where the image has no pydantic 2, or pydantic cannot make
    anything of the annotation, the value stays as it is.

    Raises:
        ValueError: The value does not fit.
    """
    is_missing = getattr(annotation, "__name__", "") == "_empty"
    if is_missing or annotation in _PLAIN or isinstance(annotation, str):
        return value
    try:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError
    except ImportError:
        return value
    try:
        adapter = TypeAdapter(readable(annotation))
    except Exception:  # noqa: BLE001 - annotations are other people's code
        return value
    try:
        return adapter.validate_python(value)
    except PydanticUserError:  # it names what nobody has defined
        return value


_PLAIN = (Any, None, str, int, float, bool, list, dict, object)
