"""What runs the container of a pod: by default a child process of the test."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from loopback.kubernetes.image_volumes import Unpack

MOUNTS = str(files("kinetic_flows.runner_image") / "runner" / "mounts.py")

_EVERY_PODS = ("/dev/shm", "/tmp", "/home/kinetic", "/opt/kinetic/packages")

Rewrite = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """A container to be run.

    Attributes:
        pod: The pod's name.
        image: The image's reference.
        command: Program and arguments.
        environment: Its variables.
        log_file: Where its output goes.
        directory: A directory of its own.
        security: Its security context.
        volumes: Directories that are mounted in it, by where; those in memory have none here.
        images: Images that are mounted in it, by where.
        read_only: Which of its volumes cannot be written to, by where they are.
    """

    pod: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log_file: Path
    directory: Path
    security: Mapping[str, Any] = field(default_factory=dict)
    volumes: Mapping[str, Path | None] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    read_only: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Inside:
    """How a command is started in a container that runs.

    Attributes:
        command: Program and arguments.
        environment: Its variables.
        directory: Where it begins.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path | None = None


class Container(Protocol):
    """A container that was started."""

    def inside(self, command: Sequence[str], *, has_terminal: bool) -> Inside:
        """Return how a command is started in it."""
        ...

    async def wait(self) -> int:
        """Return its exit code once it has ended, 128 and more for a signal."""
        ...

    def signal(self, number: int) -> None:
        """Send a signal to everything in it."""
        ...


class Runtime(Protocol):
    """Starts containers."""

    async def start(self, spec: ContainerSpec) -> Container:
        """Start one; raise `OSError` when its program cannot be run."""
        ...


@dataclass
class ProcessContainer:
    """A container that is a process group."""

    process: asyncio.subprocess.Process
    within: Inside
    rewrite: Rewrite

    def inside(self, command: Sequence[str], *, has_terminal: bool) -> Inside:
        """Start it beside, with the same variables and volumes."""
        return replace(self.within, command=tuple(self.rewrite(command)))

    async def wait(self) -> int:
        code = await self.process.wait()
        return code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def use_this_python(command: Sequence[str]) -> list[str]:
    """Run `python3` with the interpreter of the tests."""
    program, *arguments = command
    is_python = program in ("python", "python3")
    return [sys.executable if is_python else program, *arguments]


def variables_here(spec: ContainerSpec) -> dict[str, str]:
    """Return a container's variables for a process, which has no volumes mounted.

    Those that name a mounted directory name the volume's own instead.
    """
    directories = {path: str(volume) for path, volume in spec.volumes.items() if volume}
    return {name: directories.get(value, value) for name, value in spec.environment.items()}


def with_mounts(spec: ContainerSpec, command: Sequence[str]) -> list[str]:
    """Return a command that runs with the container's volumes mounted, in a namespace of its own.

    What every pod has is left as it is on this machine.
    """
    mounts = []
    for number, (path, volume) in enumerate(spec.volumes.items()):
        if path not in _EVERY_PODS:
            place = volume or spec.directory / "memory" / str(number)
            place.mkdir(parents=True, exist_ok=True)
            read_only = path in spec.read_only
            mounts.append({"path": path, "source": str(place), "read_only": read_only})
    return [sys.executable, MOUNTS, json.dumps(mounts), *command] if mounts else [*command]


def with_unpacked(spec: ContainerSpec, unpack: Unpack | None) -> ContainerSpec:
    """Return a container that has directories in place of the images that it has mounted.

    Args:
        spec: The container.
        unpack: Makes an image's tree; None where images cannot be looked at.

    Raises:
        OSError: There is no way to look at them.
    """
    if not spec.images:
        return spec
    if unpack is None:
        raise OSError("nothing here unpacks images")
    found: dict[str, Path | None] = {}
    for number, (path, image) in enumerate(spec.images.items()):
        found[path] = spec.directory / "images" / str(number)
        unpack(image, spec.directory / "images" / str(number))
    return replace(spec, volumes={**spec.volumes, **found}, images={})


@dataclass(frozen=True, kw_only=True)
class ProcessRuntime:
    """Runs containers as child processes of this machine; the image is not looked at.

    Attributes:
        rewrite: Turns the container's command into one that this machine has.
        environment: Variables besides the pod's own.
        unpack: Makes the trees of images that are mounted; None where none can be.
    """

    rewrite: Rewrite = use_this_python
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": os.defpath})
    unpack: Unpack | None = None

    async def start(self, spec: ContainerSpec) -> Container:
        spec = await asyncio.to_thread(with_unpacked, spec, self.unpack)

        def rewrite(command: Sequence[str]) -> list[str]:
            return with_mounts(spec, self.rewrite(command))

        return await start_process(spec, rewrite, {**self.environment, **variables_here(spec)})


async def start_process(
    spec: ContainerSpec, rewrite: Rewrite, environment: Mapping[str, str]
) -> ProcessContainer:
    """Start a container as a process group.

    Args:
        spec: The container.
        rewrite: Turns commands that are to run in it into those that this machine has.
        environment: All of its variables.
    """
    command = tuple(rewrite(spec.command))
    with spec.log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=spec.directory,
            start_new_session=True,
        )
    within = Inside(command=command, environment=environment, directory=spec.directory)
    return ProcessContainer(process, within, rewrite)


async def stop(container: Container, grace_seconds: float) -> int:
    """Ask a container to end, and end it when the grace period is over."""
    container.signal(signal.SIGTERM)
    try:
        return await asyncio.wait_for(asyncio.shield(container.wait()), grace_seconds)
    except TimeoutError:
        container.signal(signal.SIGKILL)
        return await container.wait()
