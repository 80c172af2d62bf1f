"""Where a call comes from is found in any repository, and never in the way."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kinetic_flows.code.origin import Commit, OriginReader, ask_git, read_commit
from kinetic_flows.code.root import PackageRoot
from kinetic_flows.core.version import VERSION


def git(directory: Path, *arguments: str) -> str:
    names = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", *names, *arguments], cwd=directory, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "repository"
    (place / "pkg").mkdir(parents=True)
    (place / "pkg" / "train.py").write_text("print(1)\n")
    git(place, "init", "-q")
    git(place, "add", ".")
    git(place, "commit", "-qm", "first")
    return place


def root_of(directory: Path, entry: Path | None = None) -> PackageRoot:
    return PackageRoot(
        path=directory,
        entry_file=entry,
        main_file=None,
        module_name="train",
        sys_path=(".",),
        working_directory=".",
        explanation="",
    )


def both(directory: Path) -> Commit:
    """Return what files tell, which git says, too."""
    told, asked = read_commit(directory), ask_git(directory)
    assert told is not None
    assert asked is not None
    assert (told.id, told.branch) == (asked.id, asked.branch)
    return asked


def test_a_commit_is_known_by_its_branch_and_whether_files_differ(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert both(repository / "pkg") == Commit(id=commit, branch="main", is_dirty=False)
    (repository / "new.txt").write_text("not tracked")
    assert both(repository).is_dirty is False
    (repository / "pkg" / "train.py").write_text("print(2)\n")
    assert both(repository).is_dirty is True


def test_changes_elsewhere_in_a_repository_do_not_count(repository: Path) -> None:
    (repository / "pkg" / "train.py").write_text("print(2)\n")
    (repository / "other").mkdir()
    assert both(repository / "other").is_dirty is False


def test_packed_references_and_branches_with_slashes(repository: Path) -> None:
    git(repository, "checkout", "-qb", "feature/rates")
    git(repository, "pack-refs", "--all")
    assert both(repository).branch == "feature/rates"


def test_a_detached_head_has_a_commit_and_no_branch(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach")
    assert both(repository) == Commit(
        id=git(repository, "rev-parse", "HEAD"), branch="", is_dirty=False
    )


def test_a_worktree_has_its_own_head_and_the_repositorys_references(repository: Path) -> None:
    place = repository.parent / "worktree"
    git(repository, "worktree", "add", "-q", "-b", "side", str(place))
    (place / "more.txt").write_text("more")
    git(place, "add", ".")
    git(place, "commit", "-qm", "second")
    git(repository, "pack-refs", "--all")
    assert both(place) == Commit(id=git(place, "rev-parse", "HEAD"), branch="side", is_dirty=False)
    assert both(place).id != both(repository).id


def test_a_repository_without_a_commit_has_a_branch_only(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert both(tmp_path) == Commit(id="", branch="main", is_dirty=False)


def test_variables_of_gits_hooks_do_not_lead_astray(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    told = ask_git(repository)
    assert told is not None
    assert told.branch == "main"


@pytest.mark.parametrize("content", ["", "gitdir: nowhere", "\0\0"])
def test_what_is_no_repository_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / ".git").write_text(content)
    assert read_commit(tmp_path) is None
    origin = OriginReader(root_of(tmp_path)).origin()
    assert origin.commit is None


def test_without_git_the_commit_is_known_and_changes_are_not(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", "")
    origin = OriginReader(root_of(repository, repository / "pkg" / "train.py")).origin()
    assert origin.commit == Commit(id=commit, branch="main", is_dirty=None)
    assert (origin.entry, origin.client) == ("pkg/train.py", VERSION)
    assert origin.user
    assert origin.host


def test_a_repository_that_git_refuses_to_read_is_no_error(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / ".git" / "config").write_text("[core\n")
    assert ask_git(repository) is None
    assert OriginReader(root_of(repository)).origin().commit is not None
