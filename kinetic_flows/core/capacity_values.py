"""What the options may look like that say how chips are to be had."""

from __future__ import annotations

from collections.abc import Sequence, Set

from kinetic_flows.core import option_values as check
from kinetic_flows.core.errors import AcceleratorError
from kinetic_flows.core.settings import values
from kinetic_flows.core.settings.accelerator_names import MAX_CANDIDATES, names_in
from kinetic_flows.core.settings.pool_variables import check_bytes, check_cpu

MAX_RUN_SECONDS = 7 * 86_400
"""For how long flex-start gives nodes at most.

https://cloud.google.com/kubernetes-engine/docs/concepts/dws
"""


class MaybeAlias(str):
    """What no accelerator is called, and the function's project may call one."""

    __slots__ = ()


def accelerators(option: str, value: object) -> str | tuple[str, ...]:
    """Check an accelerator's name, or a list of several; a list of one is that one."""
    if isinstance(value, Set):
        check.refuse(option, value, f"give a list, in the order of preference: {sorted(value)!r}")
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
    if "," in given.strip(", "):
        check.refuse(option, value, f"name several as a list: {option}={[*names_in(given)]!r}")
    try:
        check_accelerator(given)
    except AcceleratorError:
        if not may_be_alias(given):
            raise
        return MaybeAlias(given)
    return given


def cpu(option: str, value: object) -> str:
    """Check CPUs, as a number or a Kubernetes quantity."""
    return check_cpu(value, option)


def memory(option: str, value: object) -> str:
    """Check an amount of memory, as a Kubernetes quantity."""
    return check_bytes(value, option)


def zones(option: str, value: object) -> tuple[str, ...]:
    """Check names of zones, a single one or several."""
    return values.zones(value, option)


def reservation(option: str, value: object) -> str:
    """Check a reservation's name, its path in another project, or `any`."""
    return values.reservation(_bare(value), option)


def node_pool(option: str, value: object) -> str:
    """Check the name of a node pool."""
    return values.node_pool(_bare(value), option)


def compute_class(option: str, value: object) -> str:
    """Check the name of a compute class."""
    return values.compute_class(_bare(value), option)


def run_duration(option: str, value: object) -> float:
    """Check for how long nodes of flex-start are asked for."""
    seconds = check.seconds(option, value)
    if seconds > MAX_RUN_SECONDS:
        check.refuse(option, value, f"give {MAX_RUN_SECONDS} seconds at most: flex-start's limit")
    return seconds


def _bare(value: object) -> object:
    return value.strip() if isinstance(value, str) else value
