"""What a run's pods ask of nodes besides chips, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class NodeRequest:
    """What pods ask of nodes, besides the accelerator.

    Attributes:
        labels: Labels that nodes are to have, each with the values of which it may have any.
        tolerations: The taints that the pods put up with, as Kubernetes has them.
        max_run_seconds: For how long nodes of flex-start are asked for; None for as long as their
            pool gives them.
        pod: What of a pod's spec says it, as Kubernetes has it.
        is_queued_elsewhere: Whether a queue asks for the nodes: Kueue makes what flex-start needs.
    """

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    tolerations: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    max_run_seconds: float | None = None
    pod: Mapping[str, Any] = field(default_factory=dict, hash=False)
    is_queued_elsewhere: bool = False
