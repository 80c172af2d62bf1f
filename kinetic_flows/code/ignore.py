"""Which of a project's files ship: rules in gitignore syntax, and files that look like secrets.

The rules are, in order, the built-in ones, those for names of secrets, and the lines of the
project's `.kineticignore`; as in gitignore, the last rule that matches decides, `!` brings back,
and nothing below an excluded directory can be brought back alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from kinetic_flows.code.gitignore import GitIgnore, ignore_lines
from kinetic_flows.code.secret_files import SECRET_NAMES, is_secret_by_name
from kinetic_flows.core.errors import PackagingError

IGNORE_FILE = ".kineticignore"

DEFAULT_EXCLUDES = (
    ".git",
    ".hg/",
    ".svn/",
    ".jj/",
    "__pycache__/",
    "*.py[cod]",
    "node_modules/",
    ".venv/",
    ".tox/",
    ".nox/",
    ".direnv/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".hypothesis/",
    ".ipynb_checkpoints/",
    ".cache/",
    ".eggs/",
    "*.egg-info/",
    ".coverage",
    ".DS_Store",
    "Thumbs.db",
    "*.swp",
)
"""What no run needs. Virtual environments are also found by what is in them."""

VENV_AT_ROOT_EXCLUDES = ("/bin/", "/lib/python*/", "/lib64", "/include/", "/pyvenv.cfg")
"""What belongs to a virtual environment that was made in the project's own directory."""


class Verdict(Enum):
    """The answer of the rules for a path."""

    SHIP = "ship"
    EXCLUDE = "exclude"
    SECRET = "secret"  # noqa: S105 - a verdict, not a password


@dataclass(frozen=True, kw_only=True)
class IgnoreRules:
    """The rules of one project.

    Attributes:
        patterns: All rules, compiled, in order.
        secrets: Positions in `patterns` of the rules for names of secrets.
        lines: The project's own rules, as they follow the others in `patterns`.
        default_excludes: Whether the built-in excludes are among them.
    """

    patterns: GitIgnore
    secrets: range
    lines: tuple[str, ...]
    default_excludes: bool

    def judge(self, path: str, *, is_directory: bool = False) -> Verdict:
        """Say whether a path ships whose directory does.

        Args:
            path: Relative to the root, with `/` between its parts.
            is_directory: Whether it is a directory; everything below an excluded one stays.
        """
        index = self.patterns.last_match(path, is_directory=is_directory)
        if index is None:
            return Verdict.SHIP
        if not self.patterns.brings_back(index):
            return Verdict.SECRET if index in self.secrets else Verdict.EXCLUDE
        if self._names_something(index):
            return Verdict.SHIP
        # A rule such as `!*` brings files back, but not the secrets among them.
        is_secret = is_secret_by_name(path, is_directory=is_directory)
        return Verdict.SECRET if is_secret else Verdict.SHIP

    def brings_back(self, path: str, *, is_directory: bool = False) -> bool:
        """Whether the project's own rules bring a path back by its name."""
        index = self.patterns.last_match(path, is_directory=is_directory)
        if index is None or not self.patterns.brings_back(index):
            return False
        return self._names_something(index)

    def names_below(self, path: str) -> bool:
        """Whether the project's own rules bring something back that lies in a directory."""
        name = path.rpartition("/")[2]
        for index, line in enumerate(self.lines, start=self.secrets.stop):
            if self.patterns.brings_back(index) and self._names_something(index):
                rule = line.removeprefix("!").rstrip("/ ").removeprefix("/")
                if rule.startswith((f"{path}/", f"**/{name}/")):
                    return True
        return False

    def _names_something(self, index: int) -> bool:
        """Whether a rule of the project has more than wildcards for a name."""
        rule = self.lines[index - self.secrets.stop].rstrip().removeprefix("!").rstrip("/")
        return bool(re.search(r"[^\W_]", re.sub(r"\[[^]]*\]", "", rule.rpartition("/")[2])))


def read_rules(root: Path, *, default_excludes: bool = True) -> IgnoreRules:
    """Read the rules of a project.

    Args:
        root: The package root, which may hold a `.kineticignore`.
        default_excludes: Whether the built-in excludes apply; those for secrets always do.

    Raises:
        PackagingError: `.kineticignore` cannot be read.
    """
    lines = _project_lines(root / IGNORE_FILE)
    defaults: Sequence[str] = DEFAULT_EXCLUDES if default_excludes else ()
    if default_excludes and (root / "pyvenv.cfg").is_file():
        defaults = (*defaults, *VENV_AT_ROOT_EXCLUDES)
    return IgnoreRules(
        patterns=GitIgnore([*defaults, *SECRET_NAMES, *lines]),
        secrets=range(len(defaults), len(defaults) + len(SECRET_NAMES)),
        lines=tuple(lines),
        default_excludes=default_excludes,
    )


def _project_lines(path: Path) -> list[str]:
    try:
        return ignore_lines(path.read_bytes())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise PackagingError(
            f"{path} cannot be read: {error.strerror}",
            value=str(path),
            hint="make it a readable text file in gitignore syntax, or remove it",
        ) from error
