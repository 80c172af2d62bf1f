"""A worker that pushes tiny images in no time, and fails as it is told to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from google.cloud.devtools import cloudbuild_v1 as api

from loopback.build_worker import GrowingLog
from loopback.cloud_build import RunningBuild, Status
from loopback.small_images import Pusher


class QuickWorker:
    """Pretends to build: waits, writes a log, pushes an image.

    Attributes:
        seconds: How long a build takes.
        endings: Final statuses of the next builds; then all succeed.
        lines: What a build prints.

    Args:
        storage_url: Where logs go.
        registry_url: Where images go, whatever registry they name.
    """

    def __init__(self, storage_url: str, registry_url: str) -> None:
        self.seconds = 0.0
        self.endings: list[Any] = []
        self.lines: Sequence[str] = ("one", "two")
        self._storage_url = storage_url
        self._registry_url = registry_url

    def __call__(self, running: RunningBuild) -> Any:
        log = GrowingLog(self._storage_url, running.build)
        log.start()
        try:
            return self._build(running, log)
        finally:
            log.stop()

    def _build(self, running: RunningBuild, log: GrowingLog) -> Any:
        build = running.build
        for line in self.lines:
            log.write(f"{line}\n")
        limit = build.timeout.total_seconds()
        if running.cancelled.wait(min(self.seconds, limit)):
            return Status.CANCELLED
        if self.seconds > limit:
            return Status.TIMEOUT
        status = self.endings.pop(0) if self.endings else Status.SUCCESS
        build.steps[0].status = status
        if status != Status.SUCCESS:
            return status
        for image in build.images:
            path, _, tag = image.partition("/")[2].rpartition(":")
            labels = {"build": build.id, "at": str(time.time_ns())}
            digest = Pusher(self._registry_url, path).push_image(tag, labels)
            build.results.images.append(api.BuiltImage(name=image, digest=digest))
        return Status.SUCCESS
