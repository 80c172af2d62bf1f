"""buildah and podman with storage and configuration of their own, without a daemon.

Nothing under /etc is touched: each program is pointed to generated files by environment
variables (containers.conf(5), containers-storage.conf(5), containers-registries.conf(5)).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from loopback.tools import find_tool

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{directory}/images"
runroot = "{directory}/run"
"""

# runc, because crun refuses mixed cgroup hierarchies; the machine's network, because the
# registries of a test are on its loopback interface.
_CONTAINERS = """\
[containers]
netns = "host"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
volumes = [
  "{ca_bundle}:/etc/ssl/certs/ca-certificates.crt:ro",
  "{directory}/pip.conf:/etc/pip.conf:ro",
  "{directory}/uv.toml:/etc/uv/uv.toml:ro",
]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
lock_type = "file"
tmp_dir = "{directory}/engine"
"""

_REGISTRY = """\
[[registry]]
prefix = "{prefix}"
location = "{location}"
insecure = true
"""


class Containers:
    """The programs that make and run containers, all their state under one directory.

    Args:
        directory: Where images, containers and configuration are kept; a short path.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mirrors: dict[str, str] = {}
        self.environment = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "HOME": str(directory),
            "XDG_RUNTIME_DIR": str(directory / "runtime"),
            "CONTAINERS_CONF": str(directory / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(directory / "registries.conf"),
            "REGISTRY_AUTH_FILE": str(directory / "auth.json"),
            "BUILDAH_ISOLATION": "chroot",
            "TMPDIR": str(directory / "tmp"),
        }

    def set_up(self) -> Containers:
        """Write the configuration."""
        for folder in ("runtime", "tmp"):
            (self._directory / folder).mkdir(parents=True, exist_ok=True)
        values = {"directory": self._directory, "ca_bundle": CA_BUNDLE}
        self._write("storage.conf", _STORAGE.format(**values))
        self._write("containers.conf", _CONTAINERS.format(**values))
        self._write("pip.conf", "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
        self._write("uv.toml", "system-certs = true\n")
        self._write("auth.json", "{}")
        self._write_registries()
        return self

    def tear_down(self) -> None:
        """Stop every container, unmount what is mounted, and delete everything."""
        self.run("podman", "rm", "--all", "--force", "--time", "0", check=False)
        self.run("buildah", "rm", "--all", check=False)
        for mount in self._mounts():
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def mirror(self, prefix: str, location: str) -> None:
        """Pull images whose name starts with a prefix from an http registry."""
        self._mirrors[prefix] = location
        self._write_registries()

    def run(
        self, tool: str, *arguments: str, check: bool = True, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end.

        Raises:
            ToolFailed: It failed, and `check` is on.
        """
        done = subprocess.run(
            self.command(tool, *arguments),
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if check and done.returncode:
            raise ToolFailed(f"{tool} {' '.join(arguments)}: {done.stderr[-2000:]}")
        return done

    def command(self, tool: str, *arguments: str) -> list[str]:
        """Return a command line of a program."""
        return [find_tool(tool), *arguments]

    def run_container(
        self,
        image: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        user: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container, as a pod would, to its end."""
        arguments = ["run", "--rm", "--network", "host"]
        for name, value in environment.items():
            arguments += ["--env", f"{name}={value}"]
        if user:
            arguments += ["--user", user]
        return self.run("podman", *arguments, image, *command, check=False)

    def _write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(text)

    def _write_registries(self) -> None:
        blocks = ['unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n']
        for prefix, location in self._mirrors.items():
            blocks.append(_REGISTRY.format(prefix=prefix, location=location))
        self._write("registries.conf", "".join(blocks))

    def _mounts(self) -> list[str]:
        lines = Path("/proc/mounts").read_text().splitlines()
        points = [line.split()[1] for line in lines]
        return sorted((p for p in points if p.startswith(str(self._directory))), reverse=True)


class ToolFailed(Exception):
    """A program that makes or runs containers failed."""
