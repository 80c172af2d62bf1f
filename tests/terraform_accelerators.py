"""Writes deployments/terraform/accelerators.json from the table of accelerators.

Run this as a program after a change of the table, or of what node pools are made of.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kinetic_flows.core.accelerators import Accelerator, list_accelerators
from kinetic_flows.core.errors import UsageError
from kinetic_flows.platforms.gke.setup.clusters.pool_messages import accelerator_pool
from kinetic_flows.platforms.gke.setup.clusters.pool_options import parse_pools
from kinetic_flows.platforms.gke.setup.request import PoolRequest, SetupRequest

MODULE = Path(__file__).parents[1] / "deployments" / "terraform"
FILE = MODULE / "accelerators.json"

ANYWHERE = SetupRequest(project="my-project", location="us-central1-a", cluster="kinetic-cluster")


def accelerators() -> list[Accelerator]:
    """Return every accelerator that a node pool can be made of."""
    found = []
    for accelerator in list_accelerators():
        try:
            parse_pools([str(accelerator)])
        except UsageError:
            continue
        found.append(accelerator)
    return found


def text() -> str:
    """Return the file, with an accelerator on each line."""
    lines = [f'  "{each.name}": {json.dumps(_described(each))}' for each in accelerators()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _described(accelerator: Accelerator) -> dict[str, Any]:
    pool = accelerator_pool(ANYWHERE, PoolRequest(accelerator=accelerator))
    gpus = [
        {
            "type": each.accelerator_type,
            "count": each.accelerator_count,
            "driver": each.gpu_driver_installation_config.gpu_driver_version.name,
        }
        for each in pool.config.accelerators
    ]
    return {
        "machine_type": accelerator.machine_type,
        "hosts": accelerator.hosts,
        "topology": accelerator.topology,
        "gpu": gpus[0] if gpus else None,
    }


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
