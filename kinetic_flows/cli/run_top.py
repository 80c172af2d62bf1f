"""`kinetic runs top`: what runs use now, as a table that lives in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.reading import anything_to_read, require_something_to_read
from kinetic_flows.cli.tables import print_table
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core import option_values as check
from kinetic_flows.core.display import for_line
from kinetic_flows.core.errors import KineticError, in_a_sentence
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.moments import took
from kinetic_flows.core.run_ids import short_ids
from kinetic_flows.core.run_metrics import (
    CHIPS,
    HostMetrics,
    Reading,
    RunMetrics,
    is_in_numbers,
    latest,
    size_of_memory,
)
from kinetic_flows.runs.description import seconds_of
from kinetic_flows.runs.find import RunFilter, find_records, run_or_group_id
from kinetic_flows.runs.group import is_group
from kinetic_flows.runs.insight.metrics import run_metrics
from kinetic_flows.runs.kept_session import KeptSession
from kinetic_flows.runs.session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

EVERY_SECONDS = 5.0
MOST_RUNS = 50
AT_ONCE = 8
"""How many runs are asked at the same time."""

NOW_SECONDS = 15.0
"""Over which time what is used now is the mean."""

BARS = "▁▂▃▄▅▆▇█"
BAR_COUNT = 20

TITLES = ("HOST", "CHIPS", "CHIP MEMORY", "CPUS", "MEMORY", "NETWORK", "DISK", "LATELY")


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A run, and what it uses.

    Attributes:
        record: Its flow run.
        metrics: What it uses.
    """

    record: RunRecord
    metrics: RunMetrics


def top(
    run_id: str | None = None,
    /,
    *,
    every: Annotated[float, Parameter(name="--every-seconds")] = EVERY_SECONDS,
    as_json: Json = False,
) -> None:
    """Show what runs use of their hosts now: chips, CPUs, memory, network and disk.

    In a terminal the table goes on until the runs are over, or Ctrl-C; in a pipe it is printed
    once. Of a run that is over it shows what it has used in the mean, and at most of memory.

    Args:
        run_id: A run's id, or a group's, the part of it that is shown, or its URL; all runs that
            run now, by default.
        every: How often to look, in a terminal.
        as_json: Print a JSON list, once: an object for each run, with its hosts.
    """
    check.seconds("--every-seconds", every)
    if run_id is not None:
        require_something_to_read()
    sessions = KeptSession({})
    looked = _look(sessions, run_id) if anything_to_read() else []
    if as_json:
        print_json([_document(each) for each in looked])
    elif sys.stdout.isatty() and any(not each.record.is_final for each in looked):
        _live(sessions, run_id, looked, every)
    else:
        _print(looked)


def _look(sessions: KeptSession, run_id: str | None) -> list[Looked]:
    with sessions.session() as session:
        records = _records(session, run_id)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = pool.map(lambda record: run_metrics(session, record), records)
            return [
                Looked(record=record, metrics=metrics)
                for record, metrics in zip(records, found, strict=True)
            ]


def _records(session: Session, run_id: str | None) -> list[RunRecord]:
    """Return the runs that are asked for: one, or those of a group, or all, that run now."""
    group = None
    if run_id is not None:
        record = session.api.read_run(run_or_group_id(run_id, session.api))
        if not is_group(record):
            return [record]
        group = record.id
    found = find_records(session, RunFilter(state="running", group=group), limit=MOST_RUNS)
    return [record for record in found if not is_group(record)]


def _document(looked: Looked) -> dict[str, Any]:
    now = [latest(host, NOW_SECONDS) for host in looked.metrics.hosts]
    return {
        "id": looked.record.id,
        "name": looked.record.shown_name,
        "state": looked.record.state_name,
        "hosts": [
            {**host.summary(), "now": None if reading is None else asdict(reading)}
            for host, reading in zip(looked.metrics.hosts, now, strict=True)
        ],
        "missing": {str(number): why for number, why in looked.metrics.missing.items()},
    }


# Tables


def _print(looked: Sequence[Looked]) -> None:
    if not looked:
        print("nothing runs now")
        return
    for number, (each, short) in enumerate(zip(looked, _short(looked), strict=True)):
        if number:
            print()
        print(_title(each, short))
        if table := table_of(each):
            print_table(table)
        for words in _words(each):
            print(for_line(words))


def table_of(looked: Looked) -> list[list[str]]:
    """Return the cells of a run's table, its titles first: columns in which something stands.

    Args:
        looked: The run. Of one of which nothing is known, there is no table.
    """
    rows = _rows(looked)
    if not rows:
        return []
    lines = [list(TITLES), *rows]
    shown = [place for place in range(len(TITLES)) if any(line[place] for line in lines[1:])]
    return [[line[place] for place in shown] for line in lines]


def _short(looked: Sequence[Looked]) -> list[str]:
    return short_ids([each.record.id for each in looked])


def _title(looked: Looked, short: str) -> str:
    record = looked.record
    age = took(seconds_of(record) or _age(record))
    return for_line(f"{record.shown_name}  {short}  {record.state_name} {age}".rstrip())


def _age(record: RunRecord) -> float | None:
    return (datetime.now(UTC) - record.started).total_seconds() if record.started else None


def _words(looked: Looked) -> Iterator[str]:
    if not looked.metrics.hosts and not looked.metrics.missing:
        yield "nothing is known of what it " + ("used" if looked.record.is_final else "uses")
    several = len(looked.metrics.hosts) > 1
    for host in looked.metrics.hosts:
        for each in host.words:
            if is_in_numbers(each):
                continue
            yield f"host {host.host}: {each}" if several else each


def _rows(looked: Looked) -> list[list[str]]:
    rows = [_row(looked.record, host) for host in looked.metrics.hosts]
    rows += [[str(number), why, *([""] * 6)] for number, why in looked.metrics.missing.items()]
    return rows


def _row(record: RunRecord, host: HostMetrics) -> list[str]:
    """Return the cells of a host: what it uses now or, of a run that is over, has used."""
    now = latest(host, host.seconds if record.is_final else NOW_SECONDS)
    if now is None:
        return [str(host.host), *([""] * 7)]
    return [
        str(host.host),
        _chips(host, now),
        _of_memory(_total(now, "memory_bytes"), _total(now, "memory_total_bytes")),
        "" if now.cpus is None else f"{now.cpus:.1f}" + (f" of {host.cpus:g}" if host.cpus else ""),
        _of_memory(now.memory_bytes, host.memory_limit_bytes),
        _rates(now.network_received_bytes_per_second, now.network_sent_bytes_per_second),
        _rates(now.disk_read_bytes_per_second, now.disk_written_bytes_per_second),
        _bars(host),
    ]


def _chips(host: HostMetrics, now: Reading) -> str:
    used = [chip.used_percent for chip in now.chips if chip.used_percent is not None]
    if not used:
        return ""
    name = CHIPS.get(host.chip_kind, "chip")
    what = f"{len(now.chips)} {name}s" if len(now.chips) > 1 else name
    apart = max(used) - min(used)
    spread = f" ({min(used):.0f} to {max(used):.0f})" if apart >= 10 else ""
    watts = [chip.power_watts for chip in now.chips if chip.power_watts is not None]
    power = f", {sum(watts):.0f} W" if watts else ""
    return f"{what} {sum(used) / len(used):.0f} %{spread}{power}"


def _total(reading: Reading, name: str) -> int | None:
    known = [value for chip in reading.chips if (value := getattr(chip, name)) is not None]
    return sum(known) if known else None


def _of_memory(size: int | None, limit: int | None) -> str:
    if size is None:
        return ""
    return size_of_memory(size) + (f" of {size_of_memory(limit)}" if limit else "")


def _rates(first: float | None, second: float | None) -> str:
    if first is None and second is None:
        return ""
    return " ".join(
        f"{arrow}{size_in_units(int(rate))}/s" if rate >= 1_000 else f"{arrow}0"
        for arrow, rate in (("↓", first), ("↑", second))
        if rate is not None
    )


def _bars(host: HostMetrics) -> str:
    """Return the last minutes of what matters most: the use of the chips, else of the CPUs."""
    readings = host.readings[-BAR_COUNT:]
    by_chips = any(each.chips for each in readings)
    shares = [
        _mean_use(each) if by_chips else (each.cpus or 0.0) / (host.cpus or 1.0)
        for each in readings
    ]
    return "".join(BARS[min(int(share * len(BARS)), len(BARS) - 1)] for share in shares)


def _mean_use(reading: Reading) -> float:
    used = [chip.used_percent for chip in reading.chips if chip.used_percent is not None]
    return sum(used) / len(used) / 100 if used else 0.0


# In a terminal


def _live(
    sessions: KeptSession, run_id: str | None, looked: list[Looked], every_seconds: float
) -> None:
    """Show the table until the runs are over, or somebody has seen enough."""
    from rich.console import Console
    from rich.live import Live

    problem = ""
    with Live(console=Console(), auto_refresh=False) as live:
        try:
            while True:
                live.update(_drawn(looked, problem), refresh=True)
                if run_id is not None and all(each.record.is_final for each in looked):
                    return
                time.sleep(every_seconds)
                try:
                    looked, problem = _look(sessions, run_id), ""
                except KineticError as error:
                    problem = f"{in_a_sentence(error)}; trying again"
        except KeyboardInterrupt:
            return


def _drawn(looked: Sequence[Looked], problem: str) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for each, short in zip(looked, _short(looked), strict=True):
        parts.append(Text(_title(each, short), style="bold"))
        cells = table_of(each)
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in cells[0] if cells else ():
            table.add_column(title, overflow="ellipsis", no_wrap=True)
        for row in cells[1:]:
            table.add_row(*(Text(for_line(cell)) for cell in row))
        parts += [table, *(Text(for_line(words), style="dim") for words in _words(each)), Text("")]
    ending = problem or f"{datetime.now():%H:%M:%S}, Ctrl-C to leave"
    parts.append(Text(for_line(ending) if looked else f"nothing runs now; {ending}", style="dim"))
    return Group(*parts)
