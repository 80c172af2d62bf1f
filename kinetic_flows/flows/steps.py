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
from kinetic_flows.core.progress import Progress, StepStatus
from kinetic_flows.core.signals import interruption_in
from kinetic_flows.flows.step_times import timed
from kinetic_flows.images.assembly.remote_words import warning_in

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
        self._logger = task_logger()
        self.detail = ""
        self.status: StepStatus = "done"

    def log(self, line: str) -> None:
        """Write a line to the task run's log."""
        self._logger.info(line)

    def tell(self, activity: str) -> None:
        """Show what the step is doing from here on."""
        self._progress.activity(self._name, activity)

    def warn(self, line: str) -> None:
        """Write a warning to the task run's log, and show it."""
        self._logger.warning(line)
        self._progress.warning(line)

    def follow(self, line: str) -> None:
        """Write a line of a tool to the task run's log, and show it while it is the last one."""
        warning = warning_in(line)
        if warning:
            self.warn(warning)
            return
        self._logger.info(line)
        self._progress.log(self._name, line)

    def finish(self, detail: str, status: StepStatus = "done") -> None:
        """Say how the step ended.

        Args:
            detail: What came of it.
            status: `cached` where there was nothing to do, `passed` where nothing of it is new.
        """
        self.detail, self.status = detail, status
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
        if interruption_in(error) is not None:
            progress.step(name, "interrupted", "interrupted")
            # What became of what was begun; the interruption of a thread is seen by nobody else.
            for note in getattr(error, "__notes__", ()):
                progress.notice(note)
            raise
        text = error.message if isinstance(error, KineticError) else str(error)
        progress.step(name, "failed", text or type(error).__name__)
        raise
    progress.step(name, current.status, current.detail)


def task_logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the logger of the task run that is being driven."""
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
    """Passes on the lines of a build, and links to one that is remote.

    Args:
        current: The step that builds.
    """

    def __init__(self, current: Step) -> None:
        self._current = current
        self._remote: StartedBuild | None = None

    def line(self, line: str) -> None:
        """Pass a line on."""
        self._current.follow(line)
        activity = self._remote.activity_of(line) if self._remote else None
        if activity:
            self._current.tell(activity)

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
