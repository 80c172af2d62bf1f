"""`kinetic accelerators`: what functions can run on."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from kinetic_flows.cli.tables import print_table
from kinetic_flows.core.accelerators import Accelerator, NodePool, list_accelerators

HEADINGS = ("name", "category", "count", "topology", "hosts", "machine_type")


def accelerators(
    *,
    live: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """List every accelerator that GKE offers, by the names that `accelerator=` takes.

    Args:
        live: Ask the cluster, and say which of its node pools have each.
        as_json: Print a JSON list instead of a table.
    """
    pools = _node_pools() if live else None
    rows = [_cells(item, pools) for item in list_accelerators()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    headings = (*HEADINGS, "node_pools") if live else HEADINGS
    table = [tuple(heading.replace("_", " ") for heading in headings)]
    table += [tuple(_text(row[heading]) for heading in headings) for row in rows]
    print_table(table)


def _node_pools() -> tuple[NodePool, ...]:
    """Ask the cluster of the settings, or the one that kubectl would use."""
    from kinetic_flows.cli.clusters import open_cluster
    from kinetic_flows.core.progress import NullProgress
    from kinetic_flows.core.settings.settings import process_environment
    from kinetic_flows.platforms.gke.preflight import read_node_pools
    from kinetic_flows.runs.session import configure

    with open_cluster(configure(process_environment(), NullProgress())) as client:
        pools, are_all = client.spawn(read_node_pools(client)).result()
    if pools is None:
        print("these credentials may not list the cluster's nodes", file=sys.stderr)
    elif not are_all:
        print("a node pool that has no node at the moment may be missing", file=sys.stderr)
    return pools or ()


def _cells(item: Accelerator, pools: Sequence[NodePool] | None) -> dict[str, object]:
    cells: dict[str, object] = {
        "name": str(item),
        "category": item.category,
        "count": item.count,
        "topology": item.topology,
        "hosts": item.hosts,
        "machine_type": item.machine_type,
        "node_selector": item.node_selector,
        "resources": item.resources,
        "source": item.source,
    }
    if pools is not None:
        cells["node_pools"] = [
            f"{pool.name} (spot)" if pool.spot else pool.name for pool in pools if pool.offers(item)
        ]
    return cells


def _text(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value or "")
