"""What the hosts of two runs have used, as far as that is not about the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.run_ids import short_id
from kinetic_flows.core.run_metrics import CHIPS, HostMetrics
from kinetic_flows.runs.compare.difference import Difference, Section
from kinetic_flows.runs.compare.numbers import by_how_much
from kinetic_flows.runs.compare.subject import Subject
from kinetic_flows.runs.insight.metrics import stored_metrics

ABOUT_THE_SAME = 0.1
"""Two runs of the same differ by as much, as a part of the larger one."""

BRIEF_SECONDS = 15.0

Measured = Mapping[str, tuple[float, str]]
"""Numbers with how they are shown, by what they are."""


def usage_differences(
    runs: tuple[Subject, Subject],
    used: tuple[Measured, Measured],
    unknown: dict[Section, str],
) -> Iterator[Difference]:
    """Yield what one run used more of than the other.

    Args:
        runs: The runs.
        used: What each of them used.
        unknown: Where it is noted that nothing was kept of one of them.
    """
    old, new = used
    lacking = [run for run, found in zip(runs, used, strict=True) if not found]
    if lacking:
        # Of brief runs nothing is read.
        is_brief = all((each.told["seconds"] or 0) < BRIEF_SECONDS for each in lacking)
        if len(lacking) == 1 or not is_brief:
            names = " and ".join(short_id(each.record.id) for each in lacking)
            unknown["metrics"] = f"nothing was read of {names}, or it has expired"
        return
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name), new.get(name)
        if before and after and _is_about(before[0], after[0]):
            continue
        yield Difference(
            section="metrics",
            name=name,
            before=before and before[1],
            after=after and after[1],
            note=by_how_much(str(before[0]), str(after[0])) if before and after else "",
        )


def _is_about(before: float, after: float) -> bool:
    return abs(before - after) <= ABOUT_THE_SAME * max(abs(before), abs(after))


def used_by(subject: Subject) -> Measured:
    """Return what the hosts of a run have used; nothing where that was not kept."""
    if subject.store is None:
        return {}
    hosts: list[HostMetrics] = []
    with suppress(KineticError):
        hosts = stored_metrics(subject.store, subject.source.id)
    hosts.sort(key=lambda each: each.host)
    found: dict[str, tuple[float, str]] = {}
    for host in hosts:
        above = f"host {host.host}: " if len(hosts) > 1 else ""
        found |= {f"{above}{name}": each for name, each in of_host(host).items()}
    return found


def of_host(host: HostMetrics) -> Measured:
    """Return what one host has used."""
    chips = CHIPS.get(host.chip_kind, "chip")
    percent = host.chips_used_percent
    numbers = {
        f"{chips} use": (percent, f"{percent or 0:.0f} %"),
        f"{chips} memory": _size(host.chip_memory_bytes),
        "CPUs": (host.cpus_used, f"{host.cpus_used or 0:.1f}"),
        "memory": _size(host.memory_bytes),
        "network received": _rate(host.mean("network_received_bytes_per_second")),
        "disk read": _rate(host.mean("disk_read_bytes_per_second")),
    }
    return {name: (number, text) for name, (number, text) in numbers.items() if number is not None}


def _size(size_bytes: int | None) -> tuple[float | None, str]:
    return size_bytes, size_in_units(size_bytes or 0)


def _rate(per_second: float | None) -> tuple[float | None, str]:
    """Return a rate; next to none is none."""
    shown = f"{size_in_units(round(per_second or 0))}/s"
    return (per_second if per_second and per_second >= 10_000 else None), shown
