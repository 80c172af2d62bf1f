"""Which places and machine types there are, as far as anything here asks for them."""

from __future__ import annotations

import re

from kinetic_flows.core.accelerators import list_accelerators

REGIONS = (
    *("us-central1", "us-east1", "us-east4", "us-east5", "us-south1", "us-west1", "us-west4"),
    *("europe-west1", "europe-west4", "asia-east1", "asia-northeast1", "asia-southeast1"),
)
ZONES = tuple(f"{region}-{letter}" for region in REGIONS for letter in "abcf")

_GENERAL = re.compile(r"(?:e2|n1|n2|n2d|c3|c3d|c4|n4|t2d|t2a)-(?:standard|highmem|highcpu)-(\d+)")
_WITH_GPUS = re.compile(r"(?:g2-standard|g4-standard|a[234]x?-\w+)-\d+g?")
_SMALL = {"e2-micro": 2, "e2-small": 2, "e2-medium": 2}
_COUNTED = re.compile(r"-(\d+)(?:g|t|-lssd)?$")


def is_location(name: str) -> bool:
    """Whether there is a zone or a region of a name."""
    return name in REGIONS or name in ZONES


def is_machine_type(name: str) -> bool:
    """Whether there is a machine type of a name."""
    with_accelerators = {row.machine_type for row in list_accelerators()}
    is_usual = _GENERAL.fullmatch(name) or _WITH_GPUS.fullmatch(name)
    return bool(is_usual) or name in _SMALL or name in with_accelerators


def cpus_of(name: str) -> int:
    """Return how many CPUs a machine type has that count for the quota `CPUS`."""
    match = _GENERAL.fullmatch(name)
    if match:
        return int(match[1])
    return _SMALL.get(name or "e2-medium", 0)


def cpus_and_memory_mb(name: str) -> tuple[int, int]:
    """Return how many CPUs a machine type has, and how much memory, about."""
    cpus = cpus_of(name)
    if not cpus:
        match = _COUNTED.search(name)
        cpus = int(match[1]) if match else 8
    return cpus, cpus * 4096
