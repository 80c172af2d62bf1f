"""What the task of an image build shows of builds that run elsewhere."""

from __future__ import annotations

import logging

from kinetic_flows.core.image_builder import StartedBuild
from kinetic_flows.flows.steps import Step
from kinetic_flows.platforms.gke.builds.progress import activity_of

logger = logging.getLogger(__name__)

LINK_KEY = "image-build"
"""Key under which Prefect's Artifacts page shows the links of builds."""


class BuildOutput:
    """Passes on what a build prints, to the log always and to the terminal when it is remote.

    uv's lines about an environment on this machine would only bury what the person looks for.

    Args:
        current: The step that builds.
    """

    def __init__(self, current: Step) -> None:
        self._current = current
        self.is_remote = False

    def line(self, line: str) -> None:
        """Pass a line on."""
        if self.is_remote:
            self._current.show(line, activity_of(line))
        else:
            self._current.log(line)

    def announce(self, build: StartedBuild) -> None:
        """Link the task run to a build that was started or joined."""
        self.is_remote = True
        publish_link(build.url, f"Cloud Build {build.id} makes {build.image}")


def publish_link(url: str | None, description: str) -> None:
    """Link the task run that is being driven to a page.

    Args:
        url: The page; nothing happens when it is empty or None.
        description: What is to be seen there.
    """
    import httpx
    from prefect.artifacts import create_link_artifact

    if not url:
        return
    try:
        create_link_artifact(link=url, link_text=url, key=LINK_KEY, description=description)
    except httpx.HTTPError as error:  # a link is no reason for a build to fail
        logger.warning("the link to %s is not shown in Prefect: %s", url, error)
