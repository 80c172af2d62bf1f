"""One way for every task to say, in the terminal and in Prefect's log, what it is doing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.logging.loggers import PrefectLogAdapter

from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.progress import Progress


class Step:
    """A pipeline step at work.

    Args:
        progress: Who watches the call.
        name: The step's name.
    """

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._name = name
        self._logger = _logger()
        self.detail = ""

    def log(self, line: str) -> None:
        """Write a line to the task run's log."""
        self._logger.info(line)

    def show(self, line: str, activity: str | None = None) -> None:
        """Write a line to the task run's log, and show it to whoever watches as it comes.

        Args:
            line: The line.
            activity: What the step is doing from here on; None when it goes on as before.
        """
        self._logger.info(line)
        self._progress.log(self._name, line)
        if activity:
            self._progress.activity(self._name, activity)

    def warn(self, line: str) -> None:
        """Write a warning to the task run's log and to whoever watches."""
        self._logger.warning(line)
        self._progress.warning(line)

    def finish(self, detail: str) -> None:
        """Say what came of the step."""
        self.detail = detail
        self._logger.info(detail)


@contextmanager
def step(progress: Progress, name: str) -> Iterator[Step]:
    """Report a step's start and its end, whichever it is."""
    progress.step(name, "started")
    current = Step(progress, name)
    try:
        yield current
    except BaseException as error:
        progress.step(name, "failed", _summary(error))
        raise
    progress.step(name, "done", current.detail)


def _summary(error: BaseException) -> str:
    """Say in one line what ended a step."""
    text = error.message if isinstance(error, KineticError) else str(error)
    return text.partition("\n")[0] or type(error).__name__


def _logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    try:
        current = get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)
    if not isinstance(current, PrefectLogAdapter):
        return current
    own = current.getChild("kinetic")
    # What our steps come to belongs to the run, however little people's own flows are to log.
    own.logger.setLevel(logging.INFO)
    return own
