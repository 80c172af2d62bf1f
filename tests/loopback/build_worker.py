"""Executes Cloud Build builds: buildah does what their docker steps ask for.

A log object grows in the build's bucket as the build prints; images are pushed to the
registry that stands for theirs, and their digests are reported.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from google.cloud.devtools import cloudbuild_v1 as api

from loopback.cloud_build import RunningBuild, Status
from loopback.containers import CA_BUNDLE, Containers
from loopback.secret_manager import SecretManager

DOCKER_STEP = "gcr.io/cloud-builders/docker"
HOME_OF_STEPS = "/builder/home"
WORKSPACE = "/workspace"
DOCKER_HUB = "docker.io"
LOG_PAUSE_SECONDS = 0.2

_DOCKER_FOR_SCRIPTS = """\
#!/bin/sh
command=$1
shift
# Without a registry, docker means Docker Hub; buildah wants to be told.
[ "$command" != login ] || set -- "$@" "$DOCKER_HUB"
exec buildah "$command" --tls-verify=false "$@"
"""


class BuildWorker:
    """Runs builds one after the other or at once, as they come.

    Attributes:
        credentials: User name and password for pushing, with a colon between.

    Args:
        containers: Who builds and pushes.
        storage_url: Where sources and logs are.
        registries: Address of the registry that stands for a host.
        secrets: Where secrets are.
        directory: Where sources are unpacked.
    """

    def __init__(
        self,
        *,
        containers: Containers,
        storage_url: str,
        registries: Mapping[str, str],
        secrets: SecretManager,
        directory: Path,
    ) -> None:
        self._containers = containers
        self._storage_url = storage_url
        self._registries = registries
        self._secrets = secrets
        self._directory = directory
        self._bin = directory / "bin"
        self._bin.mkdir(parents=True)
        (self._bin / "docker").write_text(_DOCKER_FOR_SCRIPTS)
        (self._bin / "docker").chmod(0o755)
        self.credentials = ""
        self.known_logins = Path(containers.environment["REGISTRY_AUTH_FILE"])

    def __call__(self, running: RunningBuild) -> Any:
        """Execute a build, and return its final status."""
        folder = Path(tempfile.mkdtemp(dir=self._directory))
        log = GrowingLog(self._storage_url, running.build)
        log.start()
        try:
            return _Execution(self, running, folder, log).run()
        finally:
            log.stop()
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(folder.with_name(f"{folder.name}-home"), ignore_errors=True)
            folder.with_name(f"{folder.name}-auth.json").unlink(missing_ok=True)

    def unpack_source(self, build: Any, folder: Path) -> None:
        unpack_source(self._storage_url, build, folder)

    def address_of(self, image: str) -> str:
        """Return where an image is really pushed to."""
        host, rest = _split(image)
        return f"{self._registries.get(host, host)}/{rest}"

    def environment_of(
        self, step: Any | None, secrets: Mapping[str, str], logins: Path
    ) -> dict[str, str]:
        environment = dict(self._containers.environment)
        environment["PATH"] = f"{self._bin}:{environment['PATH']}"
        environment["REGISTRY_AUTH_FILE"] = str(logins)
        environment["DOCKER_HUB"] = self._registries.get(DOCKER_HUB, DOCKER_HUB)
        if step is None:
            return environment
        for pair in step.env:
            name, _, value = pair.partition("=")
            environment[name] = value
        for name in step.secret_env:
            environment[name] = self._secrets.content(secrets[name]).decode()
        return environment

    def docker_command(self, step: Any) -> list[str]:
        """Return the command that does what a step of the docker builder asks for."""
        arguments = [argument.replace("$$", "$") for argument in step.args]
        if step.entrypoint:
            return [step.entrypoint, *arguments]
        if arguments[0] == "build":
            options = ["--layers=false", "--format", "docker", "--network", "host"]
            return self._containers.command("buildah", "bud", *options, *arguments[1:])
        if arguments[0] == "run":
            return self._containers.command("podman", "run", "--network", "host", *arguments[1:])
        if arguments[0] == "push":
            return self.push_command(arguments[-1], Path(os.devnull))
        return self._containers.command("buildah", *arguments)

    def container_command(self, step: Any, folder: Path, logins: Path, name: str) -> list[str]:
        """Return the command that runs a step in an image of its own, as Cloud Build does.

        Its home has Docker's logins; registries are at the addresses that stand for them.
        """
        home = folder.with_name(f"{folder.name}-home")
        (home / ".docker").mkdir(parents=True, exist_ok=True)
        (home / ".docker" / "config.json").write_text(self._logins_by_name(logins))
        endpoints = ",".join(f"{host}=http://{at}" for host, at in self._registries.items())
        options = ["--rm", "--name", name, "--network", "host", "--workdir", WORKSPACE]
        options += ["--volume", f"{folder}:{WORKSPACE}", "--volume", f"{home}:{HOME_OF_STEPS}"]
        variables = (
            f"HOME={HOME_OF_STEPS}",
            f"KINETIC_REGISTRY_ENDPOINTS={endpoints}",
            f"SSL_CERT_FILE={CA_BUNDLE}",
        )
        options += [item for variable in variables for item in ("--env", variable)]
        arguments = [argument.replace("$$", "$") for argument in step.args]
        entrypoint = ["--entrypoint", step.entrypoint] if step.entrypoint else []
        return self._containers.command(
            "podman", "run", *options, *entrypoint, step.name, *arguments
        )

    def _logins_by_name(self, logins: Path) -> str:
        """Return logins as Docker keeps them: for the registries that others stand for."""
        known = json.loads(logins.read_text()).get("auths", {})
        meant = {host: known[at] for host, at in self._registries.items() if at in known}
        return json.dumps({"auths": {**known, **meant}})

    def remove_container(self, name: str) -> None:
        """End a step that was given up: what starts a container does not take it along."""
        self._containers.run("podman", "rm", "--force", "--time", "0", name, check=False)

    def push_command(self, image: str, digest_file: Path) -> list[str]:
        options = ["--tls-verify=false", "--digestfile", str(digest_file)]
        if self.credentials and _split(image)[0] != DOCKER_HUB:
            options += ["--creds", self.credentials]
        target = f"docker://{self.address_of(image)}"
        return self._containers.command("buildah", "push", *options, image, target)


class _Execution:
    """One build being executed."""

    def __init__(
        self, worker: BuildWorker, running: RunningBuild, folder: Path, log: GrowingLog
    ) -> None:
        self._worker = worker
        self._running = running
        self._build = running.build
        self._folder = folder
        self._log = log
        self._container = f"step-{folder.name}"
        # A build's logins are its own, as they are on a machine of Cloud Build's.
        self._logins = folder.with_name(f"{folder.name}-auth.json")
        shutil.copy(worker.known_logins, self._logins)
        self._deadline = time.monotonic() + (self._build.timeout.total_seconds() or 3600)
        self._secrets = {
            secret.env: secret.version_name
            for secret in self._build.available_secrets.secret_manager
        }

    def run(self) -> Any:
        self._log.write(f'starting build "{self._build.id}"\n\nFETCHSOURCE\n')
        self._worker.unpack_source(self._build, self._folder)
        self._log.write("BUILD\n")
        status = self._run_steps()
        if status == Status.SUCCESS:
            self._log.write("PUSH\n")
            status = self._push()
        self._log.write("DONE\n" if status == Status.SUCCESS else f"{status.name}\n")
        return status

    def _run_steps(self) -> Any:
        for number, step in enumerate(self._build.steps):
            step.status = Status.WORKING
            environment = self._worker.environment_of(step, self._secrets, self._logins)
            code, status = self._execute(self._command(step), environment)
            step.status = status
            if status != Status.SUCCESS:
                words = f'build step {number} "{step.name}" failed: step exited with '
                self._fail(f"{words}non-zero status: {code}")
                return status
        return Status.SUCCESS

    def _command(self, step: Any) -> list[str]:
        if step.name == DOCKER_STEP:
            return self._worker.docker_command(step)
        return self._worker.container_command(step, self._folder, self._logins, self._container)

    def _push(self) -> Any:
        environment = self._worker.environment_of(None, {}, self._logins)
        for image in self._build.images:
            digest_file = self._folder / "digest"
            command = self._worker.push_command(image, digest_file)
            code, status = self._execute(command, environment)
            if status != Status.SUCCESS:
                self._fail(f"failed to push {image}: exit status {code}")
                return status
            digest = digest_file.read_text().strip()
            self._build.results.images.append(api.BuiltImage(name=image, digest=digest))
            self._log.write(f"{image}: digest: {digest}\n")
        return Status.SUCCESS

    def _fail(self, words: str) -> None:
        self._log.write(f"ERROR: {words}\n")
        self._build.failure_info = api.Build.FailureInfo(detail=words)

    def _execute(self, command: list[str], environment: Mapping[str, str]) -> tuple[int, Any]:
        """Run a command to its end, its time limit, or its cancellation."""
        with subprocess.Popen(
            command,
            cwd=self._folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            reader = threading.Thread(target=self._copy_output, args=(process,), daemon=True)
            reader.start()
            status = self._wait(process)
            reader.join(10)
        return process.returncode, status

    def _wait(self, process: subprocess.Popen[bytes]) -> Any:
        while process.poll() is None:
            status = None
            if self._running.cancelled.wait(0.05):
                status = Status.CANCELLED
            elif time.monotonic() > self._deadline:
                status = Status.TIMEOUT
            if status is not None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                self._worker.remove_container(self._container)
                return status
        return Status.SUCCESS if process.returncode == 0 else Status.FAILURE

    def _copy_output(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._log.write(line.decode(errors="replace"))


def _split(image: str) -> tuple[str, str]:
    """Return an image's registry and the rest of its name, as docker reads it."""
    host, _, rest = image.partition("/")
    return (host, rest) if set(host) & set(".:") else (DOCKER_HUB, image)


def unpack_source(storage_url: str, build: Any, folder: Path) -> None:
    """Write the files of a build's source into a directory."""
    source = build.source.storage_source
    name = quote(source.object_, safe="")
    where = f"{storage_url}/download/storage/v1/b/{source.bucket}/o/{name}?alt=media"
    version = f"&generation={source.generation}" if source.generation else ""
    with urlopen(f"{where}{version}", timeout=30) as answer:
        archive = io.BytesIO(answer.read())
    with tarfile.open(fileobj=archive) as tar:
        tar.extractall(folder, filter="data")


class GrowingLog:
    """A build's log, uploaded again whenever it has grown."""

    def __init__(self, storage_url: str, build: Any) -> None:
        bucket, _, prefix = build.logs_bucket.removeprefix("gs://").partition("/")
        name = f"{prefix}/log-{build.id}.txt".lstrip("/")
        self._url = f"{storage_url}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}"
        self._text = ""
        self._uploaded = ""
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._keep_uploading, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._finished.set()
        self._thread.join()

    def write(self, text: str) -> None:
        self._text += text

    def _keep_uploading(self) -> None:
        while not self._finished.wait(LOG_PAUSE_SECONDS):
            self._upload()
        self._upload()

    def _upload(self) -> None:
        text = self._text
        if text == self._uploaded:
            return
        request = Request(self._url, data=text.encode(), method="POST")
        request.add_header("Content-Type", "text/plain")
        urlopen(request, timeout=30).close()
        self._uploaded = text
