"""What a function can run on: the accelerators GKE offers, and how people write them."""

from __future__ import annotations

from kinetic_flows.core.accelerators.aliases import meant_by
from kinetic_flows.core.accelerators.model import Accelerator, Category
from kinetic_flows.core.accelerators.node_pools import NodePool
from kinetic_flows.core.accelerators.parsing import (
    check_accelerator,
    names_of,
    needs_node_pools,
    parse_accelerator,
)
from kinetic_flows.core.accelerators.registry import list_accelerators

__all__ = [
    "Accelerator",
    "Category",
    "NodePool",
    "check_accelerator",
    "list_accelerators",
    "meant_by",
    "names_of",
    "needs_node_pools",
    "parse_accelerator",
]
