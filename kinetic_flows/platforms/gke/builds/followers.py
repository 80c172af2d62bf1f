"""Waiting for an image: the log of its build as it grows, and the clients that wait.

They leave marks in the store, by which the last one knows that it is the last.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from kinetic_flows.core import object_names
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import KineticError, ObjectNotFoundError
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.lines import LineReader
from kinetic_flows.platforms.gke.builds.build import BuildState, log_object
from kinetic_flows.platforms.gke.builds.cloud_build import CloudBuild

FIRST_POLL_SECONDS = 0.25
POLL_FRACTION = 0.1
LOG_GRACE_SECONDS = 3.0
"""How long the end of a log may come after the end of its build."""


class GrowingLog:
    """Reads the log object of a build, which Cloud Build rewrites as the build prints.

    Args:
        store: The bucket that Cloud Build writes logs to.
        build_id: Whose log.
        on_output: Called with each line, once.
    """

    def __init__(
        self, store: ArtifactStore, build_id: str, on_output: Callable[[str], None]
    ) -> None:
        self._store = store
        self._name = log_object(object_names.BUILD_LOGS, build_id)
        self._on_output = on_output
        self._generation = ""
        self._reader = LineReader()
        self.lines: list[str] = []

    def read(self, *, at_end: bool = False) -> bool:
        """Pass on the lines that are new; True when there is a log at all.

        Args:
            at_end: Whether the last line counts although nothing ends it.
        """
        try:
            stored = self._store.get(self._name)
        except ObjectNotFoundError:
            return False
        if stored.generation == self._generation and not at_end:
            return True
        self._generation = stored.generation
        new = self._reader.take(stored.data[self._reader.position :])
        for line in new + (self._reader.end() if at_end else []):
            # What redraws its line, such as a progress bar, prints several.
            for part in line.splitlines() or [""]:
                self.lines.append(part)
                self._on_output(part)
        return True


def follow_build(
    builds: CloudBuild,
    state: BuildState,
    log: GrowingLog,
    *,
    poll_seconds: float,
) -> BuildState:
    """Wait until a build has ended, passing on its log.

    Args:
        builds: Who knows about it.
        state: What is known of it.
        log: Its log.
        poll_seconds: The longest pause between looks; the first ones are shorter, so that a
            short build is not waited for longer than it takes.

    Returns:
        How it ended.
    """
    started = time.monotonic()
    while state.is_running:
        waited = time.monotonic() - started
        pause(min(poll_seconds, max(FIRST_POLL_SECONDS, waited * POLL_FRACTION)))
        state = builds.get(state.id)
        log.read()
    deadline = time.monotonic() + LOG_GRACE_SECONDS
    while not log.read(at_end=True) and time.monotonic() < deadline:
        pause(min(poll_seconds, 0.5))
    return state


class Followers:
    """The clients that wait for one image.

    Args:
        store: Where their marks are.
        subject: What the image's lease is called after.
        holder: This client.
        max_age_seconds: How old a mark may be; an older one's owner has died.
    """

    def __init__(
        self, store: ArtifactStore, subject: str, *, holder: str, max_age_seconds: float
    ) -> None:
        self._store = store
        self._prefix = object_names.lease_followers_prefix(subject)
        self._mark = self._prefix + holder
        self._max_age = timedelta(seconds=max_age_seconds)

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Count among them as long as the block runs."""
        self._store.put_if_absent(self._mark, b"")
        try:
            yield
        finally:
            with contextlib.suppress(KineticError):  # it grows old
                self._store.delete(self._mark)

    def are_others(self) -> bool:
        """Whether other clients wait, too."""
        oldest = datetime.now(UTC) - self._max_age
        return any(
            item.name != self._mark and item.updated > oldest
            for item in self._store.list(self._prefix)
        )

    def are_none(self) -> bool:
        """Whether no other client waits."""
        return not self.are_others()


@contextlib.contextmanager
def cancelled_if(
    is_abandoned: Callable[[], bool], builds: CloudBuild, build: str
) -> Iterator[None]:
    """Cancel a build when the client that follows it is interrupted and no other one does.

    What became of it is noted on the interruption.
    """
    try:
        yield
    except KineticError:
        raise
    except BaseException as interruption:
        with contextlib.suppress(KineticError):  # the interruption matters more
            if is_abandoned():
                builds.cancel(build)
                interruption.add_note(f"build {build} was cancelled: nobody else waits for it")
            else:
                interruption.add_note(f"build {build} goes on: others wait for it, too")
        raise
