"""Restoring the project's code from its packs, trusting no archive.

A member must be in the manifest, as what the manifest says it is; a file is created, never
opened; links are made last, and checked together once all are there. So nothing is written
outside the workspace, and nothing through a link.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from .contract import EXIT_CODE_NOT_RESTORED, READ_BYTES, Fault
from .fetching import Store, fetch, fetch_pack, in_parallel

MANIFEST_VERSION = 1
MAX_ENTRIES = 1_000_000
PERMISSION_BITS = 0o777
DIRECTORY_MODE = 0o755

Entry = Mapping[str, Any]

if TYPE_CHECKING:
    PackSource = tuple[str, Callable[[], IO[bytes]]]


def restore_code(store: Store, code: Mapping[str, Any], workspace: str, scratch: str) -> None:
    """Bring the project's code into the workspace.

    Args:
        store: Where the packs are.
        code: The job's `CodeSpec`.
        workspace: An empty directory.
        scratch: A directory for large packs while they are checked.

    Raises:
        Fault: An object is missing or refused, or an archive is not what the manifest says.
    """
    entries = read_manifest(fetch(store, code["manifest"]))
    sources: list[PackSource] = [
        (ref["name"], partial(fetch_pack, store, ref, os.path.join(scratch, f"pack-{number}")))
        for number, ref in enumerate(code["packs"])
    ]
    try:
        restore(entries, sources, workspace)
    except OSError as error:
        raise _fault(f"{error.filename!r}: {error.strerror}") from error


def write_distributions(code: Mapping[str, Any], scratch: str) -> str | None:
    """Write what is said of the project's own distributions, away from its files.

    Args:
        code: The job's `CodeSpec`.
        scratch: Where to make a directory for them.

    Returns:
        The directory, which belongs on the import path; None where there are none.

    Raises:
        Fault: A name is more than a name.
        OSError: It cannot be written.
    """
    # Jobs that were written by earlier clients do not say.
    distributions = code.get("distributions")
    if not distributions:
        return None
    place = os.path.join(scratch, "distributions")
    for folder, files in distributions.items():
        for name, text in files.items():
            if not folder.endswith(".dist-info") or "/" in folder or "/" in name:
                raise _fault(f"{folder!r} with {name!r} is no distribution's metadata")
            os.makedirs(os.path.join(place, folder), exist_ok=True)
            with open(os.path.join(place, folder, name), "w", encoding="utf-8") as file:
                file.write(text)
    return place


def read_manifest(data: bytes) -> dict[str, Entry]:
    """Return a manifest's entries by path, having checked that every path stays inside.

    Raises:
        Fault: It is not a manifest, or a path or mode in it is not acceptable.
    """
    try:
        manifest = json.loads(data)
        listed, version = manifest["files"], manifest["version"]
        entries = {entry["path"]: entry for entry in listed}
    except (ValueError, KeyError, TypeError) as error:
        raise _fault(f"the manifest cannot be read: {error!r}") from error
    if version != MANIFEST_VERSION:
        raise _fault(f"the manifest's version is {version!r}, not {MANIFEST_VERSION}")
    if len(listed) > MAX_ENTRIES:
        raise _fault(f"the manifest names {len(listed)} files, more than {MAX_ENTRIES}")
    if len(entries) != len(listed):
        raise _fault("the manifest names a path twice")
    for path, entry in entries.items():
        _check_entry(path, entry)
    return entries


def restore(entries: Mapping[str, Entry], packs: list[PackSource], workspace: str) -> None:
    """Write everything the manifest names into the workspace.

    Args:
        entries: The manifest.
        packs: Each pack's name, and what opens its checked and uncompressed content.
        workspace: An empty directory.

    Raises:
        Fault: A pack has a member that it must not have, or lacks one.
        OSError: The workspace cannot be written to.
    """
    made: set[str] = set()
    for path in entries:
        if not _is_directory(entries[path]):
            path = path.rpartition("/")[0]
        if path and path not in made:
            os.makedirs(os.path.join(workspace, path), mode=DIRECTORY_MODE, exist_ok=True)
            made.add(path)
    done: set[str] = set()
    in_parallel(
        partial(_extract, name, fetched, entries, workspace, done) for name, fetched in packs
    )
    missing = [path for path in entries if _is_file(entries[path]) and path not in done]
    if missing:
        raise _fault(f"no pack holds {missing[0]!r}")
    _make_links(entries, workspace)
    _set_directory_modes(entries, workspace)


def _check_entry(path: str, entry: Entry) -> None:
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise _fault(f"the path {path!r} leaves the workspace or is malformed")
    mode = entry.get("mode", 0)
    if not isinstance(mode, int) or mode & ~PERMISSION_BITS:
        raise _fault(f"{path!r} has the mode {mode!r}, which is more than permissions")
    link = entry.get("link")
    if link is not None and not _link_stays_inside(path, link):
        raise _fault(f"the link {path!r} leads out of the workspace, to {link!r}")


def _link_stays_inside(path: str, link: str) -> bool:
    if not link or "\0" in link or os.path.isabs(link):
        return False
    place = os.path.normpath(os.path.join(os.path.dirname(path), link))
    return place != ".." and not place.startswith("../")


def _is_directory(entry: Entry) -> bool:
    return bool(entry.get("dir"))


def _is_link(entry: Entry) -> bool:
    return entry.get("link") is not None


def _is_file(entry: Entry) -> bool:
    return not _is_directory(entry) and not _is_link(entry)


def _extract(
    pack: str,
    fetched: Callable[[], IO[bytes]],
    entries: Mapping[str, Entry],
    workspace: str,
    done: set[str],
) -> None:
    """Write the files of one pack; links and directories are made from the manifest."""
    try:
        with (
            fetched() as file,
            tarfile.open(
                fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape"
            ) as archive,
        ):
            for member in archive:
                entry = entries.get(member.name)
                if entry is None or not _is_what_it_should_be(member, entry):
                    raise _fault(
                        f"{pack} holds {member.name!r}, which is not what the manifest says"
                    )
                if member.isreg():
                    _write_file(archive, member, entry, os.path.join(workspace, member.name))
                    done.add(member.name)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise _fault(f"{pack} is no archive: {error}") from error


def _is_what_it_should_be(member: tarfile.TarInfo, entry: Entry) -> bool:
    if member.isreg():
        return _is_file(entry) and not member.issparse() and member.size == entry.get("size")
    if member.isdir():
        return _is_directory(entry)
    return member.issym() and entry.get("link") == member.linkname


def _write_file(
    archive: tarfile.TarFile, member: tarfile.TarInfo, entry: Entry, target: str
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        handle = os.open(target, flags, 0o600)
    except FileExistsError as error:
        raise _fault(f"{member.name!r} is in the packs twice") from error
    with open(handle, "wb") as file:
        source = archive.extractfile(member)
        while source:
            piece = source.read(READ_BYTES)
            if not piece:
                break
            file.write(piece)
        os.fchmod(handle, entry.get("mode", 0o644))


def _make_links(entries: Mapping[str, Entry], workspace: str) -> None:
    links = [path for path in entries if _is_link(entries[path])]
    for path in links:
        os.symlink(entries[path]["link"], os.path.join(workspace, path))
    root = os.path.realpath(workspace)
    for path in links:
        # One link may lead through another, so where it ends is only known now.
        place = os.path.realpath(os.path.join(workspace, path))
        if place != root and not place.startswith(root + "/"):
            raise _fault(f"the link {path!r} leads out of the workspace, to {place!r}")


def _set_directory_modes(entries: Mapping[str, Entry], workspace: str) -> None:
    for path in sorted(entries, reverse=True):
        if _is_directory(entries[path]):
            os.chmod(os.path.join(workspace, path), entries[path].get("mode", DIRECTORY_MODE))


def _fault(message: str) -> Fault:
    return Fault(EXIT_CODE_NOT_RESTORED, f"the code cannot be restored: {message}")
