"""`kinetic accelerators`: what functions can run on."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from kinetic_flows.accelerators import Accelerator, list_accelerators


def accelerators(*, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """List every accelerator that GKE offers, by the names that `accelerator=` takes.

    Args:
        as_json: Print a JSON list instead of a table.
    """
    rows = [_cells(item) for item in list_accelerators()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = [("name", "category", "count", "topology", "hosts", "machine type")]
    table += [
        (
            str(row["name"]),
            str(row["category"]),
            str(row["count"] or ""),
            str(row["topology"] or ""),
            str(row["hosts"]),
            str(row["machine_type"] or ""),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def _cells(item: Accelerator) -> dict[str, object]:
    return {
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
