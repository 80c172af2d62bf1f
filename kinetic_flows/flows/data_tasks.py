"""Tasks about the data of a call: what it is, and bringing it to the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from prefect.futures import PrefectFuture

from kinetic_flows.clients.prefect.flow_names import TASK_RESOLVE_DATA, TASK_UPLOAD_DATA
from kinetic_flows.code.data.listening import Sent
from kinetic_flows.core.data import Data
from kinetic_flows.core.display import counted
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.job_parts import DataSpec
from kinetic_flows.core.progress import Progress
from kinetic_flows.flows.defaults import own_task
from kinetic_flows.flows.steps import step
from kinetic_flows.plans.draft import Draft

SHOWN_EVERY_SECONDS = 0.2


@own_task(TASK_RESOLVE_DATA)
def resolve_data_task(draft: Draft, data: Sequence[Data], progress: Progress) -> None:
    """Find out what data elsewhere is, so that runs get what is there now."""
    with step(progress, TASK_RESOLVE_DATA) as current:
        specs = []
        for each in data:
            current.tell(f"asking for {each.shown_source}")
            specs.append(draft.sources.spec(each))
            for warning in draft.sources.warnings(each):
                current.warn(warning)
            current.log(_told(specs[-1]))
        current.finish(_summed(specs), "passed")


@own_task(TASK_UPLOAD_DATA)
def upload_data_task(draft: Draft, data: Sequence[Data], progress: Progress) -> None:
    """Read the data of this machine, and send what of it the store does not have."""
    with step(progress, TASK_UPLOAD_DATA) as current:
        sources, specs, sent_bytes, begun = draft.sources, [], 0, time.monotonic()
        for each in data:
            spec = sources.ready(each, _Shown(each, progress))
            for warning in sources.warnings(each):
                current.warn(warning)
            specs.append(spec)
            sent_bytes += sources.sent_bytes(each)
            current.log(f"{_told(spec)}; {size_in_units(sources.sent_bytes(each))} new")
        rate = sent_bytes / max(time.monotonic() - begun, 0.001)
        how_fast = f" ({size_in_units(int(rate))}/s)" if sent_bytes else ""
        new = (
            f"; {size_in_units(sent_bytes)} new{how_fast}"
            if any(map(sources.is_sent, data))
            else ""
        )
        current.finish(f"{_summed(specs)}{new}", "done" if sent_bytes else "cached")


def resolve_data(draft: Draft, progress: Progress) -> None:
    """Find out what data elsewhere is, in a task, if a call has any.

    Raises:
        KineticError: It is not there, or not open to this user.
    """
    elsewhere = [each for each in draft.data if each.kind != "local"]
    if elsewhere:
        resolve_data_task(draft, elsewhere, progress)


def start_upload(draft: Draft, progress: Progress) -> tuple[PrefectFuture[None], ...]:
    """Begin to read and send the data of this machine, in a task, if a call has any."""
    data = [each for each in draft.data if draft.sources.is_read(each)]
    return (upload_data_task.submit(draft, data, progress),) if data else ()


class _Shown:
    """Shows how far some data is, several times a second.

    Args:
        data: The data.
        progress: Where it is shown.
    """

    def __init__(self, data: Data, progress: Progress) -> None:
        self._name = data.name
        self._progress = progress
        self._shown = 0.0
        self._lock = threading.Lock()

    def read(self, files: int, size_bytes: int) -> None:
        """Show how much was looked at."""
        if self._is_due():
            told = f"{self._name}: looked at {counted(files, 'file')}, {size_in_units(size_bytes)}"
            self._progress.activity(TASK_UPLOAD_DATA, told)

    def sent(self, sent: Sent) -> None:
        """Show how much is in the store."""
        if self._is_due() or sent.done_bytes == sent.total_bytes:
            rate = size_in_units(int(sent.sent_bytes / max(sent.seconds, 0.001)))
            told = (
                f"{self._name}: {size_in_units(sent.done_bytes)} of "
                f"{size_in_units(sent.total_bytes)}, {counted(sent.files, 'file')}, {rate}/s"
            )
            self._progress.count(TASK_UPLOAD_DATA, sent.done_bytes, sent.total_bytes, told)

    def _is_due(self) -> bool:
        with self._lock:
            now = time.monotonic()
            is_due = now - self._shown >= SHOWN_EVERY_SECONDS
            self._shown = now if is_due else self._shown
            return is_due


def _told(spec: DataSpec) -> str:
    return f"{spec.source}: {_amount([spec])}, {spec.identity[:12] or 'as it is when it runs'}"


def _summed(specs: Sequence[DataSpec]) -> str:
    """Say what some data is, in a few words."""
    if len(specs) == 1:
        return f"{specs[0].source}: {_amount(specs)}"
    return f"{counted(len(specs), 'source')}, {_amount(specs)}"


def _amount(specs: Sequence[DataSpec]) -> str:
    if any(spec.size_bytes is None for spec in specs):
        return "of unknown size"
    files = sum(spec.files or 0 for spec in specs)
    return f"{counted(files, 'file')}, {size_in_units(sum(spec.size_bytes or 0 for spec in specs))}"
