"""Which files of data are meant: `include` and `exclude`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence


class Patterns:
    """The patterns of some data.

    Args:
        include: Patterns of which a file's path must match one; None for all files.
        exclude: Patterns of which it may match none.
    """

    def __init__(self, include: Sequence[str] | None, exclude: Sequence[str]) -> None:
        self._include = None if include is None else [_compiled(each) for each in include]
        self._exclude = [_compiled(each) for each in exclude]
        self._names = [each for each in include or () if _names_something(each)]

    @property
    def take_all(self) -> bool:
        """Whether every file is meant."""
        return self._include is None and not self._exclude

    def take(self, path: str) -> bool:
        """Whether a file is meant.

        Args:
            path: Relative to the source, with `/` between its parts.
        """
        if self.take_all:
            return True
        places = tuple(_with_ancestors(path))
        if self._include is not None and not _any_match(self._include, places):
            return False
        return not _any_match(self._exclude, places)

    def leave_out(self, directory: str) -> bool:
        """Whether nothing in a directory is meant."""
        return bool(self._exclude) and _any_match(self._exclude, (directory,))

    def name(self, path: str) -> bool:
        """Whether a file is meant by its name, and not only by a wildcard or a directory's."""
        name = path.rpartition("/")[2]
        return any(
            fnmatch.fnmatchcase(path, each) and fnmatch.fnmatchcase(name, each.rpartition("/")[2])
            for each in self._names
        )


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern.rstrip("/")))


def _with_ancestors(path: str) -> Iterator[str]:
    """Yield a path and the directories that it is in."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def _any_match(patterns: Sequence[re.Pattern[str]], places: Sequence[str]) -> bool:
    return any(pattern.match(place) for pattern in patterns for place in places)


def _names_something(pattern: str) -> bool:
    """Whether the last part of a pattern has more than wildcards."""
    return bool(re.search(r"[^\W_]", re.sub(r"\[[^]]*\]", "", pattern.rpartition("/")[2])))
