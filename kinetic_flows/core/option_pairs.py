"""Options that only go together, or only apart: what is found wrong where they are written.

What depends on an accelerator that only a setting or the cluster names is checked by a call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kinetic_flows.core.accelerators import Accelerator, needs_node_pools, parse_accelerator
from kinetic_flows.core.accelerators.model import split_suffix
from kinetic_flows.core.capacity_values import MaybeAlias
from kinetic_flows.core.errors import UsageError

if TYPE_CHECKING:
    from kinetic_flows.core.options import RunOptions

OF_LISTS = ("strategy", "fallback_after_seconds", "on_oom")
"""Options that say something of a list of accelerators."""


def check_written(options: RunOptions, names: Sequence[str], said: Collection[str]) -> None:
    """Refuse options that do not go together, as far as that is plain where they are written.

    Args:
        options: All of them.
        names: The accelerators that are named; none where that is left to a setting.
        said: Which of the options were written just now: what an earlier decorator said of a
            list does nothing where one accelerator is named later.

    Raises:
        UsageError: Two of them do not go together.
        AcceleratorError: An accelerator has no such number of hosts or slices.
    """
    _refuse_twice(options)
    if len(names) == 1:
        _refuse_without_list(options, names[0], said)
    known = [
        parse_accelerator(name)
        for name in names
        if not isinstance(name, MaybeAlias) and not needs_node_pools(name)
    ]
    for each in known:
        each.times(hosts=options.hosts or 1, slices=options.slices or 1)
    if names and len(known) == len(names):
        check_ways(options, known)
        if "max_run_duration_seconds" in said and _lacks_flex(options, known):
            raise UsageError(
                "max_run_duration_seconds is for nodes of flex-start, and accelerator is "
                f"{_listed(known)}",
                value=options.max_run_duration_seconds,
                hint=f"write accelerator='{known[0].name}:flex' for flex-start, or "
                "timeout_seconds= for how long the function may take",
            )


def check_ways(options: RunOptions, accelerators: Sequence[Accelerator]) -> None:
    """Refuse a way to get chips that none of the accelerators can have.

    Args:
        options: How the function is to run.
        accelerators: What it may run on.

    Raises:
        UsageError: There is one.
    """
    shown = _listed(accelerators)
    if options.reservation is not None and all(each.spot or each.flex for each in accelerators):
        raise UsageError(
            f"reservation is {options.reservation!r}, and accelerator is {shown}: neither Spot VMs "
            "nor flex-start take machines of a reservation",
            value=options.reservation,
            hint=f"write accelerator={accelerators[0].name!r}, or leave the reservation out",
        )


def options_on(options: RunOptions, accelerator: Accelerator) -> RunOptions:
    """Return the options of a run on one accelerator of a list, without what is for others of it.

    Args:
        options: How the function is to run.
        accelerator: One of those that it may run on.
    """
    unfit: dict[str, Any] = {}
    if accelerator.spot or accelerator.flex:
        unfit["reservation"] = None
    if not accelerator.flex and options.compute_class is None:
        unfit["max_run_duration_seconds"] = None
    return replace(options, **unfit)


def without_effect(
    options: RunOptions, names: Sequence[str], accelerators: Sequence[Accelerator]
) -> tuple[str, ...]:
    """Say which options do nothing on what was named later, or by a setting.

    Args:
        options: How the function is to run.
        names: What it may run on, as it was named.
        accelerators: The same accelerators.
    """
    told = [
        f"{name}={getattr(options, name)!r} does nothing on {names[0]}: it is for a list of "
        "accelerators"
        for name, nothing in (("strategy", "in_order"), ("on_oom", None))
        if len(names) == 1 and getattr(options, name) != nothing
    ]
    if _lacks_flex(options, accelerators):
        shown = " or ".join(map(str, accelerators))
        told.append(
            f"max_run_duration_seconds={options.max_run_duration_seconds:g} does nothing on "
            f"{shown}: it is for nodes of flex-start (`:flex`)"
        )
    return tuple(told)


def without_chips(
    options: RunOptions, accelerators: Sequence[Accelerator], *, is_here: bool
) -> tuple[str, ...]:
    """Say that `idle_timeout_seconds` does nothing where there are no chips to look at.

    Args:
        options: How the function is to run.
        accelerators: What it may run on.
        is_here: Whether it runs on this machine, whatever it stands for.
    """
    said = options.idle_timeout_seconds
    if said is None:
        return ()
    told = f"idle_timeout_seconds={said:g} does nothing"
    if is_here:
        return (f"{told} on this machine: it is about the chips of a cluster's nodes",)
    if all(each.category == "cpu" for each in accelerators):
        shown = accelerators[0].name
        return (f"{told} on {shown}, which has no chips; timeout_seconds= limits every run",)
    return ()


def _lacks_flex(options: RunOptions, accelerators: Sequence[Accelerator]) -> bool:
    """Whether there is a limit for nodes of flex-start, and no accelerator that is had so."""
    return (
        options.max_run_duration_seconds is not None
        and options.compute_class is None
        and not any(each.flex for each in accelerators)
    )


def _refuse_twice(options: RunOptions) -> None:
    for name in ("cpu", "memory"):
        value = getattr(options, name)
        if value is not None and name in options.job_variables:
            raise UsageError(
                f"{name} is {value!r}, and job_variables says {name}, too",
                value=value,
                hint="say it once: as an option of kinetic.run",
            )


def _refuse_without_list(options: RunOptions, name: str, said: Collection[str]) -> None:
    plain = split_suffix(name)[0]
    for option in OF_LISTS:
        value = getattr(options, option)
        if option in said and value is not None and value != "in_order":
            raise UsageError(
                f"{option}={value!r} is for a list of accelerators, and accelerator is {name!r}",
                value=value,
                hint=f"name several, such as accelerator=['{plain}:spot', '{plain}'], or leave "
                f"{option} out",
            )


def _listed(accelerators: Iterable[Accelerator]) -> str:
    names = [repr(str(each)) for each in accelerators]
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"
