"""Reading `pylock.toml` (PEP 751), as uv writes it and as projects keep it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from kinetic_flows.core.errors import LockError

PUBLIC_HOSTS = frozenset({"files.pythonhosted.org", "pypi.org"})


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A wheel or source archive somewhere: its URL or path, and its SHA-256 if known."""

    location: str
    hashes: tuple[str, ...]

    @property
    def filename(self) -> str:
        """The file's own name."""
        # Unquoted first: a quoted slash must not become part of a name.
        return unquote(urlsplit(self.location).path).rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class PylockPackage:
    """One package as a lock names it.

    Attributes:
        name: Canonical name.
        version: Exact version; None where the source decides it.
        wheels: Its wheels.
        sdist: Its source archive; None for none.
        directory: Directory it is in; None when it is in none.
        archive: The file it was asked for by; None when it was not.
        vcs: Repository and commit it was asked for by; None when it was not.
    """

    name: str
    version: str | None
    wheels: tuple[RemoteFile, ...] = ()
    sdist: RemoteFile | None = None
    directory: str | None = None
    archive: RemoteFile | None = None
    vcs: VcsSource | None = None

    @property
    def hashes(self) -> tuple[str, ...]:
        """Digests of all its files on an index."""
        files = [*self.wheels, *([self.sdist] if self.sdist else [])]
        return tuple(sorted({item for file in files for item in file.hashes}))

    @property
    def is_public(self) -> bool:
        """Whether every one of its files is on the public default index."""
        files = [*self.wheels, *([self.sdist] if self.sdist else [])]
        return bool(files) and all(
            urlsplit(file.location).hostname in PUBLIC_HOSTS for file in files
        )

    def allowed(self, hashes: Collection[str]) -> PylockPackage | None:
        """Return the package with only the files that have one of the hashes; None for none."""
        if self.directory is not None or self.vcs is not None:
            return self
        if self.archive is not None:
            return self if set(hashes) & set(self.archive.hashes) else None
        wheels = tuple(item for item in self.wheels if set(hashes) & set(item.hashes))
        sdist = self.sdist if self.sdist and set(hashes) & set(self.sdist.hashes) else None
        return replace(self, wheels=wheels, sdist=sdist) if wheels or sdist else None

    def relative_to(self, directory: Path) -> PylockPackage:
        """Return the package with its relative paths made absolute from a directory.

        The directory may be gone afterwards: no `..` is left that would lead through it.
        """
        archive = self.archive
        if archive is not None and "://" not in archive.location:
            archive = replace(archive, location=os.path.normpath(directory / archive.location))
        inside = os.path.normpath(directory / self.directory) if self.directory else None
        return replace(self, directory=inside, archive=archive)


@dataclass(frozen=True, kw_only=True)
class VcsSource:
    """A commit of a repository."""

    kind: str
    url: str
    commit: str
    subdirectory: str | None = None


def read_pylock(
    text: str,
    *,
    markers: Mapping[str, str] | None = None,
    extras: Iterable[str] = (),
    groups: Iterable[str] = (),
) -> tuple[PylockPackage, ...]:
    """Read the packages of a lock.

    Args:
        text: The file's text.
        markers: The environment to evaluate markers for; None to take every package.
        extras: Extras that are selected, for markers that ask.
        groups: Dependency groups that are selected, for markers that ask.

    Raises:
        LockError: The text is not such a lock.
    """
    try:
        document = tomllib.loads(text)
        if str(document["lock-version"]).split(".")[0] != "1":
            raise LockError(f"the lock has version {document['lock-version']}", hint="use 1.0")
        selected = {"extras": frozenset(extras), "dependency_groups": frozenset(groups)}
        found = [
            _package(item)
            for item in document.get("packages", ())
            if _applies(item, markers, selected)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # TOML, markers and every field's type: the one meaning is that it is no such file.
        raise LockError(f"the lock is not a pylock.toml: {error!r}", hint="lock again") from error
    return tuple(found)


def _applies(
    item: Mapping[str, Any],
    markers: Mapping[str, str] | None,
    selected: Mapping[str, AbstractSet[str]],
) -> bool:
    if markers is None or "marker" not in item:
        return True
    return Marker(item["marker"]).evaluate({**markers, **selected}, context="lock_file")


def _package(item: Mapping[str, Any]) -> PylockPackage:
    directory = item.get("directory")
    return PylockPackage(
        name=canonicalize_name(item["name"]),
        version=item.get("version"),
        wheels=tuple(_file(wheel) for wheel in item.get("wheels", ())),
        sdist=_file(item["sdist"]) if "sdist" in item else None,
        directory=directory["path"] if directory else None,
        archive=_file(item["archive"]) if "archive" in item else None,
        vcs=_vcs(item["vcs"]) if "vcs" in item else None,
    )


def _file(item: Mapping[str, Any]) -> RemoteFile:
    hashes = tuple(
        sorted(f"{name}:{value.lower()}" for name, value in item.get("hashes", {}).items())
    )
    return RemoteFile(location=item.get("url") or item["path"], hashes=hashes)


def _vcs(item: Mapping[str, Any]) -> VcsSource:
    return VcsSource(
        kind=item["type"],
        url=item.get("url") or item["path"],
        commit=item["commit-id"],
        subdirectory=item.get("subdirectory"),
    )
