"""`kinetic accelerators`: what a function can run on, and what of it the cluster has."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from kinetic_flows.cli.cluster import open_cluster
from kinetic_flows.cli.documents import print_json
from kinetic_flows.cli.pool_rooms import print_rooms
from kinetic_flows.cli.tables import print_table
from kinetic_flows.code.project_settings import (
    accelerator_names,
    local_settings,
    named_accelerator,
)
from kinetic_flows.core.accelerators import (
    Accelerator,
    list_accelerators,
    names_of,
    needs_node_pools,
)
from kinetic_flows.core.accelerators.parsing import parse_accelerator
from kinetic_flows.core.errors import AcceleratorError, KineticError, LaunchError, UsageError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.pool_rooms import PoolRoom
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import process_environment

if TYPE_CHECKING:
    from kinetic_flows.platforms.gke import pool_rooms
    from kinetic_flows.runs import session
else:
    # The list needs none of them.
    pool_rooms = LazyModule("kinetic_flows.platforms.gke.pool_rooms")
    session = LazyModule("kinetic_flows.runs.session")

Vendor = Literal["tpu", "gpu", "cpu"]

HEADINGS = ("name", "chips", "memory each", "a host", "hosts", "topology", "machine type")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which accelerators to list.

    Attributes:
        name: Part of a name, or a whole one as `accelerator=` takes it; None for any.
        vendor: Kind of accelerator; None for any.
        chips: How many chips or GPUs at least.
        memory: How much memory each at least, in GB.
        hosts: How many hosts at most; None for any number.
        spot: Whether to name Spot VMs.
    """

    name: str | None = None
    vendor: Vendor | None = None
    chips: int = 0
    memory: int = 0
    hosts: int | None = None
    spot: bool = False

    def chosen(self) -> tuple[Accelerator, ...]:
        """Return those that fit, smallest of each kind first.

        Raises:
            UsageError: None does.
        """
        found = tuple(item for item in self._named() if self._fits(item))
        if not found:
            given = {"vendor": self.vendor, "chips": self.chips, "memory": self.memory}
            said = [f"--{word} {value}" for word, value in given.items() if value]
            said += [] if self.hosts is None else [f"--hosts {self.hosts}"]
            raise UsageError(
                f"no accelerator{f' of {self.name!r}' if self.name else ''} fits {' '.join(said)}",
                value=self.name,
                hint="ask for less of it: fewer chips, less memory, more hosts, or another vendor",
            )
        return tuple(replace(item, spot=True) for item in found) if self.spot else found

    def _named(self) -> tuple[Accelerator, ...]:
        if self.name is None:
            return list_accelerators()
        part = self.name.strip().lower()
        found = tuple(item for item in list_accelerators() if _is_called(item, part))
        try:
            exact = parse_accelerator(named_accelerator(part))
        except AcceleratorError:
            if found:
                return found
            raise
        return found if replace(exact, spot=False) in found and not exact.spot else (exact, *found)

    def _fits(self, item: Accelerator) -> bool:
        is_vendor = self.vendor in (None, item.category)
        fits_hosts = self.hosts is None or item.hosts <= self.hosts
        return (
            is_vendor and item.count >= self.chips and item.memory_gb >= self.memory and fits_hosts
        )


def accelerators(
    name: str | None = None,
    /,
    *,
    vendor: Vendor | None = None,
    chips: int = 0,
    memory: int = 0,
    hosts: int | None = None,
    spot: Annotated[bool, Parameter(negative="")] = False,
    live: bool | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """List every accelerator that GKE offers, by the names that `accelerator=` takes.

    GPUs are a model and how many one machine has: l4, l4x2, a100-80gbx8. TPUs are a generation and
    its chips, tpu-v6e-8, or its topology where Google's own names count cores: tpu-v5p-2x2x2. With
    :spot at its end any of them is on Spot VMs, which are cheaper and may be taken away: l4:spot.
    Other spellings are understood (v6e-8, gpu-l4, trillium), and tpu:8 or gpu:4 is the one type
    with that many that the cluster has. What the project calls one, in
    `[tool.kinetic.accelerators]`, is a name of it, too.

    Where a cluster is configured, those that it has are marked, with what is free. With --live
    that cluster's node pools are listed instead: nodes, chips that are free, how far the autoscaler
    may go, how many runs wait for them, and why a node could not be added lately.

    Args:
        name: Part of a name, such as v6e, or one whole name.
        vendor: Only TPUs, GPUs, or no accelerator.
        chips: Only those with so many chips or GPUs, or more.
        memory: Only those whose chips have so many GB of memory each, or more.
        hosts: Only those on so many hosts, or fewer.
        spot: Name them on Spot VMs.
        live: List the cluster's node pools, and fail where it does not answer; --no-live asks
            nothing.
        as_json: Print a JSON list instead of a table.
    """
    wanted = Wanted(name=name, vendor=vendor, chips=chips, memory=memory, hosts=hosts, spot=spot)
    chosen = wanted.chosen()
    names = _names_here()
    rooms = _rooms(live=live)
    if as_json:
        print_json([_as_json(item, rooms, names) for item in chosen])
        return
    if live and rooms is not None:
        print_rooms([room for room in rooms if any(map(room.pool.offers, chosen))])
        return
    cells = [_cells(item, rooms) for item in chosen]
    headings = HEADINGS if rooms is None else (*HEADINGS, "in the cluster")
    if names:
        # What this project calls them, beside what everybody does.
        headings = (headings[0], "here", *headings[1:])
        called = [", ".join(_called_here(item, names)) for item in chosen]
        cells = [(line[0], name, *line[1:]) for line, name in zip(cells, called, strict=True)]
    print_table([headings, *cells])


def _names_here() -> dict[str, str]:
    """Return the project's own names by what they stand for, as far as no cluster is needed."""
    return {
        alias: str(parse_accelerator(meant))
        for alias, meant in accelerator_names().items()
        if not needs_node_pools(meant)
    }


def _called_here(item: Accelerator, names: Mapping[str, str]) -> list[str]:
    """Return what the project calls an accelerator; with a mark where that is on Spot VMs."""
    spot = str(replace(item, spot=True))
    told = {str(replace(item, spot=False)): "", spot: "" if item.spot else " (spot)"}
    return [f"{alias}{told[meant]}" for alias, meant in names.items() if meant in told]


def _is_called(item: Accelerator, part: str) -> bool:
    """Whether a text is part of a name of it, or the beginning of its machine type."""
    is_machine = (item.machine_type or "").startswith(part)
    return is_machine or any(part in name for name in names_of(item))


def _rooms(*, live: bool | None) -> tuple[PoolRoom, ...] | None:
    """Return what the cluster has; None where it is not asked.

    Args:
        live: Whether to insist; None to ask where a cluster is configured, and do without an
            answer.
    """
    environ = process_environment()
    settings = local_settings(environ)
    if live is False or (live is None and settings.platform != "gke"):
        return None
    try:
        configured = session.configure(settings, environ, NullProgress(), may_start=bool(live))
        with open_cluster(configured) as client:
            rooms = pool_rooms.rooms(client)
        if rooms is None:
            raise LaunchError(
                "these credentials may not list the cluster's nodes",
                hint="a ClusterRole that may list nodes, pods, jobs and events shows all of it",
            )
    except KineticError as error:
        if live:
            raise
        print(f"the cluster cannot be asked: {error.message}", file=sys.stderr)
        return None
    return rooms


def _having(item: Accelerator, rooms: Sequence[PoolRoom]) -> list[PoolRoom]:
    return [room for room in rooms if room.pool.offers(item)]


def _cells(item: Accelerator, rooms: Sequence[PoolRoom] | None) -> tuple[str, ...]:
    cells = (
        str(item),
        str(item.count or ""),
        f"{item.memory_gb} GB" if item.memory_gb else "",
        str(item.count_per_host or ""),
        str(item.hosts),
        item.topology or "",
        item.machine_type or "",
    )
    if rooms is None:
        return cells
    return (*cells, "; ".join(map(str, _having(item, rooms))))


def _as_json(
    item: Accelerator, rooms: Sequence[PoolRoom] | None, names: Mapping[str, str]
) -> dict[str, object]:
    named = {name: meant for name, meant in names.items() if _called_here(item, {name: meant})}
    told = {**item.to_json(), "project_names": named}
    if rooms is not None:
        told["node_pools"] = [
            f"{room.pool.name} (spot)" if room.pool.spot else room.pool.name
            for room in _having(item, rooms)
        ]
        told["rooms"] = [room.to_json() for room in _having(item, rooms)]
    return told
