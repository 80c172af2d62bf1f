"""The steps of a call that has data: what is shown of them, and who waits for whom."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed, Failed, State

from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import BuildError
from kinetic_flows.core.interruption import pause, stoppable
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import load_settings
from kinetic_flows.flows.data_tasks import resolve_data_task
from kinetic_flows.flows.preparing import wait_for
from kinetic_flows.plans.draft import Call, draft_call
from kinetic_flows.platforms.choose import choose_platform


def train(path: Path) -> str:
    return path.read_text()


class Told(NullProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def activity(self, name: str, detail: str) -> None:
        self.lines.append(detail)

    def step(self, name: str, status: str, detail: str = "") -> None:
        self.lines.append(detail)


def test_a_signed_address_is_not_shown_while_it_is_asked_for(tmp_path: Path) -> None:
    environ = {"KINETIC_HOME": str(tmp_path / "home"), "KINETIC_PLATFORM": "local"}
    settings = load_settings(environ)
    data = Data("http://127.0.0.1:9/set.bin?X-Signature=s3cret", sha256="0" * 64)
    draft = draft_call(
        Call(function=train, args=(data,), kwargs={}, options=RunOptions()),
        settings,
        choose_platform(settings, environ),
        cwd=tmp_path,
        sys_path=[],
        environ=environ,
    )
    told = Told()
    resolve_data_task.fn(draft, draft.data, told)
    assert any("asking for http://127.0.0.1:9/set.bin" in line for line in told.lines)
    assert "s3cret" not in str(told.lines)


def test_a_task_that_fails_ends_those_that_take_long() -> None:
    def until_told() -> State[str]:
        try:
            pause(20)
        except KeyboardInterrupt:
            return Completed(data="told")
        return Completed(data="never told")

    def future(working: Future[State[str]]) -> PrefectConcurrentFuture[str]:
        return PrefectConcurrentFuture(uuid4(), working)

    failed = Future[State[str]]()
    with ThreadPoolExecutor(1) as pool, stoppable() as work:
        slow = future(pool.submit(copy_context().run, until_told))
        failed.set_result(Failed(data=BuildError("no build", hint="h")))
        # No flow run is being driven whose cancellation the session would be asked for.
        with (
            pytest.raises(BuildError, match="no build"),
            wait_for(slow, future(failed), work=work, session=None),
        ):
            pass
    assert slow.state.data == "told"
