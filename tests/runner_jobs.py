"""Jobs for the runner, made by hand, and the runner started for real as a process."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time
import venv
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import cloudpickle

from kinetic_flows.code.runner_bundle import runner_bundle
from kinetic_flows.core import job as jobs
from kinetic_flows.core.envelope import ResultEnvelope, open_result
from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.job import CodeSpec, JobTemplate, canonical_json, sha256_hex
from kinetic_flows.core.job_parts import ObjectRef, SecretSpec
from kinetic_flows.core.object_names import sealed_object
from kinetic_flows.core.sealing import seal_values
from kinetic_flows.core.streams import shown_text

BOOTSTRAP = Path(__file__).parent.parent / "runner_image" / "remote_runner.py"
RUN_KEY = "5e" * 32
SEAL_KEY = "5a" * 32
RUN_ID = "11111111-2222-3333-4444-555555555555"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A runner that has ended."""

    exit_code: int
    log: bytes
    errors: str
    seconds: float

    @property
    def output(self) -> str:
        """What a terminal shows of its log."""
        return shown_text(self.log)


@dataclass
class Job:
    """A job in a store on disk.

    Args:
        root: The store's directory.
        source: Source of the module `app`, which ships.
        function: Name of the function in it.
    """

    root: Path
    source: str = ""
    function: str = "main"
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    sealed: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    code_changes: dict[str, Any] = field(default_factory=dict)
    call: bytes | None = None
    frame: bytes | None = None
    code: CodeSpec | None = None
    prefect_url: str | None = None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def result_path(self) -> Path:
        """Where the result is written."""
        return self.root / "runs" / RUN_ID / "result.pkl"

    @property
    def job_path(self) -> Path:
        """Where the job is."""
        return self.root / "runs" / RUN_ID / "job.json"

    def put(self, name: str, data: bytes) -> ObjectRef:
        """Write an object, in one step: a host that was started before may just read it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
        return ObjectRef(name=name, sha256=sha256_hex(data), size_bytes=len(data))

    def write(self) -> dict[str, str]:
        """Write the job and all it names; return the variables that start it."""
        bundle = runner_bundle()
        payload = self.frame if self.frame is not None else self._frame()
        template = JobTemplate(
            name=self.function,
            python=PYTHON,
            runner=self.put(f"runners/{bundle.sha256}.pyz", bundle.data),
            code=replace(self.code or self._code(), **self.code_changes),
            payload_sha256=sha256_hex(payload),
            payload_size_bytes=len(payload),
            secrets=tuple(SecretSpec(variable=name, kind="sealed") for name in self.sealed),
        )
        job = jobs.Job(
            template=template,
            run_id=RUN_ID,
            output_dir=str(self.root / "outputs" / RUN_ID),
            api_url=self.prefect_url,
        )
        self.put(job.payload_name, payload)
        if self.sealed:
            self.put(sealed_object(job.payload_name), seal_values(self.sealed, SEAL_KEY))
        changes = json.loads(json.dumps(self.changes, default=asdict))
        data = canonical_json({**json.loads(job.to_json()), **changes})
        self.put(f"runs/{RUN_ID}/job.json", data)
        return {
            "KINETIC_JOB": self.job_path.as_uri(),
            "KINETIC_JOB_SHA256": sha256_hex(data),
            "KINETIC_RUN_KEY": RUN_KEY,
            **({"KINETIC_SEAL_KEY": SEAL_KEY} if self.sealed else {}),
        }

    def start(self, **variables: str) -> subprocess.Popen[bytes]:
        """Write the job and start its runner."""
        return start_runner({**self.write(), **self.variables, **variables})

    def run(self, **variables: str) -> Ended:
        """Write the job and run its runner to the end."""
        return wait(self.start(**variables))

    def again(self, **variables: str) -> Ended:
        """Start the runner of the job that was written before, as Kubernetes does."""
        launch = {
            "KINETIC_JOB": self.job_path.as_uri(),
            "KINETIC_JOB_SHA256": sha256_hex(self.job_path.read_bytes()),
            "KINETIC_RUN_KEY": RUN_KEY,
        }
        return wait(start_runner({**launch, **self.variables, **variables}))

    def envelope(self) -> ResultEnvelope:
        """Return the result, its signature checked."""
        return open_result(self.result_path.read_bytes(), RUN_KEY, RUN_ID)

    def value(self) -> Any:
        """Return the value or exception in the result."""
        return pickle.loads(self.envelope().body)

    def _frame(self) -> bytes:
        call = self.call or cloudpickle.dumps((None, self.args, self.kwargs))
        reference = None if self.call else {"module": "app", "qualname": self.function}
        frame = {"function": reference, "sources": {}, "call": [call], "buffers": []}
        return pickle.dumps(frame, protocol=5)

    def _code(self) -> CodeSpec:
        files = {"app.py": dedent(self.source), **self.files}
        return ship(self, [Member.file(name, text) for name, text in files.items()])


@dataclass(frozen=True, kw_only=True)
class Member:
    """A member of a pack, and its entry in the manifest."""

    info: tarfile.TarInfo
    data: bytes
    entry: dict[str, Any] | None

    @classmethod
    def file(cls, path: str, text: str | bytes, mode: int = 0o644) -> Member:
        """Return a regular file."""
        data = text.encode() if isinstance(text, str) else text
        info = tarfile.TarInfo(path)
        info.mode, info.size = mode, len(data)
        entry = {"path": path, "mode": mode, "size": len(data), "sha256": sha256_hex(data)}
        return cls(info=info, data=data, entry=entry)

    @classmethod
    def link(cls, path: str, target: str) -> Member:
        """Return a symbolic link."""
        info = tarfile.TarInfo(path)
        info.type, info.linkname = tarfile.SYMTYPE, target
        return cls(info=info, data=b"", entry={"path": path, "link": target})

    @classmethod
    def directory(cls, path: str, mode: int = 0o755) -> Member:
        """Return a directory."""
        info = tarfile.TarInfo(path)
        info.type, info.mode = tarfile.DIRTYPE, mode
        return cls(info=info, data=b"", entry={"path": path, "dir": True, "mode": mode})

    def only_packed(self) -> Member:
        """Return this member without its entry in the manifest."""
        return replace(self, entry=None)

    def with_info(self, **changes: Any) -> Member:
        """Return this member with other properties in the archive."""
        info = tarfile.TarInfo.frombuf(self.info.tobuf(), "utf-8", "surrogateescape")
        for name, value in changes.items():
            setattr(info, name, value)
        return replace(self, info=info)


def ship(job: Job, *packs: list[Member]) -> CodeSpec:
    """Put packs and their manifest into a job's store."""
    entries = [member.entry for pack in packs for member in pack if member.entry]
    manifest = canonical_json({"version": 1, "files": entries})
    return CodeSpec(
        packs=tuple(put_pack(job, archive(members)) for members in packs),
        manifest=job.put(f"packs/{sha256_hex(manifest)}.json", manifest),
    )


def put_pack(job: Job, content: bytes) -> ObjectRef:
    """Put a pack into a job's store, named by its uncompressed content."""
    digest = sha256_hex(content)
    job.put(f"packs/{digest}", gzip.compress(content, mtime=0))
    return ObjectRef(name=f"packs/{digest}", sha256=digest, size_bytes=len(content))


def archive(members: list[Member]) -> bytes:
    """Return a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", encoding="utf-8", errors="surrogateescape"
    ) as target:
        for member in members:
            target.addfile(member.info, io.BytesIO(member.data))
    return buffer.getvalue()


def start_runner(
    variables: Mapping[str, str], *command: str, python: str | Path = sys.executable
) -> subprocess.Popen[bytes]:
    """Start the bootstrap with these variables."""
    return subprocess.Popen(
        [str(python), "-u", *(command or (str(BOOTSTRAP),))],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait(process: subprocess.Popen[bytes], seconds: float = 60) -> Ended:
    """Wait for a runner to end."""
    begun = time.monotonic()
    try:
        output, errors = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return Ended(
        exit_code=process.returncode,
        log=output,
        errors=errors.decode(),
        seconds=time.monotonic() - begun,
    )


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.01)


def make_bare_python(directory: Path, *, with_cloudpickle: bool) -> Path:
    """Make an environment without packages, or with cloudpickle alone; return its interpreter."""
    venv.create(directory, symlinks=True)
    python = directory / "bin" / "python"
    if with_cloudpickle:
        (packages,) = directory.glob("lib/python*/site-packages")
        (packages / "cloudpickle").symlink_to(Path(cloudpickle.__file__).parent)
    return python


def read_json(path: Path) -> Any:
    """Return the JSON value in a file."""
    return json.loads(path.read_text())
