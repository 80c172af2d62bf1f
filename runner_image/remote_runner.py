"""The bootstrap: fetches a run's job and the runner that came with it, checks both, hands over.

Images carry this file and start it with `python3 -u`; custom images get the same source after
`python3 -c`. It knows nothing of what a run is, so that an old image can run any newer job.

    KINETIC_JOB         URI of the job: `file:///…/runs/{id}/job.json` or `gs://bucket/…`
    KINETIC_JOB_SHA256  the digest it must have
    KINETIC_STORE       URI of the store's root; by default what precedes `/runs/` in KINETIC_JOB

The runner is a zip archive with a `__main__`; it is run in this interpreter and finds its
launch in the global `KINETIC_LAUNCH`. Exit codes: 40 no usable job, 41 an object could not be
fetched, 42 an object does not match its digest, 43 the image lacks what is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from typing import Any

VERSION = "1"

EXIT_BAD_LAUNCH = 40
EXIT_OBJECT_UNAVAILABLE = 41
EXIT_OBJECT_REFUSED = 42
EXIT_RUNTIME_UNFIT = 43


class Stop(Exception):
    """The run cannot go on: an exit code and a line that says why."""


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the job that the environment names; return only when that fails."""
    if arguments == ["--version"]:
        print(VERSION)
        return 0
    try:
        return launch(environ)
    except Stop as stop:
        code: int = stop.args[0]
        print(f"kinetic: {stop.args[1]}", file=sys.stderr, flush=True)
        return code


def launch(environ: Mapping[str, str]) -> int:
    """Fetch and check the job and its runner, and become the runner."""
    job_uri, digest = environ.get("KINETIC_JOB", ""), environ.get("KINETIC_JOB_SHA256", "")
    if not job_uri or not digest:
        raise Stop(EXIT_BAD_LAUNCH, "KINETIC_JOB and KINETIC_JOB_SHA256 must be set")
    store_uri = (environ.get("KINETIC_STORE") or job_uri.rpartition("/runs/")[0]).rstrip("/")
    if not store_uri or not job_uri.startswith(store_uri + "/"):
        raise Stop(EXIT_BAD_LAUNCH, f"the job {job_uri} is not in a store")
    fetch, client = opened(store_uri, environ)
    data = checked(fetch, job_uri[len(store_uri) + 1 :], digest)
    try:
        runner = json.loads(data)["runner"]
        name, digest = runner["name"], runner["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise Stop(EXIT_BAD_LAUNCH, f"the job names no runner: {error!r}") from error
    directory = scratch_directory(environ)
    path = os.path.join(directory, "runner.pyz")
    with open(path, "wb") as file:
        file.write(checked(fetch, name, digest))
    start = {"store": store_uri, "client": client, "job": data, "path": path, "scratch": directory}
    runpy.run_path(path, {"KINETIC_LAUNCH": start}, "__main__")
    return EXIT_BAD_LAUNCH  # A runner ends the process itself.


def checked(fetch: Callable[[str], bytes], name: str, digest: str) -> bytes:
    """Return an object's bytes, which have the digest they must have."""
    data = fetch(name)
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise Stop(
            EXIT_OBJECT_REFUSED,
            f"the object {name} is refused: its SHA-256 is {found}, not {digest}",
        )
    return data


def opened(store_uri: str, environ: Mapping[str, str]) -> tuple[Callable[[str], bytes], Any]:
    """Return how objects of a store are fetched, and the storage client when it has one."""
    scheme, _, rest = store_uri.partition("://")
    if scheme == "file":
        from urllib.parse import unquote

        root = unquote(rest)
        return lambda name: read_file(os.path.join(root, name), name), None
    if scheme != "gs":
        raise Stop(EXIT_BAD_LAUNCH, f"the store {store_uri} is neither file:// nor gs://")
    bucket_name, _, prefix = rest.partition("/")
    client = storage_client(environ)
    bucket = client.bucket(bucket_name)
    return lambda name: read_blob(bucket, prefix + "/" + name if prefix else name), client


def storage_client(environ: Mapping[str, str]) -> Any:
    """Return a Cloud Storage client; anonymous for an emulator."""
    emulator = environ.get("STORAGE_EMULATOR_HOST") or environ.get("KINETIC_STORAGE_EMULATOR")
    try:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage
    except ImportError as error:
        lacking = "the image lacks google-cloud-storage; add google-cloud-storage to the image"
        message = f"{lacking} ({error})"
        raise Stop(EXIT_RUNTIME_UNFIT, message) from error
    if emulator:
        os.environ["STORAGE_EMULATOR_HOST"] = emulator
        return storage.Client(project="emulator", credentials=AnonymousCredentials())
    try:
        return storage.Client()
    except Exception as error:
        message = f"Cloud Storage cannot be used: {error}"
        raise Stop(EXIT_OBJECT_UNAVAILABLE, message) from error


def read_file(path: str, name: str) -> bytes:
    """Return the content of a file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        message = f"the object {name} cannot be fetched: {error.strerror}"
        raise Stop(EXIT_OBJECT_UNAVAILABLE, message) from error


def read_blob(bucket: Any, name: str) -> bytes:
    """Return the content of an object in a bucket."""
    try:
        data: bytes = bucket.blob(name).download_as_bytes()
    except Exception as error:
        message = f"the object {name} cannot be fetched: {error}"
        raise Stop(EXIT_OBJECT_UNAVAILABLE, message) from error
    return data


def scratch_directory(environ: Mapping[str, str]) -> str:
    """Make a directory that only this process uses, where one can be made."""
    name = "kinetic-" + os.urandom(8).hex()
    for parent in (environ.get("TMPDIR"), "/tmp", "/var/tmp", "/dev/shm", "."):  # noqa: S108
        if parent:
            try:
                path = os.path.join(os.path.abspath(parent), name)
                os.mkdir(path, 0o700)
            except OSError:
                continue
            return path
    raise Stop(
        EXIT_RUNTIME_UNFIT, "no directory can be written to; mount one and name it in TMPDIR"
    )


if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        # Nothing in the current directory may stand in for the standard library.
        del sys.path[0]
    sys.exit(main(sys.argv[1:], dict(os.environ)))
