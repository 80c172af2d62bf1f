"""A deployment as it is asked for, checked before anything is packaged or built."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.prefect.parameters import parameter_schema, require_valid, stand_in
from kinetic_flows.clients.prefect.schedules import (
    DeploymentSchedule,
    Timing,
    make_schedules,
    schedule_identity,
)
from kinetic_flows.code.data_places import has_data
from kinetic_flows.core import option_values as check
from kinetic_flows.core.errors import UsageError, suggest
from kinetic_flows.core.signatures import resolved_signature

MAX_PARAMETERS_BYTES = 500_000
"""Prefect refuses more than half a megabyte of parameters (3.8.8)."""

_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, kw_only=True)
class DeployRequest:
    """A deployment that is wanted.

    Attributes:
        name: Its name.
        description: What the UI shows of it.
        parameters: What its runs are called with when nothing else is said.
        parameter_schema: JSON schema of what runs can be called with.
        schedules: When it runs.
        timing: What makes its schedules others, as plain values.
        paused: Whether its schedules rest; None to leave that as it is.
        tags: Further tags of its runs.
        concurrency_limit: How many of its runs go on at once; None for any number.
        image_refresh: Whether its dependencies are resolved again.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    parameter_schema: Mapping[str, Any]
    schedules: tuple[DeploymentSchedule, ...]
    timing: tuple[Mapping[str, Any], ...]
    paused: bool | None
    tags: tuple[str, ...]
    concurrency_limit: int | None
    image_refresh: bool


def check_request(
    function: Callable[..., Any],
    bound: tuple[Any, ...],
    *,
    name: str,
    timing: Timing,
    parameters: Mapping[str, Any] | None,
    paused: bool | None,
    tags: Sequence[str],
    concurrency_limit: int | None,
    image_refresh: bool,
) -> DeployRequest:
    """Check what `train.deploy` was told.

    Args:
        function: The plain function.
        bound: Its first arguments, which runs do not give: the instance, for a method.
        name: The deployment's name.
        timing: When it is to run.
        parameters: What its runs are called with; None for nothing.
        paused: Whether its schedules rest; None to leave that as it is.
        tags: Further tags of its runs.
        concurrency_limit: How many of its runs go on at once; None for any number.
        image_refresh: Whether its dependencies are resolved again.

    Raises:
        UsageError: Something of it cannot be.
    """
    _check_name(name)
    _check_limit(concurrency_limit)
    if paused is not None:
        check.flag("paused", paused)
    check.flag("image_refresh", image_refresh)
    given_tags = check.texts("tags", tags)
    given = _parameters(parameters)
    schedules = make_schedules(timing)
    called_with = _called_with(function, bound)
    schema = parameter_schema(called_with)
    _check_parameters(called_with, given, schema, is_scheduled=not timing.is_empty)
    return DeployRequest(
        name=name,
        description=inspect.getdoc(function) or "",
        parameters=given,
        parameter_schema=schema,
        schedules=schedules,
        timing=tuple(schedule_identity(each) for each in schedules),
        paused=paused,
        tags=given_tags,
        concurrency_limit=concurrency_limit,
        image_refresh=image_refresh,
    )


def _called_with(function: Callable[..., Any], bound: tuple[Any, ...]) -> Callable[..., Any]:
    """Return a stand-in with the parameters that runs can be given by name."""
    parameters = list(resolved_signature(function).parameters.values())[len(bound) :]
    named = [each for each in parameters if each.kind not in _COLLECTING]
    return stand_in(function, named)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip() or re.search(r"[/%&<>]", name):
        raise UsageError(
            f"a deployment cannot be named {name!r}",
            value=name,
            hint="give a name without / % & < and >, such as 'nightly'",
        )


def _check_limit(limit: object) -> None:
    if limit is not None:
        check.count("concurrency_limit", limit, least=1)


def _parameters(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        check.refuse("parameters", value, 'give values by the parameter, such as {"lr": 1e-3}')
    return dict(value)


def _check_parameters(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    schema: Mapping[str, Any],
    *,
    is_scheduled: bool,
) -> None:
    name = function.__name__
    known = inspect.signature(function).parameters
    for unknown in given.keys() - known.keys():
        raise UsageError(
            f"{name}() has no parameter {unknown!r}", value=unknown, hint=suggest(unknown, known)
        )
    _check_json(given)
    missing = [
        each.name
        for each in known.values()
        if each.default is each.empty and each.name not in given
    ]
    if missing and is_scheduled:
        raise UsageError(
            f"{name}() needs {', '.join(missing)}, and a scheduled run is given nothing",
            value=tuple(missing),
            hint=f"give it: parameters={{{missing[0]!r}: ...}}, or a default in the signature",
        )
    try:
        require_valid(given, schema, may_lack_some=bool(missing))
    except ValueError as error:
        raise UsageError(
            f"parameters do not fit {name}(): {error}",
            value=dict(given),
            hint="they have to fit the annotations in the function's signature",
        ) from error


_JSON_HINT = (
    "Prefect keeps parameters as JSON: give numbers, texts, lists or dictionaries; "
    "dates as ISO texts"
)
_DATA_HINT = (
    "give it as a default in the signature, or say where it is to be: volumes={'/data': ...}"
)


def _check_json(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        try:
            size_bytes = len(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"parameter {name} is a {type(value).__name__}, which JSON does not have",
                value=name,
                hint=_DATA_HINT if has_data(value) else _JSON_HINT,
            ) from error
        if size_bytes > MAX_PARAMETERS_BYTES:
            raise UsageError(
                f"parameter {name} is {size_bytes} bytes as JSON, and Prefect takes "
                f"{MAX_PARAMETERS_BYTES}",
                value=name,
                hint="pass large data as a path or a URI that the run can read",
            )
