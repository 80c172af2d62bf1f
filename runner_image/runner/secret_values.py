"""The values of a run's secrets: opened, asked for, or found in this process's environment.

They never stand in a file: the function's process is handed them through a pipe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .contract import EXIT_SECRETS_UNAVAILABLE, Fault, sealed_object
from .fetching import in_parallel
from .identity import REFERENCE_PREFIX
from .patience import ask_patiently
from .prefect_api import TIMEOUT_SECONDS, ApiError, PrefectApi
from .sealing import SealBroken, open_sealed
from .stores import BucketStore, DirectoryStore

SEAL_KEY_VARIABLE = "KINETIC_SEAL_KEY"
SEAL_BLOCK_VARIABLE = "KINETIC_SEAL_BLOCK"
"""Prefect's Secret block that has the key, for runs that a Prefect worker starts."""


Spec = Mapping[str, Any]
"""A `SecretSpec` of the job."""


class Around(NamedTuple):
    """Where values may be found.

    Attributes:
        environ: This process's environment.
        store: Where what is sealed is.
        api: Prefect; None for a run that reports nowhere.
        say: Prints a line.
    """

    environ: Mapping[str, str]
    store: DirectoryStore | BucketStore
    api: PrefectApi | None
    say: Callable[[str], None]


def open_secrets(job: Mapping[str, Any], around: Around) -> dict[str, str]:
    """Return the variables that a job has values for which nobody else is to see.

    Raises:
        Fault: Some are not to be had; all of them are named.
    """
    # Jobs of earlier clients have none.
    specs: list[Spec] = list(job.get("secrets") or ())
    if not specs:
        return {}
    problems: list[str] = []
    found: dict[str, str] = {}
    sealed = [spec["variable"] for spec in specs if spec["kind"] == "sealed"]
    if sealed:
        _try(lambda: found.update(_unsealed(sealed, job, around)), problems)

    def look_up(spec: Spec) -> None:
        _try(lambda: found.update({spec["variable"]: _looked_up(spec, around)}), problems)

    others = (spec for spec in specs if spec["kind"] != "sealed")
    in_parallel([lambda spec=spec: look_up(spec) for spec in others])  # type: ignore[misc]
    if problems:
        raise Fault(EXIT_SECRETS_UNAVAILABLE, "; ".join(sorted(problems)))
    return {spec["variable"]: found[spec["variable"]] for spec in specs}


def masked_values(job: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
    """Return those of the values that no output of the run is to show."""
    specs: Iterable[Spec] = job.get("secrets") or ()
    return [values[spec["variable"]] for spec in specs if spec["masked"]]


class _Lacking(Exception):
    """A value is not to be had, and why."""


def _try(look: Callable[[], None], problems: list[str]) -> None:
    try:
        look()
    except _Lacking as lacking:
        problems.append(str(lacking))


def _unsealed(variables: list[str], job: Mapping[str, Any], around: Around) -> dict[str, str]:
    """Open what the client has sealed for this run."""
    name, listed = sealed_object(job["payload"]["name"]), ", ".join(variables)
    data = around.store.read(name)
    if data is None:
        raise _Lacking(f"the values of {listed} are gone: there is no object {name}")
    try:
        values = open_sealed(data, _seal_key(listed, around))
    except SealBroken:
        message = f"the object {name} is refused: it was not sealed for this run, or was changed"
        raise _Lacking(f"{message}; it has the values of {listed}") from None
    absent = [each for each in variables if each not in values]
    if absent:
        raise _Lacking(f"the object {name} has no value of {', '.join(absent)}")
    return {each: values[each] for each in variables}


def _seal_key(listed: str, around: Around) -> str:
    block = around.environ.get(SEAL_BLOCK_VARIABLE)
    key = around.environ.get(SEAL_KEY_VARIABLE) or (_of_block(block, around) if block else "")
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        message = f"the values of {listed} cannot be opened: {SEAL_KEY_VARIABLE} must be set"
        raise _Lacking(f"{message}, to what they were sealed with")
    return key


def _looked_up(spec: Spec, around: Around) -> str:
    if spec["kind"] == "prefect":
        return _fit(spec, _of_block(spec["name"], around))
    if spec["kind"] == "secret-manager":
        return _fit(spec, _of_secret_manager(spec, around))
    value = around.environ.get(REFERENCE_PREFIX + spec["variable"])
    if value is None:
        raise _Lacking(
            f"{spec['variable']}: the Job does not bring key {spec['key']} of the Secret "
            f"{spec['name']}; does the work pool's template have the variable secret_env?"
        )
    return value


def _of_block(name: str, around: Around) -> str:
    """Return what a Secret block of Prefect's holds."""
    api = around.api
    if api is None:
        raise _Lacking(f"the Secret block {name} cannot be read: the run knows no Prefect API")
    waiting_for = f"Prefect to tell what is in the block {name}"
    try:
        return ask_patiently(
            lambda: api.read_secret(name, TIMEOUT_SECONDS), around.say, waiting_for
        )
    except ApiError as error:
        raise _Lacking(f"the Secret block {name} cannot be read from Prefect: {error}") from None


def _of_secret_manager(spec: Spec, around: Around) -> str:
    from .secret_manager import access

    waiting_for = f"Secret Manager to tell {spec['name']}"
    try:
        return ask_patiently(lambda: access(spec, around.environ), around.say, waiting_for)
    except ApiError as error:
        raise _Lacking(f"{spec['variable']}: {error}") from None


def _fit(spec: Spec, value: str) -> str:
    if "\0" in value:
        raise _Lacking(f"{spec['variable']}: {spec['name']} holds bytes that no variable can hold")
    return value
