"""Reading `pylock.toml` (PEP 751), as uv writes it and as projects keep it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from kinetic_flows.core.errors import LockError

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageVcs, PackageWheel

PUBLIC_HOSTS = frozenset({"files.pythonhosted.org", "pypi.org"})


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A wheel or source archive somewhere.

    Attributes:
        location: Its URL or path.
        hashes: Its digests, as `sha256:hex`, as far as they are known.
        size_bytes: Its size; 0 when it is not known.
    """

    location: str
    hashes: tuple[str, ...]
    size_bytes: int = 0

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
    from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError

    try:
        lock = Pylock.from_dict(tomllib.loads(text))
    except PylockUnsupportedVersionError as error:
        raise LockError(f"the lock cannot be read: {error}", hint="use version 1.0") from error
    except (ValueError, PylockValidationError) as error:
        raise LockError(f"the lock is not a pylock.toml: {error}", hint="lock again") from error
    selected = {"extras": frozenset(extras), "dependency_groups": frozenset(groups)}
    return tuple(
        _package(item)
        for item in lock.packages
        if markers is None
        or item.marker is None
        or item.marker.evaluate({**markers, **selected}, context="lock_file")
    )


def _package(item: Package) -> PylockPackage:
    return PylockPackage(
        name=item.name,
        version=str(item.version) if item.version else None,
        wheels=tuple(_file(wheel) for wheel in item.wheels or ()),
        sdist=_file(item.sdist) if item.sdist else None,
        directory=item.directory.path if item.directory else None,
        archive=_file(item.archive) if item.archive else None,
        vcs=_vcs(item.vcs) if item.vcs else None,
    )


def _vcs(item: PackageVcs) -> VcsSource:
    return VcsSource(
        kind=item.type,
        url=item.url or item.path or "",
        commit=item.commit_id,
        subdirectory=item.subdirectory,
    )


def _file(item: PackageWheel | PackageSdist | PackageArchive) -> RemoteFile:
    hashes = tuple(sorted(f"{name}:{value.lower()}" for name, value in item.hashes.items()))
    return RemoteFile(
        location=item.url or item.path or "", hashes=hashes, size_bytes=item.size or 0
    )
