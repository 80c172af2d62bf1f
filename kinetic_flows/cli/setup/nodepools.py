"""`kinetic nodepools`: the node pools of the cluster, one for each accelerator."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.examples import add_examples
from kinetic_flows.cli.questions import confirmed
from kinetic_flows.cli.setup.options import SetupOptions
from kinetic_flows.cli.setup.place import found_setup, look_around
from kinetic_flows.cli.setup.report import cost_lines, described, plan_lines, print_lines
from kinetic_flows.cli.setup.work import changes_of, looking, work_on
from kinetic_flows.cli.tables import print_table
from kinetic_flows.code.project_settings import named_accelerator
from kinetic_flows.core.errors import KineticError, UsageError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.progress import Progress

if TYPE_CHECKING:
    from kinetic_flows.platforms.gke.pool_use import PoolUse
    from kinetic_flows.platforms.gke.setup import apply as setup_apply
    from kinetic_flows.platforms.gke.setup import compare
    from kinetic_flows.platforms.gke.setup.clusters import pool_admin, pool_options
    from kinetic_flows.platforms.gke.setup.clusters.pool_list import FoundPool
else:
    # `--help` needs none of them.
    setup_apply = LazyModule("kinetic_flows.platforms.gke.setup.apply")
    compare = LazyModule("kinetic_flows.platforms.gke.setup.compare")
    pool_admin = LazyModule("kinetic_flows.platforms.gke.setup.clusters.pool_admin")
    pool_options = LazyModule("kinetic_flows.platforms.gke.setup.clusters.pool_options")

HEADINGS = ("name", "accelerator", "machine type", "nodes", "limits", "runs", "notes")
UNKNOWN = "?"
SHOWN_RUNS = 3

_Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="")]
_Flag = Annotated[bool, Parameter(negative="")]

nodepools_app = App(name="nodepools", help_format="markdown", help_epilogue="")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Where:
    """Which cluster is meant.

    Attributes:
        project: Google Cloud project; the active profile's by default.
        zone: Zone or region of the cluster; the active profile's by default.
        cluster: Name of the cluster; the active profile's by default.
    """

    project: str | None = None
    zone: str | None = None
    cluster: str | None = None

    def options(self) -> str:
        """Return it as the end of a command line."""
        said = {"project": self.project, "zone": self.zone, "cluster": self.cluster}
        return "".join(f" --{name} {value}" for name, value in said.items() if value)


NOWHERE_ELSE = Where()


@dataclass(frozen=True, kw_only=True)
class Place:
    """The cluster whose node pools are meant.

    Attributes:
        progress: Who watches.
        pools: The cluster's node pools, to be looked at and changed.
    """

    progress: Progress
    pools: pool_admin.PoolAdmin


@nodepools_app.command
def add(
    *accelerator: str,
    max_nodes: int | None = None,
    reservation: str | None = None,
    node_zone: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    where: Where = NOWHERE_ELSE,
    dry_run: _Flag = False,
    as_json: Json = False,
) -> None:
    """Make a node pool for an accelerator, or change how many nodes it may have.

    It has no nodes while nothing runs on it, and costs nothing then. Doing it again is harmless;
    what was interrupted goes on.

    Args:
        accelerator: What its nodes are to have, such as l4, tpu-v6e-8, l4:spot or l4:flex.
        max_nodes: How many nodes it may have at most; 4 by default. A slice of several hosts has
            all of them, or none.
        reservation: The reservation that its nodes are taken from.
        node_zone: A zone of its nodes, where the cluster is in several; repeat for more than one.
        where: Which cluster.
        dry_run: Print what would be done and what it will cost, and do nothing.
        as_json: Print a JSON object.
    """
    if not accelerator:
        raise UsageError(
            "no accelerator is given",
            hint="name one, such as `kinetic nodepools add l4`; `kinetic accelerators` lists them",
        )
    wanted = pool_options.parse_pools(
        [named_accelerator(each) for each in accelerator],
        max_nodes=max_nodes,
        reservation=reservation,
        zones=node_zone,
    )
    place = _place(where)
    with looking(place.progress):
        stages = place.pools.adding(wanted)
        compared = compare.compare_all(stages)
    changes, to_do = changes_of(compared), compare.needed(compared)
    done = 0
    if not as_json:
        out = sys.stdout if dry_run else None
        print_lines(plan_lines(changes), out)
        print_lines(cost_lines(changes), out)
    if to_do and not dry_run:
        done = work_on(
            to_do,
            setup_apply.apply_all,
            place.progress,
            title=f"node pools of {place.pools.name}",
            verb="done",
            command=_again(accelerator, max_nodes, reservation, node_zone) + where.options(),
        )
        _follow(place)
    if as_json:
        print_json(
            {
                "cluster": place.pools.name,
                "changes": [described(change) for change in changes],
                "done": done,
            }
        )


@nodepools_app.command
def remove(
    *name: str, where: Where = NOWHERE_ELSE, yes: _Yes = False, as_json: Json = False
) -> None:
    """Remove node pools that were made by kinetic, and their nodes.

    Those that runs are on, or wait for, are removed only when that is confirmed.

    Args:
        name: Their names, or their accelerators.
        where: Which cluster.
        yes: Do not ask, whatever runs on them.
        as_json: Print a JSON object.
    """
    if not name:
        raise UsageError("no node pool is given", hint="`kinetic nodepools ls` lists them")
    place = _place(where)
    with looking(place.progress):
        pools = place.pools.removable(name)
        used = None if yes else _in_use(place, pools)
    if used:
        _confirm(used)
    work_on(
        place.pools.removing(pools),
        setup_apply.remove_all,
        place.progress,
        title=f"node pools of {place.pools.name}",
        verb="removed",
        command=f"kinetic nodepools remove {' '.join(name)}{where.options()}",
    )
    _follow(place)
    if as_json:
        print_json({"cluster": place.pools.name, "removed": [pool.name for pool in pools]})


@nodepools_app.command
def ls(*, where: Where = NOWHERE_ELSE, as_json: Json = False) -> None:
    """List the cluster's node pools: what they have, how they are scaled, and what runs there.

    Args:
        where: Which cluster.
        as_json: Print a JSON list instead of a table.
    """
    place = _place(where)
    pools = place.pools.found()
    use = _use(place, pools)
    if as_json:
        print_json([_document(pool, use) for pool in pools])
        return
    if place.pools.is_autopilot:
        print(
            f"{place.pools.name} is an Autopilot cluster: GKE makes nodes as runs ask for them",
            file=sys.stderr,
        )
    print_table([HEADINGS, *(_row(pool, use) for pool in pools)])


def _place(where: Where) -> Place:
    """Return the cluster that is meant.

    Raises:
        ConfigurationError: No project is known, or there are no credentials.
    """
    options = SetupOptions(project=where.project, zone=where.zone, cluster=where.cluster)
    around = look_around(options)
    wanted = found_setup(around, options)
    return Place(
        progress=around.progress,
        pools=pool_admin.PoolAdmin(request=wanted.request, apis=wanted.apis),
    )


def _use(place: Place, pools: Sequence[FoundPool]) -> Mapping[str, PoolUse] | None:
    """Return what is on node pools; None where the cluster does not tell."""
    if not pools:
        return {}
    try:
        return place.pools.use(pools)
    except KineticError as error:
        print(f"the cluster cannot be asked for its nodes: {error.message}", file=sys.stderr)
        return None


def _follow(place: Place) -> None:
    """Have the queue of runs have what the node pools have; that it cannot is only told."""
    try:
        if place.pools.follow():
            print("Kueue's queue was brought to the node pools", file=sys.stderr)
    except KineticError as error:
        print(
            f"Kueue's queue, if there is one, could not be brought to the node pools: "
            f"{error.message}; `kinetic up --kueue` does",
            file=sys.stderr,
        )


def _in_use(place: Place, pools: Sequence[FoundPool]) -> dict[str, str]:
    """Return which of node pools are in use, and by what."""
    use = _use(place, pools)
    found = {}
    for pool in pools:
        runs = use[pool.name].runs if use is not None else None
        if runs is None:
            found[pool.name] = "runs that these credentials are not shown"
        elif runs:
            found[pool.name] = _listed(map(str, runs))
    return found


def _confirm(used: Mapping[str, str]) -> None:
    """Have it confirmed that runs lose their nodes.

    Raises:
        UsageError: They are to go on, or there is no terminal to ask at.
    """
    lines = [f"node pool {name} may be used by {runs}" for name, runs in used.items()]
    undone = f"nothing was removed: {'; '.join(lines)}"
    for line in lines:
        print(line, file=sys.stderr)
    if not confirmed("Remove it all the same? What runs there is lost.", undone=undone):
        raise UsageError(
            undone,
            value=list(used),
            hint="wait for them (`kinetic runs ls`), cancel them, or say --yes",
        )


def _row(pool: FoundPool, use: Mapping[str, PoolUse] | None) -> tuple[str, ...]:
    on_it = use[pool.name] if use is not None else None
    runs = on_it.runs if on_it else None
    nodes = on_it.nodes if on_it else None
    return (
        pool.name,
        str(pool.accelerator or pool.pool.accelerator or ""),
        pool.pool.machine_type,
        UNKNOWN if nodes is None else str(nodes),
        pool.scaling,
        UNKNOWN if runs is None else _listed(map(str, runs)),
        "; ".join(pool.notes()),
    )


def _document(pool: FoundPool, use: Mapping[str, PoolUse] | None) -> dict[str, Any]:
    on_it = use[pool.name] if use is not None else None
    runs = on_it.runs if on_it else None
    return {
        **pool.to_json(),
        "nodes": on_it.nodes if on_it else None,
        "runs": None
        if runs is None
        else [{"run_id": run.run_id, "job": run.job, "is_waiting": run.is_waiting} for run in runs],
    }


def _listed(runs: Iterable[str]) -> str:
    told = list(runs)
    more = len(told) - SHOWN_RUNS
    return ", ".join(told[:SHOWN_RUNS]) + (f" and {more} more" if more > 0 else "")


def _again(
    accelerators: Sequence[str],
    max_nodes: int | None,
    reservation: str | None,
    zones: Sequence[str],
) -> str:
    """Return the command line that goes on from wherever this one is stopped."""
    words = ["kinetic nodepools add", *accelerators]
    words += [] if max_nodes is None else [f"--max-nodes {max_nodes}"]
    words += [] if reservation is None else [f"--reservation {reservation}"]
    words += [f"--node-zone {zone}" for zone in zones]
    return " ".join(words)


add_examples(
    nodepools_app,
    {
        "add": (
            "kinetic nodepools add l4",
            "kinetic nodepools add tpu-v6e-8:spot --max-nodes 2",
            "kinetic nodepools add a100-80gbx8 --reservation ours --dry-run",
        ),
        "remove": ("kinetic nodepools remove l4", "kinetic nodepools remove l4:spot --yes"),
        "ls": ("kinetic nodepools ls", "kinetic nodepools ls --json | jq '.[].runs'"),
    },
)
