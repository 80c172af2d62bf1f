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
from fnmatch import fnmatchcase
from pathlib import Path

from pathspec import GitIgnoreSpec

from kinetic_flows.errors import PackagingError

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

SECRET_NAMES = (
    ".env*",
    "*.env",
    ".netrc",
    "_netrc",
    ".pypirc",
    ".pgpass",
    ".git-credentials",
    ".ssh/",
    ".gnupg/",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "application_default_credentials.json",
)
"""Names of files that hold secrets, as a rule."""

SECRET_CONTENT_LIMIT_BYTES = 32_768
"""Larger files are not looked into: keys and credentials are small."""

_SUFFIXES_LOOKED_INTO = frozenset({"", ".json", ".pem", ".key", ".priv", ".ppk", ".asc", ".txt"})
_PRIVATE_KEY = re.compile(rb"\A\s*(-----BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File-)")
_CREDENTIALS = re.compile(rb'"type"\s*:\s*"(service_account|authorized_user)"')
_CREDENTIALS_SECRET = re.compile(rb'"(private_key|refresh_token)"\s*:')


class Verdict(Enum):
    """What the rules say of a path."""

    SHIP = "ship"
    EXCLUDE = "exclude"
    SECRET = "secret"  # noqa: S105 - a verdict, not a password


@dataclass(frozen=True, kw_only=True)
class IgnoreRules:
    """The rules of one project.

    Attributes:
        spec: All rules, compiled, in order.
        secrets: Positions in `spec` of the rules for names of secrets.
        lines: The project's own rules, as they follow the others in `spec`.
        default_excludes: Whether the built-in excludes are among them.
    """

    spec: GitIgnoreSpec
    secrets: range
    lines: tuple[str, ...]
    default_excludes: bool

    def judge(self, path: str, *, is_directory: bool = False) -> Verdict:
        """Say whether a path ships.

        Args:
            path: Relative to the root, with `/` between its parts.
            is_directory: Whether it is a directory; everything below shares its fate.
        """
        text = f"{path}/" if is_directory else path
        checked = self.spec.check_file(text)
        if checked.include:
            return Verdict.SECRET if checked.index in self.secrets else Verdict.EXCLUDE
        if checked.index is None or self._is_by_name(path, checked.index):
            return Verdict.SHIP
        # A rule such as `!config/` or `!*` brings files back, but not the secrets among them.
        return Verdict.SECRET if _SECRETS.match_file(text) else Verdict.SHIP

    def brings_back(self, path: str, *, is_directory: bool = False) -> bool:
        """Whether the project's own rules bring a path back by its name."""
        checked = self.spec.check_file(f"{path}/" if is_directory else path)
        return checked.include is False and self._is_by_name(path, checked.index)

    def _is_by_name(self, path: str, index: int | None) -> bool:
        if index is None or index < self.secrets.stop:
            return False
        rule = self.lines[index - self.secrets.stop].strip().removeprefix("!").rstrip("/")
        last = rule.rpartition("/")[2]
        return bool(last.strip("*?")) and fnmatchcase(path.rpartition("/")[2], last)


_SECRETS = GitIgnoreSpec.from_lines(SECRET_NAMES)


def read_rules(root: Path, *, default_excludes: bool = True) -> IgnoreRules:
    """Read the rules of a project.

    Args:
        root: The package root, which may hold a `.kineticignore`.
        default_excludes: Whether the built-in excludes apply; those for secrets always do.

    Raises:
        PackagingError: `.kineticignore` cannot be read, or a line of it has no meaning.
    """
    lines = _project_lines(root / IGNORE_FILE)
    defaults: Sequence[str] = DEFAULT_EXCLUDES if default_excludes else ()
    if default_excludes and (root / "pyvenv.cfg").is_file():
        defaults = (*defaults, *VENV_AT_ROOT_EXCLUDES)
    secrets = range(len(defaults), len(defaults) + len(SECRET_NAMES))
    try:
        spec = GitIgnoreSpec.from_lines([*defaults, *SECRET_NAMES, *lines])
    except ValueError as error:
        raise PackagingError(
            f"{root / IGNORE_FILE} has a line that is no pattern: {error}",
            value=str(root / IGNORE_FILE),
            hint="write it in gitignore syntax, one pattern on a line",
        ) from error
    return IgnoreRules(
        spec=spec, secrets=secrets, lines=tuple(lines), default_excludes=default_excludes
    )


def looks_secret(path: str) -> bool:
    """Whether a file's own name, wherever it is, is that of a secret."""
    return _SECRETS.match_file(path.rpartition("/")[2])


def may_hold_secret(path: str, size_bytes: int) -> bool:
    """Whether a file is worth looking into for keys and credentials."""
    name = path.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    suffix = f".{suffix.lower()}" if dot and stem else ""
    return 0 < size_bytes <= SECRET_CONTENT_LIMIT_BYTES and suffix in _SUFFIXES_LOOKED_INTO


def holds_secret(content: bytes) -> bool:
    """Whether a file's content is a private key or a Google credential."""
    if _PRIVATE_KEY.match(content):
        return True
    return bool(_CREDENTIALS.search(content) and _CREDENTIALS_SECRET.search(content))


def _project_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise PackagingError(
            f"{path} cannot be read: {error.strerror}",
            value=str(path),
            hint="make it a readable text file in gitignore syntax, or remove it",
        ) from error
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
