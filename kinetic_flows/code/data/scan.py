"""What local data is: its manifest, its identity, and what there is to say of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from kinetic_flows.code.data.digests import Digests
from kinetic_flows.code.data.known import KnownFiles
from kinetic_flows.code.data.listening import Listener, Unheard
from kinetic_flows.code.data.manifest import Manifest, write_manifest
from kinetic_flows.code.data.walk import Noted, Remarks, Walk
from kinetic_flows.code.secret_files import is_secret_by_name
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import PackagingError
from kinetic_flows.core.files import listed, private_directory, size_in_units

KEPT_DAYS = 7
"""For how long manifests stay here: longer than any upload takes."""
LARGE_BYTES = 100_000_000_000
"""From this size on it is said that a bucket is the better place."""

_UNHEARD = Unheard()


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Local data as it is.

    Attributes:
        data: The data.
        walk: Knows where its files are.
        manifest: Its manifest.
        warnings: What was left out, a sentence each.
    """

    data: Data
    walk: Walk
    manifest: Manifest
    warnings: tuple[str, ...]


def scan(
    data: Data, home: Path, *, reread: Iterable[str] = (), listener: Listener = _UNHEARD
) -> Scan:
    """Walk local data, digest what is not known from before, and write its manifest.

    Args:
        data: The data.
        home: `KINETIC_HOME`, where its manifest is kept, and what is known of its files.
        reread: Files to read again, whatever their times say.
        listener: Told how far it is.

    Raises:
        PackagingError: Something of it cannot be read, or there is no file.
    """
    walk = Walk(data)
    known = KnownFiles.of(walk.root, home)
    known.forget(reread)
    folder = private_directory(home / "cache" / "data" / "manifests")
    _remove_old(folder)
    draft = folder / f".{uuid4().hex}"
    try:
        manifest = write_manifest(draft, Digests(walk, known, listener))
        _refuse_unreadable(data, walk.remarks.unreadable)
        _refuse_nothing(data, manifest, walk.remarks)
        path = draft.replace(folder / f"{manifest.ref.sha256}.gz")
    finally:
        known.close()
        draft.unlink(missing_ok=True)
    manifest = replace(manifest, path=path)
    return Scan(data=data, walk=walk, manifest=manifest, warnings=_warnings(data, walk, manifest))


def _remove_old(folder: Path) -> None:
    """Remove manifests that nobody has written for long."""
    oldest = time.time() - KEPT_DAYS * 86_400
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def _refuse_unreadable(data: Data, unreadable: Noted) -> None:
    if unreadable.count:
        raise PackagingError(
            f"{data!r}: {_some(unreadable)} cannot be read",
            value=tuple(unreadable.paths),
            hint="make them readable for this user, or leave them out with exclude=[...]",
        )


def _refuse_nothing(data: Data, manifest: Manifest, remarks: Remarks) -> None:
    if manifest.files:
        return
    if remarks.secret.count:
        why = f"there is nothing in it but what looks like secrets ({_some(remarks.secret)})"
    elif data.include is not None or data.exclude:
        why = "no file in it matches include and exclude"
    else:
        why = "there is no file in it"
    raise PackagingError(
        f"{data!r}: {why}", value=data.source, hint="look at the path, and at the patterns"
    )


def _warnings(data: Data, walk: Walk, manifest: Manifest) -> tuple[str, ...]:
    remarks, told = walk.remarks, []
    if remarks.secret.count:
        told.append(
            f"{data!r}: {_some(remarks.secret)} looks like a secret and is left out; pass "
            "secrets= for what is one, and name in include= what is none"
        )
    if walk.is_file and is_secret_by_name(data.name):
        told.append(f"{data!r} looks like a secret; pass secrets= for what is one")
    if remarks.special.count:
        told.append(f"{data!r}: {_some(remarks.special)} is no file (socket, pipe) and left out")
    if remarks.dangling.count:
        told.append(f"{data!r}: {_some(remarks.dangling)} leads nowhere or in a circle; left out")
    if manifest.size_bytes > LARGE_BYTES:
        told.append(
            f"{data!r} has {size_in_units(manifest.size_bytes)}; what is that large is better kept "
            "in a bucket: kinetic.Data('gs://...', mode='mount') reads what it needs"
        )
    return tuple(told)


def _some(noted: Noted) -> str:
    """Name the first few of some paths, and how many more there are."""
    more = noted.count - len(noted.paths)
    shown = listed(noted.paths, limit=len(noted.paths))
    return f"{shown} and {more:,} more" if more else shown
