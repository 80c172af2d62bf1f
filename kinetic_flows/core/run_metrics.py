"""What the hosts of a run have used, as its runner has read it: values, in words, and a picture."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from kinetic_flows.core.cards import Card
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.moments import elapsed

VERSION = 1
"""Of the documents, as `runner_image/runner/measured.py` writes them."""

CHIPS = {"gpu": "GPU", "tpu": "TPU"}


@dataclass(frozen=True, kw_only=True)
class ChipReading:
    """What a chip did over a while; None for what could not be read.

    Attributes:
        used_percent: How much of the time it computed: of a GPU, for how much of it a kernel ran;
            of a TPU chip, its duty cycle.
        memory_bytes: The most of its memory that was taken, by anybody.
        memory_total_bytes: How much it has.
        tensor_core_percent: Of a TPU chip, how much of what its tensor cores can do they did.
        power_watts: What a GPU drew.
    """

    used_percent: float | None = None
    memory_bytes: int | None = None
    memory_total_bytes: int | None = None
    tensor_core_percent: float | None = None
    power_watts: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a host used over a while; None for what could not be read.

    Attributes:
        at: When the while ended, in seconds since the epoch.
        seconds: How long it was.
        cpus: How many CPUs were busy, in the mean.
        memory_bytes: The most memory that was in use, without files that the kernel keeps.
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
    disk_read_bytes_per_second: float | None = None
    disk_written_bytes_per_second: float | None = None
    disk_free_bytes: int | None = None
    network_received_bytes_per_second: float | None = None
    network_sent_bytes_per_second: float | None = None
    chips: tuple[ChipReading, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HostMetrics:
    """What one host of a run has used.

    Attributes:
        host: Its number, counted over all slices.
        began: When the function was called there.
        has_ended: Whether all of it is here; False where the run goes on, or was cut off.
        is_container: Whether it is the use of the run's container, and not of its processes.
        cpus: How many CPUs it may use; None where that is not known.
        memory_limit_bytes: How much memory it may use: the container's limit, else the machine's.
        chip_kind: `gpu`, `tpu`, or empty.
        chip_name: What the driver calls the chips; empty where it does not say.
        readings: The readings, in order: the last minutes' as they were read, what came before in
            longer pieces.
        words: What there is to say of it, a sentence each.
        picture: All of it over time, as SVG; empty where there is little.
    """

    host: int
    began: datetime
    has_ended: bool
    is_container: bool
    cpus: float | None
    memory_limit_bytes: int | None
    chip_kind: str
    chip_name: str
    readings: tuple[Reading, ...] = field(repr=False)
    words: tuple[str, ...]
    picture: str = field(repr=False)

    @property
    def chips_used_percent(self) -> float | None:
        """How much of the time its chips were used, in the mean over time and chips."""
        return _mean_of_chips(self.readings)

    @property
    def chip_memory_bytes(self) -> int | None:
        """The most memory of its chips that was taken at once."""
        return _most(_total(chip.memory_bytes for chip in each.chips) for each in self.readings)

    @property
    def chip_memory_total_bytes(self) -> int | None:
        """How much memory its chips have."""
        return _most(
            _total(chip.memory_total_bytes for chip in each.chips) for each in self.readings
        )

    @property
    def cpus_used(self) -> float | None:
        """How many CPUs were busy, in the mean."""
        return self.mean("cpus")

    @property
    def memory_bytes(self) -> int | None:
        """The most memory that was in use."""
        return _most(each.memory_bytes for each in self.readings)

    @property
    def seconds(self) -> float:
        """How long it was looked at."""
        return sum(each.seconds for each in self.readings)

    def mean(self, name: str) -> float | None:
        """Return the mean over time of a field of the readings, such as `cpus`.

        Args:
            name: The field's name.
        """
        return _mean((getattr(each, name), each.seconds) for each in self.readings)

    def summary(self) -> dict[str, Any]:
        """Return it as plain JSON values, without the single readings."""
        return {
            "host": self.host,
            "began": self.began.isoformat(),
            "seconds": round(self.seconds, 1),
            "has_ended": self.has_ended,
            "is_container": self.is_container,
            "chips": self.chip_name or self.chip_kind or None,
            "chips_used_percent": _rounded(self.chips_used_percent, 1),
            "chip_memory_bytes": self.chip_memory_bytes,
            "chip_memory_total_bytes": self.chip_memory_total_bytes,
            "cpus": self.cpus,
            "cpus_used": _rounded(self.cpus_used, 2),
            "memory_bytes": self.memory_bytes,
            "memory_limit_bytes": self.memory_limit_bytes,
            **{name: _rounded(self.mean(name), 0) for name in RATES},
            "used": used_in_words(self),
            "words": list(self.words),
        }


RATES = tuple(each.name for each in fields(Reading) if each.name.endswith("_per_second"))
"""The fields of readings that are rates."""

MEANS = ("cpus", *RATES)


@dataclass(frozen=True, kw_only=True)
class RunMetrics:
    """What the hosts of a run have used.

    It is shown as a table of its hosts and, in a notebook, with a picture of each.

    Attributes:
        name: The run's name.
        hosts: Its hosts of which something is known, in order.
        missing: Why nothing is known of the others, by their number.
    """

    name: str
    hosts: tuple[HostMetrics, ...]
    missing: Mapping[int, str] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each reading, for a table of pandas or polars.

        Chips have columns of their own: `chip0_used_percent` and so on.
        """
        return [_row(host, reading) for host in self.hosts for reading in host.readings]

    def lines(self) -> list[tuple[str, str]]:
        """Return what each host has used in one line, and below it what there is to say of it."""
        found = []
        is_one = len(self.hosts) + len(self.missing) == 1
        for host in self.hosts:
            found.append(("used" if is_one else f"host {host.host}", used_in_words(host)))
            found += [("note", each) for each in host.words if not is_in_numbers(each)]
        return found + [(f"host {number}", why) for number, why in self.missing.items()]

    def _card(self) -> Card:
        return Card(kind="RunMetrics", title=self.name, rows=tuple(self.lines()))

    def _repr_html_(self) -> str:
        images = "".join(_image(host.picture) for host in self.hosts if host.picture)
        return f"<div>{self._card().html()}{images}</div>"

    def __repr__(self) -> str:
        return self._card().text()


def latest(host: HostMetrics, seconds: float) -> Reading | None:
    """Return what a host used in its last seconds: means, and the most of memory.

    Args:
        host: The host.
        seconds: How far to go back from its last reading; its older ones are longer than that.
    """
    if not host.readings:
        return None
    until = host.readings[-1].at
    last = [each for each in host.readings if each.at > until - seconds] or [host.readings[-1]]
    means = {name: _mean((getattr(each, name), each.seconds) for each in last) for name in MEANS}
    return Reading(
        at=until,
        seconds=sum(each.seconds for each in last),
        memory_bytes=_most(each.memory_bytes for each in last),
        disk_free_bytes=last[-1].disk_free_bytes,
        chips=tuple(_latest_chip(last, number) for number in range(len(last[-1].chips))),
        **means,
    )


def _latest_chip(readings: Sequence[Reading], number: int) -> ChipReading:
    chips = [(each.chips[number], each.seconds) for each in readings if number < len(each.chips)]
    means = {
        name: _mean((getattr(chip, name), seconds) for chip, seconds in chips)
        for name in ("used_percent", "tensor_core_percent", "power_watts")
    }
    return ChipReading(
        memory_bytes=_most(chip.memory_bytes for chip, _ in chips),
        memory_total_bytes=chips[-1][0].memory_total_bytes,
        **means,
    )


def used_in_words(host: HostMetrics) -> str:
    """Return what a host has used in one line: `GPU 62 %, 31.2 of 80.0 GB; 2.3 of 8 CPUs; …`."""
    return "; ".join(
        part
        for part in (
            _chips_in_words(host),
            _of(host.cpus_used, host.cpus, "CPUs"),
            _sizes("memory", host.memory_bytes, host.memory_limit_bytes),
            _rates("network", host, "network_received", "network_sent"),
            _rates("disk", host, "disk_read", "disk_written"),
            f"over {elapsed(host.seconds, tenths=False)}" if host.readings else "",
        )
        if part
    )


def _chips_in_words(host: HostMetrics) -> str:
    kind = CHIPS.get(host.chip_kind, "")
    if not kind:
        return ""
    count = max((len(each.chips) for each in host.readings), default=0)
    what = f"{count} {kind}s" if count > 1 else kind
    used = host.chips_used_percent
    percent = "use unknown" if used is None else f"{used:.0f} %"
    memory = _sizes("", host.chip_memory_bytes, host.chip_memory_total_bytes)
    return ", ".join(part for part in (f"{what} {percent}", memory.strip()) if part)


def _of(value: float | None, limit: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.1f} of {limit:g} {unit}" if limit else f"{value:.1f} {unit}"


def _sizes(what: str, size: int | None, limit: int | None) -> str:
    if size is None:
        return ""
    of = f" of {size_of_memory(limit)}" if limit else ""
    return f"{what} {size_of_memory(size)}{of}"


def size_of_memory(size: int) -> str:
    """Write a size of memory, which limits count in powers of two."""
    from humanize import naturalsize

    return naturalsize(size, binary=True)


def _rates(what: str, host: HostMetrics, first: str, second: str) -> str:
    rates = [host.mean(f"{name}_bytes_per_second") for name in (first, second)]
    shown = [
        f"{size_in_units(int(rate))}/s {name.rpartition('_')[2]}"
        for rate, name in zip(rates, (first, second), strict=True)
        if rate is not None and rate >= LEAST_RATE
    ]
    return f"{what} {', '.join(shown)}" if shown else ""


LEAST_RATE = 10_000
"""What is less, in bytes a second, is not worth a word."""


def is_in_numbers(words: str) -> bool:
    """Whether the line of numbers says the same."""
    return words.endswith(("in the mean", "of the time"))


def read_metrics(document: Mapping[str, Any]) -> HostMetrics:
    """Return what a runner has written of a host.

    Raises:
        ValueError: It is of a later version, or no such document.
    """
    if document.get("version") != VERSION:
        raise ValueError(f"metrics of version {document.get('version')} cannot be read here")
    try:
        return _read(document)
    except (KeyError, TypeError) as error:
        raise ValueError(f"these are no metrics: {error!r}") from error


def _read(document: Mapping[str, Any]) -> HostMetrics:
    return HostMetrics(
        host=int(document["host"]),
        began=datetime.fromtimestamp(document["began"], UTC),
        has_ended=bool(document["ended"]),
        is_container=document["scope"] == "container",
        cpus=document["cpus"],
        memory_limit_bytes=document["memory_limit_bytes"],
        chip_kind=str(document["chip_kind"]),
        chip_name=str(document["chip_name"]),
        readings=tuple(_reading(document, row) for row in document["readings"]),
        words=tuple(str(each) for each in document.get("words", ())),
        picture=str(document.get("picture", "")),
    )


def _reading(document: Mapping[str, Any], row: Sequence[Any]) -> Reading:
    named = dict(zip(document["columns"], row, strict=True))
    totals = [*document["chip_memory_bytes"], *(None for _ in named["chips"])]
    known = {each.name for each in fields(ChipReading)}
    chips = []
    for values, total in zip(named.pop("chips"), totals, strict=False):
        columns = zip(document["chip_columns"], values, strict=True)
        chip = {name: value for name, value in columns if name in known}
        chips.append(ChipReading(**chip, memory_total_bytes=total))
    own = {each.name for each in fields(Reading)}
    return Reading(
        **{name: value for name, value in named.items() if name in own}, chips=tuple(chips)
    )


def _row(host: HostMetrics, reading: Reading) -> dict[str, Any]:
    own = {each.name: getattr(reading, each.name) for each in fields(reading)}
    chips = own.pop("chips")
    at = datetime.fromtimestamp(own.pop("at"), UTC)
    return {"host": host.host, "at": at, **own} | {
        f"chip{number}_{each.name}": getattr(chip, each.name)
        for number, chip in enumerate(chips)
        for each in fields(chip)
    }


def _image(svg: str) -> str:
    # As an image it is no part of the page: nothing in it could run there.
    data = base64.b64encode(svg.encode()).decode()
    return f"<img alt='What the run used, over time' src='data:image/svg+xml;base64,{data}'>"


def _mean(values: Iterable[tuple[float | None, float]]) -> float | None:
    known = [(value, seconds) for value, seconds in values if value is not None]
    total = sum(seconds for _, seconds in known)
    return sum(value * seconds for value, seconds in known) / total if total else None


def _mean_of_chips(readings: Sequence[Reading]) -> float | None:
    return _mean((chip.used_percent, each.seconds) for each in readings for chip in each.chips)


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _total(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
