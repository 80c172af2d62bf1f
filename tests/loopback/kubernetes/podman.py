"""Pods as real containers: each runs its image with podman, on the host's network."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loopback.containers import Containers
from loopback.kubernetes.kubelet import ImagePullFailure
from loopback.kubernetes.runtime import Container, ContainerSpec, Inside


@dataclass
class PodmanContainer:
    """A container that `podman run` is attached to."""

    containers: Containers
    name: str
    process: asyncio.subprocess.Process

    async def wait(self) -> int:
        """Return the container's exit code, which podman passes on."""
        return await self.process.wait()

    def inside(self, command: Sequence[str], *, has_terminal: bool) -> Inside:
        """Start it by `podman exec`."""
        options = ["exec", "--interactive", *(["--tty"] if has_terminal else [])]
        return Inside(
            command=tuple(self.containers.command("podman", *options, self.name, *command)),
            environment=self.containers.environment,
        )

    def signal(self, number: int) -> None:
        """Send a signal to the container's first process."""
        if number == signal.SIGKILL:
            self.containers.run("podman", "kill", self.name, check=False)
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


@dataclass(frozen=True, kw_only=True)
class PodmanRuntime:
    """Runs containers with podman, pulling their images as a node would.

    Attributes:
        containers: Where podman keeps everything.
    """

    containers: Containers

    async def pull(self, image: str) -> None:
        """Pull an image as a node does; raise `ImagePullFailure` with the registry's answer."""
        process = await asyncio.create_subprocess_exec(
            *self.containers.command("podman", "pull", "--quiet", image),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=self.containers.environment,
        )
        _, errors = await process.communicate()
        if process.returncode:
            lines = errors.decode(errors="replace").strip().splitlines()
            raise ImagePullFailure(lines[-1] if lines else "podman does not say why")

    async def start(self, spec: ContainerSpec) -> Container:
        """Start a container; its image's ENTRYPOINT gives way to the pod's command."""
        program, *arguments = spec.command
        options = ["run", "--rm", "--name", spec.pod, "--network", "host", "--entrypoint", program]
        for name, value in spec.environment.items():
            options += ["--env", f"{name}={value}"]
        options += _security_options(spec.security)
        for path, volume in spec.volumes.items():
            how = ":ro" if path in spec.read_only else ""
            options += ["--volume", f"{volume}:{path}{how}"] if volume else ["--tmpfs", path]
        for path, image in spec.images.items():
            # Read-only, and executable, as containerd has it.
            options += ["--mount", f"type=image,source={image},destination={path}"]
        with spec.log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self.containers.command("podman", *options, spec.image, *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.containers.environment,
                start_new_session=True,
            )
        return PodmanContainer(self.containers, spec.pod, process)


def _security_options(security: Mapping[str, Any]) -> list[str]:
    """Spell a security context for podman, as a node's container runtime does it."""
    options = []
    if "runAsUser" in security:
        group = security.get("runAsGroup", 0)
        options += ["--user", f"{security['runAsUser']}:{group}"]
    for name in (security.get("capabilities") or {}).get("drop") or ():
        options.append(f"--cap-drop={name}")
    if security.get("allowPrivilegeEscalation") is False:
        options.append("--security-opt=no-new-privileges")
    if security.get("readOnlyRootFilesystem"):
        # Nothing but what is mounted can be written to.
        options += ["--read-only", "--read-only-tmpfs=false"]
    return options
