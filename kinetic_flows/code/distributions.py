"""The project's own distributions, as `importlib.metadata` finds them in a run.

A project that is installed here in place, or only described by its `pyproject.toml`, is no
package of a run's environment, which is not to change with every edit of the code. So what is
said of it (its version, requirements and entry points) travels with the code.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PathDistribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kinetic_flows.code.modules import OWN_PACKAGES
from kinetic_flows.code.project_metadata import NAME, header, project_metadata
from kinetic_flows.code.root import PackageRoot

_TAKEN_AS_THEY_ARE = ("entry_points.txt", "top_level.txt")
_USER = re.compile(r"(://)(?!git@)[^\s/?#]+@")
_SEPARATORS = re.compile(r"[-_.]+")
_SOURCES = "src"


def own_distributions(root: PackageRoot) -> dict[str, dict[str, str]]:
    """Return what is said here of the distributions whose code ships.

    What is installed here from the project's directories comes first, since it is what
    `importlib.metadata` answers here; then what `pyproject.toml` says, then what an earlier
    build has left.

    Args:
        root: The package root.

    Returns:
        The texts of each distribution's files, by the name of its `*.dist-info` directory.
    """
    folders = _project_folders(root)
    found: dict[str, dict[str, str]] = {}
    for files in _candidates(folders):
        name, version = _identity(files["METADATA"])
        if name and version and name not in found and name not in OWN_PACKAGES:
            found[name] = files
    return {
        f"{name}-{_identity(found[name]['METADATA'])[1]}.dist-info": {
            file: _USER.sub(r"\1", text) for file, text in found[name].items()
        }
        for name in sorted(found)
    }


def _project_folders(root: PackageRoot) -> list[Path]:
    """Return the directories that may be a shipped project's: above what is imported from."""
    folders: dict[Path, None] = {root.path: None}
    for entry in root.sys_path:
        place = root.path / entry
        above = [place, *place.parents][: len(place.parts) - len(root.path.parts)]
        folders.update(dict.fromkeys(above))
    if root.no_project is not None:
        del folders[root.path]
    elif root.path.name == _SOURCES:
        folders[root.path.parent] = None
    return list(folders)


def _candidates(folders: list[Path]) -> Iterator[dict[str, str]]:
    places = set(folders)
    for folder in _search_path():
        for info, origin in _installed_in_place(folder, _modified(folder)):
            if origin in places:
                yield from _installed(info)
    for folder in folders:
        files = project_metadata(folder)
        if files:
            yield files
    for place in dict.fromkeys(each for folder in folders for each in (folder, folder / _SOURCES)):
        for info in _entries(place, ".egg-info"):
            yield from _installed(info)


def _search_path() -> list[Path]:
    entries = (entry for entry in sys.path.copy() if isinstance(entry, str))
    return [Path(entry) for entry in entries if os.path.isabs(entry)]  # noqa: PTH117


@lru_cache(maxsize=64)
def _installed_in_place(folder: Path, _modified: int) -> list[tuple[Path, Path]]:
    """Return what was installed from directories here, and from which.

    Installing changes a directory's time, until when the answer stays.
    """
    found = ((info, _origin(info)) for info in _entries(folder, ".dist-info"))
    return [(info, origin) for info, origin in found if origin]


def _modified(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except (OSError, ValueError):
        return 0


def _entries(folder: Path, suffix: str) -> Iterator[Path]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - site-packages may have thousands of entries
    except (OSError, ValueError):
        return
    for name in sorted(names):
        if name.endswith(suffix):
            yield folder / name


def _origin(info: Path) -> Path | None:
    """Return the directory that a distribution was installed from; None for any other."""
    try:
        said = json.loads((info / "direct_url.json").read_bytes())
        if "dir_info" not in said:
            return None
        return Path(unquote(urlsplit(str(said["url"])).path)).resolve()
    except (OSError, ValueError, TypeError, KeyError, RuntimeError):
        return None


def _installed(info: Path) -> Iterator[dict[str, str]]:
    """Yield what an installer or a build has written of a distribution, if it can be read."""
    distribution = PathDistribution(info)
    try:
        fields = [
            (name, str(value))
            for name, value in distribution.metadata.items()  # type: ignore[attr-defined]
            if name.lower() != "description"
        ]
        names = {name.lower() for name, _ in fields}
        if "requires-dist" not in names:
            fields += [("Requires-Dist", each) for each in distribution.requires or ()]
        texts = {name: distribution.read_text(name) for name in _TAKEN_AS_THEY_ARE}
    except (OSError, ValueError, TypeError):
        return
    yield {"METADATA": header(fields), **{name: text for name, text in texts.items() if text}}


def _identity(metadata: str) -> tuple[str, str]:
    """Return the normalized name of a distribution and its version; empty for what is none."""
    lines = metadata.split("\n")
    said: Mapping[str, str] = dict(line.split(": ", 1) for line in lines if ": " in line)
    name, version = said.get("Name", ""), said.get("Version", "")
    is_sound = NAME.fullmatch(name) and re.fullmatch(r"[A-Za-z0-9.!+_-]+", version)
    return (_SEPARATORS.sub("_", name).lower(), version) if is_sound else ("", "")
