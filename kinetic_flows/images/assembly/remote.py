"""The assembler as a program of its own, in a build next to the registry.

It finds what to do in its directory: `assembly.json`, and in `wheels` those that ship. All others
are downloaded. It prints what it does, and ends with a line that says why where it fails.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import httpx

from kinetic_flows.clients.registry.credentials import (
    DockerConfig,
    FirstFound,
    GoogleRegistryCredentials,
)
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.clients.retry import Transient, insist
from kinetic_flows.core.errors import ImageError, KineticError
from kinetic_flows.core.files import private_directory
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.processes import SHELL_SIGNAL_BASE
from kinetic_flows.core.settings import values as check
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.assembly.assemble import assemble
from kinetic_flows.images.assembly.remote_words import failure_lines, progress_line
from kinetic_flows.images.assembly.spec import Assembly

ASSEMBLY_FILE = "assembly.json"
WHEELS_DIRECTORY = "wheels"

ENDPOINTS_VARIABLE = "KINETIC_REGISTRY_ENDPOINTS"
METADATA_HOST = "metadata.google.internal"
_ACCESS = "computeMetadata/v1/instance/service-accounts/default/token"
RETRY_PAUSES_SECONDS = (0.5, 2.0, 5.0)
TIMEOUT_SECONDS = 60.0
_FINAL = frozenset({401, 403, 404, 410})
"""Answers of an index that another try does not change."""


class DownloadedWheels:
    """Wheels of a directory, else of the address that a wheel has.

    Args:
        shipped: The directory with the wheels that ship, by their file names.
        cache: Where downloads go.
    """

    def __init__(self, shipped: Path, cache: Path) -> None:
        self._shipped = shipped
        self._cache = private_directory(cache)
        self._client = httpx.Client(follow_redirects=True, timeout=TIMEOUT_SECONDS)
        self._fetching: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def fetch(self, wheel: WheelFile) -> Path:
        """Return a wheel's file, checked against its digest.

        Raises:
            ImageError: It cannot be had, or is something else than was locked.
        """
        shipped = self._shipped / wheel.filename
        if shipped.is_file():
            if _sha256(shipped) != wheel.sha256:
                raise _another(wheel, "what was sent along")
            return shipped
        if not wheel.url:
            raise ImageError(
                f"the wheel {wheel.filename} was not sent along, and no index has it",
                value=wheel.filename,
                hint="run again",
            )
        target = self._cache / f"{wheel.sha256}-{wheel.filename}"
        # Its contents and its bytecode are two layers, made at once.
        with self._fetching[wheel.sha256]:
            if not target.exists():
                insist(lambda: self._download(wheel, target), RETRY_PAUSES_SECONDS)
        return target

    def _download(self, wheel: WheelFile, target: Path) -> None:
        draft = target.with_name(f".{target.name}")
        found = hashlib.sha256()
        try:
            with self._client.stream("GET", wheel.url) as answer, draft.open("wb") as file:
                answer.raise_for_status()
                for piece in answer.iter_bytes():
                    pause(0)
                    found.update(piece)
                    file.write(piece)
            if found.hexdigest() != wheel.sha256:
                raise _another(wheel, wheel.url)
            draft.replace(target)
        except httpx.HTTPStatusError as error:
            failure = _not_downloaded(wheel, error)
            raise (
                failure if error.response.status_code in _FINAL else Transient(failure)
            ) from error
        except httpx.HTTPError as error:
            raise Transient(_not_downloaded(wheel, error)) from error
        finally:
            draft.unlink(missing_ok=True)


def metadata_token(host: str) -> str:
    """Return an access token of the account that the build runs as.

    See https://cloud.google.com/compute/docs/access/authenticate-workloads.

    Args:
        host: The metadata server.

    Raises:
        ImageError: The metadata server gives none.
    """

    def ask() -> str:
        try:
            answer = httpx.get(
                f"http://{host}/{_ACCESS}",
                headers={"Metadata-Flavor": "Google"},
                timeout=TIMEOUT_SECONDS,
            )
            answer.raise_for_status()
            return str(answer.json()["access_token"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise Transient(
                ImageError(
                    f"the metadata server gives no access token for the registry: {error!r}",
                    hint="look whether the build's service account still exists",
                )
            ) from error

    return insist(ask, RETRY_PAUSES_SECONDS)


def main(directory: Path, environ: Mapping[str, str]) -> int:
    """Assemble what a directory asks for, and return the program's exit code.

    Args:
        directory: With `assembly.json`, and wheels that ship.
        environ: Environment variables: where Docker's configuration is, and other addresses of
            registries.
    """
    home = private_directory(directory / ".kinetic")
    try:
        registry = _registry(environ, home)
        wheels = DownloadedWheels(directory / WHEELS_DIRECTORY, home / "wheels")
        text = (directory / ASSEMBLY_FILE).read_text()
        assemble(
            Assembly.from_json(text),
            registry,
            wheels,
            home=home,
            environ=environ,
            on_output=lambda line: _print(progress_line(line)),
        )
    except KineticError as error:
        for line in failure_lines(error):
            _print(line)
        return error.exit_code
    except KeyboardInterrupt:
        return SHELL_SIGNAL_BASE + signal.SIGINT
    return 0


def _registry(environ: Mapping[str, str], home: Path) -> RegistryWriter:
    endpoints = check.endpoints(environ.get(ENDPOINTS_VARIABLE) or {}, ENDPOINTS_VARIABLE)
    # Cloud Build's home is /builder/home, where steps before this one may have logged in.
    places = (environ.get("DOCKER_CONFIG"), environ.get("HOME") and f"{environ['HOME']}/.docker")
    config = Path(next((place for place in places if place), "/builder/home/.docker"))
    # The variable is google-auth's.
    host = environ.get("GCE_METADATA_HOST") or METADATA_HOST
    emulated = frozenset(host for host, url in endpoints.items() if url.startswith("http://"))
    sources = (
        DockerConfig(path=config / "config.json", environment=environ),
        GoogleRegistryCredentials(token=partial(metadata_token, host), emulated=emulated),
    )
    return RegistryWriter(
        credentials=FirstFound(sources=sources),
        endpoints=endpoints,
        documents=home / "documents",
    )


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the build's log


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _another(wheel: WheelFile, source: str) -> ImageError:
    return ImageError(
        f"{source} is something else than the {wheel.filename} that was locked",
        value=wheel.filename,
        hint="its index replaced a file, or a proxy spoils what is downloaded: lock again",
    )


def _not_downloaded(wheel: WheelFile, error: Exception) -> ImageError:
    return ImageError(
        f"{wheel.filename} cannot be downloaded from {wheel.url}: {error or repr(error)}",
        value=wheel.filename,
        hint="run again when its host answers",
    )


if __name__ == "__main__":
    # Cloud Build ends a build that is cancelled so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(Path.cwd(), os.environ))
