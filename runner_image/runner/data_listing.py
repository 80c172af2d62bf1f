"""Lists of the files of a source: which are wanted, and the identity that they make."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from .data_checks import Refused


class Listed(NamedTuple):
    """A file of a source.

    Attributes:
        path: Its path, relative to the source.
        of_identity: What stands for its content in the identity: generation and size, or size
            and digest.
        size_bytes: Its size.
        digest: Its digest, as `Check` has it.
        version: What pins it: a generation; empty where a commit pins all of them.
    """

    path: str
    of_identity: tuple[str, str]
    size_bytes: int
    digest: str
    version: str = ""


class Listing(NamedTuple):
    """Files of a source in a file of lines, because there may be a million of them.

    Attributes:
        place: The file.
        identity: The identity that they make.
        files: How many they are.
        size_bytes: Their size.
    """

    place: str
    identity: str
    files: int
    size_bytes: int

    def __iter__(self) -> Iterator[Listed]:  # type: ignore[override]
        """Yield the files, sorted by the bytes of their paths."""
        with open(self.place, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            for line in file:
                path, first, second, size, digest, version = line[:-1].split("\0")
                yield Listed(path, (first, second), int(size), digest, version)


def is_wanted(path: str, spec: Mapping[str, Any]) -> bool:
    """Whether a source's file is part of the data; as `kinetic_flows/code/data/patterns.py`.

    Args:
        path: Its path, relative to the source.
        spec: The job's `DataSpec`.
    """
    include: Sequence[str] | None = spec["include"]
    if include is None and not spec["exclude"]:
        return True
    places = [path]
    while "/" in path:
        path = path.rpartition("/")[0]
        places.append(path)
    if include is not None and not _any_matches(include, places):
        return False
    return not _any_matches(spec["exclude"], places)


def _any_matches(patterns: Sequence[str], places: Sequence[str]) -> bool:
    return any(fnmatchcase(place, pattern.rstrip("/")) for pattern in patterns for place in places)


def written(kind: str, files: Iterable[Listed], place: str) -> Listing:
    """Write files to a file of lines, and return the listing.

    Args:
        kind: The kind of source, which the identity begins with.
        files: The files, sorted by the bytes of their paths.
        place: The file that is written.
    """
    digest, count, size_bytes = hashlib.sha256(f"{kind}\n".encode()), 0, 0
    # Paths of the hub and of Cloud Storage are UTF-8.
    with open(place, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as target:
        for file in files:
            if "\n" in file.path:
                raise Refused(repr(file.path), "a file of data can have no line break in its name")
            line = "\0".join((file.path, *file.of_identity))
            digest.update(f"{line}\n".encode(errors="surrogateescape"))
            target.write(f"{line}\0{file.size_bytes}\0{file.digest}\0{file.version}\n")
            count += 1
            size_bytes += file.size_bytes
    return Listing(place, digest.hexdigest(), count, size_bytes)


def joined(directory: str, path: str) -> str:
    """Return a path below a directory of a source; empty for the source itself."""
    return f"{directory}/{path}" if directory else path


def sort_key(file: Listed) -> bytes:
    """Return what files are sorted by."""
    return os.fsencode(file.path)


def require_identity(listing: Listing, spec: Mapping[str, Any], newest: str = "") -> None:
    """Refuse a source that is not what it was when the run was planned.

    Args:
        listing: What is there.
        spec: The job's `DataSpec`.
        newest: What was changed last, for people.

    Raises:
        Refused: It is another identity.
    """
    if spec["identity"] and listing.identity != spec["identity"]:
        raise Refused(
            spec["source"],
            f"it is not what it was when the run was planned: it has {listing.files:,} files "
            f"and {listing.size_bytes:,} bytes{newest}; call again to plan it as it is now",
        )
