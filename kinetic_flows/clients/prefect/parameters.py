"""The parameters of deployed functions, as Prefect describes and checks them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prefect.utilities.callables import parameter_schema as schema_of

from kinetic_flows.code.data_places import has_data
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.signatures import readable

if TYPE_CHECKING:
    from prefect.utilities.schema_tools import validation
else:
    # It brings SQLAlchemy and Jinja, of which a call needs nothing.
    validation = LazyModule("prefect.utilities.schema_tools.validation")


def parameter_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the JSON schema of a function's parameters, from its signature and docstring.

    What has an annotation that no JSON schema can say may be anything.
    """
    named = inspect.signature(function).parameters
    known = [each.replace(annotation=readable(each.annotation)) for each in named.values()]
    try:
        schema = _schema(function, known)
    except Exception:  # noqa: BLE001 - annotations are other people's code
        schema = _schema(function, [_describable(function, each) for each in known])
    for parameter in known:
        if has_data(parameter.default):
            # Who runs it from Prefect's UI would give it back, as what is no data.
            schema["properties"][parameter.name].pop("default", None)
    # A misspelt name would be left out in silence.
    return {**schema, "additionalProperties": False}


def _describable(function: Callable[..., Any], parameter: inspect.Parameter) -> inspect.Parameter:
    try:
        _schema(function, [parameter])
    except Exception:  # noqa: BLE001 - as above
        return parameter.replace(annotation=Any)
    return parameter


def _schema(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter]
) -> dict[str, Any]:
    schema: dict[str, Any] = schema_of(stand_in(function, parameters)).model_dump(exclude_none=True)
    return schema


def require_valid(
    given: Mapping[str, Any], schema: Mapping[str, Any], *, may_lack_some: bool
) -> None:
    """Hold parameters to a schema.

    Args:
        given: The parameters.
        schema: The JSON schema.
        may_lack_some: Whether parameters that the schema requires may be left out.

    Raises:
        ValueError: They do not satisfy it.
    """
    try:
        validation.validate(
            dict(given), dict(schema), raise_on_error=True, ignore_required=may_lack_some
        )
    except validation.ValidationError as error:
        raise ValueError(str(error)) from error


def stand_in(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter]
) -> Callable[..., Any]:
    """Return a function that has another's name and documentation, and other parameters."""

    @functools.wraps(function)
    def stand(*args: Any, **kwargs: Any) -> None: ...

    stand.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return stand
