"""Quantities of Kubernetes: CPUs and bytes.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re

_CPU = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<milli>m?)")
_BYTES = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>m|[kKMGTPE]i?)?")
_UNITS = {"": 1, "k": 1000, "m": 0.001}
_UNITS.update({unit: 1000 ** (power + 1) for power, unit in enumerate("KMGTPE")})
_UNITS.update({f"{unit}i": 1024 ** (power + 1) for power, unit in enumerate("KMGTPE")})
_GIB, _MIB = 1 << 30, 1 << 20


def cpu_millis(quantity: object) -> int | None:
    """Return thousandths of a CPU; None for what is no quantity of them.

    Args:
        quantity: Such as `8`, `0.5` or `500m`.
    """
    found = _CPU.fullmatch(str(quantity))
    if found is None:
        return None
    return round(float(found["number"]) * (1 if found["milli"] else 1000))


def memory_bytes(quantity: object) -> int | None:
    """Return bytes; None for what is no quantity of them.

    Args:
        quantity: Such as `64Gi`, `500M` or `13584956Ki`.
    """
    found = _BYTES.fullmatch(str(quantity))
    return round(float(found["number"]) * _UNITS[found["unit"] or ""]) if found else None


def cpu_quantity(millis: int) -> str:
    """Return thousandths of a CPU as Kubernetes has them: `8` or `500m`."""
    return f"{millis}m" if millis % 1000 else str(millis // 1000)


def memory_quantity(size: int) -> str:
    """Return bytes as Kubernetes has them, in whole GiB if that is what they are, else in MiB.

    Args:
        size: The bytes; what is less than a MiB of them is left off.
    """
    return f"{size // _GIB}Gi" if size % _GIB == 0 and size else f"{size // _MIB}Mi"
