"""The profile that somebody chose with `kinetic profile use`, for themselves or for a directory.

One file in `KINETIC_HOME` remembers it, so that a call asks nobody: it reads a file that it has
most often read before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    from kinetic_flows.core import files
else:
    # Only what writes needs it.
    files = LazyModule("kinetic_flows.core.files")

FILE = "profiles.json"
"""In `KINETIC_HOME`: `{"user": NAME, "directories": {DIRECTORY: NAME}}`."""

USER = "you"
"""How the place of a profile is called that no directory has."""


@dataclass(frozen=True, kw_only=True)
class RememberedProfile:
    """A profile that is used where nothing names one.

    Attributes:
        name: Its name.
        directory: Where it counts, and below; None for wherever its user is.
    """

    name: str
    directory: Path | None = None

    @property
    def place(self) -> str:
        """Where it counts, in words."""
        return USER if self.directory is None else str(self.directory)


@dataclass(frozen=True, kw_only=True)
class RememberedProfiles:
    """What the file says.

    Attributes:
        user: The profile that counts wherever its user is; None for none.
        directories: Those of directories, which have no links in their paths.
    """

    user: str | None = None
    directories: Mapping[Path, str] = field(default_factory=dict)

    def at(self, directory: Path) -> RememberedProfile | None:
        """Return the profile of a directory, of the nearest one above it, or of the user."""
        for each in (directory, *directory.parents):
            if each in self.directories:
                return RememberedProfile(name=self.directories[each], directory=each)
        return RememberedProfile(name=self.user) if self.user else None

    def of(self, name: str) -> tuple[RememberedProfile, ...]:
        """Return the places where a profile is remembered."""
        places = [each for each, named in self.directories.items() if named == name]
        own = [RememberedProfile(name=name)] if self.user == name else []
        return (*own, *(RememberedProfile(name=name, directory=each) for each in sorted(places)))

    def with_place(self, directory: Path | None, name: str | None) -> RememberedProfiles:
        """Return them with another profile in a place; None for none."""
        if directory is None:
            return RememberedProfiles(user=name, directories=self.directories)
        others = {key: value for key, value in self.directories.items() if key != directory}
        return RememberedProfiles(
            user=self.user, directories={**others, **({directory: name} if name else {})}
        )


NOTHING = RememberedProfiles()

_read: dict[Path, tuple[tuple[int, int, int], RememberedProfiles]] = {}
"""What was read, by its file and its stamp: it is read anew when it has changed."""


def remembered_profiles(home: Path) -> RememberedProfiles:
    """Return what is remembered.

    Args:
        home: `KINETIC_HOME`.

    Raises:
        ConfigurationError: The file is damaged, or somebody else's.
    """
    path = home / FILE
    try:
        status = path.stat()
    except OSError:
        return NOTHING
    stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
    known = _read.get(path)
    if known is None or known[0] != stamp:
        known = _read[path] = stamp, _parsed(path)
    return known[1]


def remember_profile(home: Path, name: str | None, directory: Path | None = None) -> None:
    """Remember a profile in place of the one that was.

    Args:
        home: `KINETIC_HOME`.
        name: The profile; None to forget the one that was.
        directory: Where it counts, and below, without links in its path; None for wherever its
            user is.

    Raises:
        ConfigurationError: The file is damaged.
        OSError: It cannot be written.
    """
    with files.exclusive_lock(home / "locks" / "profiles"):
        changed = remembered_profiles(home).with_place(directory, name)
        document = {
            "user": changed.user,
            "directories": {str(key): value for key, value in changed.directories.items()},
        }
        files.write_atomically(home / FILE, (json.dumps(document, indent=2) + "\n").encode())


def _parsed(path: Path) -> RememberedProfiles:
    try:
        document: Any = json.loads(path.read_bytes())
        user, directories = document.get("user"), document.get("directories") or {}
        names = [*directories.values(), *([] if user is None else [user])]
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError("it has what is no name of a profile")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"{path}, which remembers the profiles in use, cannot be read: {error}",
            value=str(path),
            hint="remove it, and choose a profile again: `kinetic profile use NAME`",
        ) from error
    return RememberedProfiles(
        user=user, directories={Path(key): name for key, name in directories.items()}
    )
