"""For tests of packaging: small projects, and what a run would see of them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinetic_flows.runner_image.runner.restoring import restore_code
from kinetic_flows.runner_image.runner.stores import DirectoryStore

from kinetic_flows.code.root import PackageRoot
from kinetic_flows.code.snapshot import CodeSnapshot, take_snapshot
from kinetic_flows.code.upload import UploadSummary, code_spec, upload_code
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.job import CodeSpec
from kinetic_flows.platforms.local.store import LocalStore

CHECKOUT = Path(__file__).parent.parent


def write_project(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write some files, by their paths under a root, and return the root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(textwrap.dedent(content))
    return root


def run_python(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, stdin: str = ""
) -> str:
    """Run Python with this library importable and return what it printed."""
    variables = {**os.environ, **(env or {})}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=variables,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def plain_root(path: Path) -> PackageRoot:
    """Return a package root as it would be found for a function without a file."""
    return PackageRoot(
        path=path.resolve(),
        entry_file=None,
        main_file=None,
        module_name="__main__",
        sys_path=(".",),
        working_directory=".",
        explanation="",
    )


def upload(snapshot: CodeSnapshot, store: ArtifactStore) -> UploadSummary:
    """Upload a snapshot from a home that nothing else is in."""
    with tempfile.TemporaryDirectory() as home:
        return upload_code(snapshot, store, home=Path(home))


def ship(project: Path, store_folder: Path, **options: Any) -> tuple[CodeSnapshot, CodeSpec]:
    """Take a snapshot of a project and upload it."""
    snapshot = take_snapshot(project, cache_home=None, **options)
    sent = upload(snapshot, LocalStore(store_folder)).snapshot
    return sent, code_spec(sent, plain_root(project))


def restore(spec: CodeSpec, store_folder: Path, workspace: Path) -> Path:
    """Restore shipped code with the runner's own code, and return the workspace."""
    scratch = workspace.with_name(f"{workspace.name}-scratch")
    workspace.mkdir(parents=True)
    scratch.mkdir()
    code = json.loads(json.dumps(dataclasses.asdict(spec)))
    restore_code(DirectoryStore(str(store_folder)), code, str(workspace), str(scratch))
    return workspace


def ship_and_restore(project: Path, tmp_path: Path, **options: Any) -> Path:
    """Ship a project and return the workspace a run would have."""
    _, spec = ship(project, tmp_path / "store", **options)
    return restore(spec, tmp_path / "store", tmp_path / "workspace")


def names_under(root: Path) -> set[str]:
    """Return every file and link under a directory, relative to it."""
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
