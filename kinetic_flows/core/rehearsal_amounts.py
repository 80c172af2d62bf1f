"""Amounts of a rehearsal, as people read them: memory in GiB, which compilers count in."""

from __future__ import annotations

UNKNOWN = "-"
"""What stands where a figure is not known."""

_BINARY = ("B", "KiB", "MiB", "GiB")
_DECIMAL = ("", "k", "M", "G", "T", "P", "E")
_DECIMALS = 2
_TENTH = 10


def memory(size_bytes: float | None) -> str:
    """Return an amount of memory: `31.25 GiB`, `512.00 KiB`, `12 B`."""
    if size_bytes is None:
        return UNKNOWN
    size, power = abs(size_bytes), 0
    while size >= 1024 and power < len(_BINARY) - 1:
        size, power = size / 1024, power + 1
    sign = "-" if size_bytes < 0 else ""
    return f"{sign}{size:,.{_DECIMALS if power else 0}f} {_BINARY[power]}"


def of_memory(needed_bytes: int | None, available_bytes: int | None) -> str:
    """Return how much of a memory something needs: `12.30 of 31.25 GiB`."""
    needed, available = memory(needed_bytes), memory(available_bytes)
    unit = available.rpartition(" ")[2]
    return f"{needed.removesuffix(f' {unit}')} of {available}"


def flops(count: float | None) -> str:
    """Return a number of operations: `1.24 TFLOP`."""
    if count is None:
        return UNKNOWN
    size, power = count, 0
    while size >= 1000 and power < len(_DECIMAL) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.{_DECIMALS if power else 0}f} {_DECIMAL[power]}FLOP"


def moment(seconds: float | None) -> str:
    """Return a short time: `3.2 s`, `45 ms`, `7.1 us`."""
    if seconds is None:
        return UNKNOWN
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        amount = seconds * factor
        if amount >= 1 or unit == "ns":
            break
    return f"{amount:.1f} {unit}" if amount < _TENTH else f"{amount:.0f} {unit}"


def share(part: float | None) -> str:
    """Return a share of something, rounded down: `62 %`."""
    return UNKNOWN if part is None else f"{int(part * 100 + 1e-9)} %"
