"""What a host's readings say, in sentences: how much was used, and what an idle chip waited for.

A reason is given only where the readings show one. That a chip did nothing while data came over
the network is what is seen; that nothing else happened either is said as that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .readings import Reading, merge

IDLE_PERCENT = 10.0
"""Chips that are used less are taken for waiting, in the mean over a few seconds."""

TELLING_SECONDS = 30.0
"""A run that was looked at for less has mostly imported its packages."""

TELLING_SHARE = 0.5
"""How much of the time chips must have waited before it is asked for what."""

MUCH_BYTES = 20e6
"""What has to come in a second, of data, before chips are said to have waited for it."""

FULL_SHARE = 0.9
NEXT_TO_NO_CPUS = 0.05
NO_DISK_BYTES = 1 << 30

_CHIPS = {"gpu": ("GPU", "GPUs"), "tpu": ("TPU chip", "TPU chips")}


def words_of(
    readings: Sequence[Reading], *, chip_kind: str = "", cpus: float | None = None
) -> list[str]:
    """Return what there is to say of a host, a sentence each.

    Args:
        readings: Its readings, in order.
        chip_kind: `gpu`, `tpu`, or empty.
        cpus: How many CPUs it may use; None where that is not known.
    """
    if not readings:
        return []
    whole = merge(readings)
    return [
        *_of_chips(readings, whole, chip_kind, cpus),
        *(() if whole.chips else _of_cpus(whole, cpus)),
        *_of_memory(whole),
    ]


def _of_chips(
    readings: Sequence[Reading], whole: Reading, kind: str, cpus: float | None
) -> Iterator[str]:
    used = [each.used_percent for each in whole.chips if each.used_percent is not None]
    if not used:
        return
    one, many = _CHIPS.get(kind, ("chip", "chips"))
    mean = sum(used) / len(used)
    what = f"the {one} was" if len(used) == 1 else f"the {len(used)} {many} were"
    if not any(used):
        yield f"no {one} was used"
    elif len(used) > 1 and max(used) - min(used) > IDLE_PERCENT:
        apart = f"from {_percent(min(used))} to {_percent(max(used))}"
        yield f"{what} used {_percent(mean)} of the time, {apart}"
    else:
        yield f"{what} used {_percent(mean)} of the time"
    unused = [str(number) for number, each in enumerate(whole.chips) if each.used_percent == 0]
    if unused and any(used):
        yield f"{many} never used: {', '.join(unused)} (of {len(whole.chips)}, counted from 0)"
    waited = [each for each in readings if _waits(each)]
    seconds = sum(each.seconds for each in waited)
    if seconds >= max(TELLING_SECONDS, TELLING_SHARE * whole.seconds):
        yield _reason(merge(waited), many if len(used) > 1 else one, cpus)


def _waits(reading: Reading) -> bool:
    used = [each.used_percent for each in reading.chips if each.used_percent is not None]
    return bool(used) and sum(used) / len(used) < IDLE_PERCENT


def _reason(waited: Reading, chips: str, cpus: float | None) -> str:
    """Return what happened while chips waited."""
    verb = "were" if chips.endswith("s") else "was"
    while_idle = f"while the {chips} {verb} idle"
    busy = waited.cpus or 0.0
    shown = f"{busy:.1f} of {cpus:g} CPUs were busy" if cpus else f"{busy:.1f} CPUs were busy"
    received = waited.network_received_bytes_per_second or 0.0
    read = waited.disk_read_bytes_per_second or 0.0
    if cpus and busy >= FULL_SHARE * cpus:
        return f"{while_idle}, {shown}: the function waited for its CPUs"
    if max(received, read) >= MUCH_BYTES:
        source = "came over the network" if received >= read else "were read from disk"
        rate = _megabytes(max(received, read))
        return f"{while_idle}, {rate} a second {source}: the function waited for data"
    if busy >= 0.8 * min(1.0, cpus or 1.0):
        hint = ", as much as one thread can use" if busy < 1.3 else ""
        return f"{while_idle}, {shown}{hint}"
    return (
        f"{while_idle}, {shown}, and little data came: what the function waited for "
        "cannot be seen from here"
    )


def _of_cpus(whole: Reading, cpus: float | None) -> Iterator[str]:
    if whole.cpus is None:
        return
    of = f" of {cpus:g}" if cpus else ""
    if whole.cpus < NEXT_TO_NO_CPUS:
        yield "its CPUs did next to nothing, in the mean"
        return
    yield f"{whole.cpus:.1f}{of} CPUs were busy, in the mean"


def _of_memory(whole: Reading) -> Iterator[str]:
    most, limit = whole.memory_bytes, whole.memory_limit_bytes
    if most and limit and most >= FULL_SHARE * limit:
        yield f"memory was nearly full: {_gibibytes(most)} of {_gibibytes(limit)}"
    free = whole.disk_free_bytes
    if free is not None and free < NO_DISK_BYTES:
        yield f"its disk was nearly full: {_megabytes(free)} were left"


def _percent(value: float) -> str:
    if 0 < value < 1:
        return "less than 1 %"
    return f"{value:.0f} %"


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


def _gibibytes(count: float) -> str:
    return f"{count / (1 << 30):.1f} GiB"
