"""How tasks report their progress: in the terminal, in Prefect's log and as links."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.artifacts import create_link_artifact
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.logging.loggers import PrefectLogAdapter

from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.image_builder import StartedBuild
from kinetic_flows.core.progress import Progress
from kinetic_flows.flows.step_times import timed

logger = logging.getLogger(__name__)

LINK_KEY = "image-build"
"""Key under which Prefect's Artifacts page shows the links of builds."""


class Step:
    """A pipeline step at work.

    Args:
        progress: Shows the progress of the call.
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
        """Write a line to the task run's log, and show it as it comes.

        Args:
            line: The line.
            activity: The step's activity from here on; None when it goes on as before.
        """
        self._logger.info(line)
        self._progress.log(self._name, line)
        if activity:
            self._progress.activity(self._name, activity)

    def warn(self, line: str) -> None:
        """Write a warning to the task run's log, and show it."""
        self._logger.warning(line)
        self._progress.warning(line)

    def finish(self, detail: str) -> None:
        """Say how the step ended."""
        self.detail = detail
        self._logger.info(detail)


@contextmanager
def step(progress: Progress, name: str) -> Iterator[Step]:
    """Report a step's start and its end, whichever it is."""
    progress.step(name, "started")
    current = Step(progress, name)
    try:
        with timed(name):
            yield current
    except BaseException as error:
        progress.step(name, "failed", summary(error))
        raise
    progress.step(name, "done", current.detail)


def summary(error: BaseException) -> str:
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


class BuildOutput:
    """Passes on the lines of a build, to the log always and to the terminal when it is remote.

    uv's lines about an environment on this machine would only bury what the person looks for.

    Args:
        current: The step that builds.
    """

    def __init__(self, current: Step) -> None:
        self._current = current
        self._remote: StartedBuild | None = None

    @property
    def is_remote(self) -> bool:
        """Whether the build runs somewhere else."""
        return self._remote is not None

    def line(self, line: str) -> None:
        """Pass a line on."""
        if self._remote:
            self._current.show(line, self._remote.activity_of(line))
        else:
            self._current.log(line)

    def announce(self, build: StartedBuild) -> None:
        """Link the task run to a build that was started or joined."""
        self._remote = build
        publish_link(build.url, f"{build.service} {build.id} makes {build.image}")


def publish_link(url: str | None, description: str) -> None:
    """Link the task run that is being driven to a page.

    Args:
        url: The page; nothing happens when it is empty or None.
        description: Text beside the link.
    """
    if not url:
        return
    try:
        create_link_artifact(link=url, link_text=url, key=LINK_KEY, description=description)
    except httpx.HTTPError as error:  # a link is no reason for a build to fail
        logger.warning("the link to %s is not shown in Prefect: %s", url, error)
