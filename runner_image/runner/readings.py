"""What a run's host uses, as values: single readings, and what is kept of them.

The last minutes are kept as they were read, what came before in minutes, and what is older still
in longer pieces, so that a run of weeks keeps no more than one of an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

RECENT_SECONDS = 600.0
MOST_RECENT = 600
"""How long readings are kept as they were read, and at most how many."""

OLDER_SECONDS = 60.0
MOST_OLDER = 180
"""What is kept of what came before: in pieces of this length at first, at most so many."""


class ChipReading(NamedTuple):
    """What a chip did; None for what cannot be read.

    Attributes:
        used_percent: How much of the time it computed: of a GPU, for how much of it a kernel ran;
            of a TPU chip, its duty cycle.
        memory_bytes: How much of its memory is taken, by anybody.
        memory_total_bytes: How much it has.
        tensor_core_percent: Of a TPU chip, how much of what its tensor cores can do they did.
        power_watts: What a GPU draws.
    """

    used_percent: float | None = None
    memory_bytes: int | None = None
    memory_total_bytes: int | None = None
    tensor_core_percent: float | None = None
    power_watts: float | None = None


class Reading(NamedTuple):
    """What a host used over a while; None for what cannot be read.

    Attributes:
        at: When the while ended, in seconds since the epoch.
        seconds: How long it was.
        cpus: How many CPUs were busy, in the mean.
        memory_bytes: The most memory that was in use, without what the kernel would give back of
            files that it keeps.
        memory_limit_bytes: How much may be in use: the container's limit, else the machine's.
        disk_read_bytes_per_second: Read from disks.
        disk_written_bytes_per_second: Written to disks.
        disk_free_bytes: The least that was free where the run keeps its files.
        network_received_bytes_per_second: Come over the network.
        network_sent_bytes_per_second: Sent over the network.
        chips: What each chip did, in the driver's order.
    """

    at: float
    seconds: float
    cpus: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    disk_read_bytes_per_second: float | None = None
    disk_written_bytes_per_second: float | None = None
    disk_free_bytes: int | None = None
    network_received_bytes_per_second: float | None = None
    network_sent_bytes_per_second: float | None = None
    chips: tuple[ChipReading, ...] = ()


_MEANS = (
    "cpus",
    "disk_read_bytes_per_second",
    "disk_written_bytes_per_second",
    "network_received_bytes_per_second",
    "network_sent_bytes_per_second",
)
_CHIP_MEANS = ("used_percent", "tensor_core_percent", "power_watts")


def merge(readings: Sequence[Reading]) -> Reading:
    """Return one reading for several that follow one another: means, the most, and the least.

    Args:
        readings: At least one.
    """
    seconds = [each.seconds for each in readings]
    means = {
        name: _mean([getattr(each, name) for each in readings], seconds, digits=3)
        for name in _MEANS
    }
    last = readings[-1]
    return Reading(
        at=last.at,
        seconds=round(sum(seconds), 3),
        memory_bytes=_chosen(max, (each.memory_bytes for each in readings)),
        memory_limit_bytes=last.memory_limit_bytes,
        disk_free_bytes=_chosen(min, (each.disk_free_bytes for each in readings)),
        chips=_merge_chips(readings),
        **means,
    )


def _merge_chips(readings: Sequence[Reading]) -> tuple[ChipReading, ...]:
    merged = []
    for number in range(max(len(each.chips) for each in readings)):
        having = [each for each in readings if number < len(each.chips)]
        chips = [each.chips[number] for each in having]
        seconds = [each.seconds for each in having]
        means = {
            name: _mean([getattr(each, name) for each in chips], seconds, digits=1)
            for name in _CHIP_MEANS
        }
        merged.append(
            ChipReading(
                memory_bytes=_chosen(max, (each.memory_bytes for each in chips)),
                memory_total_bytes=chips[-1].memory_total_bytes,
                **means,
            )
        )
    return tuple(merged)


def _mean(values: list[float | None], seconds: list[float], *, digits: int) -> float | None:
    known = [
        (value, each) for value, each in zip(values, seconds, strict=True) if value is not None
    ]
    total = sum(each for _, each in known)
    if not total:
        return None
    return round(sum(value * each for value, each in known) / total, digits)


def _chosen(choose: Any, values: Iterable[int | None]) -> int | None:
    chosen: int | None = choose((value for value in values if value is not None), default=None)
    return chosen


class History:
    """The readings of a host, bounded however long they go on.

    Args:
        every_seconds: How far they are to be apart; those that are closer are merged.
    """

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._older: list[Reading] = []
        self._recent: list[Reading] = []

    def __len__(self) -> int:
        return len(self._older) + len(self._recent)

    def all(self) -> list[Reading]:
        """Return everything that is kept, in order."""
        return self._older + self._recent

    def recent(self, last_seconds: float) -> list[Reading]:
        """Return the readings of the last seconds before the newest one."""
        if not self._recent:
            return []
        since = self._recent[-1].at - last_seconds
        return [each for each in self._recent if each.at > since]

    def add(self, reading: Reading) -> None:
        """Take a reading, which belongs to the one before where that was shorter than usual."""
        longest = self._every_seconds * 1.1
        if self._recent and self._recent[-1].seconds + reading.seconds <= longest:
            reading = merge([self._recent.pop(), reading])
        self._recent.append(reading)
        oldest = reading.at - RECENT_SECONDS
        while self._recent[0].at < oldest or len(self._recent) > MOST_RECENT:
            self._put_away()

    def put_before(self, earlier: Sequence[Reading]) -> None:
        """Take what an earlier start of the run has kept."""
        self._older[:0] = earlier
        self._thin_out()

    def _put_away(self) -> None:
        """Merge the oldest minute of what is recent."""
        first = self._recent[0].at
        count = 1
        while count < len(self._recent) and self._recent[count].at < first + OLDER_SECONDS:
            count += 1
        self._older.append(merge(self._recent[:count]))
        del self._recent[:count]
        self._thin_out()

    def _thin_out(self) -> None:
        """Merge the older two thirds in pairs, as often as there are too many."""
        while len(self._older) > MOST_OLDER:
            oldest = self._older[: MOST_OLDER * 2 // 3]
            pairs = [merge(oldest[place : place + 2]) for place in range(0, len(oldest), 2)]
            self._older[: len(oldest)] = pairs
