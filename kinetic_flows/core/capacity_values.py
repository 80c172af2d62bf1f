"""What the options may look like that say how chips are to be had."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kinetic_flows.core import option_values as check
from kinetic_flows.core.errors import AcceleratorError
from kinetic_flows.core.settings.accelerator_names import MAX_CANDIDATES
from kinetic_flows.core.settings.pool_variables import check_job_variables

MAX_RUN_SECONDS = 7 * 86_400
"""For how long flex-start gives nodes at most.

https://cloud.google.com/kubernetes-engine/docs/concepts/dws
"""

_ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")
_RESERVATION = re.compile(
    r"(?:projects/[a-z0-9:.-]+/reservations/)?[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)


class MaybeAlias(str):
    """What no accelerator is called, and the function's project may call one."""

    __slots__ = ()


def accelerators(option: str, value: object) -> str | tuple[str, ...]:
    """Check an accelerator's name, or a list of several; a list of one is that one."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return _accelerator(option, value)
    if not value:
        check.refuse(option, value, "name one at least: `kinetic accelerators` lists all")
    if len(value) > MAX_CANDIDATES:
        check.refuse(option, value, f"name {MAX_CANDIDATES} at most")
    names = tuple(_accelerator(option, each) for each in value)
    if len(set(names)) < len(names):
        check.refuse(option, value, "name each once")
    return names if len(names) > 1 else names[0]


def _accelerator(option: str, value: object) -> str:
    # Whoever names none imports nothing of them.
    from kinetic_flows.core.accelerators import check_accelerator
    from kinetic_flows.core.accelerators.aliases import may_be_alias

    given = check.text(option, value, "name one: `kinetic accelerators` lists all")
    try:
        check_accelerator(given)
    except AcceleratorError:
        if not may_be_alias(given):
            raise
        return MaybeAlias(given)
    return given


def cpu(option: str, value: object) -> str:
    """Check CPUs, as a number or a Kubernetes quantity."""
    return str(check_job_variables({"cpu": value}, option)["cpu"])


def memory(option: str, value: object) -> str:
    """Check an amount of memory, as a Kubernetes quantity."""
    return str(check_job_variables({"memory": value}, option)["memory"])


def zones(option: str, value: object) -> tuple[str, ...]:
    """Check names of zones, a single one or several."""
    named = check.texts(option, [value] if isinstance(value, str) else value)
    for zone in named:
        if not _ZONE.fullmatch(zone):
            check.refuse(option, zone, "name zones such as us-central1-a")
    if not named:
        check.refuse(option, value, "name one at least, or leave it out")
    return tuple(dict.fromkeys(named))


def reservation(option: str, value: object) -> str:
    """Check a reservation's name, its path in another project, or `any`."""
    given = check.text(option, value).strip()
    if not _RESERVATION.fullmatch(given):
        check.refuse(option, value, "give its name, projects/PROJECT/reservations/NAME, or 'any'")
    return given


def object_name(option: str, value: object) -> str:
    """Check the name of a node pool or of a compute class."""
    given = check.text(option, value).strip()
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?", given):
        check.refuse(option, value, "give a name: lower-case letters, digits, dashes")
    return given


def run_duration(option: str, value: object) -> float:
    """Check for how long nodes of flex-start are asked for."""
    seconds = check.seconds(option, value)
    if seconds > MAX_RUN_SECONDS:
        check.refuse(option, value, f"give {MAX_RUN_SECONDS} seconds at most: flex-start's limit")
    return seconds
