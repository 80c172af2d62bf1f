"""What is plainly no project does not ship: only what the script imports does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from kinetic_flows.code.wide_places import is_home, why_no_project
from shipping import run_python, write_project

PROBE = """
    import json, os, pathlib, sys
    from kinetic_flows.code.manifest import decode_manifest
    from kinetic_flows.code.root import find_package_root
    from kinetic_flows.code.selection import imported_files
    from kinetic_flows.code.snapshot import take_snapshot

    def probe(function):
        given = os.environ.get("OVERRIDE")
        root = find_package_root(
            function,
            override=pathlib.Path(given) if given else None,
            cwd=pathlib.Path.cwd(),
            sys_path=sys.path,
        )
        only = imported_files(root) if root.no_project else None
        snapshot = take_snapshot(root.path, cache_home=None, only=only)
        entries = decode_manifest(snapshot.manifest)
        print(json.dumps({
            "root": str(root.path),
            "files": sorted(entry.path for entry in entries if not entry.is_directory),
            "sys_path": root.sys_path,
            "notices": root.notices(),
            "warnings": snapshot.warnings,
        }))
"""

MAIN = """
    from probe import probe

    def train(): ...

    probe(train)
"""

LIVED_IN = {
    ".aws/credentials": "[default]",
    ".kube/config": "kind: Config",
    ".docker/config.json": "{}",
    ".config/gcloud/access_tokens.db": "",
    ".config/mine/settings.toml": "",
    ".mozilla/firefox/x/logins.json": "",
    ".local/bin/tool.py": "",
    ".bash_history": "export TOKEN=1",
    ".profile": "",
    "Documents/letter.txt": "",
    "photo.jpg": "",
    "other.py": "",
    "requirements.txt": "",
    ".git/HEAD": "",
}


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    return write_project(tmp_path / "tools", {"probe.py": PROBE})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return write_project(tmp_path / "people" / "ada", LIVED_IN)


def probe(
    tools: Path, home: Path, *arguments: str, cwd: Path | None = None, **more: str
) -> dict[str, Any]:
    env = {"PYTHONPATH": str(tools), "HOME": str(home), **more}
    stdin = env.pop("STDIN", "")
    found: dict[str, Any] = json.loads(run_python(arguments, cwd=cwd or home, env=env, stdin=stdin))
    return found


def test_of_a_home_directory_only_the_script_and_what_it_imports_ships(
    tools: Path, home: Path
) -> None:
    main = """
        import used
        from probe import probe
        from package.inner import thing

        def train():
            import lazily.deep
            from package import late
            from importlib import import_module
            import_module("by_name")

        probe(train)
    """
    files = {
        "t.py": main,
        "used.py": "import used_too",
        "used_too.py": "",
        "package/__init__.py": "",
        "package/inner.py": "from . import beside\nfrom .sub.leaf import x\nthing = 1",
        "package/beside.py": "",
        "package/late.py": "",
        "package/never.py": "",
        "package/sub/__init__.py": "",
        "package/sub/leaf.py": "from .. import beside\nx = 1",
        "lazily/deep.py": "from . import sibling",
        "lazily/sibling.py": "",
        "by_name.py": "",
        "broken.py": "def",
    }
    write_project(home, files)
    found = probe(tools, home, "t.py")
    assert found["files"] == sorted(files.keys() - {"package/never.py", "broken.py"})
    assert found["root"] == str(home)
    assert found["sys_path"] == ["."]
    [notice] = found["notices"]
    assert "only t.py and what it imports ships" in notice
    assert "a home directory" in notice
    assert "KINETIC_PACKAGE_ROOT" in notice
    assert ".kineticignore" in notice


def test_a_session_in_the_home_directory_ships_what_its_functions_import(
    tools: Path, home: Path
) -> None:
    write_project(home, {"eager.py": "", "lazy.py": "", "in_method.py": "", "idle.py": ""})
    session = (
        "import eager\n"
        "from probe import probe\n"
        "def train():\n    import lazy\n\n"
        "class Model:\n    def fit(self):\n        from in_method import nothing\n\n"
        "probe(train)\n"
    )
    found = probe(tools, home, "-i", "-q", STDIN=session)
    assert found["files"] == ["eager.py", "in_method.py", "lazy.py"]


def test_a_package_in_the_home_directory_ships_alone(tools: Path, home: Path) -> None:
    files = {"pkg/__init__.py": "", "pkg/mod.py": "from .more import train", "pkg/more.py": TRAIN}
    write_project(home, {**files, "pkg/data.csv": ""})
    found = probe(tools, home, "-c", "from probe import probe; import pkg.mod as m; probe(m.train)")
    assert found["files"] == sorted(files)


TRAIN = "def train(): ..."


@pytest.mark.parametrize("folder", ["Desktop", "Downloads", "Bureau", "OneDrive", ".config/tool"])
def test_the_well_known_folders_of_a_home_are_no_projects(
    tools: Path, home: Path, folder: str
) -> None:
    names = 'XDG_DESKTOP_DIR="$HOME/Bureau"\n'
    files = {f"{folder}/t.py": MAIN, f"{folder}/tax.pdf": "", ".config/user-dirs.dirs": names}
    write_project(home, files)
    found = probe(tools, home, "t.py", cwd=home / folder)
    assert found["files"] == ["t.py"]


def test_the_directory_for_temporary_files_is_no_project(tools: Path, home: Path) -> None:
    temporary = write_project(home.parent / "tmp", {"t.py": MAIN, "key": "", "setup.py": ""})
    found = probe(tools, home, "t.py", cwd=temporary, TMPDIR=str(temporary))
    assert found["files"] == ["t.py"]


def test_a_project_in_a_folder_of_the_home_ships_whole(tools: Path, home: Path) -> None:
    write_project(home, {"Documents/work/t.py": MAIN, "Documents/work/data.csv": ""})
    found = probe(tools, home, "t.py", cwd=home / "Documents/work")
    assert found["files"] == ["data.csv", "t.py"]
    assert found["notices"] == []


def test_a_hidden_directory_of_a_home_is_a_project_only_deeper_and_with_a_marker(
    tools: Path, home: Path
) -> None:
    files = {"a.txt": "", "t.py": MAIN, ".git/HEAD": ""}
    write_project(home / ".dotfiles", files)
    write_project(home / ".dotfiles/project", files)
    assert probe(tools, home, "t.py", cwd=home / ".dotfiles")["files"] == ["t.py"]
    deeper = probe(tools, home, "t.py", cwd=home / ".dotfiles/project")
    assert deeper["files"] == ["a.txt", "t.py"]


@pytest.mark.parametrize("how", ["override", "kineticignore"])
def test_who_asks_for_the_home_directory_gets_it_without_what_is_hidden(
    tools: Path, home: Path, how: str
) -> None:
    write_project(home, {"t.py": MAIN})
    if how == "kineticignore":
        write_project(home, {".kineticignore": "!.profile\n"})
        found = probe(tools, home, "t.py")
    else:
        found = probe(tools, home, "t.py", OVERRIDE=str(home))
    shown = {name for name in LIVED_IN if not name.startswith(".")} | {"t.py"}
    assert set(found["files"]) == shown | ({".profile"} if how == "kineticignore" else set())
    assert found["notices"] == []


def test_a_marker_in_a_home_does_not_make_its_folders_one_project(tools: Path, home: Path) -> None:
    write_project(home, {"scripts/t.py": MAIN, ".kineticignore": ""})
    assert probe(tools, home, "t.py", cwd=home / "scripts")["files"] == ["t.py"]


def test_a_module_of_a_hidden_directory_is_not_looked_for_in_a_run(tools: Path, home: Path) -> None:
    write_project(
        home, {"t.py": "import magic\n" + dedent(MAIN), ".ipython/extensions/magic.py": ""}
    )
    path = f"{tools}:{home / '.ipython/extensions'}"
    found = probe(tools, home, "t.py", PYTHONPATH=path)
    assert found["sys_path"] == ["."]
    assert found["files"] == ["t.py"]


@pytest.mark.parametrize(
    "place",
    ["/", "/tmp", "/home", "/home/ada", "/root", "/Users/ada", "/usr/src", "/mnt/c/Users/ada"],
)
def test_places_that_are_no_project(place: str) -> None:
    assert why_no_project(Path(place))


@pytest.mark.parametrize(
    "place", ["/app", "/usr/src/app", "/workspace", "/tmp/x", "/home/ada/work", "/opt/ml/code"]
)
def test_places_that_may_be_projects(place: str) -> None:
    assert why_no_project(Path(place)) is None


def test_a_directory_is_the_home_of_its_owner_whoever_asks(tmp_path: Path) -> None:
    if os.getuid() == 0:
        assert is_home(Path("/root"))
    assert not is_home(tmp_path)


def test_another_kinetic_home_in_the_project_stays_and_is_named(tools: Path, home: Path) -> None:
    project = home / "work"
    write_project(project, {"main.py": CALL, "pyproject.toml": "", ".old/prefect/notes.txt": ""})
    run_python(["main.py"], cwd=project, env={"KINETIC_HOME": str(project / "state")})
    shutil.copytree(project / "state", project / "copies" / "of it")
    write_project(project, {"t.py": MAIN})
    found = probe(tools, home, "t.py", cwd=project)
    assert not [name for name in found["files"] if name.startswith(("state", "copies"))]
    [warning] = found["warnings"]
    assert "copies/of it, state" in warning


CALL = """
    from pathlib import Path
    from kinetic_flows.platforms.local.store import LocalStore
    from kinetic_flows.code.snapshot import take_snapshot
    from kinetic_flows.code.upload import upload_code
    from kinetic_flows.core.settings.settings import load_settings

    home = load_settings().home
    snapshot = take_snapshot(Path.cwd(), cache_home=home)
    upload_code(snapshot, LocalStore(home / "store"), home=home)
"""
