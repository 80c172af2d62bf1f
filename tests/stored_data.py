"""Data of this machine in a store on disk, packed as `kinetic_flows/code/data/format.py` says.

And data of any kind brought as a run brings it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kinetic_flows.runner_image.runner.data import Around, bring_data
from kinetic_flows.runner_image.runner.stores import BucketStore, DirectoryStore

from kinetic_flows.code.data.format import (
    DEFLATED,
    FIRST_LINE,
    IDENTITY_SALT,
    PART_BYTES,
    RAW,
    line_of,
    pack_digest,
)
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import DataSpec, ObjectRef, Sha256
from kinetic_flows.core.object_names import (
    data_manifest_object,
    data_pack_object,
    data_part_object,
)

FILES_OF_A_PACK = 3

Bring = Callable[..., list[str]]


@contextmanager
def a_run(
    directory: Path, *, client: Any = None, store: BucketStore | None = None
) -> Iterator[Bring]:
    """Give what brings data as a run does, which ends with the block.

    It takes specs, variables of the run, and `said`, a list for the lines that are printed.

    Args:
        directory: Where its store and its scratch are.
        client: Its client of Cloud Storage.
        store: Its store; None for one in that directory.
    """
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)
    with ExitStack() as leaving:

        def bring(*specs: DataSpec, said: list[str] | None = None, **environ: str) -> list[str]:
            around = Around(
                store=store or DirectoryStore(str(directory / "store")),
                client=client,
                environ=environ,
                scratch=str(scratch),
                say=(said if said is not None else []).append,
                leaving=leaving,
            )
            return bring_data([as_said(spec) for spec in specs], around)

        yield bring


def store_data(store: Path, source: Path, **changes: Any) -> DataSpec:
    """Put a file or a directory into a store; return its spec, some of it changed.

    Args:
        store: The store's directory.
        source: The file or directory.
        changes: Fields of the spec that are to be others.
    """
    entries = list(_entries(store, source))
    lines, small = [FIRST_LINE], list[tuple[dict[str, Any], bytes]]()
    for entry, content in entries:
        if content is None:
            lines.append(line_of(entry))
            continue
        small.append((entry, content))
        if len(small) == FILES_OF_A_PACK:
            lines += _pack(store, small)
            small = []
    lines += _pack(store, small) if small else []
    sizes = [entry["size_bytes"] for entry, _ in entries if "size_bytes" in entry]
    lines.append(line_of({"files": len(sizes), "size_bytes": sum(sizes)}))
    text = b"".join(lines)
    digest = Sha256(hashlib.sha256(text).hexdigest())
    _write(store, data_manifest_object(digest), gzip.compress(text))
    named = [line for line in lines if b'"path"' in line]
    spec = DataSpec(
        kind="local",
        identity=hashlib.sha256(IDENTITY_SALT + b"".join(named)).hexdigest(),
        source=str(source),
        name=source.name,
        is_file=source.is_file(),
        size_bytes=sum(sizes),
        files=len(sizes),
        manifest=ObjectRef(name=data_manifest_object(digest), sha256=digest, size_bytes=len(text)),
    )
    return replace(spec, **changes)


def as_said(spec: DataSpec) -> dict[str, Any]:
    """Return a spec as a job says it."""
    said: dict[str, Any] = json.loads(json.dumps(asdict(spec)))
    return said


def _entries(store: Path, source: Path) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    if source.is_file():
        yield _file(store, source, source.name)
        return
    for path in sorted(source.rglob("*"), key=lambda path: os.fsencode(path)):
        name = path.relative_to(source).as_posix()
        if path.is_symlink():
            yield {"path": name, "link": str(path.readlink())}, None
        elif path.is_dir():
            if not any(path.iterdir()):
                yield {"path": name, "directory": True}, None
        else:
            yield _file(store, path, name)


def _file(store: Path, path: Path, name: str) -> tuple[dict[str, Any], bytes | None]:
    content = path.read_bytes()
    entry: dict[str, Any] = {"path": name, "size_bytes": len(content)}
    kept: bytes | None = content
    if len(content) > PART_BYTES:
        entry["parts"], kept = [], None
        for begin in range(0, len(content), PART_BYTES):
            part = content[begin : begin + PART_BYTES]
            entry["parts"].append(sha256_hex(part))
            _write(store, data_part_object(sha256_hex(part)), DEFLATED + zlib.compress(part))
    else:
        entry["sha256"] = sha256_hex(content)
    if os.access(path, os.X_OK):
        entry["executable"] = True
    return entry, kept


def _pack(store: Path, files: list[tuple[dict[str, Any], bytes]]) -> list[bytes]:
    content = b"".join(content for _, content in files)
    digest = pack_digest(entry["sha256"] for entry, _ in files)
    _write(store, data_pack_object(digest), RAW + content)
    pack = {"pack": digest, "size_bytes": len(content)}
    return [line_of(pack), *(line_of(entry) for entry, _ in files)]


def _write(store: Path, name: str, data: bytes) -> None:
    path = store / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
