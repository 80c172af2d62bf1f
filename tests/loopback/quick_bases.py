"""`kinetic build-image` as a person runs it, with builds that take as long as they are told to.

What is built is a Dockerfile of the person's own: bases of the product's are assembled.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect

from loopback.cloud_build import CloudBuildServer
from loopback.quick_builds import QuickWorker

DOCKERFILE = """\
FROM python
RUN pip install uv cloudpickle google-cloud-storage
COPY remote_runner.py /app/
"""
KINETIC = str(Path(sys.executable).parent / "kinetic")


@dataclass(frozen=True, kw_only=True)
class QuickBases:
    """The command, and who builds for it.

    Attributes:
        worker: Says how long builds take, and how they end.
        server: Knows the builds.
        bucket: Bucket of their sources, logs and leases.
        repository: Where the images go.
        dockerfile: What they are built from.
        environment: The command's variables.
    """

    worker: QuickWorker
    server: CloudBuildServer
    bucket: str
    repository: str
    dockerfile: Path
    environment: dict[str, str]

    @property
    def builds(self) -> list[Any]:
        """Every build that was submitted, oldest first."""
        return self.server.builds

    def arguments(self, *options: str) -> list[str]:
        """Return the command that builds the base image for CPUs."""
        usual = ["--repo", self.repository, "--category", "cpu", "--yes"]
        usual += ["--dockerfile", str(self.dockerfile)]
        return [KINETIC, "build-image", *usual, *options]

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start the command without a terminal."""
        return subprocess.Popen(
            self.arguments(*options),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def open(self, *options: str) -> pexpect.spawn[str]:
        """Start the command on a pseudo-terminal."""
        program, *arguments = self.arguments(*options)
        return pexpect.spawn(
            program, arguments, env=self.environment, encoding="utf-8", timeout=180
        )
