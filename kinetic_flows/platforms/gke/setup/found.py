"""Which options an earlier setup had, by what is there: nothing of it is kept on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kinetic_flows.core.interruption import in_threads
from kinetic_flows.platforms.gke.setup.compare import compare_all
from kinetic_flows.platforms.gke.setup.model import Stage, Wanted
from kinetic_flows.platforms.gke.setup.wanted import stages

QUEUE: Mapping[str, Any] = {"kueue": True}
"""The one by which runs go another way, which is not forgotten by a setup that does not name it."""

OPTIONS: tuple[Mapping[str, Any], ...] = (
    {"jobset": True},
    QUEUE,
    {"worker": True},
    {"prefect": "cluster"},
)
"""What may be asked for besides, each as it changes a request."""


def with_found_options(wanted: Wanted, options: Sequence[Mapping[str, Any]] = OPTIONS) -> Wanted:
    """Return what is wanted with the options of which something is there already.

    Args:
        wanted: What is wanted.
        options: Those that are looked for.

    Raises:
        KineticError: Something cannot be looked at.
    """
    missing = [
        option
        for option in options
        if any(getattr(wanted.request, name) != value for name, value in option.items())
    ]
    are_there = in_threads(lambda option: _is_there(wanted, option), missing, threads=len(OPTIONS))
    request = wanted.request
    for option, is_there in zip(missing, are_there, strict=True):
        request = replace(request, **option) if is_there else request
    return replace(wanted, request=request)


def _is_there(wanted: Wanted, option: Mapping[str, Any]) -> bool:
    """Whether something is there that is made with an option, and not without it."""
    usual = {
        (resource.kind, resource.name) for stage in stages(wanted) for resource in stage.resources
    }
    more = stages(replace(wanted, request=replace(wanted.request, **option)))
    own = tuple(
        resource
        for stage in more
        for resource in stage.resources
        if (resource.kind, resource.name) not in usual
    )
    if not own:
        return False
    (compared,) = compare_all((Stage(title="options", resources=own),))
    actions = {change.action for change in compared.changes}
    # Roles that nobody has yet are a change, as one of them is that lacks.
    return bool(actions & {"keep", "leave"}) or not actions & {"create", "unknown"}
