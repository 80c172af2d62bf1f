"""Patterns of gitignore match what git says they match."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kinetic_flows.code.ignore import IGNORE_FILE
from kinetic_flows.code.manifest import decode_manifest
from kinetic_flows.code.snapshot import SnapshotOptions
from shipping import names_under, ship

NAMES = ("a", "b", "ab", "logs", "src", "x.py", ".h", "a b", "é", "[a]", "#n", "!n", "a\\b", "b ")
"""Few names, so that patterns meet paths; none that a rule of ours is about."""

PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)
PIECES = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(["*", "**", "***", "?", "*.py", "a*", "*b", "a?", "[ab]", "[!a]", "[^b]x"]),
    st.sampled_from(
        ["[a-c]", "[]a]", "[[:alpha:]]", "[[:foo:]]", "[[:a]", "[a", "[\\]a]", "[c-a]"]
    ),
    st.sampled_from(["\\#n", "\\!n", "\\a", "a\\", "b\\ ", "a**", "**a", "a**b", "\\*", "[\\]a]"]),
    st.text(alphabet="ab*?[]!^-\\:é ", max_size=5),
)
PATTERNS = st.builds(
    lambda sign, start, pieces, end: sign + start + "/".join(pieces) + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/", "**/", "//"]),
    st.lists(PIECES, min_size=1, max_size=3),
    st.sampled_from(["", "", "/", "/**", "/**/", "/*", " ", "\t", "\r", "  ", "//"]),
)
LINES = st.lists(st.one_of(PATTERNS, st.sampled_from(["", "#a", "!", "/", "*", "!*", "!*/"])))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(lines=LINES, paths=st.lists(PATHS, min_size=1, max_size=12))
@example(lines=["a/", "!src/"], paths=["src/a/x.py", "src/b"])
@example(lines=["logs/**/"], paths=["logs/x.py", "logs/a/b", "b/logs/a/b"])
@example(lines=["*", "!*/", "!*.py"], paths=["src/x.py", "src/b", "x.py"])
@example(lines=["a/**b"], paths=["a/a/b", "a/ab"])
@example(lines=["a**/b"], paths=["a/logs/b", "ab/logs/b", "a/b"])
def test_what_ships_is_what_git_does_not_ignore(lines: list[str], paths: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        project.mkdir()
        for path in paths:
            make_file(project / path)
        (project / IGNORE_FILE).write_bytes("\n".join(lines).encode())
        snapshot, _ = ship(project, Path(folder) / "store", options=ANYTHING)
        files = names_under(project)
        assert snapshot.warnings == ()
        assert shipped(snapshot.manifest) == files - ignored_by_git(project, files)


ANYTHING = SnapshotOptions(default_excludes=False)


def make_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except (FileExistsError, NotADirectoryError):
        return  # another path has a file where this one needs a directory


def shipped(manifest: bytes) -> set[str]:
    return {entry.path for entry in decode_manifest(manifest) if not entry.is_directory}


def ignored_by_git(project: Path, files: set[str]) -> set[str]:
    """Return the files that git ignores under the rules of the project's `.kineticignore`."""
    settings = ["-c", f"core.excludesFile={project / IGNORE_FILE}", "-c", "core.ignoreCase=false"]
    environ = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_DIR": str(project.parent / "git"),
        "GIT_WORK_TREE": str(project),
    }

    def git(*arguments: str, given: bytes = b"") -> bytes:
        command = ["git", *settings, *arguments]
        done = subprocess.run(command, cwd=project, env=environ, input=given, capture_output=True)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    git("init", "--quiet")
    asked = b"\0".join(os.fsencode(name) for name in files) + b"\0"
    told = git("check-ignore", "--no-index", "--stdin", "-z", given=asked)
    return {os.fsdecode(name) for name in told.split(b"\0") if name}
