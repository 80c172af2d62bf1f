"""How fast a step can be at most: the roofline of what it computes, reads and exchanges.

See Williams, Waterman, Patterson: "Roofline", https://doi.org/10.1145/1498765.1498785.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kinetic_flows.core.accelerators.model import Accelerator
from kinetic_flows.core.accelerators.peaks import Peak, peak_of
from kinetic_flows.core.rehearsals import Collective, StepReport

Resource = Literal["compute", "memory", "links"]

_LEAST_SENT: Mapping[str, float] = {
    "all-reduce": 1.0,
    "all-gather": 1.0,
    "collective-permute": 1.0,
    "reduce-scatter": 0.5,
    "all-to-all": 0.5,
}
"""What a device sends at least, as a share of what it gives to an operation: that of two devices,
as the more take part, the more is sent."""


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """A bound of a step that nothing makes it pass.

    Attributes:
        seconds: What the step takes at least.
        bound_by: What would take that long: to compute, to read and write memory, or to exchange
            data between chips.
        use: What share of the chips' operations the step uses at most, from 0 to 1; None where
            its operations or theirs are not known.
    """

    seconds: float
    bound_by: Resource
    use: float | None = None


def roofline(step: StepReport, accelerator: Accelerator) -> Roofline | None:
    """Return the bound of a step on an accelerator; None where no figure of either is known.

    Args:
        step: The step, whose figures are those of one device.
        accelerator: What it runs on.
    """
    peak = peak_of(accelerator)
    compute = _seconds(step.flops, peak.flops, peak.devices)
    bounds: dict[Resource, float | None] = {"compute": compute}
    if not step.is_estimate:
        # What a program for CPUs reads and exchanges is not what the accelerator's own does.
        bounds["memory"] = _seconds(step.bytes_accessed, peak.memory_bandwidth, peak.devices)
        bounds["links"] = _exchange_seconds(step.collectives, peak, accelerator)
    known = {name: seconds for name, seconds in bounds.items() if seconds}
    if not known:
        return None
    bound_by = max(known, key=lambda name: known[name])
    seconds = known[bound_by]
    return Roofline(
        seconds=seconds,
        bound_by=bound_by,
        use=None if compute is None else compute / seconds,
    )


def _seconds(amount: float | None, per_chip: float | None, devices: int) -> float | None:
    return None if amount is None or per_chip is None else amount / (per_chip / devices)


def _exchange_seconds(
    collectives: tuple[Collective, ...], peak: Peak, accelerator: Accelerator
) -> float | None:
    """Return what collectives take at least; None where they may stay within chips."""
    if peak.link_bandwidth is None or peak.devices > 1 or accelerator.count < 2:
        return None
    sent = sum(_LEAST_SENT.get(each.operation, 0.0) * each.size_bytes for each in collectives)
    return sent / peak.link_bandwidth
