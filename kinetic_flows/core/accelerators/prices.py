"""What an hour of an accelerator costs, in US dollars: Google's list prices, and people's own.

The list prices are those of us-central1 without any discount (of H100s, of us-east4), and differ
from region to region by up to a third. They were put down in November 2026 from copies of Google's
price lists, which may have been older. Spot prices change every month, and those of flex-start are
no list's, so neither is here. What is not here is not known, and said to be so, unless somebody
says it (`KINETIC_PRICES`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from kinetic_flows.core.accelerators.model import Accelerator, split_suffix
from kinetic_flows.core.accelerators.registry import GPUS, TPUS

AS_OF = "November 2026"
REGION = "us-central1"

LIST_PRICES = f"Google's list prices of {REGION}, {AS_OF}"
"""What to call them where a price is told."""

OWN_PRICES = "your own prices"

LOCAL = "local"
"""What this machine is called among people's own prices."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of machines that is paid by the vCPU and the GB.

    Attributes:
        vcpu_hourly: Price of a vCPU for an hour.
        gb_hourly: Price of a GB of memory for an hour.
        gb_by_kind: GB for each vCPU, by the word in the middle of a machine type.
    """

    vcpu_hourly: float
    gb_hourly: float
    gb_by_kind: Mapping[str, float]


_BY_FOUR = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}

_FAMILIES: Mapping[str, Family] = {
    "e2": Family(vcpu_hourly=0.021811, gb_hourly=0.002923, gb_by_kind=_BY_FOUR),
    "n1": Family(
        vcpu_hourly=0.031611,
        gb_hourly=0.004237,
        gb_by_kind={"standard": 3.75, "highmem": 6.5, "highcpu": 0.9},
    ),
    "n2": Family(vcpu_hourly=0.031611, gb_hourly=0.004237, gb_by_kind=_BY_FOUR),
    "n2d": Family(vcpu_hourly=0.027502, gb_hourly=0.003686, gb_by_kind=_BY_FOUR),
    "g2": Family(vcpu_hourly=0.024988, gb_hourly=0.002927, gb_by_kind={"standard": 4.0}),
}

_MACHINES: Mapping[str, float] = {
    **{f"a2-highgpu-{count}g": 0.73948 * count for count in (1, 2, 4, 8)},
    **{f"a3-highgpu-{count}g": 1.18251 * count for count in (1, 2, 4, 8)},
    "a2-megagpu-16g": 8.79698,
}
"""Machines without their GPUs: https://cloud.google.com/compute/vm-instance-pricing."""

_GPUS: Mapping[str, float] = {
    "nvidia-l4": 0.56004,
    "nvidia-tesla-t4": 0.35,
    "nvidia-tesla-a100": 2.93391,
    "nvidia-h100-80gb": 9.79655,
}
"""A GPU for an hour, by GKE's label: https://cloud.google.com/compute/gpus-pricing."""

_TPUS: Mapping[str, float] = {
    "tpu-v5-lite-podslice": 1.20,
    "tpu-v5p-slice": 4.20,
    "tpu-v6e-slice": 2.70,
}
"""A TPU chip for an hour with its share of the machine, by GKE's label.

https://cloud.google.com/tpu/pricing
"""

_TYPE = re.compile(r"(?P<family>[a-z]\d[a-z]?)-(?P<kind>[a-z]+)-(?P<vcpus>\d+)")


def machine_hourly(machine_type: str) -> float | None:
    """Return what a machine costs an hour, without GPUs; None where that is not known.

    Args:
        machine_type: Such as `e2-standard-4`.
    """
    if machine_type in _MACHINES:
        return _MACHINES[machine_type]
    found = _TYPE.fullmatch(machine_type)
    family = _FAMILIES.get(found["family"]) if found else None
    if found is None or family is None or found["kind"] not in family.gb_by_kind:
        return None
    vcpus = int(found["vcpus"])
    gb = vcpus * family.gb_by_kind[found["kind"]]
    return vcpus * family.vcpu_hourly + gb * family.gb_hourly


@dataclass(frozen=True, kw_only=True)
class Price:
    """What an hour of an accelerator costs.

    Attributes:
        hourly: US dollars for an hour of all its nodes.
        source: Whose price it is, in words.
    """

    hourly: float
    source: str


def price_of(
    accelerator: Accelerator, own: Mapping[str, float], *, is_here: bool = False
) -> Price | None:
    """Return what an hour of an accelerator costs; None where that is not known.

    Args:
        accelerator: What is paid for, all its hosts.
        own: Prices of people's own, by what `price_name` returns: of a chip with its share of the
            machine, of a node without chips, or of this machine.
        is_here: Whether the run is on this machine, whatever it stands for.
    """
    if is_here:
        said = own.get(LOCAL)
        return None if said is None else Price(hourly=said, source=OWN_PRICES)
    said = own.get(priced_as(accelerator))
    if said is not None:
        return Price(hourly=said * (accelerator.count or accelerator.hosts), source=OWN_PRICES)
    node = node_hourly(accelerator)
    return None if node is None else Price(hourly=node * accelerator.hosts, source=LIST_PRICES)


def priced_as(accelerator: Accelerator) -> str:
    """Return what the price of an accelerator is called: its family, and how it is had."""
    suffix = split_suffix(str(accelerator))[1]
    return f"{_families().get(accelerator.label or '', accelerator.name)}{suffix}"


def price_name(text: str) -> str | None:
    """Return what `priced_as` calls a family that somebody has named; None for no family.

    Args:
        text: Such as `v6e`, `tpu-v6e:spot`, `h100`, `cpu` or `local`.
    """
    body, suffix = split_suffix(text)
    if body == LOCAL:
        return None if suffix else LOCAL
    found = _names().get(body)
    return None if found is None else f"{found}{suffix}"


@cache
def price_names() -> tuple[str, ...]:
    """Return what prices may be called, without the suffixes."""
    return (*dict.fromkeys(_names().values()), LOCAL)


@cache
def _names() -> Mapping[str, str]:
    """Return the families by every name that they have."""
    tpus = {name: tpu.prefix for tpu in TPUS for name in (tpu.prefix, *tpu.names)}
    tpus |= {f"tpu-{name}": tpu.prefix for tpu in TPUS for name in tpu.names}
    gpus = {name: gpu.name for gpu in GPUS for name in (gpu.name, *gpu.aliases)}
    return {**tpus, **gpus, "cpu": "cpu"}


@cache
def _families() -> Mapping[str, str]:
    """Return the families by GKE's labels."""
    tpus = {shape.label: tpu.prefix for tpu in TPUS for shape in tpu.shapes}
    return {**tpus, **{gpu.label: gpu.name for gpu in GPUS}}


def node_hourly(accelerator: Accelerator) -> float | None:
    """Return what a node with an accelerator costs an hour; None where that is not known.

    Args:
        accelerator: What it has. The price of a Spot VM, or by flex-start, is never known.
    """
    if accelerator.spot or accelerator.flex or accelerator.label is None:
        return None
    return on_demand_hourly(accelerator)


def on_demand_hourly(accelerator: Accelerator) -> float | None:
    """Return what a node with an accelerator costs an hour where it is no Spot VM."""
    label = accelerator.label or ""
    if accelerator.category == "tpu":
        chip = _TPUS.get(label)
        return None if chip is None else chip * accelerator.count_per_host
    gpu, machine = _GPUS.get(label), machine_hourly(accelerator.machine_type or "")
    if gpu is None or machine is None:
        return None
    return machine + gpu * accelerator.count_per_host
