"""A worker that pushes tiny images in no time, and fails as it is told to."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from google.cloud.devtools import cloudbuild_v1 as api

from kinetic_flows.images.assembly.remote import ASSEMBLY_FILE
from kinetic_flows.images.assembly.spec import Assembly
from loopback.build_worker import DOCKER_STEP, GrowingLog, unpack_source
from loopback.cloud_build import RunningBuild, Status
from loopback.small_images import Pusher


class QuickWorker:
    """Pretends to build: waits, writes a log, pushes an image.

    Attributes:
        seconds: How long a build takes.
        endings: Final statuses of the next builds; then all succeed.
        lines: What a build prints.
        finish: Ends builds before their time when it is set.
        together: What each build waits at once it has begun, so that as many are under way at
            the same time; None where each goes its own way.

    Args:
        storage_url: Where logs go.
        registry_url: Where images go, whatever registry they name.
    """

    def __init__(self, storage_url: str, registry_url: str) -> None:
        self.seconds = 0.0
        self.finish = threading.Event()
        self.together: threading.Barrier | None = None
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
        if self.together is not None:
            self.together.wait()
        limit = build.timeout.total_seconds()
        deadline = time.monotonic() + min(self.seconds, limit)
        while time.monotonic() < deadline and not self.finish.is_set():
            if running.cancelled.wait(min(deadline - time.monotonic(), 0.1)):
                return Status.CANCELLED
        if self.seconds > limit and not self.finish.is_set():
            return Status.TIMEOUT
        status = self.endings.pop(0) if self.endings else Status.SUCCESS
        build.steps[0].status = status
        if status != Status.SUCCESS:
            return status
        labels = _labels(build) if is_docker(build) else self._assembly(build).labels
        for image in self.images_of(build):
            digest = self._push(image, build, labels)
            # What a step pushes itself, Cloud Build knows nothing of.
            if image in build.images:
                build.results.images.append(api.BuiltImage(name=image, digest=digest))
        return Status.SUCCESS

    def images_of(self, build: Any) -> list[str]:
        """Return the images that a build makes, by reference."""
        if not is_docker(build):
            assembly = self._assembly(build)
            return [assembly.reference, *assembly.also]
        return [
            *build.images,
            *(step.args[-1] for step in build.steps if step.args[0] == "push"),
        ]

    def _assembly(self, build: Any) -> Assembly:
        with tempfile.TemporaryDirectory() as folder:
            unpack_source(self._storage_url, build, Path(folder))
            return Assembly.from_json(Path(folder, ASSEMBLY_FILE).read_text())

    def _push(self, image: str, build: Any, labels: Mapping[str, str]) -> str:
        """Push an image that says nothing of layers, so that none is assembled on top of it."""
        path, _, tag = image.partition("/")[2].rpartition(":")
        labels = {**labels, "build": build.id, "at": str(time.time_ns())}
        return Pusher(self._registry_url, path).push_image(tag, labels)


def is_docker(build: Any) -> bool:
    """Whether a build has a Dockerfile; else its last step assembles an image."""
    return bool(build.steps[-1].name == DOCKER_STEP)


def _labels(build: Any) -> dict[str, str]:
    """Return the labels that a build gives to its image."""
    arguments = [argument for step in build.steps for argument in step.args]
    values = [text for option, text in pairwise(arguments) if option == "--label"]
    return dict(text.split("=", 1) for text in values)
